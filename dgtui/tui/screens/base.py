"""The base of all screens: a line on top, and a notice instead of the content if the terminal is too small."""

import secrets
from collections.abc import Callable, Sequence
from random import Random
from typing import ClassVar

from textual import getters
from textual.app import ComposeResult
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import Static

from dgtui.config import Settings
from dgtui.diffusion.settings import BadJob
from dgtui.errors import DgtuiError
from dgtui.layout import MIN_SCREEN
from dgtui.tui.app import BaseApp
from dgtui.tui.messages import explain
from dgtui.tui.theme import Look
from dgtui.tui.widgets.key_line import KeyLine


def seed_source(seed: int | None) -> Callable[[], int]:
    """Draws seeds that are short enough to read out. With a seed, they are the same in every run of the program."""
    if seed is None:
        return lambda: secrets.randbelow(1_000_000)
    random = Random(seed)
    return lambda: random.randrange(1_000_000)


class BaseScreen(Screen[None]):
    """A screen. `parts` are the widgets between the line on top and the footer."""

    DEFAULT_CSS = """
    BaseScreen { layout: vertical; }
    BaseScreen #top { height: 1; background: $panel; color: $foreground; }
    BaseScreen #too-small { display: none; width: 100%; height: 100%; content-align: center middle; }
    BaseScreen.small > * { display: none !important; }
    BaseScreen.small > #too-small { display: block !important; }
    """
    CONTEXTS: ClassVar[tuple[str, ...]]
    "contexts of the keymap that F1 explains"
    app = getters.app(BaseApp)
    parts: Sequence[Widget] = ()

    def __init__(self, settings: Settings, look: Look) -> None:
        super().__init__()
        self.settings, self.look = settings, look
        self._had_focus: Widget | None = None

    def compose(self) -> ComposeResult:
        yield Static(id="top", markup=False)
        yield from self.parts
        yield KeyLine()
        columns, rows = MIN_SCREEN
        text = f"dgtui needs {columns} columns and {rows} rows.\nMake the terminal larger; nothing is lost."
        yield Static(text, id="too-small")

    def top_line(self) -> str:
        """The line on top: sanitised, and not wider than the screen."""
        return " dgtui"

    def draw_top(self) -> None:
        """Updates the line on top."""
        if self.is_mounted:
            self.query_one("#top", Static).update(self.top_line(), layout=False)

    def on_resize(self) -> None:
        small = self.size.width < MIN_SCREEN[0] or self.size.height < MIN_SCREEN[1]
        if small and not self.has_class("small"):
            self._had_focus = self.focused  # hidden widgets lose it
        self.set_class(small, "small")
        if not small and self.focused is None and self._had_focus is not None:
            self.call_after_refresh(self.set_focus, self._had_focus)
        self.draw_top()

    def guarded(self, work: Callable[[], object]) -> bool:
        """Runs an action. If it is refused, shows a notice and returns False."""
        try:
            work()
        except (DgtuiError, BadJob) as refused:
            self.notify(explain(refused), severity="warning")
            return False
        return True
