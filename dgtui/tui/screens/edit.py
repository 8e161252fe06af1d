"""The edit screen: a file in a text view, spans of it written anew by the model where the person says so.

The screen holds the marks and the line that is typed in; `edit_runs` is what goes on with the model, `edit_filing` what
goes on with the file. Editing works before a model is loaded, and without any.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from textual import on
from textual.app import ComposeResult, SystemCommand
from textual.screen import Screen
from textual.widgets import Footer, Input, Static

from dgtui.backend import Backend
from dgtui.config import Settings
from dgtui.document.buffer import Anchor
from dgtui.paths import typed_path
from dgtui.steering.instructions import READY
from dgtui.steering.proposals import Passages, Span, joined
from dgtui.text import cell_width, sanitize, truncate
from dgtui.tui import keymap
from dgtui.tui.app import BaseApp
from dgtui.tui.screens.edit_ask import Line
from dgtui.tui.screens.edit_file import OpenFile
from dgtui.tui.screens.edit_filing import FilingScreen
from dgtui.tui.theme import Look
from dgtui.tui.widgets.editor import Editor
from dgtui.tui.widgets.loading import Loading
from dgtui.tui.widgets.review import ReviewBar


@dataclass(frozen=True, slots=True)
class EditOpening:
    """What the screen starts with."""

    model: str | None = None
    instruction: str | None = None
    "of every search, unless another is given"
    seed: int | None = None
    record: Path | None = None


class EditScreen(FilingScreen):
    """Edit a file, and let the model rewrite parts of it."""

    DEFAULT_CSS = """
    EditScreen Editor { height: 1fr; }
    """
    BINDINGS: ClassVar[list[Any]] = keymap.bindings("edit")
    CONTEXTS = ("app", "edit", "review", "editor")
    AUTO_FOCUS = "Editor"

    def __init__(self, backend: Backend, file: OpenFile, settings: Settings, look: Look, opening: EditOpening) -> None:
        super().__init__(backend, settings, look, opening.seed)
        self.file, self.opening = file, opening
        self.record_to = opening.record
        self.passages = Passages(file.buffer)
        self._marks: list[Anchor] = []
        self._instruction = opening.instruction or ""
        self._sought = ""

    def compose(self) -> ComposeResult:
        yield Static(id="top", markup=False)
        yield Editor(self.buffer, self.file.path, id="text")
        yield ReviewBar(id="review")
        yield Loading(id="loading")
        yield Line(id="line")
        yield Footer()
        yield from self.compose_too_small()

    def on_mount(self) -> None:
        self.editor.look = self._look
        self.draw_top()
        self.call_after_refresh(self.load, self.opening.model)
        self.call_after_refresh(self.offer_recovery)

    # -- what is shown ----------------------------------------------------------------------------------------------

    def draw_top(self) -> None:
        """File, state, proposal, place of the cursor."""
        if not self.is_mounted:
            return
        facts = self.backend.facts
        line, column = self.buffer.place(self.editor.cursor)
        parts = [
            self.place_of_proposal(),
            f"{len(marks)} marked" if (marks := self._marked()) else "",
            "" if self.file.source.encoding == "utf-8" else self.file.source.encoding,
            sanitize(facts.name, newlines=False, tabs="replace") if facts else "",
            f"{line + 1}:{column + 1}",
        ]
        right = truncate(" · ".join(part for part in parts if part), max(0, self.size.width // 2))
        state = " ●" if self.buffer.changed else " (new)" if self.file.is_new else ""
        room = self.size.width - cell_width(right) - len(state) - 4
        path = self.file.path
        whole, last = (sanitize(str(name), newlines=False, tabs="replace") for name in (path, path.name))
        left = f" {whole if cell_width(whole) <= room else truncate(last, max(0, room))}{state}"
        gap = max(2, self.size.width - cell_width(left) - cell_width(right) - 1)
        self.query_one("#top", Static).update(f"{left}{' ' * gap}{right}", layout=False)

    def edited(self) -> None:
        """Shows what was done to the text, which is then in the journal as what is typed is."""
        self.editor.sync()

    @on(Editor.Changed)
    def _changed(self) -> None:
        self.guarded(self.file.record)
        self._show_marks()
        self.draw_top()

    @on(Editor.Moved)
    def _moved(self) -> None:
        self.draw_top()

    # -- spans ------------------------------------------------------------------------------------------------------

    def _marked(self) -> list[Span]:
        return [(mark.start, mark.end) for mark in self._marks if mark.alive]

    def _show_marks(self) -> None:
        self._marks = [mark for mark in self._marks if mark.alive]
        self.editor.marks = list(self._marks)

    def _chosen(self) -> list[Span]:
        """The marked spans and the selection."""
        selection = self.editor.selection
        return joined([*self._marked(), *([selection] if selection else [])])

    def propose(self, spans: Iterable[Span], instruction: str | None) -> None:
        """Asks the model for spans; a line that is open closes."""
        self.line.close()
        super().propose(spans, instruction)

    def action_mark(self) -> None:
        """Marks the selection, or unmarks what is at the cursor."""
        editor = self.editor
        start, end = editor.selection or (editor.cursor, editor.cursor)
        at_cursor = [mark for mark in self._marks if mark.alive and mark.start <= start and end <= mark.end]
        if at_cursor:
            self._marks = [mark for mark in self._marks if mark not in at_cursor]
        elif start == end:
            self.say("select what is to be marked first", "warning")
        else:
            spans = joined([*self._marked(), (start, end)])
            self._marks = [self.buffer.anchor(*span) for span in spans]
        self._show_marks()
        self.draw_top()

    def action_rediffuse(self) -> None:
        """Writes the selection and all marked spans anew."""
        if self._is_free():
            self._rewrite(self.opening.instruction)

    def _rewrite(self, instruction: str | None) -> None:
        if spans := self._chosen():
            self.propose(spans, instruction)
        else:
            self.say("select what is to be written anew, or press ctrl+g to write something in between", "warning")

    def action_gap(self) -> None:
        """Writes something at the cursor."""
        if self._is_free():
            self.propose([(self.editor.cursor, self.editor.cursor)], self.opening.instruction)

    def action_instruct(self) -> None:
        """Asks how to rewrite."""
        if self._is_free():
            self.line.ask("instruction", f"what to do: words, or {', '.join(READY)}", self._instruction)

    def instruct(self, instruction: str) -> None:
        """Rewrites the selection and all marked spans as told; without any, writes at the cursor."""
        if self._is_free():
            cursor = self.editor.cursor
            self.propose(self._chosen() or [(cursor, cursor)], instruction)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """While a proposal is on the screen, no other can be asked for."""
        return not (self.proposing and action in ("rediffuse", "instruct", "gap", "mark", "proposals"))

    def _is_free(self) -> bool:
        if self.proposing:
            self.say("first accept or leave the proposal", "warning")
        return not self.proposing

    def action_cancel(self) -> None:
        """One step back: out of the line, out of a run, out of a review, and then the marks go."""
        if self.is_asking:
            self._close_line()
        elif self._work is not None:
            self._work.stop()
            self.redraw()
        elif self._review is not None:
            self.close_proposal()
        elif self._waiting is not None:
            self._waiting = None
            self.say("the question to the model is withdrawn")
        elif self._marks:
            self._marks = []
            self._show_marks()
            self.draw_top()

    # -- the line ---------------------------------------------------------------------------------------------------

    def _close_line(self) -> None:
        self.line.close()
        (self.bar if self.proposing else self.editor).focus()
        self.ask_what_waits()

    @on(Input.Submitted)
    def _entered(self, event: Input.Submitted) -> None:
        purpose, value = self.line.purpose, event.value.strip()
        if purpose == "find":
            self._seek(event.value)
            return
        self._close_line()
        if purpose == "instruction" and value:
            self._instruction = value
            self.instruct(value)
        elif purpose == "save as" and value:
            # What is shown may lack what a terminal must not be sent
            same = value == sanitize(str(self.file.path), newlines=False, tabs="replace").strip()
            self.save_as(self.file.path if same else typed_path(value))

    @on(Line.Backwards)
    def _backwards(self) -> None:
        if self.line.purpose == "find":
            self._seek(self.line.value, backwards=True)

    def _seek(self, text: str, backwards: bool = False) -> None:
        self._sought = text
        if not text:
            return
        editor = self.editor
        start, end = editor.selection or (editor.cursor, editor.cursor)
        if not editor.find(text, backwards):
            self.say(f"not found: {text}", "warning")
        elif editor.selection is not None:
            at = editor.selection[0]
            if at >= start if backwards else at < end:
                self.say(f"found from the {'end' if backwards else 'beginning'} of the file on")

    def action_find(self) -> None:
        """Asks what to find."""
        self.line.ask("find", "enter finds the next, up the one before, esc closes", self._sought)

    # -- the palette ------------------------------------------------------------------------------------------------

    def commands(self) -> Iterator[SystemCommand]:
        """What the palette offers beside Textual's own."""
        for name, text in READY.items():
            yield SystemCommand(name.capitalize(), text, lambda name=name: self.instruct(name))
        yield SystemCommand("Save as", "Save under another name", self.action_save_as)
        yield SystemCommand("Proposals", "What was proposed for the text at the cursor", self.action_proposals)


class EditApp(BaseApp):
    """`dgtui edit`."""

    def __init__(
        self,
        backend: Backend,
        file: OpenFile,
        settings: Settings,
        opening: EditOpening,
        *,
        theme_folders: Sequence[Path],
        problems: Iterable[str] = (),
    ) -> None:
        super().__init__(settings, theme_folders=theme_folders, problems=problems)
        self._backend, self._file, self._opening = backend, file, opening

    def get_default_screen(self) -> Screen[Any]:
        return EditScreen(self._backend, self._file, self.settings, self.look, self._opening)

    @property
    def edit(self) -> EditScreen | None:
        """The screen."""
        return next((screen for screen in self.screen_stack if isinstance(screen, EditScreen)), None)

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        """The palette: Textual's own, ready instructions and a few more."""
        yield from super().get_system_commands(screen)
        if self.edit is not None:
            yield from self.edit.commands()

    async def action_quit(self) -> None:
        """Quits; a changed file asks."""
        if self.edit is None:
            self.exit()
        else:
            self.edit.leave()
