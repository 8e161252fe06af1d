"""A line that is hidden until a question is asked, and passes the answer to a callback."""

from collections.abc import Callable
from typing import Any, ClassVar

from textual import events, on
from textual.actions import SkipAction
from textual.binding import Binding
from textual.widgets import Input

from dgtui.text import sanitize
from dgtui.tui import keymap


class CleanInput(Input):
    """An input that never shows escape bytes, even pasted ones."""

    def validate_value(self, value: str) -> str:
        """The displayable part of a value."""
        return sanitize(value, newlines=False, tabs="replace")

    async def on_key(self, event: events.Key) -> None:
        """Runs a command of the line before the next key is read."""
        if await keymap.run_own(self, event.key):
            event.stop()
            event.prevent_default()


class Question(CleanInput):
    """One line. Enter answers, Esc closes.

    Args:
        closed: Called after the line has closed, with whether it had the focus.
        opened: Called before the line takes the focus.
    """

    DEFAULT_CSS = """
    Question { display: none; }
    Question.open { display: block; }
    """
    BINDINGS: ClassVar[list[Any]] = [
        Binding("escape", "close", "close", show=False),
        Binding("up", "answer_backwards", "previous", show=False),
        Binding("down", "answer_again", "next", show=False),
    ]

    def __init__(
        self, closed: Callable[[bool], object], opened: Callable[[], object] = lambda: None, **kwargs: Any
    ) -> None:
        super().__init__(compact=True, **kwargs)
        self._when_closed, self._when_opened = closed, opened
        self._answer: Callable[[str], object] | None = None
        self._backwards: Callable[[str], None] | None = None

    @property
    def is_open(self) -> bool:
        """Whether a question is open."""
        return self._answer is not None

    def ask(
        self,
        placeholder: str,
        answer: Callable[[str], object],
        value: str = "",
        *,
        backwards: Callable[[str], None] | None = None,
    ) -> None:
        """Opens the line and takes the focus. It comes back with its text if `answer` returns False.

        With `backwards` the line stays open after an answer: Enter and down call `answer` again, up calls `backwards`.
        """
        self._answer, self._backwards = answer, backwards
        self.placeholder, self.value = placeholder, value
        self.add_class("open")
        self._when_opened()
        self.screen.set_focus(self)  # immediately, because the next key is meant for the line
        self.action_select_all()

    def action_close(self) -> None:
        """Closes the line without an answer."""
        if self.is_open:
            self._answer = self._backwards = None
            self.remove_class("open")
            self._when_closed(self.has_focus)

    def action_answer_again(self) -> None:
        """Answers again, if the line stays open."""
        if self._backwards is None or self._answer is None:
            raise SkipAction
        self._answer(self.value)

    def action_answer_backwards(self) -> None:
        """Answers in the other direction, if the line stays open."""
        if self._backwards is None:
            raise SkipAction
        self._backwards(self.value)

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        event.stop()
        answer, asked = self._answer, self.placeholder
        if self._backwards is None:
            self.action_close()
        if answer is not None and answer(event.value) is False and not self.is_open:
            self.ask(asked, answer, event.value)
            self.focus()  # after what the closed line gave the focus to
