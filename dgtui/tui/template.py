"""The template: text that a person holds before a reply is written. The model writes what lies between."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from typing import Final, Literal, TypeAlias

from dgtui.backend import Backend
from dgtui.diffusion.events import Flag
from dgtui.model_info import ModelInfo
from dgtui.steering.between import held_canvas
from dgtui.steering.drafts import Refused
from dgtui.steering.lengths import GappedCanvas
from dgtui.tui.fixed import refuse_fixed
from dgtui.tui.frames import View
from dgtui.tui.typed import Typed

GAP: Final = " … "
"""How a gap is drawn, and what stands for one in the text of `/template`."""

END: Final = " ∎"
"""How the end of the reply is drawn."""

_GAPS: Final = re.compile(r"\s*(?:\.\.\.|…)\s*")

Slot: TypeAlias = tuple[Literal["token", "gap", "end"], int, int]
"""A place that the cursor can be at: what it is, the number of its part or gap, and which token of the part."""


class Template:
    """Texts in order: the start, those in the middle, the ending. Between two of them lies a gap of any length.

    `tokens` is another kind of template: ids at fixed places of the first canvas.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.clear()

    def clear(self) -> None:
        """Holds nothing."""
        self.parts: list[list[int]] = [[], []]
        self.tokens: dict[int, int] = {}

    def __bool__(self) -> bool:
        return bool(self.tokens) or any(self.parts)

    def __len__(self) -> int:
        return len(self.tokens) + sum(map(len, self.parts))

    def hold(self, tokens: dict[int, int]) -> None:
        """Holds exactly these tokens, at their places. Raises `Refused` if this model cannot hold them."""
        if tokens:
            refuse_fixed(self._backend)
        self.clear()
        self.tokens = tokens

    def read(self, text: str) -> None:
        """Holds a text in which "..." or "…" stands for each gap. Without one, the text is the start."""
        self._model()
        refuse_fixed(self._backend)
        self.clear()
        texts = _GAPS.split(text)
        encoded = [self._encode(part, first=not at) for at, part in enumerate(texts)]
        start, *middle, ending = encoded if len(encoded) > 1 else [*encoded, []]
        self.parts = [start, *filter(None, middle), ending]

    def typing(self, at: int) -> Typed:
        """A text that is typed in place."""
        refuse_fixed(self._backend)
        if self.tokens:
            raise Refused("these tokens have fixed places", hint="/template TEXT holds another text")
        kind, part, token = self._slots()[at]
        divides = kind == "gap" and bool(part or self.parts[0])

        def shown(words: str) -> str:
            return f"{GAP}{words}" if divides else _apart(words, first=not (part or token))

        return Typed(self.view(), at, shown, partial(self.write, at), self._backend.encode, 0)

    def write(self, at: int, words: str) -> None:
        """Holds words at a place: in a gap as a text of their own, or as the start; at the end as the ending."""
        kind, part, token = self._slots()[at]
        if kind == "end":
            self.parts[-1] += self._encode(words, first=False)
        elif kind == "gap" and (part or self.parts[0]):
            self.parts.insert(part + 1, self._encode(words, first=False))
        else:
            self.parts[part][token:token] = self._encode(words, first=not (part or token))

    def free(self, span: tuple[int, int]) -> int:
        """Holds the tokens of a span no longer, and counts them."""
        if self.tokens:
            return len([self.tokens.pop(at) for at in range(*span) if at in self.tokens])
        gone = [slot for slot in self._slots()[slice(*span)] if slot[0] == "token"]
        for _, part, token in reversed(gone):
            del self.parts[part][token]
        self.parts = [self.parts[0], *filter(None, self.parts[1:-1]), self.parts[-1]]
        return len(gone)

    @property
    def fixed(self) -> dict[int, int]:
        """The tokens to hold by place, if nothing floats."""
        return self.tokens or dict(enumerate(self.parts[0]))

    def canvas(self) -> GappedCanvas | None:
        """The canvas to write between; None: nothing floats. Raises `BadJob` if the texts do not fit."""
        return held_canvas(self.parts, self._model()) if any(self.parts[1:]) else None

    def view(self) -> View:
        """What is held, with a sign for each gap. Raises `Refused` if no model is loaded."""
        import numpy as np

        pieces, held = self._pieces()
        flags = [Flag.PINNED if kept else Flag.RENOISED for kept in held]
        return View(
            tuple(pieces),
            np.where(held, 0.0, 1.0).astype(np.float32),
            np.array(flags, np.uint8),
            np.ones(len(pieces), np.bool_),
            len(pieces),
        )

    def _pieces(self) -> tuple[list[bytes], list[bool]]:
        """The bytes of each place, and whether it is held."""
        if self.tokens:
            places = range(self._model().canvas_length)
            known = dict(zip(self.tokens, self._backend.pieces([*self.tokens.values()]), strict=True))
            return [known.get(at, "· ".encode()) for at in places], [at in known for at in places]
        signs = {"gap": GAP.encode(), "end": END.encode()}
        texts = [self._backend.pieces(part) for part in self.parts]
        slots = self._slots()
        return [texts[n][at] if kind == "token" else signs[kind] for kind, n, at in slots], [
            s[0] == "token" for s in slots
        ]

    def _slots(self) -> list[Slot]:
        def slots() -> Iterator[Slot]:
            for number, part in enumerate(self.parts):
                yield from (("token", number, at) for at in range(len(part)))
                yield ("gap", number, 0) if number < len(self.parts) - 1 else ("end", number, 0)

        return [*slots()]

    def _encode(self, words: str, *, first: bool) -> list[int]:
        """Ids of words, which a space sets apart from what is before them."""
        words = _apart(words, first=first)
        ids = self._backend.encode(words) if words.strip() else []
        if len(self) + len(ids) >= self._model().canvas_length:
            raise Refused(f"{len(ids)} more tokens do not fit on the canvas")
        return ids

    def _model(self) -> ModelInfo:
        if self._backend.facts is None:
            raise Refused("no model is loaded yet")
        return self._backend.facts.model


def _apart(words: str, *, first: bool) -> str:
    """Words with a space that sets them apart from what is before them."""
    return words if first or (not words[:1].isalnum() and words[:1] not in "\"'(") else f" {words}"
