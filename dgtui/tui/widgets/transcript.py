"""Shows the conversation. Only the newest turns are mounted at first; older ones follow when the user scrolls to them.

Tab stops once at the transcript; up and down move between turns. A position counts turns from 0, as the store does;
notices of the program between turns are not counted.
"""

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Literal

from textual import events
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.geometry import Offset, Region, Size
from textual.widget import Widget

from dgtui.tui import keymap
from dgtui.tui.widgets.entry_view import Entry, EntryView

__all__ = ["Entry", "EntryView", "Transcript"]

BATCH = 30
"""Turns that are mounted at once."""
LINES = 3
"""Lines per key press in a turn taller than the screen."""


class Transcript(VerticalScroll):
    """The turns, with the newest at the bottom.

    Args:
        canvas: What stands below the entry that is on the canvas, or at the end if there is none.
    """

    DEFAULT_CSS = """
    Transcript { scrollbar-size-vertical: 1; }
    Transcript:focus > EntryView.-current { border-left: outer $accent; }
    """
    BINDINGS: ClassVar[list[Any]] = keymap.bindings("transcript")

    def __init__(self, entries: Iterable[Entry] = (), *, canvas: Widget | None = None, id: str | None = None) -> None:
        super().__init__(id=id)
        self._entries = list(entries)
        self._canvas = canvas
        self._views: list[EntryView] = []
        """Views of the entries from `_first` on."""
        self._first = 0
        self._current: int | None = None
        """The index of an entry."""
        self._growing = False

    def compose(self) -> ComposeResult:
        if self._canvas is not None:
            yield self._canvas

    # -- the conversation -------------------------------------------------------------------------------------------

    @property
    def entries(self) -> Sequence[Entry]:
        """All turns and notices."""
        return tuple(self._entries)

    @property
    def current(self) -> Entry | None:
        """The turn that keys act on: the marked one, else the last."""
        index = self._turn()
        return None if index is None else self._entries[index]

    @property
    def position(self) -> int | None:
        """The position of the turn that keys act on; None if there is no turn."""
        index = self._turn()
        return None if index is None else sum(entry.role != "notice" for entry in self._entries[:index])

    def set_turns(self, entries: Iterable[Entry]) -> None:
        """Shows another conversation, scrolled to its end."""
        self._entries = list(entries)
        self._current = None
        self._open(len(self._entries))
        self.anchor()

    def add(self, entry: Entry) -> None:
        """Adds an entry at the end. Scrolls to a user message; other entries leave the scroll position alone."""
        self._entries.append(entry)
        if entry.role == "user":
            self._current = None
        if not self.is_attached:
            return
        if self._end == len(self._entries) - 1:
            self._views.append(EntryView(entry))
            self.mount(self._views[-1])
            self._seat()
            if len(self._views) > 3 * BATCH and self._at_end:
                self._drop(BATCH)
        elif entry.role == "user":
            self._open(len(self._entries))
        if entry.role == "user":
            self.anchor()
        self._mark()

    def notice(self, text: str) -> None:
        """Adds a notice, which is not a turn."""
        self.add(Entry("notice", text))

    def replace(self, position: int, entry: Entry) -> None:
        """Replaces the turn at a position."""
        turns = [index for index, known in enumerate(self._entries) if known.role != "notice"]
        if 0 <= position < len(turns):
            self._replace(turns[position], entry)

    def _replace(self, index: int, entry: Entry) -> None:
        if self._entries[index] == entry:
            return
        self._entries[index] = entry
        if view := self._view(index):
            view.entry = entry
        self._seat()

    def _seat(self) -> None:
        """Puts the canvas below the entry that is on it."""
        canvas = self._canvas
        if canvas is None or canvas.parent is not self:
            return
        index = next((i for i, entry in enumerate(self._entries) if entry.on_canvas), len(self._entries) - 1)
        above = self._view(index) or (self._views[-1] if self._views else None)
        children = self.children
        if above is not None and above.parent is self and children.index(canvas) != children.index(above) + 1:
            self.move_child(canvas, after=above)

    def truncate(self, position: int) -> None:
        """Removes the turn at a position and everything after it."""
        turns = [index for index, entry in enumerate(self._entries) if entry.role != "notice"]
        if not 0 <= position < len(turns):
            return
        count = turns[position]
        del self._entries[count:]
        if self._current is not None and self._current >= count:
            self._current = None
        if count <= self._first:
            self._open(count)
        else:
            self.remove_children(self._views[count - self._first :])
            del self._views[count - self._first :]
        self._mark()

    def can(self, action: str) -> bool:
        """Whether the footer offers a key: on the canvas its own keys are enough."""
        return self._canvas is None or self._canvas not in (self.screen.focused or self).ancestors_with_self

    # -- keys ------------------------------------------------------------------------------------------------------

    def toggle_raw(self) -> None:
        """Switches the current turn between Markdown and the text as written."""
        if view := self._view(self._turn()):
            view.is_raw = not view.is_raw

    def action_fold(self) -> None:
        """Folds or unfolds the current turn."""
        if (view := self._view(self._turn())) and view.foldable:
            view.is_unfolded = not view.is_unfolded

    def action_go(self, by: int) -> None:
        """Moves to the turn above or below; scrolls by lines inside a turn taller than the screen."""
        index = len(self._entries) - 1 if self._current is None else self._current
        view = self._view(index)
        if view is None:
            return
        region, top = view.virtual_region, round(self.scroll_y)
        hidden = top - region.y if by < 0 else region.bottom - (top + self.size.height)
        if hidden > 0:
            self._scroll(top + by * min(LINES, hidden))
        elif 0 <= index + by < len(self._entries):
            index += by
            if self._first <= index < self._end:
                self._reveal(index, by)
            else:
                self._grow(by)
                self.call_after_refresh(self._reveal, index, by)
        self._current = index
        self._mark()

    def action_page(self, by: int) -> None:
        """Scrolls a page up or down."""
        self._scroll(round(self.scroll_y) + by * max(1, self.size.height - 1))
        top = round(self.scroll_y)
        visible = [
            self._first + number
            for number, view in enumerate(self._views)
            if view.virtual_region.bottom > top and view.virtual_region.y < top + self.size.height
        ]
        if visible and self._current not in visible:
            self._current = visible[0] if by < 0 else visible[-1]
            self._mark()

    def action_edge(self, which: Literal["first", "last"]) -> None:
        """Moves to the first or the last turn of the whole conversation."""
        if not self._entries:
            return
        if which == "first":
            self._current = 0
            if self._first:
                self._open(BATCH)
                self.call_after_refresh(self._scroll, 0)
            else:
                self._scroll(0)
        else:
            if self._end < len(self._entries):
                self._open(len(self._entries))
            self._current = len(self._entries) - 1
            self.anchor()
        self._mark()

    def _reveal(self, index: int, by: int) -> None:
        """Scrolls to an entry; if it is taller than the screen, to the end nearest to the entry before."""
        if view := self._view(index):
            region, room = view.virtual_region, self.size.height
            enters = region.y if by > 0 else region.bottom - room
            if region.height >= room:
                self._scroll(enters)
            else:
                self._scroll(min(max(round(self.scroll_y), region.bottom - room), region.y))

    def _scroll(self, y: int) -> None:
        self.scroll_to(y=y, animate=False, immediate=True)

    def scroll_to_region(self, region: Region, **how: Any) -> Offset:
        """Scrolls to a part of the canvas that gets the focus.

        If the canvas is at the end, the end is followed again, which shows all of it with its meters. Textual would put
        the focused part in the centre of a layout that may be older than the canvas, and not follow the end any more.
        """
        if self.children and self.children[-1] is self._canvas:
            self.anchor()
            return Offset()
        return super().scroll_to_region(region, **how)

    # -- events -----------------------------------------------------------------------------------------------------

    def on_mount(self) -> None:
        self._open(len(self._entries))
        self.anchor()

    def on_focus(self) -> None:
        if self._current is None and self._entries:
            self._current = self._last_turn()
            self._mark()

    def on_click(self, event: events.Click) -> None:
        for number, view in enumerate(self._views):
            if view.region.contains(event.screen_x, event.screen_y):
                self._current = self._first + number
        self._mark()

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        super().watch_scroll_y(old_value, new_value)
        self._look_ahead()

    # -- mounted views ---------------------------------------------------------------------------------------------

    @property
    def _end(self) -> int:
        return self._first + len(self._views)

    @property
    def _at_end(self) -> bool:
        return self.scroll_y >= self.max_scroll_y - 1

    def _open(self, end: int) -> None:
        """Mounts the last entries before `end` instead of the current ones."""
        if not self.is_attached:
            return
        self.remove_children(self._views)
        end = min(max(end, BATCH), len(self._entries))
        self._first = max(0, end - BATCH)
        self._views = [EntryView(entry) for entry in self._entries[self._first : end]]
        self.mount_all(self._views)
        self._seat()
        self._mark()
        self._growing = True
        self.call_after_refresh(self._grown)

    def _grow(self, by: int) -> None:
        """Mounts a batch above or below, without moving the visible part."""
        if self._growing or not self._views:
            return
        self._growing = True
        if by < 0:
            first = max(0, self._first - BATCH)
            more = [EntryView(entry) for entry in self._entries[first : self._first]]
            self.mount_all(more, before=self._views[0])
            # Heights are known before the layout; scrolling after it would make the page jump visibly.
            width = self._views[0].content_size.width
            added = sum(view.render().height(width) + 1 for view in more) if self.max_scroll_y else 0
            self._views[:0] = more
            self._first = first
            if added:
                self.virtual_size = Size(self.virtual_size.width, self.virtual_size.height + added)
                self.screen.refresh(layout=True)
                self._scroll(round(self.scroll_y) + added)
        else:
            more = [EntryView(entry) for entry in self._entries[self._end : self._end + BATCH]]
            self.mount_all(more)
            self._views += more
        self._seat()
        self._mark()
        self.call_after_refresh(self._grown)

    def _grown(self) -> None:
        self._growing = False
        self._look_ahead()

    def _look_ahead(self) -> None:
        """Mounts more turns if the first or last mounted one is nearly visible."""
        if self._first and self.scroll_y <= LINES:
            self._grow(-1)
        elif self._end < len(self._entries) and self.scroll_y >= self.max_scroll_y - LINES:
            self._grow(1)

    def _drop(self, count: int) -> None:
        self.remove_children(self._views[:count])
        self._views = self._views[count:]
        self._first += count

    def _view(self, index: int | None) -> EntryView | None:
        return self._views[index - self._first] if index is not None and self._first <= index < self._end else None

    def _last_turn(self) -> int | None:
        return next((i for i in range(len(self._entries) - 1, -1, -1) if self._entries[i].role != "notice"), None)

    def _turn(self) -> int | None:
        if self._current is not None and self._entries[self._current].role != "notice":
            return self._current
        return self._last_turn()

    def _mark(self) -> None:
        for number, view in enumerate(self._views):
            view.set_class(self._first + number == self._current, "-current")
