"""What the rows of a canvas look like: the tokens' styles and, on top of them, selection and cursor.

A row's look is plain data (`Ink`), so that two of them can be compared before anything is painted.
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
"""Text and style, as far as the row has any text."""

_MARKED: Final = Style(reverse=True)
_MOST_NATS: Final = 4.0
_GRAINS: Final = 64  # a nat


class Brush:
    """Paints in one look, on one ground. Styles and strips are made once each."""

    def __init__(self, look: Look | None, base: Style) -> None:
        """`base` is under every style; without a look there is nothing else."""
        self._look, self.base = look, base
        self._cursor, self._selection = (look.cursor, look.selection) if look else (_MARKED, _MARKED)
        self._based: dict[Style, Style] = {}
        self._known: dict[int, Style] = {}
        self._strips: LRUCache[tuple[Ink, int], Strip] = LRUCache(512)

    def styles(self, entropy: Floats, flags: npt.NDArray[np.uint8], settled: npt.NDArray[np.bool_]) -> list[Style]:
        """The style of each token. Entropy is taken in grains too fine to see, so that few styles are asked for."""
        import numpy as np

        nats = np.nan_to_num(entropy, nan=_MOST_NATS).clip(0, _MOST_NATS)
        keys = (np.rint(nats * _GRAINS).astype(np.int64) << 9) | (flags.astype(np.int64) << 1) | settled
        known = self._known
        return [known[key] if key in known else self._style(key) for key in keys.tolist()]

    def _style(self, key: int) -> Style:
        style = self._look.style((key >> 9) / _GRAINS, (key >> 1) & 0xFF, bool(key & 1)) if self._look else Style()
        self._known[key] = self._based.setdefault(style, self.base + style)
        return self._known[key]

    def rows(
        self, lines: Sequence[Line], styles: Sequence[Style], cursor: int | None, selection: tuple[int, int] | None
    ) -> list[Ink]:
        """Draws lines. Where a token without cells is marked, a blank behind its line is."""
        first, last = selection or (0, 0)
        rows: list[Ink] = []
        for line in lines:
            ink: list[tuple[str, Style]] = []
            behind: Style | None = None
            for run in line:
                style = styles[run.token]
                if marked := first <= run.token < last:
                    style += self._selection
                if run.token == cursor:
                    style += self._cursor
                    marked = True
                if run.cells:
                    if ink and ink[-1][1] is style:
                        ink[-1] = (ink[-1][0] + run.text, style)
                    else:
                        ink.append((run.text, style))
                elif run.text and ink:  # combines with what is before it, in whose style
                    ink[-1] = (ink[-1][0] + run.text, style if marked else ink[-1][1])
                elif marked and (behind is None or run.token == cursor):
                    behind = style
            if behind is not None:
                ink.append((" ", behind))
            rows.append(tuple(ink))
        return rows

    def strip(self, ink: Ink, width: int) -> Strip:
        """A row, filled up or cut to a width."""
        strip = self._strips.get((ink, width))
        if strip is None:
            strip = Strip([Segment(text, style) for text, style in ink]).adjust_cell_length(width, self.base)
            self._strips[ink, width] = strip
        return strip
