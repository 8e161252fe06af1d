"""How rows of the editor are drawn: syntax, overlays, marks, selection and cursor, in this order."""

import bisect
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Final

from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from dgtui.tui.syntax import ColouredSpan, Kind, styles
from dgtui.tui.theme import Look
from dgtui.tui.widgets.brush import Ink, Painter
from dgtui.tui.widgets.editor_rows import Location, Part, TextRow

_REVERSED: Final = Style(reverse=True)
_UNDERLINED: Final = Style(underline=True)

Layer = tuple[int, int, Style]
"""Start and end character in a paragraph, and a style."""


class EditorBrush(Painter):
    """Draws rows in one look.

    Args:
        look: The colours of the theme; None for no colours.
        base: The style below every other.
        gutter: The style of the line numbers.
    """

    def __init__(self, look: Look | None, base: Style, gutter: Style) -> None:
        super().__init__(base)
        self._gutter = base + gutter
        self._cursor, self._selection = (look.cursor, look.selection) if look else (_REVERSED, _REVERSED)
        self._mark = Style.parse(look.theme.all_marks["pinned"]) if look and look.color else _UNDERLINED
        self._kinds: Mapping[Kind, Style] = styles(look)

    def row(
        self,
        row: TextRow,
        *,
        first: int,
        cells: int,
        digits: int,
        syntax: Callable[[int], Sequence[ColouredSpan]],
        marks: Iterable[tuple[Location, Location]],
        selection: tuple[Location, Location] | None,
        cursor: int | None,
    ) -> Ink:
        """Draws a row.

        Args:
            row: The row.
            first: Its first visible cell.
            cells: The number of visible cells.
            digits: The width of the line numbers.
            syntax: Returns the spans of a line of the buffer.
            marks: Start and end of the tinted spans.
            selection: Start and end of the selection.
            cursor: The cell of the cursor, if it is in this row.
        """
        paragraph = row.paragraph
        measured = paragraph.cells
        left = measured.column(row.start) + first
        start, end = max(row.start, measured.at(left)), min(row.end, measured.after(measured.at(left + cells)))
        layers = [*paragraph.inks]
        end_cell = self.base  # the cell after the text shows a selected line break
        spans = [(*mark, self._mark) for mark in marks] + ([(*selection, self._selection)] if selection else [])
        for part in paragraph.parts:
            if not part.overlay:
                layers += self._colours(part, syntax(part.start[0]), start, end)
            for from_, to, style in spans:
                layers.append((*part.within(from_, to), style))
                if row.is_last and part is paragraph.parts[-1] and not part.overlay and from_ <= part.end < to:
                    end_cell += style
        if cursor is not None:
            at = measured.at(measured.column(row.start) + cursor)
            if at < row.end:
                layers.append((at, measured.after(at), self._cursor))
            else:
                end_cell += self._cursor
        ink = self._runs(row, start, end, layers)
        if row.end == end and end_cell is not self.base:
            ink.append((" ", end_cell))
        return ((self._number(row.number, digits), self._gutter), *_cut(ink, left - measured.column(start), cells))

    def _colours(self, part: Part, spans: Sequence[ColouredSpan], start: int, end: int) -> Iterable[Layer]:
        """The syntax colours of a part between two characters of the paragraph."""
        shift = part.at - part.start[1]
        low, high = max(part.at, start), min(part.at + len(part.text), end)
        first = bisect.bisect_right(spans, low - shift, key=lambda span: span[1])
        last = bisect.bisect_left(spans, high - shift, key=lambda span: span[0])
        for a, b, kind in spans[first:last]:
            if kind in self._kinds:
                yield max(a + shift, low), min(b + shift, high), self._kinds[kind]

    def _runs(self, row: TextRow, start: int, end: int, layers: Sequence[Layer]) -> list[tuple[str, Style]]:
        measured = row.paragraph.cells
        inside = [
            (measured.snap(max(a, start)), measured.snap(min(b, end)), style)
            for a, b, style in layers
            if a < end and b > start
        ]
        cuts = sorted({start, end, *(a for a, _, _ in inside), *(b for _, b, _ in inside)})
        runs = []
        for a, b in pairwise(cuts):
            style = self.base
            for low, high, ink in inside:
                if low <= a < high:
                    style += ink
            runs.append((measured.drawn(a, b), style))
        return runs

    def _number(self, number: int | None, digits: int) -> str:
        return f"{'' if number is None else number + 1:>{digits}} "


def _cut(ink: Sequence[tuple[str, Style]], first: int, cells: int) -> Iterable[tuple[str, Style]]:
    """The visible cells; half of a wide character becomes a blank."""
    if first <= 0 and sum(len(text) for text, _ in ink) * 2 <= cells:
        return ink
    strip = Strip([Segment(text, style) for text, style in ink]).crop(first, first + cells)
    return [(segment.text, segment.style or Style.null()) for segment in strip]
