"""The view of an `Editor`: rows, cursor, selection, marks, overlays, mouse. It does not change the buffer.

A Line API widget: only visible rows are decoded, laid out and drawn, and only changed rows are repainted. Every
character is sanitised. Texts up to `WRAP` bytes are wrapped at words; longer texts are not wrapped.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Final

from textual import events
from textual.geometry import Offset, Region, Size
from textual.message import Message
from textual.reactive import var
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.timer import Timer

from dgtui.document.buffer import Anchor, Buffer
from dgtui.tui.syntax import Syntax
from dgtui.tui.theme import Look
from dgtui.tui.widgets.brush import Ink
from dgtui.tui.widgets.editor_brush import EditorBrush
from dgtui.tui.widgets.editor_caret import EditorCaret, search
from dgtui.tui.widgets.editor_rows import Overlay, Rows

WRAP: Final = 2**20
"""Bytes of the longest text with wrapped lines and syntax colours."""

_MOMENT: Final = 0.01
"""Seconds that one step of syntax highlighting may take."""
_DIGITS: Final = 3
"""Minimum width of the line numbers."""


class EditorView(ScrollView, inherit_bindings=False):
    """Shows a buffer. Set `look` once it is known."""

    ALLOW_SELECT = False  # Textual's selection works on cells, this one on characters
    COMPONENT_CLASSES: ClassVar[set[str]] = {"editor--gutter"}
    DEFAULT_CSS = """
    EditorView { scrollbar-gutter: stable; scrollbar-size-vertical: 1; scrollbar-size-horizontal: 1; }
    EditorView > .editor--gutter { color: $canvas-muted; }
    """

    look: var[Look | None] = var(None, init=False)
    """The colours of the theme."""

    class Changed(Message, namespace="editor"):
        """The text has changed."""

    class Moved(Message, namespace="editor"):
        """The cursor or the selection has changed."""

        def __init__(self, cursor: int, selection: tuple[int, int] | None) -> None:
            super().__init__()
            self.cursor, self.selection = cursor, selection

    def __init__(self, buffer: Buffer, path: Path | None = None, **kwargs: Any) -> None:
        """The name in `path` selects the language of the text."""
        super().__init__(**kwargs)
        self._brush: EditorBrush | None = None
        self._inks: dict[int, Ink] = {}
        self._painted_from = 0
        self._dragging = False
        self._reading: Timer | None = None
        self._buffer = buffer
        self._wraps = len(buffer.data) <= WRAP
        self._rows = Rows(buffer, None)
        self._height = 0
        self._caret = EditorCaret(buffer, self._rows)
        self._marks: tuple[Anchor, ...] = ()
        self._reported: tuple[int, tuple[int, int] | None] = (self.cursor, None)
        self._read_as(path)

    # -- the document -------------------------------------------------------------------------------------------------

    @property
    def buffer(self) -> Buffer:
        """The text."""
        return self._buffer

    def rename(self, path: Path) -> None:
        """Takes a new name of the text, which selects its language."""
        self._read_as(path)
        self._paint()

    def _read_as(self, path: Path | None) -> None:
        self._path = path
        self._syntax = Syntax(path if self._wraps else None)
        self._read_from(0)

    def sync(self) -> None:
        """Follows edits by others; cursor, selection and overlays stay on their characters."""
        if self._follow():
            self._show()
            self._report()

    def _follow(self) -> bool:
        if not (edits := self._rows.follow()):
            return False
        self._caret.follow(edits)
        self._read_from(min(edit.start for edit in edits))
        self.post_message(self.Changed())
        return True

    def _read_from(self, offset: int) -> None:
        buffer = self._buffer
        if self._syntax.is_known:
            text = buffer.text(buffer.first, len(buffer.data)).replace("\r\n", "\n")
            self._syntax.change(text, buffer.place(max(offset, buffer.first))[0])

    # -- drawing -----------------------------------------------------------------------------------------------------

    def watch_look(self) -> None:
        """Draws everything again."""
        self._change_brush()

    @property
    def marks(self) -> Sequence[Anchor]:
        """Tinted spans, except those that an edit has cut into."""
        return tuple(mark for mark in self._marks if mark.alive)

    @marks.setter
    def marks(self, marks: Sequence[Anchor]) -> None:
        self._marks = tuple(marks)
        self._paint()

    def show_over(self, overlays: Sequence[Overlay]) -> None:
        """Replaces all overlays."""
        self._rows.show_over(overlays)
        self._show()

    @property
    def gutter_width(self) -> int:
        """The width of the line numbers and a blank."""
        return max(_DIGITS, len(str(self._buffer.lines))) + 1

    @property
    def _row_width(self) -> int | None:
        width = self.scrollable_content_region.width - self.gutter_width - 1
        return max(1, width) if self._wraps and self.size.width else None

    def _lay_out(self) -> None:
        overlays = self._rows.overlays
        self._rows = self._caret.rows = Rows(self._buffer, self._row_width)
        self._rows.show_over(overlays)
        self._inks.clear()
        self._show()
        self.refresh()

    def _show(self) -> None:
        """Updates the number of rows and draws the visible ones."""
        if not self.size.width:
            return
        if self._row_width != self._rows.width:
            self._lay_out()
            return
        width = 0 if self._wraps else self.gutter_width + self._rows.widest + 1
        size = Size(max(width, self.scrollable_content_region.width), self._rows.total)
        if size != self.virtual_size:
            self.virtual_size = size
        self._paint()

    def _paint(self, scrolled: bool = False) -> None:
        """Repaints the visible rows that have changed. After scrolling, rows that stay visible are not drawn again."""
        if not self.size.width or not self.is_mounted:
            return
        top, height = self.scroll_offset.y, self.scrollable_content_region.height
        self._read(top + height)
        if self._painted_from != self.scroll_offset.x:
            self._painted_from = self.scroll_offset.x
            self._inks.clear()
        visible = range(top, top + height)
        before, known = self._inks, {row: self._inks[row] for row in visible if scrolled and row in self._inks}
        self._inks = known | self._draw([row for row in visible if row not in known])
        width = self.size.width
        changed = [Region(0, row - top, width, 1) for row, ink in self._inks.items() if before.get(row) != ink]
        if changed:
            self.refresh(*changed)

    def _draw(self, numbers: Sequence[int]) -> dict[int, Ink]:
        if self._brush is None:
            gutter = self.get_component_rich_style("editor--gutter", partial=True)
            self._brush = EditorBrush(self.look, self.rich_style, gutter)
        brush, rows, place = self._brush, self._rows, self._buffer.place
        marks = [(place(mark.start), place(mark.end)) for mark in self.marks]
        selection = (place(self.selection[0]), place(self.selection[1])) if self.selection else None
        cursor_row, cursor_cell = rows.find(self.cursor) if self.has_focus else (-1, 0)
        digits, first = self.gutter_width - 1, self.scroll_offset.x
        cells = self.scrollable_content_region.width - digits - 1
        return {
            number: brush.row(
                row,
                first=first,
                cells=cells,
                digits=digits,
                syntax=self._syntax.spans,
                marks=marks,
                selection=selection,
                cursor=cursor_cell if number == cursor_row else None,
            )
            if (row := rows.row(number))
            else ()
            for number in numbers
        }

    def _read(self, row: int) -> None:
        """Highlights the text up to a row, in short steps."""
        if not self._syntax.is_known or self._reading is not None:
            return
        last = self._rows.row(min(row, self._rows.total) - 1)
        if last and not self._syntax.reach(last.paragraph.line, _MOMENT):
            self._reading = self.set_timer(_MOMENT, self._read_on)

    def _read_on(self) -> None:
        self._reading = None
        self._paint()

    def render_line(self, y: int) -> Strip:
        """A row of the widget."""
        number, width = y + self.scroll_offset.y, self.size.width
        if number not in self._inks:
            self._inks |= self._draw((number,))
        return self._brush.strip(self._inks[number], width) if self._brush else Strip.blank(width, self.rich_style)

    def watch_scroll_x(self, old_value: float, new_value: float) -> None:
        """Draws after horizontal scrolling."""
        super().watch_scroll_x(old_value, new_value)
        self._paint(scrolled=True)

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Draws after vertical scrolling."""
        super().watch_scroll_y(old_value, new_value)
        self._paint(scrolled=True)

    def notify_style_update(self) -> None:
        """Draws everything again, as colours have changed."""
        super().notify_style_update()
        self._change_brush()

    def _change_brush(self) -> None:
        self._brush = None
        self._inks.clear()
        self._paint()

    def on_resize(self) -> None:
        """Lays the text out again; a visible cursor stays visible."""
        was_visible = 0 <= self._rows.find(self.cursor)[0] - self.scroll_offset.y < self._height
        self._height = self.scrollable_content_region.height
        self._show()
        if was_visible:
            self.reveal(self.cursor)

    def watch_has_focus(self, value: bool) -> None:
        """Shows or hides the cursor."""
        super().watch_has_focus(value)
        self._paint()

    # -- cursor and selection -----------------------------------------------------------------------------------------

    @property
    def cursor(self) -> int:
        """The offset of the cursor: the first byte of a character, or the end of the text."""
        return self._caret.cursor

    @cursor.setter
    def cursor(self, offset: int) -> None:
        self._caret.go(offset)
        self._moved()

    @property
    def selection(self) -> tuple[int, int] | None:
        """Start and end of the selection, in bytes."""
        return self._caret.selection

    def select(self, start: int, end: int) -> None:
        """Selects the bytes from `start` to `end`, both at the start of a character; the cursor moves to `end`."""
        self._caret.select(start, end)
        self._moved()

    def reveal(self, offset: int) -> None:
        """Scrolls as little as needed to make a byte visible."""
        if not self.size.width:
            return
        row, cell = self._rows.find(offset)
        region = self.scrollable_content_region
        wide = region.width - self.gutter_width
        top = min(max(self.scroll_offset.y, row - region.height + 1), row)
        left = min(max(self.scroll_offset.x, cell - wide + 1), cell)
        if (left, top) != self.scroll_offset:
            self.scroll_to(left, top, animate=False)

    def find(self, text: str, backwards: bool = False) -> bool:
        """Selects the next or previous match of a text, see `search`. Returns False if there is none."""
        if span := search(self._buffer, text, self._caret.span, backwards):
            self.select(*span)
        return span is not None

    def action_move(self, where: str, select: bool = False) -> None:
        """Moves the cursor, see `EditorCaret.move`."""
        self._caret.move(where, select, page=max(1, self.scrollable_content_region.height - 1))
        self._moved()

    def action_select_all(self) -> None:
        """Selects the whole text."""
        self.select(self._buffer.first, len(self._buffer.data))

    def _moved(self) -> None:
        self._buffer.break_typing()
        self.reveal(self.cursor)
        self._paint()
        self._report()

    def _report(self) -> None:
        now = (self.cursor, self.selection)
        if now != self._reported:
            self._reported = now
            self.post_message(self.Moved(*now))

    # -- mouse --------------------------------------------------------------------------------------------------------

    def _under(self, event: events.MouseEvent) -> int:
        at = Offset(event.x - self.gutter.left - self.gutter_width, event.y - self.gutter.top) + self.scroll_offset
        return self._rows.offset(at.y, at.x)

    def on_mouse_down(self, event: events.MouseDown) -> None:
        """Moves the cursor to a character; with Shift, extends the selection."""
        if event.button == 1:
            self._caret.go(self._under(event), event.shift)
            self._moved()
            self._dragging = True
            self.capture_mouse()

    def on_mouse_move(self, event: events.MouseMove) -> None:
        """Extends the selection while dragging."""
        if self._dragging and (offset := self._under(event)) != self.cursor:
            self._caret.go(offset, select=True)
            self._moved()

    def on_mouse_up(self) -> None:
        """Ends dragging."""
        if self._dragging:
            self._dragging = False
            self.release_mouse()

    def on_click(self, event: events.Click) -> None:
        """A double click selects the word, a triple click the line."""
        if event.chain == 2:
            self.select(*self._caret.word(self._under(event)))
        elif event.chain == 3:
            self.select(*self._buffer.line_span(self._buffer.place(self._under(event))[0]))
