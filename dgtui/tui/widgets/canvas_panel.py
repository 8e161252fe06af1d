"""The canvas panel: a reply with its timeline and meters, and the keys that steer it.

The panel draws the draft of its controller, and turns keys into calls of the controller. An impossible action shows a
notice. The screen gets messages when the text of the reply changes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from textual import on
from textual.message import Message

from dgtui.backend import Backend, RunHandle
from dgtui.config import ScreenSettings
from dgtui.diffusion.events import Frame
from dgtui.diffusion.job import Job
from dgtui.steering.drafts import Draft, Kind, Refused, Version
from dgtui.steering.lengths import LengthSearch
from dgtui.tui import fixed, keymap
from dgtui.tui.draft_controller import Choice, DraftController
from dgtui.tui.draft_runs import Pins
from dgtui.tui.frames import View, view_at, with_pins
from dgtui.tui.inquiry import Inquiry
from dgtui.tui.messages import BlockDone, FramesReady, RunEnded, explain, tokens
from dgtui.tui.pace import Pace
from dgtui.tui.player import Player
from dgtui.tui.template import Template
from dgtui.tui.theme import Look
from dgtui.tui.widgets import meters
from dgtui.tui.widgets.actions import action, steers
from dgtui.tui.widgets.alternatives import Alternatives
from dgtui.tui.widgets.placed_box import PlacedBox
from dgtui.tui.widgets.timeline import Timeline, bars_of

MEASURES_EVERY = 0.25
"seconds between updates of the numbers of a running canvas"


class CanvasPanel(PlacedBox):
    """A canvas that can be steered. Hidden while it is empty.

    Args:
        seeds: Draws the seed of each new run.
        record_to: The recording that each run is written to when it ends.
    """

    DEFAULT_CSS = """
    CanvasPanel Question { height: 1; border: none; padding: 0; }
    """
    BINDINGS: ClassVar[list[Any]] = keymap.bindings("steering")

    class Changed(Message):
        """The text of the draft has changed: a block or a run has ended, or another version was chosen."""

        def __init__(self, version: Version) -> None:
            super().__init__()
            self.version = version

    class Failed(Message):
        """The first run of a draft has failed, and the draft is gone."""

    class Accepted(Message):
        """The user accepted the draft as the reply."""

    class Discarded(Message):
        """The user discarded the draft."""

    def __init__(
        self, backend: Backend, settings: ScreenSettings, look: Look, seeds: Callable[[], int],
        record_to: Path | None = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(show_timeline=settings.show_timeline, **kwargs)
        self.display = False
        self.backend, self._settings, self._look, self._record_to = backend, settings, look, record_to
        self.steering = DraftController(backend, lambda: self.canvas, self._submit, self._tell, seeds)
        self.steering.inquiry = Inquiry(self._ask_model)
        self.template = Template(backend)
        self.player = Player(0 if settings.reduced_motion else settings.pace)
        self.label_of, self._phase = self.steering.label_of, self.steering.phase
        self.refusal, self._measured = partial(fixed.refusal, backend), 0.0
        self._pace = Pace(settings.max_fps)

    def on_mount(self) -> None:
        self.set_look(self._look)

    # -- runs -------------------------------------------------------------------------------------------------------

    def start(self, draft: Draft, job: Job, pins: Pins | None = None) -> Version:
        """Runs the first job of a draft."""
        self._begin(draft)
        return self.run("reply", job, pins)

    def start_between(self, draft: Draft, plan: LengthSearch) -> Version:
        """Starts a draft with a search that writes between what is held."""
        self._begin(draft)
        version = self.steering.search("between", plan)
        self.repaint()
        return version

    def _begin(self, draft: Draft) -> None:
        self.close_questions()
        self.steering.draft = draft
        self.template.clear()
        self.canvas.clear_selection()

    def run(self, kind: Kind, job: Job, pins: Pins | None = None) -> Version:
        """Runs another job of the draft."""
        version = self.steering.run(kind, job, pins=pins)
        self.repaint()
        return version

    def _ask_model(self, job: Job) -> RunHandle:
        """Submits a job that is not shown."""
        return Pace(self._settings.max_fps).submit(self.backend, job, self, only_blocks=True)

    def _submit(self, job: Job) -> RunHandle:
        self._pace = Pace(self._settings.max_fps)
        self.player.restart()
        run = self._pace.submit(self.backend, job, self, only_blocks=self._settings.reduced_motion)
        self._played = run
        self.show_box(True)
        return run

    def show_draft(self, draft: Draft) -> None:
        """Shows a draft whose run has ended on the canvas."""
        self.close_questions()
        self.steering.draft, self.steering.playhead = draft, None
        self.canvas.clear_selection()
        self.repaint()

    def clear(self) -> None:
        """Drops the draft and the template, and hides the panel."""
        self.steering.draft = None
        self.template.clear()
        self.close()

    def _shows(self, run: RunHandle) -> bool:
        version = self.steering.version
        return version is not None and version.run is run

    @on(FramesReady)
    def _frames_ready(self, message: FramesReady) -> None:
        if self._shows(message.run):
            self._pace.drawn()
            self.steering.follow()
            due = time.monotonic() - self._measured >= MEASURES_EVERY
            if self._due is None:  # else the next step is drawn at its pace
                self.repaint(measures=due or message.run.control.paused or bool(self.player.pace))

    @on(BlockDone)
    def _block_done(self, message: BlockDone) -> None:
        if self._shows(message.run):
            self.repaint()
            if not self.steering.searching:
                self._tell()

    @on(RunEnded)
    def _run_ended(self, message: RunEnded) -> None:
        run, draft = message.run, self.steering.draft
        if self.steering.inquiry.asks(run):
            self._take_answer(run)
            return
        if draft is None or not any(version.run is run for version in draft.versions):
            return
        shown = self._shows(run)
        if notice := self.steering.ended(run):
            self.notify(notice)
        if error := run.ended.exception():
            self.notify(explain(error), severity="error")
        if self.steering.draft is None:
            self.close()
            self.post_message(self.Failed())
        elif shown and not self.steering.running:
            if not error:
                self.keep_recording()
            self._tell()
            self._leave()
        self.repaint()

    def keep_recording(self) -> None:
        """Writes the run, finished or not, to the recording that was requested at the start."""
        if self._record_to and self.steering.version and self.steering.version.frames():
            self.action_record(self._record_to)

    def can(self, action: str) -> bool:
        """Whether an action has an effect now. While text is typed, keys belong to it."""
        return not self.typing.is_open and self.steering.can(action)

    def _tell(self) -> None:
        if version := self.steering.version:
            self.post_message(self.Changed(version))

    # -- what is shown ----------------------------------------------------------------------------------------------

    def repaint(self, *, measures: bool = True) -> None:
        """Draws the current version; with `measures`, also its numbers."""
        if not self.is_mounted:
            return
        if (phase := self.steering.phase) != self._phase:
            self._phase = phase
            self.refresh_bindings()
        if self.typing.is_open:  # the canvas stands still
            self.show_status(self.typing.status)
            return
        draft, version = self.steering.draft, self.steering.version
        if draft is None or version is None:
            self._show_template()
            return
        frames, stop_ids = version.frames(), draft.facts.model.stop_ids
        block, step = self._next(frames)
        self.steering.frame, view = view_at(
            version.run.log, block, step, version.candidate, self.backend.pieces, stop_ids
        )
        self._tell_place()
        if step is None:
            view = with_pins(view, draft.user_pins(block), others=version.running)
            if self.steering.shows_doubts:
                view = self.steering.inquiry.layer(view, draft, block)
        self._play()
        self.show_xray()
        self.canvas.calm = version.running or bool(self.behind)
        self.canvas.show(view)
        if measures:
            self._measured = time.monotonic()
            self._show_measures(draft, version, frames, view)

    def _show_measures(self, draft: Draft, version: Version, frames: list[Frame], view: View) -> None:
        frame, log = self.steering.frame, version.run.log
        status = meters.status(frame, view, log.job.seed, draft.facts.fixed) if frame else f"seed {log.job.seed}"
        proposals = draft.proposals()
        measures = meters.measure(
            log, stop_ids=draft.facts.model.stop_ids, candidate=version.candidate,
            memory=meters.memory(*self.backend.memory()),
            proposal=f"proposal {proposals.index(version) + 1} of {len(proposals)}" if len(proposals) > 1 else "",
            slow=self.backend.slow(),
        )  # fmt: skip
        behind = self.behind
        pace = [f"catching up: {behind} behind" if behind else "live"] if self.player.pace else []
        self.show_numbers(
            " · ".join([*(pace if version.running or behind else []), *self.steering.states(), status]),
            meters.line(measures, self.line_width),
            bars_of(frames, log.amended(version.candidate)),
            next((index for index, f in enumerate(frames) if f is frame), None),
            frames[-1].max_steps - frames[-1].step if version.running and frames else 0,
        )

    def _show_template(self) -> None:
        self._tell_place()
        if self.backend.facts is None or not self.is_open:
            self.canvas.show(None)
            return
        self.canvas.show(self.template.view())
        held = tokens(len(self.template))
        help = "t types at the cursor: on … in the middle, on ∎ as the ending; then send a message"
        self.show_numbers(f"template · {held} held · {help}", "", [], None)

    def open_template(self, text: str = "") -> None:
        """Opens an empty canvas that holds a text, with "..." for each gap; without a text, what it held before."""
        if self.steering.running:
            raise Refused("a reply is being written", hint="press esc to stop it")
        if text or not self.template:
            self.template.read(text)
        self.steering.draft = self.steering.playhead = None
        self.open()

    # -- keys -------------------------------------------------------------------------------------------------------

    _take_answer = steers(lambda steering, run: steering.inquiry.ended(run))
    action_pause = steers(DraftController.pause)
    action_step = steers(DraftController.step)
    action_scrub = steers(DraftController.scrub)
    action_fork = steers(DraftController.fork)
    action_rediffuse = steers(DraftController.rediffuse)
    action_something_else = steers(lambda steering: steering.rediffuse(other=True))
    action_strength = steers(DraftController.change_strength)
    action_polish = steers(DraftController.polish)
    action_doubts = steers(DraftController.doubts)
    action_undo = steers(DraftController.undo)
    action_redo = steers(DraftController.redo)
    action_proposal = steers(DraftController.cycle)
    action_record = steers(DraftController.record)
    _scrub_to = steers(DraftController.scrub_to)
    _go_to = steers(DraftController.go_to)

    @action
    def action_stop(self) -> str | None:
        """Does the first that applies: closes the question; stops the run and keeps its draft; returns to the newest
        step; discards the stopped run, which is a change of the reply or the whole draft."""
        if self.question.is_open:
            self.question.action_close()
        elif self.steering.stop():
            pass
        elif self.steering.playhead is not None:
            self.steering.playhead = None
        elif self.steering.stopped and self.steering.discard():
            return "discarded: press U to restore it"
        else:
            self.post_message(self.Discarded())
        return None

    def action_accept(self) -> None:
        """Accepts the draft as the reply."""
        if self.steering.running:
            self.notify("the reply is still being written: press esc to stop it", severity="warning")
        else:
            self.post_message(self.Accepted())

    @action
    def action_pace(self) -> str:
        """Changes the least time that each step is shown. The model keeps running at its own speed."""
        pace = self.player.next_pace()
        return f"each step is shown for at least {pace} ms; the model keeps running" if pace else "steps are shown live"

    def action_scrub_to(self, end: str) -> None:
        """Moves the playhead to the first or the newest step."""
        self._scrub_to(0 if end == "first" else None)

    @action
    def action_xray(self) -> str | None:
        """Shows the x-ray: first entropies, then when each token was decided; then hides it."""
        return None if self.xray.next_mode() else "the x-ray is hidden"

    @on(Timeline.Picked)
    def _picked(self, message: Timeline.Picked) -> None:
        self._scrub_to(message.step)

    @action
    def action_pin(self) -> str:
        """Pins the selection, or unpins it; on a template only typed tokens can be unpinned."""
        if self.steering.draft or not self.template:
            return self.steering.pin()
        span = self.canvas.selection or (self.canvas.cursor, self.canvas.cursor + 1)
        if count := self.template.free(span):
            return f"{tokens(count)} unpinned"
        raise Refused("nothing is pinned here", hint="press t to type text at the cursor")

    @action
    def action_alternatives(self) -> None:
        """Shows the most probable tokens for the position of the cursor."""
        block, at = self.steering.block, self.canvas.cursor

        @action
        def chosen(self: CanvasPanel, choice: tuple[int, int] | None) -> str | None:
            return self._in_block(block, lambda: self.steering.hold("pick", dict([choice]))) if choice else None

        def show(title: str, choices: list[Choice], names: dict[int, str], current: int) -> None:
            cell = self.canvas.cursor_cell
            screen = Alternatives(at, choices, cell, names=names, current=current, title=title)
            self.app.push_screen(screen, partial(chosen, self))

        self.steering.alternatives(show)

    @action
    def action_branches(self) -> None:
        """Lists all versions, to switch to one."""
        from dgtui.tui.screens.versions import Versions

        self.app.push_screen(Versions([*self.steering.described()]), self._go_to)

    @action
    def action_copy(self) -> None:
        """Copies the selection, or the whole reply."""
        self.app.copy_to_clipboard(self.steering.selected_text())

    # -- the question -----------------------------------------------------------------------------------------------

    @action
    def action_gap(self, ask: bool = False) -> None:
        """Opens a gap at the cursor and fills it; `ask`: asks for its length."""
        if ask:
            block = self.steering.block
            self._ask("tokens in the gap", lambda text: self._in_block(block, lambda: self.steering.gap(text)))
        else:
            self.steering.gap()

    @action
    def action_type_here(self) -> None:
        """Lets text be typed in place at the cursor, which is then pinned."""
        self.type_here()

    def _in_block(self, block: int, change: Callable[[], str | None]) -> str | None:
        """Changes a block, unless the run has already left it."""
        if self.steering.block != block:
            raise Refused("the reply has moved on to another block", hint="press space to pause it")
        return change()

    def _ask(self, what: str, answer: Callable[[str], str | None]) -> None:
        @action
        def answered(self: CanvasPanel, text: str) -> str | None:
            return answer(text) if text else None

        self.question.ask(f"{what}: enter accepts, esc closes", partial(answered, self))
