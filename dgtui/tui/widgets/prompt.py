"""The input of the chat: several lines, a history, completion of slash commands and paths, and safe pastes.

Enter sends and Ctrl+J breaks the line; a paste never sends. A handler of `Sent` that cannot accept the message puts the
text back with `load_text`.
"""

from collections.abc import Iterable
from typing import Any, ClassVar

from rich.text import Text
from textual import events
from textual.actions import SkipAction
from textual.geometry import Size
from textual.message import Message
from textual.widget import Widget
from textual.widgets import TextArea

from dgtui.text import sanitize
from dgtui.tui import keymap
from dgtui.tui.widgets.completion import Arguments, Completions, Suggestion, suggestions
from dgtui.tui.widgets.pastes import Pastes, clean

PLACEHOLDER = "Write a message, / for commands, @ for a file"


class Prompt(TextArea):
    """A text area of one to six lines."""

    DEFAULT_CSS = """
    Prompt {
        height: auto; min-height: 1; max-height: 6; border: none; border-left: outer $foreground 30%;
        padding: 0 0 0 1; background: $surface; scrollbar-size-vertical: 1;
        &:focus { border: none; border-left: outer $accent; }
        & .text-area--cursor-line { background: $surface; }
        & .text-area--placeholder { color: $foreground-muted; }
    }
    """
    BINDINGS: ClassVar[list[Any]] = keymap.bindings("prompt")

    class Sent(Message):
        """Enter was pressed, and the text is not blank."""

        def __init__(self, text: str) -> None:
            super().__init__()
            self.text = text

    def __init__(self, past: Iterable[str] = (), *, arguments: Arguments | None = None, id: str | None = None) -> None:
        self._pastes = Pastes()
        self._completions = Completions(self._take)
        self._dismissed = ""
        """The text for which the completions were closed."""
        self._offered: object = None
        """The state of the prompt for which completions are shown."""
        self._past: list[str] = []
        self._at = 0
        """Index into the past messages; their number means the draft."""
        self._drafts: dict[int, str] = {}
        super().__init__(id=id, placeholder=PLACEHOLDER, highlight_cursor_line=False)
        self.match_cursor_bracket = False
        self.arguments = arguments
        """The choices for the arguments of commands."""
        self.past = past

    @property
    def past(self) -> Iterable[str]:
        """Messages that Up recalls, oldest first."""
        return tuple(self._past)

    @past.setter
    def past(self, texts: Iterable[str]) -> None:
        self._past = [text for text in texts if text.strip()]
        self._at = len(self._past)
        self._drafts.clear()

    @property
    def message(self) -> str:
        """The text, with the pastes instead of their labels."""
        return self._pastes.expand(self.text)

    def load_text(self, text: str) -> None:
        super().load_text(self._pastes.fold(clean(text)))
        self.move_cursor(self.document.end)

    # -- keys -------------------------------------------------------------------------------------------------------

    def action_send(self) -> None:
        """Sends the text, or takes the marked completion."""
        marked = self._completions.marked
        if marked is not None and (self._completions.moved or not (marked.whole or marked.free)):
            self._take(marked)
            if not marked.whole:
                return
        text = self.message
        if not text.strip():
            return
        if not self._past or self._past[-1] != text:
            self._past.append(text)
        self._at = len(self._past)
        self._drafts.clear()
        super().load_text("")
        self._offer()
        self.post_message(self.Sent(text))

    def action_newline(self) -> None:
        """Breaks the line."""
        self._insert("\n")

    def action_complete(self) -> None:
        """Takes the marked completion."""
        if (marked := self._completions.marked) is None:
            raise SkipAction()
        self._take(marked)

    def action_close(self) -> None:
        """Closes the list of completions."""
        if self._completions.marked is None:
            raise SkipAction()
        self._dismissed = self.text
        self._offer()

    def action_older(self) -> None:
        """Moves up in the list or in the text, or recalls the previous message."""
        if self._completions.marked is not None:
            self._completions.move(-1)
        elif not self.navigator.is_first_wrapped_line(self.cursor_location) or not self._at:
            self.action_cursor_up()
        else:
            self._recall(self._at - 1)
            self.move_cursor((0, len(self.document[0])))

    def action_newer(self) -> None:
        """Moves down in the list or in the text, or recalls the next message or the draft."""
        if self._completions.marked is not None:
            self._completions.move(1)
        elif not self.navigator.is_last_wrapped_line(self.cursor_location) or self._at == len(self._past):
            self.action_cursor_down()
        else:
            self._recall(self._at + 1)

    def action_paste(self) -> None:
        self._insert(self._pastes.fold(clean(self.app.clipboard)))

    def action_delete_left(self) -> None:
        row, column = self.cursor_location
        label = self._pastes.label_before(self.document[row][:column])
        if label and self.selection.is_empty:
            self.delete((row, column - len(label)), (row, column))
        else:
            super().action_delete_left()

    def action_delete_right(self) -> None:
        row, column = self.cursor_location
        label = self._pastes.label_after(self.document[row][column:])
        if label and self.selection.is_empty:
            self.delete((row, column), (row, column + len(label)))
        else:
            super().action_delete_right()

    # -- events -----------------------------------------------------------------------------------------------------

    def on_mount(self) -> None:
        if isinstance(self.parent, Widget):
            self.parent.mount(self._completions, before=self)

    async def _on_key(self, event: events.Key) -> None:
        if await keymap.run_own(self, event.key):
            event.stop()
            event.prevent_default()
        elif event.key == "enter" and "enter" in self.screen.active_bindings:
            event.prevent_default()  # a text area breaks the line before bindings are tried

    async def _on_paste(self, event: events.Paste) -> None:
        event.prevent_default()
        event.stop()
        self._insert(self._pastes.fold(clean(event.text)))

    def on_text_area_changed(self) -> None:
        if self.text != self._dismissed:
            self._dismissed = ""
        self._offer()

    def on_text_area_selection_changed(self) -> None:
        self._offer()

    def watch_has_focus(self, value: bool) -> None:
        super().watch_has_focus(value)
        self._offer()

    # -- the widget -------------------------------------------------------------------------------------------------

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        return max(1, super().get_content_height(container, viewport, width))

    def get_line(self, line_index: int) -> Text:
        line = super().get_line(line_index)
        line.plain = sanitize(line.plain)
        return line

    def _insert(self, text: str) -> None:
        if result := self._replace_via_keyboard(text, *self.selection):
            self.move_cursor(result.end_location)

    def _recall(self, index: int) -> None:
        self._drafts[self._at] = self.text
        self._at = index
        text = self._drafts.get(index, self._past[index] if index < len(self._past) else "")
        self._dismissed = self._pastes.fold(clean(text))  # a recalled command does not open the list
        super().load_text(self._dismissed)
        self.move_cursor(self.document.end)

    def _take(self, suggestion: Suggestion) -> None:
        start, end = self.document.start, self.document.end
        if suggestion.replaces is not None:
            end = self.cursor_location
            start = end[0], end[1] - suggestion.replaces
        self.move_cursor(self.replace(suggestion.text, start, end).end_location)
        self._offer()

    def _offer(self) -> None:
        """Shows the completions. An edit also moves the cursor, but folders are read once for both."""
        closed = not self.has_focus or (bool(self._dismissed) and self.text == self._dismissed)
        state = closed, self.text, self.cursor_location, self.arguments
        if state != self._offered:
            self._offered = state
            row, column = self.cursor_location
            before = self.document[row][:column]
            self._completions.show([] if closed else suggestions(self.text, self.arguments, before))
