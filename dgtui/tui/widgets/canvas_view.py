"""A canvas as wrapped text that resolves in place, with a cursor and a selection on its tokens.

A Line API widget: a frame is laid out and drawn anew, but only the rows that look different are repainted, and the
layout of the screen is touched only when the number of lines changes. Every byte has passed the sanitiser.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.cache import LRUCache
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from dgtui.diffusion.events import Floats
from dgtui.layout import lay_out, shown_tokens
from dgtui.text import sanitize, truncate
from dgtui.tui import keymap
from dgtui.tui.theme import Look
from dgtui.tui.widgets.places import Places

Ink = tuple[tuple[str, Style], ...]
"""What a row looks like, whatever is left of its width aside."""


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """What is on the canvas; arrays of C places."""

    pieces: tuple[bytes, ...]
    "the bytes of each token, perhaps a part of a character"
    entropy: Floats
    "nats"
    flags: npt.NDArray[np.uint8]
    "combinations of `events.Flag`"
    settled: npt.NDArray[np.bool_]
    "blanks and line breaks take effect here"
    end: int
    "places from here on are fill behind the reply's end: not drawn"


EMPTY: Final = View((), np.empty(0, np.float32), np.empty(0, np.uint8), np.empty(0, np.bool_), 0)
"""Nothing."""

_NO_PLACES: Final = Places((), ())
_MARKED: Final = Style(reverse=True)
_MOST_NATS: Final = 4.0
_GRAINS: Final = 256


class CanvasView(ScrollView, can_focus=True, inherit_bindings=False):
    """A canvas. Set `look` before the first `show`."""

    ALLOW_SELECT = False  # the mouse selects tokens, not cells
    BINDINGS: ClassVar[list[Any]] = keymap.bindings("canvas")
    COMPONENT_CLASSES: ClassVar[set[str]] = {"canvas-view--hint"}
    DEFAULT_CSS = """
    CanvasView {
        height: auto; overflow-x: hidden; scrollbar-gutter: stable;
        scrollbar-size-vertical: 1; scrollbar-size-horizontal: 0;
    }
    CanvasView > .canvas-view--hint { color: $text-muted; }
    """

    class Moved(Message):
        """The cursor is on another token, or the selection has changed."""

        def __init__(self, canvas: "CanvasView", cursor: int, selection: tuple[int, int] | None) -> None:
            super().__init__()
            self.canvas, self.cursor, self.selection = canvas, cursor, selection

        @property
        def control(self) -> "CanvasView":
            """Who sent it."""
            return self.canvas

    def __init__(self, *, hint: str = "", **kwargs: Any) -> None:
        """`hint` is what an empty canvas says."""
        super().__init__(**kwargs)
        self._look: Look | None = None
        self._hint = hint
        self._view = EMPTY
        self._places = _NO_PLACES
        self._known: dict[int, Style] = {}
        self._styles: list[Style] = []
        self._inks: list[Ink] = []
        self._strips: LRUCache[Ink, Strip] = LRUCache(512)
        self._base: Style | None = None
        self._page_width = 0
        self._calm = False
        self._pointing = False
        self._place = 0  # where the cursor was put: what is there now may have no text
        self._column: int | None = None  # where up and down go on
        self._anchor: int | None = None
        self._selecting = False  # every move selects
        self._dragging = False
        self._told: tuple[int, tuple[int, int] | None] = (0, None)

    # -- what is shown ------------------------------------------------------------------------------------------------

    @property
    def look(self) -> Look | None:
        """How tokens are drawn."""
        return self._look

    @look.setter
    def look(self, look: Look) -> None:
        self._look = look
        self._forget()

    @property
    def hint(self) -> str:
        """What an empty canvas says."""
        return self._hint

    @hint.setter
    def hint(self, hint: str) -> None:
        self._hint = hint
        self._paint()

    @property
    def calm(self) -> bool:
        """The height may grow, but not shrink: for a run."""
        return self._calm

    @calm.setter
    def calm(self, calm: bool) -> None:
        self._calm = calm
        self._fit()

    @property
    def pointing(self) -> bool:
        """The cursor shows without the focus too: while something is asked about its place."""
        return self._pointing

    @pointing.setter
    def pointing(self, pointing: bool) -> None:
        self._pointing = pointing
        self._paint()

    def show(self, view: View | None) -> None:
        """Draws a canvas in the place of the one that is shown; cursor, selection and scroll stay where they are.

        None takes everything away, and puts the cursor back to the first place.
        """
        self._view = view or EMPTY
        if view is None:
            self._place, self._anchor, self._selecting = 0, None, False
        self._lay_out()

    def _lay_out(self) -> None:
        if self._page_width <= 0:
            return
        in_sight = self._in_sight()
        end = self._view.end
        tokens = shown_tokens(self._view.pieces[:end], self._view.settled[:end].tolist())
        if tokens != self._places.tokens:
            self._places = Places(tokens, lay_out(tokens, self._page_width))
        self._restyle()
        self._paint()
        if in_sight:
            self._follow()
        self._tell()

    def _restyle(self) -> None:
        """The style of each token. Entropy is taken in grains too fine to see, so that few styles are asked for."""
        view, end = self._view, self._view.end
        grains = np.rint(np.nan_to_num(view.entropy[:end], nan=_MOST_NATS).clip(0, _MOST_NATS) * _GRAINS).astype(
            np.int64
        )
        keys = (grains << 9) | (view.flags[:end].astype(np.int64) << 1) | view.settled[:end]
        known = self._known
        self._styles = [known[key] if key in known else self._style(key) for key in keys.tolist()]

    def _style(self, key: int) -> Style:
        style = self._base_style()
        if self._look:
            style += self._look.style((key >> 9) / _GRAINS, (key >> 1) & 0xFF, bool(key & 1))
        self._known[key] = style
        return style

    def _base_style(self) -> Style:
        if self._base is None:
            self._base = self.rich_style
        return self._base

    def _paint(self) -> None:
        """Marks the rows to be repainted, those that look different from what is on the screen."""
        if self._page_width <= 0:
            return
        before, self._inks = self._inks, self._draw()
        self._fit()
        top, height = self.scroll_offset.y, self.scrollable_content_region.height
        width = self.size.width
        rows = [
            Region(0, row - top, width, 1)
            for row in range(top, min(top + height, max(len(before), len(self._inks))))
            if row >= len(before) or row >= len(self._inks) or before[row] != self._inks[row]
        ]
        if rows:
            self.refresh(*rows)

    def _fit(self) -> None:
        """Says how many lines there are, if that is news."""
        height = max(len(self._inks), self.virtual_size.height if self._calm else 0)
        size = Size(self._page_width, height)
        if size != self.virtual_size:
            self.virtual_size = size

    def _draw(self) -> list[Ink]:
        if not self._places:
            hint = truncate(sanitize(self._hint, newlines=False, tabs="replace"), self._page_width)
            style = self._base_style() + self.get_component_rich_style("canvas-view--hint", partial=True)
            return [((hint, style),)] if hint else []
        cursor = self.cursor if self.has_focus or self._pointing else -1
        first, last = self.selection or (0, 0)
        over = (self._look.selection, self._look.cursor) if self._look else (_MARKED, _MARKED)
        inks: list[Ink] = []
        for line in self._places.lines:
            ink: list[tuple[str, Style]] = []
            tail: Style | None = None
            for run in line:
                style = self._styles[run.token]
                if marked := first <= run.token < last:
                    style += over[0]
                if run.token == cursor:
                    style += over[1]
                    marked = True
                if run.cells:
                    if ink and ink[-1][1] is style:
                        ink[-1] = (ink[-1][0] + run.text, style)
                    else:
                        ink.append((run.text, style))
                elif run.text and ink:  # combines with what is before it, in whose style
                    ink[-1] = (ink[-1][0] + run.text, style if marked else ink[-1][1])
                elif marked and (tail is None or run.token == cursor):
                    tail = style
            if tail is not None:
                ink.append((" ", tail))
            inks.append(tuple(ink))
        return inks

    def render_line(self, y: int) -> Strip:
        """A row of the widget."""
        row, width = y + self.scroll_offset.y, self.size.width
        if row >= len(self._inks):
            return Strip.blank(width, self._base_style())
        ink = self._inks[row]
        strip = self._strips.get(ink)
        if strip is None:
            strip = Strip([Segment(text, style) for text, style in ink])
            strip = self._strips[ink] = strip.adjust_cell_length(width, self._base_style())
        return strip

    def notify_style_update(self) -> None:
        """Colours have changed: nothing that was drawn is good any more."""
        super().notify_style_update()
        self._base = None
        self._forget()

    def _forget(self) -> None:
        self._known.clear()
        self._strips.clear()
        if self.is_mounted:
            self._restyle()
            self._paint()

    def on_resize(self) -> None:
        """Lines are as long as there is room, one cell for a cursor behind them aside."""
        width = max(1, self.scrollable_content_region.width - 1) if self.size.width else 0
        if width != self._page_width:
            self._page_width = width
            self._places = _NO_PLACES
            self._strips.clear()
            self._lay_out()
            self.refresh()

    def on_focus(self) -> None:
        """The cursor shows."""
        self._paint()

    def on_blur(self) -> None:
        """The cursor goes."""
        self._paint()

    # -- cursor and selection -----------------------------------------------------------------------------------------

    @property
    def cursor(self) -> int:
        """The token under the cursor: where it was put or, without text there, the nearest that has some."""
        if not self._places:
            return 0
        near = self._places.near(self._place)
        if self._anchor is not None and near < min(self._anchor, self._place):
            return min(self._place, self._view.end - 1)
        return near

    @cursor.setter
    def cursor(self, place: int) -> None:
        self._go(max(0, place), select=False)

    @property
    def selection(self) -> tuple[int, int] | None:
        """First and last (exclusive) of the selected tokens, the cursor's among them. Characters are selected whole."""
        if self._anchor is None or not self._places:
            return None
        first, last = sorted((self._anchor, self._place))
        end = min(last + 1, self._view.end)
        while end < self._view.end and self._view.pieces[end] and not self._places.tokens[end]:
            end += 1
        return (first, end) if first < end else None

    def select(self, start: int, end: int) -> None:
        """Selects the tokens from `start` up to and without `end`, and puts the cursor on the last of them."""
        if not 0 <= start < end:
            self.clear_selection()
            return
        self._anchor, self._place, self._selecting = start, end - 1, False
        self._moved()

    def clear_selection(self) -> None:
        """Selects nothing; the cursor stays."""
        self._anchor, self._selecting = None, False
        self._moved()

    def action_anchor(self) -> None:
        """From here on every move selects; again: no longer, and nothing is selected."""
        if self._selecting:
            self.clear_selection()
        elif self._places:
            self._place = self._anchor = self.cursor
            self._selecting = True
            self._moved()

    def action_move(self, where: str, select: bool = False) -> None:
        """Moves the cursor.

        Args:
            where: left, right, up, down, home, end, page_up, page_down, word_left or word_right.
            select: Selects what it passes.
        """
        if not self._places:
            return
        places, at = self._places, self.cursor
        page = max(1, self.scrollable_content_region.height - 1)
        rows = {"up": -1, "down": 1, "page_up": -page, "page_down": page}
        if where in rows:
            column = self._column if self._column is not None else places.home(at)[1]
            self._go(places.vertical(at, rows[where], column), select)
            self._column = column
        else:
            step = {"left": places.left, "right": places.right, "home": places.line_start, "end": places.line_end,
                    "word_left": places.word_left, "word_right": places.word_right}  # fmt: skip
            self._go(step[where](at), select)

    def _go(self, place: int, select: bool) -> None:
        if not (select or self._selecting):
            self._anchor = None
        elif self._anchor is None:
            self._anchor = self.cursor
        self._place = place
        self._moved()

    def _moved(self) -> None:
        self._column = None
        self._paint()
        self._follow()
        self._tell()

    def _tell(self) -> None:
        now = (self.cursor, self.selection)
        if now != self._told:
            self._told = now
            self.post_message(self.Moved(self, *now))

    def _in_sight(self) -> bool:
        if not self._places:
            return True
        row = self._row()
        return 0 <= row - self.scroll_offset.y < self.scrollable_content_region.height

    def _row(self) -> int:
        return self._places.home(self._places.near(self._place))[0]

    def _follow(self) -> None:
        """Scrolls as little as brings the cursor's row into sight."""
        if not self._places:
            return
        row, height = self._row(), self.scrollable_content_region.height
        top = min(max(self.scroll_offset.y, row - height + 1), row)
        if height and top != self.scroll_offset.y:
            self.scroll_to(y=top, animate=False)

    # -- mouse --------------------------------------------------------------------------------------------------------

    def _under(self, event: events.MouseEvent) -> int:
        return self._places.at(event.y - self.gutter.top + self.scroll_offset.y, event.x - self.gutter.left)

    def on_mouse_down(self, event: events.MouseDown) -> None:
        """Puts the cursor on a token; with shift, selects up to it."""
        if event.button == 1 and self._places:
            self._go(self._under(event), select=event.shift)
            self._dragging = True
            self.capture_mouse()

    def on_mouse_move(self, event: events.MouseMove) -> None:
        """Selects what is dragged over."""
        if self._dragging and self._places and (place := self._under(event)) != self.cursor:
            self._go(place, select=True)

    def on_mouse_up(self) -> None:
        """Ends dragging."""
        if self._dragging:
            self._dragging = False
            self.release_mouse()
