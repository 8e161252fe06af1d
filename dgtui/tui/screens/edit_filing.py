"""The part of the edit screen that has to do with the file: saving and its conflicts, leaving, and after a crash.

Nothing is written to the file but by saving, and nothing that another program wrote is overwritten unless the person
says so. What a program that died has left is offered, not taken.
"""

import os
from collections.abc import Callable
from pathlib import Path

from dgtui.document.buffer import Buffer
from dgtui.document.journal import Recovery
from dgtui.document.save import Conflict
from dgtui.tui.screens.ask import Ask
from dgtui.tui.screens.edit_ask import Differences, Line
from dgtui.tui.screens.edit_file import OpenFile, plain
from dgtui.tui.screens.edit_runs import ProposingScreen


class FilingScreen(ProposingScreen):
    """See the module; `EditScreen` is the rest."""

    file: OpenFile

    @property
    def buffer(self) -> Buffer:
        """The text."""
        return self.file.buffer

    @property
    def line(self) -> Line:
        """Where an instruction, a text to find or a name is typed."""
        return self.query_one(Line)

    @property
    def is_asking(self) -> bool:
        """The line is open."""
        return self.line.has_class("open")

    def action_save(self, then: Callable[[], None] | None = None) -> None:
        """Saves the file; a conflict is asked about."""

        def work() -> None:
            try:
                self.file.save()
            except Conflict as conflict:
                self._settle(conflict, then)
            else:
                self._saved(then)

        self.guarded(work)

    def _saved(self, then: Callable[[], None] | None = None) -> None:
        self.say(f"saved: {len(self.buffer.data):,} bytes")
        self.draw_top()
        if then is not None:
            then()

    def _settle(self, conflict: Conflict, then: Callable[[], None] | None) -> None:
        """Asks what to do about a file that changed on disk, or is gone from there."""
        answers = [("a", "save this text under another name"), ("o", "make it again")]
        if os.path.lexists(self.file.path):
            answers = [
                ("d", "look at the differences"), ("r", "reload it: undo brings this text back"),
                ("a", "save this text under another name"), ("o", "overwrite it"),
            ]  # fmt: skip

        def overwrite() -> None:
            self.file.save(force=True)
            self._saved(then)

        def answered(key: str | None) -> None:
            if key == "d":
                self._compare(self.file.disk, f"on disk (-) and here (+): {self.file.path}",
                              lambda: self._settle(conflict, then))  # fmt: skip
            elif key == "r" and self.guarded(self.file.reload):
                self.edited()
                if self.proposing:  # the passage is gone
                    self.close_proposal()
            elif key == "a":
                self.action_save_as()
            elif key == "o":
                self.guarded(overwrite)

        self.app.push_screen(Ask(f"{conflict.message}.", answers, "stay, nothing is saved"), answered)

    def _compare(self, old: Callable[[], str], title: str, then: Callable[[], None]) -> None:
        def work() -> None:
            self.app.push_screen(Differences(old(), self.file.text(), title), lambda _: then())

        self.guarded(work)

    def action_save_as(self) -> None:
        """Asks for a name to save under."""
        self.line.ask("save as", "the name of the file; esc closes", str(self.file.path))

    def save_as(self, path: Path, force: bool = False) -> None:
        """Saves under another name, which is the file's from then on; `force` overwrites a file that is there."""

        def answered(key: str | None) -> None:
            if key == "o":
                self.save_as(path, force=True)

        def work() -> None:
            try:
                self.file.save_as(path, force=force)
            except Conflict:
                question = f"There is a file {path} already, and it holds something else."
                self.app.push_screen(Ask(question, [("o", "overwrite it")], "leave it"), answered)
            else:
                self.editor.rename(self.file.path)
                self._saved()

        self.guarded(work)

    def leave(self) -> None:
        """Ends the program; a changed file asks."""
        if not self.buffer.changed:
            self._end()
            return

        def answered(key: str | None) -> None:
            if key == "s":
                self.action_save(then=self._end)
            elif key == "l":
                self._end()

        answers = [("s", "save and quit"), ("l", "leave without saving: the changes are gone")]
        if not isinstance(self.app.screen, Ask):
            self.app.push_screen(Ask(f"{self.file.path} has changes.", answers, "stay"), answered)

    def _end(self) -> None:
        if self._work is not None:
            self._work.stop()
        self.guarded(self.file.close)
        self.app.exit()

    # -- after a crash ----------------------------------------------------------------------------------------------

    def offer_recovery(self) -> None:
        """Asks about what a program that died has left of the file."""

        def work() -> None:
            if (found := self.file.left_behind()) is not None:
                self._ask_about(found)

        self.guarded(work)

    def _ask_about(self, found: Recovery) -> None:
        if found.state == "in use":
            self.say(f"another dgtui (process {found.owner}) is editing this file: one would save over the other",
                     "warning")  # fmt: skip
            return
        if found.state == "unreadable":
            self.say(f"a journal of this file is damaged, and is left as it is: {found.file}", "warning")
            return
        applies = found.data(self.file.source) is not None
        edits = f"{found.edits} edit{'s' if found.edits != 1 else ''}"
        question = f"{self.file.path} was being edited when dgtui ended: {edits}, the last {found.when:%d %b %H:%M}."
        if not applies:
            torn = "its end is damaged" if found.state == "torn" else "the file is another one by now"
            question += f"\nThey cannot be made again ({torn}), but their text can be saved as a copy."
        answers = [
            ("r", "recover: make them again") if applies else ("c", "save what was recovered as a copy"),
            ("l", "look at the differences"),
            ("d", "discard them"),
        ]

        def answered(key: str | None) -> None:
            if key == "r" and self.guarded(lambda: self.file.recover(found)):
                self.edited()
            elif key == "c":
                self.guarded(lambda: self.say(f"saved as {self.file.copy(found)}"))
            elif key == "d":
                self.guarded(found.discard)
            elif key == "l":
                encoding = self.file.source.encoding
                shown = Differences(self.file.text(), plain(found.text, encoding), "the file (-), recovered (+)")
                self.app.push_screen(shown, lambda _: self._ask_about(found))

        self.app.push_screen(Ask(question, answers, "later: the next open asks again"), answered)
