"""Two texts, compared line by line."""

import difflib
import itertools
from collections.abc import Iterator
from typing import Any, ClassVar, Final

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from dgtui.text import sanitize

MOST_LINES: Final = 2000
"""Most lines to show; a last line says that there are more."""


class Differences(ModalScreen[None]):
    """The lines that differ."""

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
            yield Static(Content("\n").join([*shown, *more]) if shown else "the texts are equal")

    def on_key(self, event: events.Key) -> None:
        scroll = self.query_one(VerticalScroll)
        moves = {"down": scroll.scroll_down, "up": scroll.scroll_up}
        if move := moves.get(event.key):
            event.stop()
            move(animate=False)


_STYLES: Final = {"-": "$text-error", "+": "$text-success", "@": "$text-accent"}


def _lines(old: str, new: str) -> Iterator[Content]:
    """The lines of a unified diff, without its two header lines."""
    compared = difflib.unified_diff(old.split("\n"), new.split("\n"), n=1, lineterm="")
    for line in itertools.islice(compared, 2, None):
        shown = sanitize(line, newlines=False, tabs="expand")
        yield Content.styled(shown, _STYLES[line[0]]) if line[0] in _STYLES else Content(shown)
