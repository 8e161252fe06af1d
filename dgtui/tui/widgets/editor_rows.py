"""The rows of the editor: which line and which characters each holds, and the row of an offset.

A row is a line of the buffer or, if lines are wrapped, a part of one. Overlays are laid out in place of the bytes that
they cover, and the lines that an overlay touches are laid out together. Text is decoded on demand, and after an edit
only the edited lines are measured again.
"""

import bisect
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt
from rich.style import Style
from textual.cache import LRUCache

from dgtui.document.buffer import Buffer
from dgtui.document.lines import Lines
from dgtui.document.undo import Edit
from dgtui.tui.widgets.editor_cells import TAB, Cells

Location = tuple[int, int]
"""Line and column, as in `Buffer.place`."""

_KEPT: Final = 512
"""Lines whose layout is kept."""
_LONG: Final = 100_000
"""Characters of a line that is the only one whose layout is kept."""
_BREAK: Final = re.compile(r"\r?\n")


@dataclass(frozen=True, slots=True)
class Overlay:
    """Text drawn in place of the bytes from `start` to `end`; the buffer does not change."""

    start: int
    end: int
    runs: Sequence[tuple[str, Style]]


@dataclass(frozen=True, slots=True)
class Part:
    """Characters of a paragraph that come from one line of the buffer or from one overlay."""

    at: int
    """The first character in the paragraph."""
    text: str
    start: Location
    """The start in the buffer; for an overlay, the start of its bytes."""
    end: Location
    overlay: Overlay | None = None

    def within(self, first: Location, last: Location) -> tuple[int, int]:
        """Start and end in the paragraph of what is between two locations of the buffer."""
        low, high = max(self.start, first), min(self.end, last)
        if self.overlay or low > high:
            return self.at, self.at
        return self.at + low[1] - self.start[1], self.at + high[1] - self.start[1]


class Paragraph:
    """Text that is wrapped as a whole: a line of the buffer, or lines joined or split by overlays."""

    def __init__(
        self, parts: Sequence[Part], cells: Cells, starts: Sequence[int], inks: Sequence[tuple[int, int, Style]] = ()
    ) -> None:
        self.parts, self.cells, self.starts = parts, cells, starts
        self.inks = inks
        """The styles of overlays: start character, end character, style."""

    @property
    def line(self) -> int:
        """The line of the buffer in which it begins."""
        return self.parts[0].start[0]

    def place(self, index: int) -> Location:
        """The location of a character; in an overlay, the start of its bytes."""
        part = next(part for part in reversed(self.parts) if part.at <= index)
        return part.start if part.overlay else (part.start[0], part.start[1] + index - part.at)


@dataclass(frozen=True, slots=True)
class TextRow:
    """The characters of a paragraph from `start` to `end`."""

    paragraph: Paragraph
    start: int
    end: int
    number: int | None
    """The number of the line that begins in this row."""

    @property
    def is_last(self) -> bool:
        """Whether the paragraph ends here."""
        return self.start == self.paragraph.starts[-1]


class Rows:
    """The rows of a buffer.

    Args:
        buffer: The text. Call `follow` after edits.
        width: Cells of a row without the cell for the cursor after it; None to not wrap lines.
    """

    def __init__(self, buffer: Buffer, width: int | None) -> None:
        self.width = width
        self._buffer = buffer
        self.overlays: tuple[Overlay, ...] = ()
        """The overlays, in order."""
        self._groups: dict[int, list[Paragraph]] = {}
        self._inside: dict[int, int] = {}  # a line that is laid out with others → the first of these lines
        self._paragraphs_of: LRUCache[int, list[Paragraph]] = LRUCache(512)
        self._known: dict[str, tuple[Cells, list[int]]] = {}
        self._seen = len(buffer.edits_since(0))
        self._lines = Lines(buffer.data, buffer.first)
        self._heights, self.widest = _measure(buffer, width)
        """Rows of each line, 0 if not measured; and an upper limit of the cells of the longest line."""
        self._fill()

    @property
    def total(self) -> int:
        """The number of rows."""
        return int(self._tops[-1])

    def follow(self) -> Sequence[Edit]:
        """Applies the edits since the last call, and returns them."""
        edits = self._buffer.edits_since(self._seen)
        self._seen += len(edits)
        if not edits:
            return edits
        self._ungroup()
        self._paragraphs_of.clear()
        for edit in edits:
            line, old, new = self._lines.at(edit.start), edit.old.count(b"\n"), edit.new.count(b"\n")
            self._lines.splice(edit.start, edit.end, edit.new)
            unknown = np.zeros(new + 1, np.int64)
            self._heights = np.concatenate([self._heights[:line], unknown, self._heights[line + old + 1 :]])
        self.overlays = tuple(
            replace(overlay, start=followed(overlay.start, edits), end=followed(overlay.end, edits))
            for overlay in self.overlays
        )
        self._group()
        self._fill()
        return edits

    def show_over(self, overlays: Iterable[Overlay]) -> None:
        """Replaces all overlays."""
        self._ungroup()
        self.overlays = tuple(sorted(overlays, key=lambda overlay: (overlay.start, overlay.end)))
        self._group()
        self._fill()

    def cells(self, text: str) -> Cells:
        """The cells of the text of a line."""
        return self._laid_out(text)[0]

    def row(self, number: int) -> TextRow | None:
        """A row; None if it does not exist."""
        if not 0 <= number < self.total:
            return None
        line = int(np.searchsorted(self._tops, number, "right")) - 1
        part = number - int(self._tops[line])
        for nth, paragraph in enumerate(self._paragraphs(line)):
            starts = paragraph.starts
            if part < len(starts):
                end = starts[part + 1] if part + 1 < len(starts) else len(paragraph.cells.text)
                return TextRow(paragraph, starts[part], end, line if not nth and not part else None)
            part -= len(starts)
        return None

    def find(self, offset: int) -> tuple[int, int]:
        """The row and the cell of a byte; for a byte under an overlay, those of the overlay."""
        place = self._buffer.place(offset)
        first = self._inside.get(place[0], place[0])
        row, position = int(self._tops[first]), (0, 0)
        shown: set[int] = set()
        for paragraph in self._paragraphs(first):
            for part in paragraph.parts:
                if part.start > place or id(part.overlay) in shown:
                    continue
                if part.overlay:
                    shown.add(id(part.overlay))
                index = part.within(place, place)[0]
                nth = bisect.bisect_right(paragraph.starts, index) - 1
                start = paragraph.starts[nth]
                position = row + nth, paragraph.cells.column(index) - paragraph.cells.column(start)
            row += len(paragraph.starts)
        return position

    def offset(self, number: int, cell: int) -> int:
        """The byte at a cell, or the nearest one."""
        row = self.row(max(0, min(number, self.total - 1)))
        if row is None:
            return self._buffer.first
        cells = row.paragraph.cells
        index = min(max(cells.at(cells.column(row.start) + cell), row.start), row.end)
        if index == row.end and not row.is_last:
            index = max(row.start, cells.before(index))
        return self._buffer.offset(*row.paragraph.place(index))

    def _paragraphs(self, line: int) -> list[Paragraph]:
        if known := self._groups.get(line) or self._paragraphs_of.get(line):
            return known
        text = self._buffer.line(line)
        paragraph = Paragraph((Part(0, text, (line, 0), (line, len(text))),), *self._laid_out(text))
        self._paragraphs_of[line] = [paragraph]
        return [paragraph]

    def _laid_out(self, text: str) -> tuple[Cells, list[int]]:
        if text in self._known:
            return self._known[text]
        if len(self._known) > _KEPT or len(text) > _LONG:
            self._known.clear()
        cells = Cells(text)
        self._known[text] = cells, [0] if self.width is None else cells.wrap(self.width)
        return self._known[text]

    def _fill(self) -> None:
        """Measures the lines that are not measured yet."""
        for line in np.flatnonzero(self._heights == 0).tolist():
            if line not in self._inside:
                paragraphs = self._paragraphs(line)
                self._heights[line] = sum(len(paragraph.starts) for paragraph in paragraphs)
                self.widest = max(self.widest, *(paragraph.cells.width for paragraph in paragraphs))
        self._tops: npt.NDArray[np.int64] = np.concatenate([np.zeros(1, np.int64), np.cumsum(self._heights)])

    def _ungroup(self) -> None:
        self._heights[[*self._groups, *self._inside]] = 0
        self._groups, self._inside = {}, {}

    def _group(self) -> None:
        """Lays out the lines that overlays touch."""
        buffer, group, at = self._buffer, _Group((0, 0)), None
        for overlay in self.overlays:
            start, end = buffer.place(overlay.start), buffer.place(overlay.end)
            if at is None or start[0] > at[0]:
                self._close(group, at)
                group, at = _Group(start), (start[0], 0)
            if start < at:
                continue  # overlaps the previous overlay
            group.write(buffer.line(at[0])[at[1] : start[1]], at)
            group.lay(overlay, start, end)
            at = end
        self._close(group, at)

    def _close(self, group: "_Group", at: Location | None) -> None:
        if at is None:
            return
        group.write(self._buffer.line(at[0])[at[1] :], at)
        paragraphs = [Paragraph(parts, *self._laid_out(text), inks) for parts, text, inks in group.done()]
        self._groups[group.line] = paragraphs
        self._inside |= dict.fromkeys(range(group.line + 1, at[0] + 1), group.line)
        self._heights[group.line : at[0] + 1] = 0


class _Group:
    """Builds paragraphs from lines that are laid out together."""

    def __init__(self, start: Location) -> None:
        self.line = start[0]
        self._paragraphs: list[tuple[list[Part], list[tuple[int, int, Style]]]] = [([], [])]
        self._at = 0

    def write(self, text: str, start: Location) -> None:
        """Adds a part of a line."""
        self._add(Part(self._at, text, start, (start[0], start[1] + len(text))))

    def lay(self, overlay: Overlay, start: Location, end: Location) -> None:
        """Adds an overlay that covers the text from `start` to `end`."""
        for text, style in overlay.runs:
            for nth, piece in enumerate(_BREAK.split(text)):
                if nth:
                    self._paragraphs.append(([], []))
                    self._at = 0
                self._paragraphs[-1][1].append((self._at, self._at + len(piece), style))
                self._add(Part(self._at, piece, start, end, overlay))

    def done(self) -> Iterable[tuple[list[Part], str, list[tuple[int, int, Style]]]]:
        """Parts, text and overlay styles of the paragraphs."""
        return ((parts, "".join(part.text for part in parts), inks) for parts, inks in self._paragraphs)

    def _add(self, part: Part) -> None:
        self._paragraphs[-1][0].append(part)
        self._at += len(part.text)


def followed(offset: int, edits: Iterable[Edit]) -> int:
    """The offset of a byte after edits; if it was replaced, the end of the replacement."""
    for edit in edits:
        if offset >= edit.end:
            offset += len(edit.new) - len(edit.old)
        elif offset > edit.start:
            offset = edit.start + len(edit.new)
    return offset


def _measure(buffer: Buffer, width: int | None) -> tuple[npt.NDArray[np.int64], int]:
    """The rows of each line, 0 for lines that must be decoded; and an upper limit of the cells of the longest line.

    Except for tabs, no character has more cells than bytes in any encoding.
    """
    data = np.frombuffer(buffer.data, np.uint8)[buffer.first :]
    starts = np.concatenate([np.zeros(1, np.int64), np.flatnonzero(data == ord("\n")) + 1])
    cells = np.diff(starts, append=len(data) + 1) - 1
    tabs = np.flatnonzero(data == ord("\t"))
    cells += np.bincount(np.searchsorted(starts, tabs, "right") - 1, minlength=len(starts)) * (TAB - 1)
    heights = np.ones(len(starts), np.int64) if width is None else (cells <= width).astype(np.int64)
    return heights, int(cells.max())
