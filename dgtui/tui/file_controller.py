"""The file of the edit screen: saving and its conflicts, leaving, and recovery after a crash.

Only saving writes to the file. Changes by another program are overwritten only if the user agrees. Edits that a crash
left behind are offered, and never applied without an answer.
"""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

from dgtui.document.journal import Recovery
from dgtui.document.open_file import OpenFile
from dgtui.document.save import Conflict
from dgtui.document.source import plain
from dgtui.paths import typed_path
from dgtui.text import sanitize
from dgtui.tui.screens.ask import Ask
from dgtui.tui.screens.base import BaseScreen
from dgtui.tui.screens.differences import Differences
from dgtui.tui.widgets.editor import Editor
from dgtui.tui.widgets.question import Question


class FileController:
    """Saves, leaves and recovers one file.

    Args:
        line: Asks for names.
        replaced: Called after the whole text was replaced.
        leaving: Called before the program ends.
    """

    def __init__(
        self,
        screen: BaseScreen,
        file: OpenFile,
        editor: Editor,
        line: Question,
        replaced: Callable[[], None],
        leaving: Callable[[], None],
    ) -> None:
        self._screen, self.file, self._editor, self._line = screen, file, editor, line
        self._replaced, self._leaving = replaced, leaving

    # -- saving -----------------------------------------------------------------------------------------------------

    def save(self, then: Callable[[], None] | None = None) -> None:
        """Saves the file and continues with `then`. Asks about a conflict."""

        def work() -> None:
            try:
                self.file.save()
            except Conflict as conflict:
                self._settle(conflict, then)
            else:
                self._saved(then)

        self._screen.guarded(work)

    def _saved(self, then: Callable[[], None] | None = None) -> None:
        self._screen.notify(f"saved: {len(self.file.buffer.data):,} bytes")
        self._screen.draw_top()
        if then is not None:
            then()

    def _settle(self, conflict: Conflict, then: Callable[[], None] | None) -> None:
        """Asks what to do about a file that was changed or removed on disk."""
        answers = [("a", "save this text under another name"), ("o", "create it again")]
        if os.path.lexists(self.file.path):
            answers = [
                ("d", "show the differences"), ("r", "reload it; undo restores this text"),
                ("a", "save this text under another name"), ("o", "overwrite it"),
            ]  # fmt: skip

        def overwrite() -> None:
            self.file.save(force=True)
            self._saved(then)

        def answered(key: str | None) -> None:
            if key == "d":
                title = f"on disk (-) and here (+): {self.file.path}"
                again = partial(self._settle, conflict, then)
                self._screen.guarded(lambda: self._compare(self.file.disk(), self.file.text(), title, again))
            elif key == "r" and self._screen.guarded(self.file.reload):
                self._editor.sync()
                self._replaced()
            elif key == "a":
                self.ask_name()
            elif key == "o":
                self._screen.guarded(overwrite)

        self._screen.app.push_screen(Ask(f"{conflict.message}.", answers, "cancel without saving"), answered)

    def _compare(self, old: str, new: str, title: str, then: Callable[[], None]) -> None:
        self._screen.app.push_screen(Differences(old, new, title), lambda _: then())

    def ask_name(self) -> None:
        """Asks for a name to save under."""
        self._line.ask("file name; esc closes", self._named, str(self.file.path))

    def _named(self, name: str) -> bool:
        if not (name := name.strip()):
            return True
        # The line may lack characters of the path that are not safe to show
        same = name == sanitize(str(self.file.path), newlines=False, tabs="replace").strip()
        return self.save_as(self.file.path if same else typed_path(name))

    def save_as(self, path: Path, force: bool = False) -> bool:
        """Saves under another name, which the file keeps; `force` overwrites an existing file.

        Returns False if that was refused.
        """

        def answered(key: str | None) -> None:
            if key == "o":
                self.save_as(path, force=True)

        def work() -> None:
            try:
                self.file.save_as(path, force=force)
            except Conflict:
                question = f"{path} already exists with different text."
                self._screen.app.push_screen(Ask(question, [("o", "overwrite it")], "cancel"), answered)
            else:
                self._editor.rename(self.file.path)
                self._saved()

        return self._screen.guarded(work)

    # -- leaving ----------------------------------------------------------------------------------------------------

    def leave(self) -> None:
        """Ends the program. If the file has changes, asks first."""
        if not self.file.buffer.changed:
            self._end()
            return

        def answered(key: str | None) -> None:
            if key == "s":
                self.save(then=self._end)
            elif key == "l":
                self._end()

        answers = [("s", "save and quit"), ("l", "quit without saving: the changes are lost")]
        if not isinstance(self._screen.app.screen, Ask):
            self._screen.app.push_screen(Ask(f"{self.file.path} has changes.", answers, "cancel"), answered)

    def _end(self) -> None:
        self._leaving()
        self._screen.guarded(self.file.close)
        self._screen.app.exit()

    # -- recovery ---------------------------------------------------------------------------------------------------

    def offer_recovery(self) -> None:
        """Asks about edits that a crash left behind."""

        def work() -> None:
            if (recovery := self.file.left_behind()) is not None:
                self._ask_about(recovery)

        self._screen.guarded(work)

    def _ask_about(self, recovery: Recovery) -> None:
        if recovery.state == "in use":
            text = f"another dgtui (process {recovery.owner}) is editing this file: if both save, changes are lost"
            self._screen.notify(text, severity="warning")
            return
        if recovery.state == "unreadable":
            text = f"the journal of this file is damaged; it was left unchanged: {recovery.file}"
            self._screen.notify(text, severity="warning")
            return
        applies = recovery.data(self.file.source) is not None
        edits = f"{recovery.edits} edit{'s' if recovery.edits != 1 else ''}"
        question = f"{self.file.path} was being edited when dgtui ended: {edits}, last at {recovery.when:%d %b %H:%M}."
        if not applies:
            reason = "the journal is incomplete" if recovery.state == "torn" else "the file has changed since"
            question += f"\nThe edits cannot be applied ({reason}), but their text can be saved as a copy."
        answers = [
            ("r", "recover: apply them") if applies else ("c", "save the recovered text as a copy"),
            ("l", "show the differences"),
            ("d", "discard them"),
        ]

        def answered(key: str | None) -> None:
            if key == "r" and self._screen.guarded(lambda: self.file.recover(recovery)):
                self._editor.sync()
            elif key == "c":
                self._screen.guarded(lambda: self._screen.notify(f"saved as {self.file.copy(recovery)}"))
            elif key == "d":
                self._screen.guarded(recovery.discard)
            elif key == "l":
                recovered = plain(recovery.text, self.file.source.encoding)
                title = "the file (-), recovered (+)"
                self._compare(self.file.text(), recovered, title, partial(self._ask_about, recovery))

        self._screen.app.push_screen(
            Ask(question, answers, "decide later: dgtui asks again at the next start"), answered
        )
