"""The canvas with its timeline and meters: shows a reply while its run goes on, and afterwards.

The panel owns the draft of the reply: it submits jobs, follows their logs, and keeps each version. Whoever holds the
panel is told by a message when the draft's text changed. `steering` adds the keys.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.message import Message
from textual.widgets import Static

from dgtui.backend import Backend, RunHandle
from dgtui.diffusion.events import Flag, Frame
from dgtui.diffusion.job import Job
from dgtui.errors import DgtuiError
from dgtui.steering.drafts import Draft, Kind, Refused, Version
from dgtui.steering.lengths import rank
from dgtui.text import decode_utf8, sanitize
from dgtui.tui.frames import view_at
from dgtui.tui.messages import BlockDone, FramesReady, RunEnded, explain
from dgtui.tui.pace import Pace
from dgtui.tui.theme import Look
from dgtui.tui.widgets import meters
from dgtui.tui.widgets.canvas_view import CanvasView, View
from dgtui.tui.widgets.timeline import Timeline

MEASURES_EVERY = 0.25
"seconds between looks at the numbers beside a canvas that resolves"


class CanvasPanel(Vertical):
    """A canvas and what is known of it. Hidden while there is nothing on it."""

    DEFAULT_CSS = """
    CanvasPanel { height: auto; max-height: 60%; border: round $primary; padding: 0 1; display: none; }
    CanvasPanel.open { display: block; }
    CanvasPanel:focus-within { border: round $accent; }
    CanvasPanel CanvasView { height: auto; max-height: 100%; }
    CanvasPanel #meters { height: 1; color: $text-muted; }
    """

    class Changed(Message):
        """The draft's text is another one now: a block or a run has ended, or another version was chosen."""

        def __init__(self, version: Version) -> None:
            super().__init__()
            self.version = version

    class Failed(Message):
        """The first run of a draft has failed, and there is no draft any more."""

    def __init__(self, backend: Backend, look: Look, seeds: Callable[[], int], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.backend, self._look, self.seeds = backend, look, seeds
        self.draft: Draft | None = None
        self.playhead: int | None = None
        "index of the frame that is shown; None: the newest"
        self.strength = 1.0
        self.frame: dict[int, int] = {}
        "place → token, pinned before the next run"
        self.max_fps, self.reduced_motion, self.show_timeline = 30, False, True
        self.record_to: Path | None = None
        self.shown_frame: Frame | None = None
        self._measured = 0.0
        self._pace = Pace(self.max_fps)

    def compose(self) -> ComposeResult:
        yield CanvasView(id="canvas")
        yield Timeline(id="timeline")
        yield Static(id="meters", markup=False)

    def on_mount(self) -> None:
        self.look = self._look
        self.query_one(Timeline).display = self.show_timeline

    @property
    def look(self) -> Look:
        """How tokens are drawn."""
        return self._look

    @look.setter
    def look(self, look: Look) -> None:
        self._look = look
        self.canvas.look = look
        self.query_one(Timeline).look = look
        self.repaint()

    @property
    def canvas(self) -> CanvasView:
        """The view of the tokens."""
        return self.query_one(CanvasView)

    @property
    def version(self) -> Version | None:
        """The version that is shown."""
        return self.draft.current if self.draft else None

    @property
    def running(self) -> bool:
        """A run goes on."""
        return bool(self.version and self.version.running)

    @property
    def stopped(self) -> bool:
        """The run was stopped by hand."""
        return bool(self.version and (ended := self.version.run.log.finished) and ended.reason == "cancelled")

    # -- runs -------------------------------------------------------------------------------------------------------

    def start(self, draft: Draft, job: Job, pins: Mapping[int, frozenset[int]] | None = None) -> Version:
        """Runs the first job of a draft."""
        self.draft = draft
        self.frame = {}
        self.canvas.clear_selection()
        return self.run(draft, "reply", job, pins=pins)

    def run(
        self,
        draft: Draft,
        kind: Kind,
        job: Job,
        *,
        span: tuple[int, int] | None = None,
        pins: Mapping[int, frozenset[int]] | None = None,
        beside: bool = False,
    ) -> Version:
        """Submits a job, stops what ran before, and makes its run the version that is shown."""
        if draft.current and draft.current.running:
            draft.current.run.control.cancel()
        self._pace = Pace(self.max_fps)
        run = self.backend.submit(job, self._pace.sink(self._tell, only_blocks=self.reduced_motion))
        version = draft.add(kind, run, span=span, pins=pins, beside=beside)
        run.ended.add_done_callback(lambda _: self._tell(RunEnded(run)))
        self.playhead = None
        self.add_class("open")
        self.repaint()
        return version

    def stop(self) -> bool:
        """Stops the run and keeps its draft; False if none goes on."""
        if self.version is None or not self.version.running:
            return False
        self.version.run.control.cancel()
        return True

    def _tell(self, message: Message) -> None:
        if self.is_attached:
            self.post_message(message)

    @on(FramesReady)
    def _frames_ready(self, message: FramesReady) -> None:
        message.stop()
        if self.version and message.run is self.version.run:
            self._pace.drawn()
            due = time.monotonic() - self._measured >= MEASURES_EVERY
            self.repaint(measures=due or message.run.control.paused)

    @on(BlockDone)
    def _block_done(self, message: BlockDone) -> None:
        message.stop()
        if self.version and message.run is self.version.run:
            self.repaint()
            self.post_message(self.Changed(self.version))

    @on(RunEnded)
    def _run_ended(self, message: RunEnded) -> None:
        message.stop()
        run, draft = message.run, self.draft
        if draft is None or not any(v.run is run for v in draft.versions):
            return
        shown = draft.current is not None and draft.current.run is run
        if error := run.ended.exception():
            self.say(explain(error), "error")
            draft.remove(run)
            if draft.current is None:
                self.draft = None
                self.close()
                self.post_message(self.Failed())
        elif run.job.candidates > 1:
            self._rank(draft, run)
        if shown and draft.current:
            if self.record_to and not error and draft.current.frames():
                try:
                    self.save(self.record_to)
                except DgtuiError as refused:
                    self.say(explain(refused), "error")
            self.post_message(self.Changed(draft.current))
        self.repaint()

    def _rank(self, draft: Draft, run: RunHandle) -> None:
        """The candidates of a search become proposals, the best one first, those that end the reply in the gap last."""
        shown, version = draft.current, next(v for v in draft.versions if v.run is run)
        draft.current = version
        at = version.span[0] if version.span else 0
        stops, before = draft.facts.model.stop_ids, version.parent.pins if version.parent else {}
        ranked = sorted(rank(run.log), key=lambda r: any(i in stops for i in r.ids[at : at + r.length].tolist()))
        for number, candidate in enumerate(r.candidate for r in ranked):
            pins = draft.pins_around(run.job, at, candidate, before)
            if number:
                draft.add(version.kind, run, candidate=candidate, span=version.span, pins=pins, beside=True)
            else:
                version.candidate, version.pins = candidate, pins
        draft.current = shown

    # -- what is shown ----------------------------------------------------------------------------------------------

    def repaint(self, *, measures: bool = True) -> None:
        """Draws the newest state of the version that is shown, and unless told otherwise the numbers beside it."""
        if not self.is_mounted:
            return
        version = self.version
        if version is None or self.draft is None:
            self._show_frame()
            return
        facts = self.draft.facts
        frames = version.frames()
        if self.playhead is not None and self.playhead >= len(frames):
            self.playhead = None
        at = frames[self.playhead] if self.playhead is not None else None
        block = at.block if at else version.block
        frame, view = view_at(
            version.run.log,
            block,
            at.step if at else None,
            version.candidate,
            self.backend.pieces,
            facts.model.stop_ids,
        )
        self.shown_frame = frame
        if at is None:
            view = _with_pins(view, self.draft.user_pins(block), others=version.running)
        self.canvas.calm = version.running
        self.canvas.show(view)
        if measures:
            self._measured = time.monotonic()
            self._show_measures(version, frames, frame, view)

    def _show_measures(self, version: Version, frames: list[Frame], frame: Frame | None, view: View) -> None:
        assert self.draft is not None
        self.query_one(Timeline).show([f.mean_entropy for f in frames], self._index(frames, frame), version.running)
        self.border_title = self._title(version, frame, view)
        size, of = self.backend.memory()
        measures = meters.measure(
            version.run.log,
            now=None,
            stop_ids=self.draft.facts.model.stop_ids,
            candidate=version.candidate,
            memory=meters.memory(size, of),
            proposal=self._proposal(),
        )
        line = meters.line(measures, max(20, self.content_size.width))
        self.query_one("#meters", Static).update(line, layout=False)

    @staticmethod
    def _index(frames: list[Frame], frame: Frame | None) -> int | None:
        return next((i for i, f in enumerate(frames) if f is frame), None)

    def _title(self, version: Version, frame: Frame | None, view: View) -> str:
        seed = version.run.job.seed
        state = "" if version.kind in ("reply", "pin") else f"{version.kind} · "
        if version.running and version.run.control.paused:
            state = f"paused · {state}"
        if self.playhead is not None:
            state = f"looking back · {state}"
        if self.strength < 1:
            state = f"strength {self.strength:.0%} · {state}"
        title = meters.status(frame, view, seed) if frame else f"seed {seed}"
        return sanitize(f" {state}{title} ", newlines=False).replace("[", "\\[")

    def _proposal(self) -> str:
        proposals = self.draft.proposals() if self.draft else []
        if len(proposals) < 2 or self.version is None:
            return ""
        return f"proposal {proposals.index(self.version) + 1} of {len(proposals)}"

    def _show_frame(self) -> None:
        """An empty canvas to be written on before a run, or nothing."""
        import numpy as np

        facts = self.backend.facts
        if facts is None or not self.has_class("open"):
            self.canvas.show(None)
            return
        length = facts.model.canvas_length
        ids = [self.frame.get(place, facts.model.fill_id) for place in range(length)]
        pieces = tuple(p if at in self.frame else b"\xc2\xb7 " for at, p in enumerate(self.backend.pieces(ids)))
        flags = np.full(length, int(Flag.RENOISED), np.uint8)
        flags[list(self.frame)] = int(Flag.PINNED)
        held = (flags & Flag.PINNED).astype(bool)
        entropy = np.where(held, 0.0, 1.0).astype(np.float32)
        self.canvas.show(View(pieces, entropy, flags, np.ones(length, np.bool_), length))
        self.border_title = f" frame · {len(self.frame)} tokens pinned · t types at the cursor, then send a message "
        self.query_one(Timeline).show([], None, False)
        self.query_one("#meters", Static).update("", layout=False)

    def open_frame(self, words: str = "", at: int = 0) -> None:
        """Opens an empty canvas, or pins words at a place of it."""
        if self.running:
            raise Refused("a reply is being written", hint="esc stops it")
        facts = self.backend.facts
        if facts is None:
            raise Refused("no model is loaded yet")
        self.draft, self.playhead = None, None
        self.add_class("open")
        if words:
            self.pin_frame(at, words)
        self.repaint()

    def pin_frame(self, at: int, words: str) -> None:
        """Pins words at a place of the empty canvas."""
        facts = self.backend.facts
        assert facts is not None, "a frame is opened after loading"
        ids = self.backend.encode(words if at == 0 or words[:1].isspace() else f" {words}")  # behind another word
        if not 0 <= at <= facts.model.canvas_length - len(ids):
            raise Refused(f"{len(ids)} tokens do not fit at place {at} of {facts.model.canvas_length}")
        self.frame |= dict(enumerate(ids, start=at))

    def close(self) -> None:
        """Takes the canvas off the screen; its versions stay."""
        self.remove_class("open")

    def say(self, text: str, severity: Any = "information") -> None:
        """A notice that goes away by itself."""
        self.app.notify(sanitize(text, newlines=False), severity=severity, markup=False)

    def text(self, version: Version) -> str:
        """A version's reply as text, thoughts left out."""
        assert self.draft is not None
        _, answer = self.backend.split_thought(version.reply_ids(self.draft.facts.model.stop_ids))
        return decode_utf8(b"".join(self.backend.pieces(answer)))

    def save(self, path: Path) -> None:
        """Writes the run that is shown to a recording."""
        from dgtui.session import recording
        from dgtui.session.run_pack import occurring_ids

        assert self.draft is not None
        facts, run = self.draft.facts, self.draft.version.run
        if not self.draft.version.frames():
            raise Refused("there are no steps to record yet")
        ids = occurring_ids(run.log).tolist()
        recording.save(
            path,
            run.log,
            pieces=dict(zip(ids, self.backend.pieces(ids), strict=True)),
            special_ids=facts.model.special_ids,
            fingerprint=facts.fingerprint,
            model=facts.name,
            stepper=facts.stepper,
            device=facts.device,
            versions=facts.versions,
        )
        self.say(f"recorded to {path}")


def _with_pins(view: View, pins: frozenset[int], *, others: bool) -> View:
    """The view with the places that a person pinned marked; and those that a run holds, if `others`."""
    import numpy as np

    flags = view.flags.copy() if others else view.flags & ~np.uint8(Flag.PINNED)
    if len(flags):
        flags[list(pins)] |= np.uint8(Flag.PINNED)
    return View(view.pieces, view.entropy, flags, view.settled, view.end)
