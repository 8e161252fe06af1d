"""A text editor over a `Buffer`: typing, clipboard, indents, undo. Every change is an edit of the buffer.

Others who change the buffer call `sync` afterwards. While the editor is `read_only`, its editing keys are passed to the
screen.
"""

from collections.abc import Callable
from typing import Any, ClassVar, Final

from textual import events
from textual.actions import SkipAction
from textual.binding import Binding

from dgtui.errors import DocumentRefused
from dgtui.text import sanitize
from dgtui.tui import keymap
from dgtui.tui.widgets import editor_typing as typing
from dgtui.tui.widgets.editor_rows import Overlay as Overlay
from dgtui.tui.widgets.editor_view import EditorView

_MORE: Final = {
    "ctrl+c,super+c": "copy",
    "shift+tab": "unindent",
    "shift+backspace": "delete('left')",
    "ctrl+backspace": "delete('word_left')",
    "ctrl+shift+left": "move('word_left', True)",
    "ctrl+shift+right": "move('word_right', True)",
    "ctrl+shift+home": "move('top', True)",
    "ctrl+shift+end": "move('bottom', True)",
}
"""Usual keys of editors that are bound to the whole screen elsewhere, or that only some terminals send."""

_CHANGES: Final = frozenset("newline indent unindent delete cut paste undo redo".split())
"""Actions that change the text."""


class Editor(EditorView, can_focus=True):
    """An editor."""

    BINDINGS: ClassVar[list[Any]] = [
        *keymap.bindings("editor"),
        *(Binding(keys, action, action, show=False) for keys, action in _MORE.items()),
    ]

    read_only = False
    """Whether keys cannot change the text."""

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Hides the actions that change the text while it is read-only."""
        return not (self.read_only and action in _CHANGES) and super().check_action(action, parameters)

    def check_consume_key(self, key: str, character: str | None) -> bool:
        """Characters are typed and do not run commands."""
        if character is None or self.read_only or key.startswith("alt+"):
            return False
        return character >= " " and not "\x7f" <= character <= "\x9f"  # includes blanks and joiners of all scripts

    async def on_key(self, event: events.Key) -> None:
        """Types a character, or runs a command of the editor."""
        character = event.character
        if character is not None and self.check_consume_key(event.key, character):
            self._edit(lambda: typing.type_text(self.buffer, *self._caret.span, character))
        elif not await keymap.run_own(self, event.key):
            return
        event.stop()
        event.prevent_default()

    def on_paste(self, event: events.Paste) -> None:
        """Inserts a paste of the terminal, where CR may end lines."""
        event.stop()
        if not self.read_only:
            self._paste(event.text.replace("\r\n", "\n").replace("\r", "\n"))

    def action_newline(self) -> None:
        """Breaks the line and keeps its indent."""
        self._edit(lambda: typing.break_line(self.buffer, *self._caret.span))

    def action_indent(self) -> None:
        """Inserts an indent, or indents the selected lines."""
        self._edit(lambda: typing.indent(self.buffer, *self._caret.span))

    def action_unindent(self) -> None:
        """Unindents the line or the selected lines."""
        self._edit(lambda: typing.unindent(self.buffer, *self._caret.span))

    def action_delete(self, where: str) -> None:
        """Deletes the selection, or the text up to the target of a move (see `EditorCaret.target`)."""
        other = self.cursor if self.selection else self._caret.target(where)
        start, end = self.selection or sorted((self.cursor, other))
        if start < end:
            self._edit(lambda: typing.delete(self.buffer, start, end, typing=not self.selection))

    def action_copy(self) -> None:
        """Copies the selection. Without one the screen handles the key."""
        if self.selection is None:
            raise SkipAction
        self.app.copy_to_clipboard(self.buffer.text(*self.selection).replace("\r\n", "\n"))

    def action_cut(self) -> None:
        """Copies and deletes the selection."""
        self.action_copy()
        self.action_delete("right")

    def action_paste(self) -> None:
        """Inserts the clipboard."""
        self._paste(self.app.clipboard)

    def action_undo(self) -> None:
        """Undoes the last change."""
        self._go_back(self.buffer.undo)

    def action_redo(self) -> None:
        """Redoes the last undone change."""
        self._go_back(self.buffer.redo)

    def _paste(self, text: str) -> None:
        if text:
            self._edit(lambda: typing.type_text(self.buffer, *self._caret.span, text, typing=False))

    def _go_back(self, step: Callable[[], tuple[int, int] | None]) -> None:
        if span := step():
            self._edit(lambda: span[1])

    def _edit(self, change: Callable[[], int | tuple[int, int]]) -> None:
        """Changes the buffer, then sets the cursor or the selection to the returned offsets."""
        try:
            where = change()
        except DocumentRefused as error:
            message = ": ".join(filter(None, (str(error), error.hint)))
            self.notify(sanitize(message, newlines=False), severity="warning", markup=False)
            return
        self._follow()
        if isinstance(where, int):
            self._caret.go(where)
        else:
            self._caret.select(*where)
        self._show()
        self.reveal(self.cursor)
        self._report()
