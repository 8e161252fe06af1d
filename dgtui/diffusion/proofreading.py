"""Proofreading: finds words in a finished canvas that the model, reading from left to right, would not have written.

While a canvas settles, the text after a gap may settle first, one position too early or too late. What is left for the
gap is a word that is missing or stands twice, and the denoiser, which sees both sides, becomes certain of it. The
encoder reads from left to right and is not. So the text around such a word is written again, with a position less, the
same number, and one more, and the most likely text is kept. Passages that do not touch are written at the same time,
each in canvases of its own, and put together afterwards. See `_Block.proofread` in `engine`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import log
from statistics import fmean
from typing import Any, Final

import numpy as np

from dgtui.diffusion.events import Floats, Ids
from dgtui.diffusion.job import Start
from dgtui.diffusion.stepper import CandidateStep

UNLIKELY: Final = log(0.1)
"""Log-probability below which a token is written again."""

HOPELESS: Final = 2
"""A text with so many unlikely tokens per passage that may be written again is left as it is."""

TOGETHER: Final = 4
"""Most passages that are written at the same time."""

AROUND: Final = 2
"""Number of tokens before the unlikely one, and from it on, that are written again; at a second attempt, twice as
many."""

ATTEMPTS: Final = 2
"""Most attempts at the same unlikely token."""

CHANGES: Final = (0, -1, 1)
"""By how much the number of these tokens may change."""

STEPS: Final = 8
"""Most denoising steps for them."""

GAIN: Final = 1.0
"""Nats by which a new text must be more likely than the old one."""


@dataclass(frozen=True, slots=True)
class Text:
    """A finished canvas, read from left to right."""

    ids: Ids
    "(C,)"
    log_probs: Floats
    "(C,) nats, of each id given those to its left; 0 for the first"
    end: int
    "the position of the first stop id; C if there is none"

    @classmethod
    def of(cls, ids: Ids, log_probs: Floats, stop_ids: frozenset[int]) -> "Text":
        """The text of a canvas, up to and with the first stop id."""
        stops = np.flatnonzero(np.isin(ids, list(stop_ids)))
        return cls(ids, log_probs, int(stops[0]) if len(stops) else len(ids))

    @property
    def nats(self) -> float:
        """The log-likelihood of the text."""
        return float(self.log_probs[: self.end + 1].sum())

    def unlikely(self) -> list[int]:
        """The positions of the unlikely tokens."""
        found: list[int] = np.flatnonzero(self.log_probs[: self.end + 1] < UNLIKELY).tolist()
        return found

    def passages(self, attempts: Mapping[int, int], most: int) -> list["Passage"]:
        """The text around the first unlikely positions, where it does not touch another passage.

        Args:
            attempts: Position → how often it was written again in vain.
        """
        found: list[Passage] = []
        for place in self.unlikely():
            around = AROUND * (1 + attempts.get(place, 0))
            first, free = max(0, place - around), not found or place - around > found[-1].stop
            if free and len(found) < min(most, TOGETHER) and attempts.get(place, 0) < ATTEMPTS:
                found.append(Passage(place, first, min(self.end, place + around)))
        return found

    def openings(self, passage: "Passage") -> list[Start]:
        """The canvases in which a passage is noise, one for each new length of it.

        Only a text that ends on the canvas, with positions to spare, can become longer or shorter.
        """
        size = len(self.ids)
        before, after = self.ids[: passage.first].tolist(), self.ids[passage.stop :].tolist()
        starts = []
        for change in CHANGES if self.end + TOGETHER < size else (0,):
            length = passage.stop - passage.first + change
            if length > 0:
                ids = (before + [0] * length + after + after[-1:])[:size]
                pinned = frozenset(range(size)) - frozenset(range(passage.first, passage.first + length))
                starts.append(Start(tuple(ids), pinned))
        return starts


@dataclass(frozen=True, slots=True)
class Passage:
    """The positions `first` to `stop` around an unlikely one."""

    place: int
    first: int
    stop: int


def joined(steps: Sequence[tuple[Passage, int, CandidateStep]]) -> CandidateStep:
    """One canvas with all passages, each as in its own canvas.

    Args:
        steps: Passages in the order of the text, by how much their length changes, and a step of their canvases.
    """
    size = len(steps[0][2].ids)

    def of(name: str) -> Any:
        parts, begin = [], 0
        for passage, change, step in steps:  # in its own canvas, nothing before it has moved
            parts.append(getattr(step, name)[begin : passage.stop + change])
            begin = passage.stop
        *_, (passage, change, step) = steps
        rest = getattr(step, name)[passage.stop + change :]
        whole = np.concatenate([*parts, rest, *[rest[-1:]] * TOGETHER])[:size]
        whole.flags.writeable = False
        return whole

    arrays = {name: of(name) for name in ("ids", "canvas", "entropy", "flags", "top_ids", "top_probs")}
    return replace(steps[-1][2], mean_entropy=fmean(step.mean_entropy for *_, step in steps), **arrays)
