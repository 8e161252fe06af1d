"""Lists the versions of a reply, to choose one."""

from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from dgtui.text import sanitize


class Versions(ModalScreen[int | None]):
    """Dismissed with the number of a version, or None. `versions` are (number, is current, text)."""

    DEFAULT_CSS = """
    Versions { align: center middle; }
    Versions OptionList { width: 90%; max-width: 100; height: auto; max-height: 60%; }
    Versions OptionList, Versions OptionList:focus { border: round $accent; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,b", "dismiss(None)", "close"),
        Binding("enter", "", "switch", key_display="enter"),
    ]

    def __init__(self, versions: Sequence[tuple[int, bool, str]]) -> None:
        super().__init__()
        self._versions = versions

    def compose(self) -> ComposeResult:
        options = []
        for number, current, text in self._versions:
            shown = sanitize(f"{'▸' if current else ' '} {text}", newlines=False, tabs="replace")
            options.append(Option(Text(shown, no_wrap=True, overflow="ellipsis"), id=str(number)))
        choices = OptionList(*options)
        choices.border_title = "versions of this reply"
        yield choices

    def on_mount(self) -> None:
        at = next((i for i, (_, current, _) in enumerate(self._versions) if current), 0)
        self.query_one(OptionList).highlighted = at

    @on(OptionList.OptionSelected)
    def _chosen(self, message: OptionList.OptionSelected) -> None:
        self.dismiss(int(str(message.option.id)))
