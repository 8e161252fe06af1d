"""All keys, including the user's own, and all slash commands."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Final

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widget import Widget

from dgtui.session.text_files import MOST_BYTES
from dgtui.text import byte_size, truncate
from dgtui.tui import keymap
from dgtui.tui.commands import SLASHES
from dgtui.tui.key_names import shown
from dgtui.tui.widgets.page import BLANK, MUTED, Block, Page, Paragraph

_SECTIONS: Final = {
    "Everywhere": ("app", "chat", "talk"),
    "Prompts to try, while the conversation is empty": ("start",),
    "Prompt": ("prompt",),
    "Transcript": ("transcript",),
    "Canvas": ("steering",),
    "Moving and selecting on the canvas": ("canvas",),
    "Typing in place on the canvas": ("typing",),
    "Alternatives of a token": ("alternatives",),
    "Stored conversations": ("sessions",),
    "Editor": ("edit",),
    "Review of a proposal": ("review",),
    "Writing in the editor": ("editor",),
}
"""Title → contexts of the keymap, in order. Other contexts follow under their own names."""

COLUMN: Final = 20
"cells of the column with the keys"


def blocks(
    keys: Mapping[str, str], wanted: Collection[str] = tuple(keymap.COMMANDS), first: Collection[str] = ()
) -> Iterator[Block]:
    """The text of the help for the `wanted` contexts. `keys` is a keymap that `keymap.check` made; the section of the
    contexts in `first` comes first."""
    named = {context for contexts in _SECTIONS.values() for context in contexts}
    sections = _SECTIONS | {name.capitalize(): (name,) for name in keymap.COMMANDS if name not in named}
    for title, contexts in sorted(sections.items(), key=lambda section: not set(section[1]) & {*first}):
        commands = [command for context in contexts if context in wanted for command in keymap.COMMANDS[context]]
        if commands:
            yield from _section(
                title, [("  ".join(map(shown, keymap.keys_of(command, keys))), command.help) for command in commands]
            )
    if "prompt" in wanted:
        yield from _section(
            "Commands of the prompt",
            [
                ("@FILE", f"attach a text file of up to {byte_size(MOST_BYTES)}; quote a path with blanks"),
                *((f"/{slash.name} {slash.argument_hint}".rstrip(), slash.help) for slash in SLASHES),
            ],
        )
    text = "Keys can be changed in the config file: run dgtui config path to see where it is."
    yield Paragraph([Content.styled(text, MUTED)])


def _section(title: str, rows: Sequence[tuple[str, str]]) -> Iterator[Block]:
    yield Paragraph([Content.styled(title, "bold $text-primary")])
    for key, text in rows:
        lead = Content.styled(f"  {truncate(key, COLUMN).ljust(COLUMN)} ", "$text-accent")
        yield Paragraph([Content(text)], lead, Content(" " * (COLUMN + 3)))
    yield Paragraph([BLANK])


class _Text(Widget):
    DEFAULT_CSS = """
    _Text { height: auto; }
    """

    def __init__(self, page: Page) -> None:
        super().__init__()
        self._page = page

    def render(self) -> Page:
        return self._page


class Help(ModalScreen[None]):
    """The help.

    Args:
        keys: A keymap that `keymap.check` made.
        contexts: The contexts of the keymap that apply to the screen below; None: all.
        first: The contexts of the focused part, which is explained first.
    """

    DEFAULT_CSS = """
    Help { align: center middle; }
    Help > VerticalScroll {
        width: 90%; max-width: 96; height: 90%; border: round $accent; background: $surface; padding: 0 1;
        scrollbar-size-vertical: 1;
    }
    """
    BINDINGS: ClassVar[list[Any]] = [Binding("escape,f1,question_mark,q", "dismiss(None)", "close", key_display="esc")]

    def __init__(
        self, keys: Mapping[str, str], contexts: Collection[str] | None = None, first: Collection[str] = ()
    ) -> None:
        super().__init__()
        self._first = first
        self._keys = keys
        self._contexts = keymap.COMMANDS.keys() if contexts is None else contexts

    def compose(self) -> ComposeResult:
        with VerticalScroll() as scroll:
            scroll.border_title = "keys and commands"
            scroll.border_subtitle = "esc closes"
            yield _Text(Page(blocks(self._keys, self._contexts, self._first)))
