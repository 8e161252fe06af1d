"""Completion of slash commands and of `@` paths: the suggestions, and the list above the prompt that shows them."""

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice

from textual import events
from textual.content import Content
from textual.widget import Widget

from dgtui.paths import typed_path
from dgtui.session.text_files import LONGEST_PATH
from dgtui.text import cell_width, fold, sanitize, truncate
from dgtui.tui.commands import SLASHES, command_word, matching
from dgtui.tui.widgets.pastes import clean

MOST_ROWS = 6
MOST_ENTRIES = 5_000
"""Entries read from a folder, which is read again at each key press."""
MOST_OFFERED = 200

Arguments = Callable[[str], Sequence[str]]
"""`Slash.choices` → the choices."""


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A possible completion of the prompt."""

    text: str
    """What stands in the prompt after it is taken."""
    shown: str
    help: str = ""
    whole: bool = False
    """Whether the text is then complete, so Enter may send it."""
    free: bool = False
    """Whether other texts are valid too, so Enter sends the typed text."""
    replaces: int | None = None
    """The number of characters before the cursor that it replaces; None: the whole prompt."""


def suggestions(text: str, arguments: Arguments | None = None, before: str = "") -> list[Suggestion]:
    """The completions of a command, or of a path that is attached; empty for a complete argument or path.

    Args:
        text: The prompt.
        arguments: The choices for the arguments of commands.
        before: The line of the cursor, up to the cursor.
    """
    if command_word(text) is None:
        return _attachments(before)
    if "\n" in text:
        return []
    name, blank, argument = text[1:].partition(" ")
    if not blank:
        return [
            Suggestion(
                text=f"/{slash.name}" + (" " if slash.argument_hint else ""),
                shown=f"/{slash.name} {slash.argument_hint}".rstrip(),
                help=slash.help,
                whole=slash.name == name.lower(),
            )
            for slash in matching(name)
        ]
    slash = next((slash for slash in SLASHES if slash.name == name.lower()), None)
    if slash is not None and slash.choices in ("files", "folders"):
        return [
            Suggestion(f"/{slash.name} {path}", path, whole=not path.endswith("/"), free=True)
            for path in paths(argument.lstrip(), files=slash.choices == "files")
        ]
    if slash is None or slash.choices is None or arguments is None:
        return []
    typed = fold(argument.strip())
    choices = list(dict.fromkeys(arguments(slash.choices)))
    if any(fold(choice) == typed for choice in choices):
        return []
    begin = [choice for choice in choices if fold(choice).startswith(typed)]
    fitting = begin + [choice for choice in choices if choice not in begin and typed in fold(choice)]
    return [Suggestion(f"/{slash.name} {choice}", choice, whole=True) for choice in fitting]


_BEGUN = re.compile(r"""(?<!\S)@('[^'\n]*|"(?:\\.|[^"\\\n])*|(?:\\.|[^\s'"\\])*)\Z""")


def _attachments(before: str) -> list[Suggestion]:
    """The completions of the `@` path that ends a line. A folder goes on; a blank ends a file."""
    if (begun := _BEGUN.search(before[-LONGEST_PATH:])) is None:
        return []
    typed = begun[1]
    path = typed[1:] if typed.startswith("'") else re.sub(r"\\(.)", r"\1", typed.removeprefix('"'))
    return [
        Suggestion(
            "@" + (_quoted(found).rstrip("'\"") if found.endswith("/") else f"{_quoted(found)} "),
            found,
            free=not typed,
            replaces=len(begun[0]),
        )
        for found in paths(path, files=True)[:MOST_OFFERED]
    ]


def _quoted(path: str) -> str:
    """The path as one word: in quotes if it has blanks, quotes or backslashes."""
    if not re.search(r"""[\s'"\\]""", path):
        return path
    if "'" not in path:
        return f"'{path}'"
    return '"' + re.sub(r'(["\\])', r"\\\1", path) + '"'


def paths(typed: str, *, files: bool) -> list[str]:
    """The completions of a path: folders, with a slash at the end, and files if wanted.

    Empty for an existing file. Hidden names are offered once their dot is typed; names that cannot be typed (with a
    line break, or not text) are left out.
    """
    before, slash, begun = typed.rpartition("/")
    try:
        with os.scandir(typed_path(before + slash) if slash else ".") as entries:
            folders = {
                entry.name: _is_folder(entry)
                for entry in islice(entries, MOST_ENTRIES)
                if fold(entry.name).startswith(fold(begun))
                and (begun.startswith(".") or not entry.name.startswith("."))
                and clean(entry.name) == entry.name == entry.name.strip()
                and "\n" not in entry.name
            }
    except (OSError, ValueError):
        return []
    if folders.get(begun) is False:
        return []
    names = sorted(folders, key=lambda name: (fold(name), name))
    return [f"{before}{slash}{name}{'/' if folders[name] else ''}" for name in names if files or folders[name]]


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a loop of links, or a link to something unreadable
        return False


class Completions(Widget):
    """The list. It never has the focus: the prompt moves its mark and receives its clicks."""

    DEFAULT_CSS = """
    Completions {
        display: none; overlay: screen; constrain: none inside; height: auto; width: 100%;
        background: $panel; color: $foreground; padding: 0 1;
    }
    """

    def __init__(self, take: Callable[[Suggestion], None]) -> None:
        super().__init__()
        self._take = take
        self._suggestions: Sequence[Suggestion] = ()
        self._marked = 0
        self.moved = False
        """Whether the user moved the mark."""

    @property
    def marked(self) -> Suggestion | None:
        """The row that Tab takes."""
        return self._suggestions[self._marked] if self._suggestions and self.display else None

    def show(self, suggestions: Sequence[Suggestion]) -> None:
        """Shows suggestions; an empty sequence hides the list."""
        if suggestions != self._suggestions or not self.display:
            self._marked = 0
            self.moved = False
        self._suggestions = suggestions
        self.display = bool(suggestions)
        self.styles.offset = (0, -min(MOST_ROWS, len(suggestions)))
        self.refresh(layout=True)

    def move(self, by: int) -> None:
        """Marks the row above or below, wrapping around."""
        self._marked = (self._marked + by) % len(self._suggestions)
        self.moved = True
        self.refresh()

    @property
    def _top(self) -> int:
        """The first visible row."""
        return max(0, min(self._marked - MOST_ROWS // 2, len(self._suggestions) - MOST_ROWS))

    def render(self) -> Content:
        width = self.content_size.width
        shown = [sanitize(s.shown, newlines=False, tabs="replace") for s in self._suggestions]
        widest = max((cell_width(text) for text in shown), default=0)
        column = min(widest, max(8, width // 2 if any(s.help for s in self._suggestions) else width - 2))
        rows = []
        for number in range(self._top, min(self._top + MOST_ROWS, len(shown))):
            marked = number == self._marked
            text = truncate(shown[number], column)
            row = Content.assemble(
                ("▸ " if marked else "  ", "$text-accent"),
                (text, "bold" if marked else ""),
                " " * (column - cell_width(text)),
                (truncate(f"  {self._suggestions[number].help}", max(0, width - column - 2)), "$foreground-muted"),
            )
            rows.append(row.pad_right(max(0, width - row.cell_length)).stylize("on $boost" if marked else ""))
        return Content("\n").join(rows)

    def on_click(self, event: events.Click) -> None:
        event.stop()
        offset = event.get_content_offset(self)
        if offset is not None and self._top + offset.y < len(self._suggestions):
            self._take(self._suggestions[self._top + offset.y])
