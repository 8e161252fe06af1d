"""Text that a person types in place on the canvas. Until it is kept or given up, the run waits and the canvas stands
still, because its positions are those that the person sees."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from dgtui.diffusion.events import Flag
from dgtui.tui.frames import GLOW_STEPS, View

Shown: TypeAlias = Callable[[str], str]
Keep: TypeAlias = Callable[[str], str | None]


@dataclass(frozen=True, slots=True)
class Typed:
    """A place on the canvas, and what text typed there means."""

    view: View
    "the canvas that stands still"
    at: int
    "the position of the first token of the text"
    shown: Shown
    "the text with what sets it apart from the text before it"
    keep: Keep
    "holds the text and returns a notice; raises `Refused` or `BadJob`"
    encode: Callable[[str], list[int]]
    "text → ids"
    most: int
    "tokens of the canvas that the text may replace; what is longer moves the rest"
    leave: Callable[[], None] = lambda: None
    "lets a run go on that waited for the text"
    waiting: bool = False
    "a run waits for the text"

    def drawn(self, text: str, cursor: int) -> View:
        """The canvas with the text, in three places: before the cursor, at the cursor and after it.

        Args:
            text: What was typed so far.
            cursor: An index of the text, or its length.
        """
        import numpy as np

        words = self.shown(text) if text else ""
        covered = min(len(self.encode(words)), self.most) if self.most and words else 0
        cursor += len(words) - len(text)
        view, start, end = self.view, self.at, self.at + covered
        parts = (words[:cursor], words[cursor : cursor + 1] or " ", words[cursor + 1 :])

        def put(values: Any, value: float) -> Any:
            return np.concatenate([values[:start], np.full(len(parts), value, values.dtype), values[end:]])

        return replace(
            view,
            pieces=(*view.pieces[:start], *(part.encode() for part in parts), *view.pieces[end:]),
            entropy=put(view.entropy, 0.0),
            flags=put(view.flags, Flag.PINNED),
            settled=put(view.settled, True),
            end=start + len(parts) + max(0, view.end - end),
            glow=None if view.glow is None else put(view.glow, GLOW_STEPS),
        )
