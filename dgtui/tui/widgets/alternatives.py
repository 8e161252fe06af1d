"""The most probable tokens for a position of the canvas: a small panel at the cursor, over the screen.

It is dismissed with (position, token id) of the token that was picked, or None.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding
from textual.content import Content
from textual.geometry import Offset
from textual.screen import ModalScreen
from textual.widget import Widget

from dgtui.text import cell_width, decode_utf8, sanitize, truncate
from dgtui.tui import keymap
from dgtui.tui.widgets.page import MUTED

LONGEST = 24
"cells of a token's text"
BAR = 10
_EIGHTHS = " ▏▎▍▌▋▊▉█"
_NO_NAMES: Mapping[int, str] = MappingProxyType({})


def visible(piece: bytes, token: int, name: str = "") -> str:
    """The text of a token with symbols for invisible characters: "␣" for a blank at an end, "⏎" for a line break, a
    name if there is no text."""
    text = decode_utf8(piece)
    if not text:
        return sanitize(name, newlines=False, tabs="replace") or f"token {token}"
    middle = text.strip(" ")
    before = len(text) - len(text.lstrip(" ")) if middle else len(text)
    after = len(text) - len(middle) - before
    shown = "␣" * before + middle.replace("\n", "⏎") + "␣" * after
    return sanitize(shown, newlines=False, tabs="replace")


class AlternativesList(Widget):
    """The rows: a digit, the token, its probability as a number and as a bar."""

    DEFAULT_CSS = """
    AlternativesList { width: auto; height: auto; border: round $accent; background: $panel; padding: 0 1; }
    """

    def __init__(self, choices: Sequence[tuple[int, bytes, float]], names: Mapping[int, str], marked: int) -> None:
        super().__init__()
        self.choices = choices
        self._texts = [truncate(visible(piece, id, names.get(id, "")), LONGEST) for id, piece, _ in choices]
        self._plain = [bool(piece) for _, piece, _ in choices]
        self.marked = marked
        self.top = 0

    def move(self, to: int) -> None:
        """Marks a row; wraps around at the ends."""
        if self.choices:
            self.marked = to % len(self.choices)
            height = self.content_size.height
            self.top = max(min(self.top, self.marked), self.marked - height + 1)
            self.refresh()

    def get_content_width(self, container: Any, viewport: Any) -> int:
        return self._column + BAR + 12

    def get_content_height(self, container: Any, viewport: Any, width: int) -> int:
        return max(1, min(len(self.choices), int(viewport.height) - 4))

    @property
    def _column(self) -> int:
        return max((cell_width(text) for text in self._texts), default=0)

    def render(self) -> Content:
        rows = []
        for number in range(self.top, min(self.top + self.content_size.height, len(self.choices))):
            probability = self.choices[number][2]
            eighths = round(max(0.0, min(1.0, probability)) * BAR * 8)
            bar = "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()
            text = self._texts[number]
            marked = number == self.marked
            rows.append(
                Content.assemble(
                    ("▸" if marked else " ", "$text-accent"),
                    (f"{number + 1 if number < 9 else ' '} ", MUTED),
                    (text, ("bold" if marked else "") if self._plain[number] else "italic"),
                    " " * (self._column - cell_width(text)),
                    f"  {'<0.1%' if 0 < probability < 0.001 else f'{probability:.1%}':>6} ",
                    (bar.ljust(BAR), "$text-primary"),
                )
            )
        return Content("\n").join(rows) if rows else Content.styled("no alternatives", MUTED)

    def on_click(self, event: events.Click) -> None:
        cell = event.get_content_offset(self)
        if cell is not None and self.top + cell.y < len(self.choices) and isinstance(self.screen, Alternatives):
            self.marked = self.top + cell.y
            self.screen.action_select()


class Alternatives(ModalScreen[tuple[int, int] | None]):
    """Picks a token.

    Args:
        position: Position of the canvas; part of the result.
        choices: (token id, bytes, probability), the most probable first.
        at: The cell of the cursor on the screen: the panel opens below or above it. None: in the middle.
        names: Names of tokens without text.
        current: The current token, which is marked first.
        title: Above the rows.
    """

    DEFAULT_CSS = """
    Alternatives { background: transparent; }
    Alternatives.-middle { align: center middle; }
    """
    BINDINGS: ClassVar[list[Any]] = [
        *keymap.bindings("alternatives"),
        *(Binding(str(digit), f"pick({digit - 1})", show=False) for digit in range(1, 10)),
    ]

    def __init__(
        self,
        position: int,
        choices: Sequence[tuple[int, bytes, float]],
        at: Offset | None = None,
        *,
        names: Mapping[int, str] = _NO_NAMES,
        current: int | None = None,
        title: str = "alternatives",
    ) -> None:
        super().__init__(classes="" if at else "-middle")
        self._title = title
        self._position, self._at = position, at
        marked = next((number for number, (token, _, _) in enumerate(choices) if token == current), 0)
        self._list = AlternativesList(choices, names, marked)

    def compose(self) -> ComposeResult:
        yield self._list

    def on_mount(self) -> None:
        self._list.border_title = self._title
        self.call_after_refresh(self._move)

    def on_resize(self) -> None:
        self.call_after_refresh(self._move)

    def _move(self) -> None:
        """Below the cursor if there is room, else above it; always on the screen."""
        if self._at is None:
            return
        (x, y), size = self._at, self._list.outer_size
        below = y + 1 + size.height <= self.size.height
        top = y + 1 if below else max(0, y - size.height)
        self._list.styles.offset = (max(0, min(x, self.size.width - size.width)), top)

    def on_click(self, event: events.Click) -> None:
        if not self._list.region.contains(event.screen_x, event.screen_y):
            self.dismiss(None)

    def action_cursor_up(self) -> None:
        self._list.move(self._list.marked - 1)

    def action_cursor_down(self) -> None:
        self._list.move(self._list.marked + 1)

    def action_pick(self, number: int) -> None:
        """Picks a row by its digit."""
        if number < len(self._list.choices):
            self._list.move(number)
            self.action_select()

    def action_select(self) -> None:
        """Picks the marked token."""
        if self._list.choices:
            self.dismiss((self._position, self._list.choices[self._list.marked][0]))

    def action_close(self) -> None:
        """Keeps the current token."""
        self.dismiss(None)
