"""A canvas as wrapped text, with a cursor and a selection of tokens.

A Line API widget: each frame is laid out and drawn, but only rows that look different are repainted, and the layout of
the screen changes only with the number of lines. Every byte has passed the sanitiser.
"""

from __future__ import annotations

from typing import Any, ClassVar

from rich.style import Style
from textual import events
from textual.geometry import Offset, Region, Size
from textual.message import Message
from textual.reactive import var
from textual.scroll_view import ScrollView
from textual.strip import Strip

from dgtui.layout import lay_out, shown_tokens
from dgtui.tui import keymap
from dgtui.tui.frames import View
from dgtui.tui.theme import Look
from dgtui.tui.widgets.brush import Brush, Ink
from dgtui.tui.widgets.caret import Caret
from dgtui.tui.widgets.places import Places


class CanvasView(ScrollView, can_focus=True, inherit_bindings=False):
    """A canvas. Set `look` before the first `show`."""

    ALLOW_SELECT = False  # the mouse selects tokens, not cells
    BINDINGS: ClassVar[list[Any]] = keymap.bindings("canvas")
    DEFAULT_CSS = """
    CanvasView {
        height: auto; overflow-x: hidden; scrollbar-gutter: stable;
        scrollbar-size-vertical: 1; scrollbar-size-horizontal: 0;
    }
    """

    class Moved(Message):
        """The cursor is on another token, or the selection has changed."""

        def __init__(self, cursor: int, selection: tuple[int, int] | None) -> None:
            super().__init__()
            self.cursor, self.selection = cursor, selection

    look: var[Look | None] = var(None, init=False)
    "the style of tokens"
    calm = var(False, init=False)
    "during a run, the height may grow but not shrink"
    pointing = var(False, init=False)
    "the cursor is drawn without the focus too, while a question refers to its position"

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._view: View | None = None
        self._caret = Caret()
        self._brush: Brush | None = None
        self._styles: list[Style] = []
        self._rows: list[Ink] = []
        self._page_width = 0
        self._dragging = False
        self._told: tuple[int, tuple[int, int] | None] = (0, None)

    # -- what is shown ------------------------------------------------------------------------------------------------

    def watch_look(self) -> None:
        """Draws in the new look."""
        self._change_brush()

    def watch_calm(self) -> None:
        """Lets the height shrink again."""
        self._fit()

    def watch_pointing(self) -> None:
        """Draws or removes the cursor."""
        self._paint()

    def show(self, view: View | None) -> None:
        """Draws a canvas instead of the one that is shown. Cursor, selection and scroll position stay.

        None clears everything and moves the cursor to the first position.
        """
        self._view = view
        if view is None:
            self._caret.reset()
        self._lay_out()

    def _lay_out(self) -> None:
        if self._page_width <= 0:
            return
        caret, view = self._caret, self._view
        in_sight = 0 <= caret.row - self.scroll_offset.y < self.scrollable_content_region.height
        pieces = view.pieces[: view.end] if view else ()
        tokens = shown_tokens(pieces, view.settled[: view.end].tolist()) if view else ()
        same = tokens == caret.places.tokens
        caret.places = Places(tokens, caret.places.lines if same else lay_out(tokens, self._page_width), pieces)
        self._paint(restyle=True)
        if in_sight:
            self._follow()
        self._tell()

    def _paint(self, restyle: bool = False) -> None:
        """Repaints the rows that look different from what is on the screen."""
        if self._page_width <= 0:
            return
        before, self._rows = self._rows, self._draw(restyle)
        self._fit()
        top, height = self.scroll_offset.y, self.scrollable_content_region.height
        width = self.size.width
        changed = [
            Region(0, row - top, width, 1)
            for row in range(top, min(top + height, max(len(before), len(self._rows))))
            if row >= len(before) or row >= len(self._rows) or before[row] != self._rows[row]
        ]
        if changed:
            self.refresh(*changed)

    def _draw(self, restyle: bool) -> list[Ink]:
        if self._brush is None:
            self._brush, restyle = Brush(self.look, self.rich_style), True
        if restyle:
            self._styles = []
            if (view := self._view) is not None:
                end, glow = view.end, None if view.glow is None else view.glow[: view.end]
                self._styles = self._brush.styles(view.entropy[:end], view.flags[:end], view.settled[:end], glow)
        if not self._caret.places:
            return []
        cursor = self.cursor if self.has_focus or self.pointing else None
        return self._brush.rows(self._caret.places.lines, self._styles, cursor, self.selection)

    def _fit(self) -> None:
        """Sets the number of lines, if it has changed."""
        size = Size(self._page_width, max(len(self._rows), self.virtual_size.height if self.calm else 0))
        if size != self.virtual_size:
            self.virtual_size = size

    def render_line(self, y: int) -> Strip:
        """A row of the widget."""
        row, width = y + self.scroll_offset.y, self.size.width
        if self._brush is None or row >= len(self._rows):
            return Strip.blank(width, self.rich_style)
        return self._brush.strip(self._rows[row], width)

    def notify_style_update(self) -> None:
        """Discards everything that was drawn in the old colours."""
        super().notify_style_update()
        self._change_brush()

    def _change_brush(self) -> None:
        self._brush = None
        if self.is_mounted:
            self._paint()

    def on_resize(self) -> None:
        """Lays out lines as wide as the widget, minus one cell for a cursor after the last character."""
        width = max(1, self.scrollable_content_region.width - 1) if self.size.width else 0
        if width != self._page_width:
            self._page_width = width
            self._caret.places = Places((), ())
            self._lay_out()
            self.refresh()

    def on_focus(self) -> None:
        """Draws the cursor."""
        self._paint()

    def on_blur(self) -> None:
        """Removes the cursor."""
        self._paint()

    # -- cursor and selection -----------------------------------------------------------------------------------------

    @property
    def cursor(self) -> int:
        """The token under the cursor: the one it was moved to, or the nearest one with text."""
        return self._caret.cursor

    @cursor.setter
    def cursor(self, place: int) -> None:
        self._go(place)

    def piece(self, place: int) -> bytes:
        """The bytes of a token; empty if it is not shown."""
        view = self._view
        return view.pieces[place] if view is not None and place < min(view.end, len(view.pieces)) else b""

    @property
    def view(self) -> View | None:
        """The canvas that is shown."""
        return self._view

    @property
    def cursor_cell(self) -> Offset:
        """The cell of the screen that the cursor begins in."""
        places = self._caret.places
        row, column = places.home(places.near(self.cursor)) if places else (0, 0)
        return self.content_region.offset + Offset(column, row - self.scroll_offset.y)

    @property
    def selection(self) -> tuple[int, int] | None:
        """The selected tokens, end exclusive, including the one under the cursor. Characters are never cut."""
        return self._caret.selection

    def select(self, start: int, end: int) -> None:
        """Selects the tokens from `start` to `end` (exclusive) and moves the cursor to the last of them."""
        self._caret.select(start, end)
        self._moved()

    def clear_selection(self) -> None:
        """Clears the selection; the cursor stays."""
        self._caret.let_go()
        self._moved()

    def action_anchor(self) -> None:
        """Starts a selection that every move extends; a second call ends it and clears the selection."""
        self._caret.anchor()
        self._moved()

    def action_move(self, where: str, select: bool = False) -> None:
        """Moves the cursor: left, right, up, down, home, end, page_up, page_down, word_left or word_right."""
        self._caret.move(where, select, page=max(1, self.scrollable_content_region.height - 1))
        self._moved()

    def _go(self, place: int, select: bool = False) -> None:
        self._caret.go(place, select)
        self._moved()

    def _moved(self) -> None:
        self._paint()
        self._follow()
        self._tell()

    def _tell(self) -> None:
        now = (self.cursor, self.selection)
        if now != self._told:
            self._told = now
            self.post_message(self.Moved(*now))

    def _follow(self) -> None:
        """Scrolls as little as possible to show the row of the cursor."""
        row, height = self._caret.row, self.scrollable_content_region.height
        top = min(max(self.scroll_offset.y, row - height + 1), row)
        if height and top != self.scroll_offset.y:
            self.scroll_to(y=top, animate=False)

    # -- mouse --------------------------------------------------------------------------------------------------------

    def _under(self, event: events.MouseEvent) -> int:
        gutter = self.gutter
        return self._caret.places.at(event.y - gutter.top + self.scroll_offset.y, event.x - gutter.left)

    def on_mouse_down(self, event: events.MouseDown) -> None:
        """Moves the cursor to a token; with shift, selects up to it."""
        if event.button == 1 and self._caret.places:
            self._go(self._under(event), event.shift)
            self._dragging = True
            self.capture_mouse()

    def on_mouse_move(self, event: events.MouseMove) -> None:
        """Selects what is dragged over."""
        if self._dragging and self._caret.places and (place := self._under(event)) != self.cursor:
            self._go(place, select=True)

    def on_mouse_up(self) -> None:
        """Ends dragging."""
        if self._dragging:
            self._dragging = False
            self.release_mouse()
