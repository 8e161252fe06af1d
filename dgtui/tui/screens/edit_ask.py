"""What the edit screen asks: a line to be typed, and two texts to compare."""

import difflib
import itertools
from collections.abc import Iterator
from typing import Any, ClassVar, Final

from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from dgtui.text import sanitize
from dgtui.tui import keymap

MOST_LINES: Final = 2000
"""Of a comparison; the rest is left out, and that is said."""


class Line(Input):
    """A line at the bottom of the screen, hidden until something is to be typed."""

    DEFAULT_CSS = """
    Line { display: none; background: $panel; padding: 0 1; }
    Line.open { display: block; }
    """
    BINDINGS: ClassVar[list[Any]] = [
        Binding("up", "other_way", "before", show=False),
        Binding("down", "submit", "next", show=False),
    ]

    class Backwards(Message):
        """Enter, the other way round."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(compact=True, **kwargs)
        self.purpose = ""

    def ask(self, purpose: str, placeholder: str, value: str = "") -> None:
        """Opens the line and takes the focus."""
        self.purpose, self.placeholder = purpose, placeholder
        self.value = value
        self.add_class("open")
        self.screen.set_focus(self)  # at once: what is typed next is meant for it
        self.action_select_all()

    def close(self) -> None:
        """Hides the line; what was typed is for the next `ask` of whoever kept it."""
        self.purpose = ""
        self.remove_class("open")

    async def on_key(self, event: events.Key) -> None:
        """Runs a command of the line."""
        if await keymap.run_own(self, event.key):
            event.stop()
            event.prevent_default()

    def action_other_way(self) -> None:
        self.post_message(self.Backwards())

    @on(Input.Changed)
    def _cleaned(self, event: Input.Changed) -> None:
        """An input shows what was pasted as it is, escape bytes too."""
        clean = sanitize(event.value, newlines=False, tabs="replace")
        if clean != event.value:
            self.value = clean


class Differences(ModalScreen[None]):
    """Two texts, line by line where they differ."""

    DEFAULT_CSS = """
    Differences { align: center middle; }
    Differences > VerticalScroll { width: 94%; height: 90%; border: round $accent; background: $surface;
        padding: 0 1; scrollbar-size-vertical: 1; }
    Differences Static { height: auto; width: 100%; }
    """
    BINDINGS: ClassVar[list[Any]] = [Binding("escape,q,enter", "dismiss(None)", "close", show=False)]

    def __init__(self, old: str, new: str, title: str) -> None:
        super().__init__()
        self._lines = [*itertools.islice(_lines(old, new), MOST_LINES + 1)]
        self._title = title

    def compose(self) -> ComposeResult:
        with VerticalScroll() as scroll:
            scroll.border_title = sanitize(self._title, newlines=False, tabs="replace").replace("[", "\\[")
            scroll.border_subtitle = "esc closes"
            shown = self._lines[:MOST_LINES]
            more = [Content("… and more")] if len(self._lines) > MOST_LINES else []
            yield Static(Content("\n").join([*shown, *more]) if shown else "the texts are the same")

    def on_key(self, event: events.Key) -> None:
        scroll = self.query_one(VerticalScroll)
        moves = {"down": scroll.scroll_down, "up": scroll.scroll_up}
        if move := moves.get(event.key):
            event.stop()
            move(animate=False)


_STYLES: Final = {"-": "$text-error", "+": "$text-success", "@": "$text-accent"}


def _lines(old: str, new: str) -> Iterator[Content]:
    """The lines of a unified diff, without its two of heading."""
    compared = difflib.unified_diff(old.split("\n"), new.split("\n"), n=1, lineterm="")
    for line in itertools.islice(compared, 2, None):
        shown = sanitize(line, newlines=False, tabs="expand")
        yield Content.styled(shown, _STYLES[line[0]]) if line[0] in _STYLES else Content(shown)
