"""Asks a question before an action that cannot be undone."""

import time
from collections.abc import Sequence
from typing import Any, ClassVar, Final

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from dgtui.text import sanitize

QUIET: Final = 0.4
"""Seconds without a key before a key counts as an answer: a user who is still typing has not read the question."""


class Ask(ModalScreen[str | None]):
    """Dismissed with the key of the answer, or None after Esc. Enter does nothing.

    Args:
        question: Any text.
        answers: Keys, each with a short description.
        no: What Esc does.
    """

    DEFAULT_CSS = """
    Ask { align: center middle; }
    Ask > Vertical { width: auto; max-width: 90%; height: auto; border: round $warning; background: $surface;
        padding: 0 1; }
    Ask Static { width: auto; max-width: 100%; height: auto; }
    """
    BINDINGS: ClassVar[list[Any]] = [Binding("escape", "dismiss(None)", "back", show=False)]

    def __init__(self, question: str, answers: Sequence[tuple[str, str]], no: str) -> None:
        super().__init__()
        self._question, self._answers, self._no = question, answers, no
        self._typed = time.monotonic()

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Static(Content(sanitize(self._question, tabs="expand")))
            lines = [
                Content.assemble("\n", (f"{key:>3}", "bold $text-warning"), f"  {text}") for key, text in self._answers
            ]
            yield Static(
                Content("").join(lines) + Content.assemble("\n", ("esc", "bold $text-accent"), f"  {self._no}")
            )

    def on_key(self, event: events.Key) -> None:
        """Ignores keys that were meant for the screen below the question."""
        before, self._typed = self._typed, time.monotonic()
        if event.key != "escape" and self._typed - before < QUIET:
            event.stop()
        elif any(event.key == key for key, _ in self._answers):
            event.stop()
            self.dismiss(event.key)

    def on_mount(self) -> None:
        self._typed = time.monotonic()
