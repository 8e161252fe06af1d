"""Completion of slash commands: what fits the text so far, and the list above the prompt that offers it."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice

from textual import events
from textual.content import Content
from textual.widget import Widget

from dgtui.paths import typed_path
from dgtui.text import cell_width, sanitize, truncate
from dgtui.tui.commands import SLASHES, matching
from dgtui.tui.widgets.pastes import clean

MOST_ROWS = 6
MOST_ENTRIES = 5_000
"of a folder that are looked at: it is read anew with each key"

Arguments = Callable[[str], Sequence[str]]
"""`Slash.choices` → what there is to choose from."""


@dataclass(frozen=True, slots=True)
class Suggestion:
    """Something that the text may become."""

    text: str
    "the whole text of the prompt, once it is taken"
    shown: str
    help: str = ""
    whole: bool = False
    "the text would be complete: Enter may send it"
    free: bool = False
    "something else than what is offered may be meant: Enter sends what was typed"


def suggestions(text: str, arguments: Arguments | None = None) -> list[Suggestion]:
    """What a prompt that begins a command may become; nothing for a message, and where nothing is left to choose."""
    if not text.startswith("/") or text.startswith("//") or "\n" in text:
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
    typed = argument.strip().lower()
    choices = list(dict.fromkeys(arguments(slash.choices)))
    if any(choice.lower() == typed for choice in choices):
        return []
    begin = [choice for choice in choices if choice.lower().startswith(typed)]
    fitting = begin + [choice for choice in choices if choice not in begin and typed in choice.lower()]
    return [Suggestion(f"/{slash.name} {choice}", choice, whole=True) for choice in fitting]


def paths(typed: str, *, files: bool) -> list[str]:
    """What a path typed so far may become: folders, with a slash behind them, and perhaps files.

    Nothing where it is a file already. Hidden ones are offered when their dot is typed; names that cannot be typed (a
    line break, bytes that are no text) are not.
    """
    before, slash, begun = typed.rpartition("/")
    try:
        with os.scandir(typed_path(before + slash) if slash else ".") as entries:
            found = {
                entry.name: _is_folder(entry)
                for entry in islice(entries, MOST_ENTRIES)
                if entry.name.lower().startswith(begun.lower())
                and (begun.startswith(".") or not entry.name.startswith("."))
                and clean(entry.name) == entry.name == entry.name.strip()
                and "\n" not in entry.name
            }
    except (OSError, ValueError):
        return []
    if found.get(begun) is False:
        return []
    names = sorted(found, key=lambda name: (name.lower(), name))
    return [f"{before}{slash}{name}{'/' if found[name] else ''}" for name in names if files or found[name]]


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a loop of links, or one into what may not be read
        return False


class Completions(Widget):
    """The list. It takes no focus: the prompt moves its mark, and is told of a click."""

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
        "a row was chosen by hand, and not only because it is the first"

    @property
    def marked(self) -> Suggestion | None:
        """The row that Tab takes."""
        return self._suggestions[self._marked] if self._suggestions and self.display else None

    def show(self, suggestions: Sequence[Suggestion]) -> None:
        """Shows these; none hides the list."""
        if suggestions != self._suggestions or not self.display:
            self._marked = 0
            self.moved = False
        self._suggestions = suggestions
        self.display = bool(suggestions)
        self.styles.offset = (0, -min(MOST_ROWS, len(suggestions)))
        self.refresh(layout=True)

    def move(self, by: int) -> None:
        """Marks the row above or below, around the ends."""
        self._marked = (self._marked + by) % len(self._suggestions)
        self.moved = True
        self.refresh()

    @property
    def _top(self) -> int:
        """The first row in sight."""
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
        place = event.get_content_offset(self)
        if place is not None and self._top + place.y < len(self._suggestions):
            self._take(self._suggestions[self._top + place.y])
