"""Draws rows of a canvas: the styles of the tokens, with selection and cursor on top.

A drawn row is plain data (`Ink`), so two rows can be compared before anything is painted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from rich.segment import Segment
from rich.style import Style
from textual.cache import LRUCache
from textual.strip import Strip

from dgtui.diffusion.events import Floats
from dgtui.layout import Line
from dgtui.tui.theme import Look

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Ink = tuple[tuple[str, Style], ...]
"""The texts of a row with their styles, without padding."""

_MARKED: Final = Style(reverse=True)
_NOT_UNDERLINED: Final = Style(underline=False)
_MOST_NATS: Final = 4.0
_GRAINS: Final = 64  # per nat


class Painter:
    """Turns drawn rows into strips on one ground. Strips are cached."""

    def __init__(self, base: Style) -> None:
        """`base` is the style below all others."""
        self.base = base
        self._strips: LRUCache[tuple[Ink, int], Strip] = LRUCache(512)

    def strip(self, ink: Ink, width: int) -> Strip:
        """A row, padded or cut to a width."""
        strip = self._strips.get((ink, width))
        if strip is None:
            strip = Strip([Segment(text, style) for text, style in ink]).adjust_cell_length(width, self.base)
            self._strips[ink, width] = strip
        return strip


class Brush(Painter):
    """Draws the rows of a canvas in one look. Styles are cached."""

    def __init__(self, look: Look | None, base: Style) -> None:
        """Without a look `base` is the only style."""
        super().__init__(base)
        self._look = look
        self._cursor, self._selection = (look.cursor, look.selection) if look else (_MARKED, _MARKED)
        self._based: dict[Style, Style] = {}
        self._known: dict[int, Style] = {}

    def styles(
        self,
        entropy: Floats,
        flags: npt.NDArray[np.uint8],
        settled: npt.NDArray[np.bool_],
        glow: npt.NDArray[np.uint8] | None = None,
    ) -> list[Style]:
        """The style of each token of a `View`. Entropy (nats) is rounded invisibly, which limits their number."""
        import numpy as np

        nats = np.nan_to_num(entropy, nan=_MOST_NATS).clip(0, _MOST_NATS)
        keys = (np.rint(nats * _GRAINS).astype(np.int64) << 11) | (flags.astype(np.int64) << 1) | settled
        if glow is not None:
            keys |= glow.astype(np.int64) << 9
        known = self._known
        return [known[key] if key in known else self._style(key) for key in keys.tolist()]

    def _style(self, key: int) -> Style:
        style = Style()
        if self._look:
            style = self._look.style((key >> 11) / _GRAINS, (key >> 1) & 0xFF, bool(key & 1), (key >> 9) & 3)
        self._known[key] = self._based.setdefault(style, self.base + style)
        return self._known[key]

    def rows(
        self, lines: Sequence[Line], styles: Sequence[Style], cursor: int | None, selection: tuple[int, int] | None
    ) -> list[Ink]:
        """Draws lines. A marked token without cells is shown as a marked blank at the end of its line."""
        first, last = selection or (0, 0)
        rows: list[Ink] = []
        for line in lines:
            ink: list[tuple[str, Style]] = []
            end: Style | None = None
            for run in line:
                style = styles[run.token]
                if marked := first <= run.token < last:
                    style += self._selection
                if run.token == cursor:
                    style += self._cursor
                    marked = True
                if run.cells:
                    if style.underline and not marked and run.text[0] == " ":  # only words are underlined
                        ink.append((" ", style + _NOT_UNDERLINED))
                        if len(run.text) > 1:
                            ink.append((run.text[1:], style))
                    elif ink and ink[-1][1] is style:
                        ink[-1] = (ink[-1][0] + run.text, style)
                    else:
                        ink.append((run.text, style))
                elif run.text and ink:  # combines with the previous character, and gets its style
                    ink[-1] = (ink[-1][0] + run.text, style if marked else ink[-1][1])
                elif marked and (end is None or run.token == cursor):
                    end = style
            if end is not None:
                ink.append((" ", end))
            rows.append(tuple(ink))
        return rows
