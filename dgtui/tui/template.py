"""The template: tokens that the user pins on the empty canvas; the next run writes around them."""

from __future__ import annotations

from dgtui.backend import Backend
from dgtui.diffusion.events import Flag
from dgtui.steering.drafts import Refused
from dgtui.tui.fixed import refuse_fixed
from dgtui.tui.frames import View

EMPTY = b"\xc2\xb7 "
"how a free position is drawn"


class Template:
    """Token ids by position of the first canvas. Empty means that nothing is pinned."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.tokens: dict[int, int] = {}

    def __bool__(self) -> bool:
        return bool(self.tokens)

    def write(self, at: int, words: str) -> None:
        """Pins words from a position on. Raises `Refused` if they do not fit, or no model is loaded."""
        refuse_fixed(self._backend)
        length = self._length()
        apart = words if at == 0 or words[:1].isspace() else f" {words}"
        ids = self._backend.encode(apart) if words else []
        if not 0 <= at <= length - len(ids):
            raise Refused(f"{len(ids)} tokens do not fit at position {at} of {length}")
        self.tokens |= dict(enumerate(ids, start=at))

    def hold(self, tokens: dict[int, int]) -> None:
        """Pins exactly these tokens. Raises `Refused` if this model cannot hold them."""
        if tokens:
            refuse_fixed(self._backend)
        self.tokens = tokens

    def free(self, span: tuple[int, int]) -> int:
        """Frees the pinned positions of a span, and returns their number."""
        return len([self.tokens.pop(at) for at in range(*span) if at in self.tokens])

    def clear(self) -> None:
        """Frees every position."""
        self.tokens = {}

    def view(self) -> View:
        """The canvas with the pinned tokens and free positions. Raises `Refused` if no model is loaded."""
        import numpy as np

        length = self._length()
        pieces = dict(zip(self.tokens, self._backend.pieces([*self.tokens.values()]), strict=True))
        pinned = np.isin(np.arange(length), [*self.tokens])
        return View(
            tuple(pieces.get(at, EMPTY) for at in range(length)),
            np.where(pinned, 0.0, 1.0).astype(np.float32),
            np.where(pinned, np.uint8(Flag.PINNED), np.uint8(Flag.RENOISED)),
            np.ones(length, np.bool_),
            length,
        )

    def _length(self) -> int:
        if self._backend.facts is None:
            raise Refused("no model is loaded yet")
        return self._backend.facts.model.canvas_length
