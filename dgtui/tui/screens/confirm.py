"""A question before something that cannot be undone."""

from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from dgtui.text import sanitize


class Confirm(ModalScreen[bool]):
    """Dismissed with True only if `key` is pressed; Enter alone does nothing.

    Args:
        question: Any text.
        key: The key that says yes.
        yes: What it does, one word.
        no: What every other way out does.
    """

    DEFAULT_CSS = """
    Confirm { align: center middle; }
    Confirm > Vertical { width: auto; max-width: 80%; height: auto; border: round $warning; background: $surface;
        padding: 0 1; }
    Confirm Static { width: auto; max-width: 100%; height: auto; }
    """
    BINDINGS: ClassVar[list[Any]] = [Binding("escape,n,q", "dismiss(False)", "no", show=False)]

    def __init__(self, question: str, *, key: str = "y", yes: str = "delete", no: str = "keep") -> None:
        super().__init__()
        self._question, self._key, self._yes, self._no = question, key, yes, no

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Static(Content(sanitize(self._question, tabs="expand")))
            yield Static(
                Content.assemble(
                    "\n",
                    (self._key, "bold $text-warning"),
                    f" {self._yes}   ",
                    ("esc", "bold $text-accent"),
                    f" {self._no}",
                )
            )

    def on_mount(self) -> None:
        self._bindings.bind(self._key, "dismiss(True)", show=False)
