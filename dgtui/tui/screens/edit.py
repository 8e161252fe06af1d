"""The edit screen: a file in a text view; the model rewrites the spans that the user selects.

`FileController` saves and recovers the file, `ProposalController` runs the model and reviews its proposals. The screen
holds the marks and passes keys and messages on. Editing works without a model.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from textual import on
from textual.app import SystemCommand
from textual.screen import Screen

from dgtui.backend import Backend
from dgtui.config import Settings
from dgtui.document.buffer import Anchor
from dgtui.document.open_file import OpenFile
from dgtui.steering import world
from dgtui.steering.instructions import READY
from dgtui.steering.proposals import Span, joined
from dgtui.text import cell_width, sanitize, truncate
from dgtui.tui import keymap
from dgtui.tui.app import BaseApp
from dgtui.tui.file_controller import FileController
from dgtui.tui.messages import BlockDone, FramesReady, RunEnded
from dgtui.tui.proposal_controller import ProposalController
from dgtui.tui.screens.base import BaseScreen, seed_source
from dgtui.tui.theme import Look
from dgtui.tui.widgets.editor import Editor
from dgtui.tui.widgets.loading import Loading
from dgtui.tui.widgets.question import Question
from dgtui.tui.widgets.review import ReviewBar


@dataclass(frozen=True, slots=True)
class EditOpening:
    """The options that the screen starts with."""

    model: str | None = None
    instruction: str | None = None
    "the default for all requests"
    seed: int | None = None
    record: Path | None = None


class EditScreen(BaseScreen):
    """Shows the file, and lets the model rewrite parts of it."""

    DEFAULT_CSS = """
    EditScreen Editor { height: 1fr; }
    EditScreen Question { background: $panel; padding: 0 1; }
    """
    BINDINGS: ClassVar[list[Any]] = keymap.bindings("edit")
    CONTEXTS = ("app", "edit", "review", "editor")
    AUTO_FOCUS = "Editor"

    def __init__(self, backend: Backend, file: OpenFile, settings: Settings, look: Look, opening: EditOpening) -> None:
        super().__init__(settings, look)
        self.backend, self._opening = backend, opening
        self.editor = Editor(file.buffer, file.path, id="text")
        self.bar = ReviewBar(id="review")
        self.loader = Loading(id="loading")
        self.line = Question(self._line_closed, id="line")
        self.parts = (self.editor, self.bar, self.loader, self.line)
        self.proposals = ProposalController(
            self, backend, self.editor, self.bar, self.loader, lambda: self.line.is_open, seed_source(opening.seed),
            opening.record,
        )  # fmt: skip
        self.files = FileController(self, file, self.editor, self.line, self._text_replaced, self.proposals.stop)
        self._marks: list[Anchor] = []
        self._instruction = opening.instruction or ""
        self._sought = ""

    def on_mount(self) -> None:
        self.editor.look = self.look
        self.draw_top()
        self.call_after_refresh(self._load)
        self.call_after_refresh(self.files.offer_recovery)

    def _load(self) -> None:
        name = self._opening.model
        self.loader.load(self.backend, name, name or self.settings.model.name or "the default model")
        self.draw_top()

    @on(Loading.Ended)
    def _load_ended(self) -> None:
        buffer, facts = self.files.file.buffer, self.backend.facts
        if facts and (told := world.notice(map(buffer.line, range(buffer.lines)), self.backend.encode, facts.model)):
            self.notify(told)
        self.proposals.ask_waiting()
        self.draw_top()

    # -- what is shown ----------------------------------------------------------------------------------------------

    def set_look(self, look: Look) -> None:
        """Sets the style of tokens and changes."""
        self.look = self.editor.look = look
        self.proposals.redraw()

    def on_resize(self) -> None:
        super().on_resize()
        self.proposals.redraw()

    def keep(self) -> None:
        """Stores the recording of a running search; every edit is already in the journal."""
        self.proposals.keep_recording()

    def top_line(self) -> str:
        file, facts = self.files.file, self.backend.facts
        row, column = file.buffer.place(self.editor.cursor)
        parts = [
            self.proposals.position,
            f"{len(marks)} marked" if (marks := self._marked()) else "",
            "" if file.source.encoding == "utf-8" else file.source.encoding,
            sanitize(facts.name, newlines=False, tabs="replace") if facts else "",
            f"{row + 1}:{column + 1}",
        ]
        right = truncate(" · ".join(part for part in parts if part), max(0, self.size.width // 2))
        state = " ●" if file.buffer.changed else " (new)" if file.is_new else ""
        room = self.size.width - cell_width(right) - len(state) - 4
        path, name = (sanitize(str(text), newlines=False, tabs="replace") for text in (file.path, file.path.name))
        left = f" {path if cell_width(path) <= room else truncate(name, max(0, room))}{state}"
        return f"{left}{' ' * max(2, self.size.width - cell_width(left) - cell_width(right) - 1)}{right}"

    @on(Editor.Changed)
    def _changed(self) -> None:
        self.guarded(self.files.file.record)
        self._show_marks()

    @on(Editor.Moved)
    def _moved(self) -> None:
        self.draw_top()

    def _text_replaced(self) -> None:
        if self.proposals.active:  # its passage is gone
            self.proposals.close()

    # -- marks ------------------------------------------------------------------------------------------------------

    def _marked(self) -> list[Span]:
        return [(mark.start, mark.end) for mark in self._marks if mark.alive]

    def _show_marks(self) -> None:
        self._marks = [mark for mark in self._marks if mark.alive]
        self.editor.marks = list(self._marks)
        self.draw_top()

    def action_mark(self) -> None:
        """Marks the selection, or unmarks the span at the cursor."""
        editor = self.editor
        start, end = editor.selection or (editor.cursor, editor.cursor)
        at_cursor = [mark for mark in self._marks if mark.alive and mark.start <= start and end <= mark.end]
        if at_cursor:
            self._marks = [mark for mark in self._marks if mark not in at_cursor]
        elif start == end:
            self.notify("select what to mark first", severity="warning")
        else:
            spans = joined([*self._marked(), (start, end)])
            self._marks = [self.files.file.buffer.anchor(*span) for span in spans]
        self._show_marks()

    # -- asking the model -------------------------------------------------------------------------------------------

    def _chosen(self) -> list[Span]:
        """The marked spans and the selection."""
        selection = self.editor.selection
        return joined([*self._marked(), *([selection] if selection else [])])

    def _propose(self, spans: Iterable[Span], instruction: str | None) -> None:
        self.line.action_close()
        self.proposals.propose(spans, instruction)

    def _is_free(self) -> bool:
        if self.proposals.active:
            self.notify("accept or leave the proposal first", severity="warning")
        return not self.proposals.active

    def action_rediffuse(self) -> None:
        """Rewrites the selection and all marked spans."""
        if not self._is_free():
            return
        if spans := self._chosen():
            self._propose(spans, self._opening.instruction)
        else:
            self.notify("select what to rewrite, or press ctrl+g to insert text at the cursor", severity="warning")

    def action_gap(self) -> None:
        """Inserts text at the cursor."""
        if self._is_free():
            self._propose([(self.editor.cursor, self.editor.cursor)], self._opening.instruction)

    def action_instruct(self) -> None:
        """Asks how to rewrite."""
        if self._is_free():
            self.line.ask(f"what to do: your own words, or {', '.join(READY)}", self.instruct, self._instruction)

    def instruct(self, instruction: str) -> None:
        """Rewrites the selection and all marked spans by an instruction; without any, inserts at the cursor."""
        if instruction := instruction.strip():
            self._instruction = instruction
            if self._is_free():
                cursor = self.editor.cursor
                self._propose(self._chosen() or [(cursor, cursor)], instruction)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Disables requests while a proposal is open."""
        return not (self.proposals.active and action in ("rediffuse", "instruct", "gap", "mark", "proposals"))

    @on(FramesReady)
    @on(BlockDone)
    def _frames_ready(self, message: FramesReady | BlockDone) -> None:
        self.proposals.frames_ready(message.run)

    @on(RunEnded)
    def _run_ended(self, message: RunEnded) -> None:
        self.proposals.run_ended(message.run)

    def on_descendant_focus(self) -> None:
        """Returns the focus to the proposal after a click into the text."""
        if self.proposals.active and self.focused is self.editor:
            self.bar.focus()

    # -- other keys -------------------------------------------------------------------------------------------------

    def action_review(self, action: str, *arguments: Any) -> None:
        """Runs a method of the proposal controller: see the context "review" of the keymap."""
        getattr(self.proposals, action)(*arguments)

    def action_proposals(self) -> None:
        """Reviews the proposals for the text at the cursor."""
        self.proposals.open_at_cursor()

    def action_save(self) -> None:
        """Saves the file."""
        self.files.save()

    def action_save_as(self) -> None:
        """Saves the file under another name."""
        self.files.ask_name()

    def action_cancel(self) -> None:
        """Goes one step back: closes the line, leaves the proposal, or removes the marks."""
        if self.line.is_open:
            self.line.action_close()
        elif not self.proposals.step_back() and self._marks:
            self._marks = []
            self._show_marks()

    def _line_closed(self, had_focus: bool) -> None:
        self.proposals.focus()
        self.proposals.ask_waiting()

    def action_find(self) -> None:
        """Asks what to find."""
        self.line.ask(
            "enter finds the next, up the previous, esc closes", self._find, self._sought,
            backwards=lambda text: self._find(text, backwards=True),
        )  # fmt: skip

    def _find(self, text: str, backwards: bool = False) -> None:
        self._sought = text
        if not text:
            return
        editor = self.editor
        start, end = editor.selection or (editor.cursor, editor.cursor)
        if not editor.find(text, backwards):
            self.notify(f"not found: {text}", severity="warning")
        elif editor.selection is not None:
            at = editor.selection[0]
            if at >= start if backwards else at < end:
                self.notify(f"continued from the {'end' if backwards else 'beginning'} of the file")

    # -- the palette ------------------------------------------------------------------------------------------------

    def commands(self) -> Iterator[SystemCommand]:
        """The commands of this screen in the palette."""
        for name, text in READY.items():
            yield SystemCommand(name.capitalize(), text, lambda name=name: self.instruct(name))
        yield SystemCommand("Save as", "Save under another name", self.action_save_as)
        yield SystemCommand("Proposals", "Review the proposals for the text at the cursor", self.action_proposals)


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
        """The edit screen, below whatever is open over it."""
        return next((screen for screen in self.screen_stack if isinstance(screen, EditScreen)), None)

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        """The palette: the commands of every screen, ready instructions and a few more."""
        yield from super().get_system_commands(screen)
        if self.edit is not None:
            yield from self.edit.commands()

    async def action_quit(self) -> None:
        """Quits. If the file has changes, asks first."""
        if self.edit is None:
            self.exit()
        else:
            self.edit.files.leave()
