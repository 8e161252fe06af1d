"""The cursor of the editor: moves by character, word, row and page, and the selection.

Offsets are bytes at the start of a character, never between CR and LF. A selection is between its anchor and the
cursor.
"""

import unicodedata
from collections.abc import Iterable

from dgtui.document.buffer import Buffer
from dgtui.document.find import find
from dgtui.document.undo import Edit
from dgtui.tui.widgets.editor_rows import Rows, followed


class EditorCaret:
    """The cursor in a buffer, and the anchor of the selection.

    Args:
        buffer: The text.
        rows: Its layout. Replace the attribute when the text is laid out again.
    """

    def __init__(self, buffer: Buffer, rows: Rows) -> None:
        self.rows = rows
        self.cursor = buffer.first
        self._buffer = buffer
        self._anchor: int | None = None
        self._cell: int | None = None
        """The cell that moves up and down aim for."""

    @property
    def selection(self) -> tuple[int, int] | None:
        """Start and end of the selection; None if it is empty."""
        if self._anchor is None or self._anchor == self.cursor:
            return None
        return min(self._anchor, self.cursor), max(self._anchor, self.cursor)

    @property
    def span(self) -> tuple[int, int]:
        """The selection; without one, the cursor twice."""
        return self.selection or (self.cursor, self.cursor)

    def go(self, offset: int, select: bool = False) -> None:
        """Moves the cursor to a character; with `select`, extends the selection."""
        self._anchor = (self.cursor if self._anchor is None else self._anchor) if select else None
        self.cursor, self._cell = self._valid(offset), None

    def select(self, start: int, end: int) -> None:
        """Selects from `start` to `end`, and moves the cursor to `end`."""
        self.go(start)
        self.go(end, select=True)

    def follow(self, edits: Iterable[Edit]) -> None:
        """Keeps the cursor and the anchor on their characters after edits."""
        self.cursor = self._valid(followed(self.cursor, edits))
        self._anchor = None if self._anchor is None else self._valid(followed(self._anchor, edits))

    def move(self, where: str, select: bool = False, page: int = 1) -> None:
        """Moves left, right, up, down, home, end, page_up, page_down, word_left, word_right, top or bottom."""
        if self.selection and not select and where in ("left", "right"):
            self.go(self.selection[where == "right"])
        elif where in ("up", "down", "page_up", "page_down"):
            self._move_rows({"up": -1, "down": 1, "page_up": -page, "page_down": page}[where], select)
        else:
            self.go(self.target(where), select)

    def target(self, where: str) -> int:
        """The target of a horizontal move."""
        match where:
            case "left":
                return self._beside(-1)
            case "right":
                return self._beside(1)
            case "word_left":
                return self._word(-1)
            case "word_right":
                return self._word(1)
            case "top":
                return self._buffer.first
            case "bottom":
                return len(self._buffer.data)
        row, _ = self.rows.find(self.cursor)
        at = self.rows.offset(row, 0 if where == "home" else 1 << 60)
        if at == self.cursor:  # already at the edge of a wrapped row: move to the edge of the line
            at = self._buffer.line_span(self._buffer.place(at)[0])[where == "end"]
        return at

    def word(self, offset: int) -> tuple[int, int]:
        """The word, blanks or punctuation around a byte."""
        line, column = self._buffer.place(offset)
        text = self._buffer.line(line)
        start, end = column, column
        kind = _kind(text[column : column + 1] or text[-1:])
        while start and _kind(text[start - 1]) == kind:
            start -= 1
        while end < len(text) and _kind(text[end]) == kind:
            end += 1
        cells = self.rows.cells(text)
        if end < len(text) and cells.snap(end) != end:
            end = cells.after(end)
        return self._buffer.offset(line, cells.snap(start)), self._buffer.offset(line, end)

    def _move_rows(self, count: int, select: bool) -> None:
        row, cell = self.rows.find(self.cursor)
        wish = cell if self._cell is None else self._cell
        if not 0 <= row + count < self.rows.total and abs(count) == 1:
            self.go(self._buffer.first if count < 0 else len(self._buffer.data), select)
        else:
            self.go(self.rows.offset(row + count, wish), select)
        self._cell = wish

    def _beside(self, step: int) -> int:
        line, column = self._buffer.place(self.cursor)
        text = self._buffer.line(line)
        if step < 0 and not column:
            return self._buffer.line_span(line - 1)[1] if line else self.cursor
        if step > 0 and column == len(text):
            return self._buffer.line_span(line + 1)[0] if line + 1 < self._buffer.lines else self.cursor
        cells = self.rows.cells(text)
        return self._buffer.offset(line, cells.before(column) if step < 0 else cells.after(column))

    def _word(self, step: int) -> int:
        """The start of the previous or next word; the end of a line counts as a word."""
        line, column = self._buffer.place(self.cursor)
        text = self._buffer.line(line)
        if column == (0 if step < 0 else len(text)):
            return self._beside(step)
        if step < 0:
            while column and text[column - 1].isspace():
                column -= 1
            kind = _kind(text[column - 1 : column])
            while column and _kind(text[column - 1]) == kind:
                column -= 1
        else:
            cells, kind = self.rows.cells(text), _kind(text[column])
            column = cells.after(column)
            while column < len(text) and _kind(text[column]) == kind:
                column = cells.after(column)
            while column < len(text) and text[column].isspace():
                column = cells.after(column)
        return self._buffer.offset(line, self.rows.cells(text).snap(column))

    def _valid(self, offset: int) -> int:
        """The offset, moved out of a CR LF pair and into the text."""
        data = self._buffer.data
        offset = max(self._buffer.first, min(offset, len(data)))
        return offset - 1 if data[offset - 1 : offset + 1] == b"\r\n" else offset


def search(buffer: Buffer, text: str, span: tuple[int, int], backwards: bool) -> tuple[int, int] | None:
    """The next match of a text after a span in bytes, or the previous one before it, see `find`."""
    sought = text.replace("\r\n", "\n").replace("\n", buffer.ending_at(span[0]).decode("ascii"))
    whole = buffer.text(buffer.first, len(buffer.data))
    before, after = (len(buffer.text(buffer.first, offset)) for offset in span)
    if (found := find(whole, sought, (before, after), backwards=backwards)) is None:
        return None
    start, end = (len(whole[:at].encode(buffer.encoding)) for at in found)
    return buffer.first + start, buffer.first + end


def _kind(character: str) -> int:
    """0 for a blank, 1 for a word character or what combines with one, 2 for other characters."""
    if character.isspace():
        return 0
    is_word = character.isalnum() or character in "_\u200c\u200d" or unicodedata.category(character)[0] == "M"
    return 1 if is_word else 2
