"""The canvas with its timeline and meters, and everything that steers it by keyboard.

The panel owns the draft of the running reply: it submits jobs, follows their logs, and keeps each version. Whoever holds
the panel is told by messages when the draft changed, was accepted, or was discarded.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.message import Message
from textual.widgets import Input, Static

from dgtui.diffusion.events import Action, BlockFinished, Finished, Flag, Frame
from dgtui.diffusion.job import Amendment, BadJob, Job
from dgtui.diffusion.lengths import rank
from dgtui.errors import DgtuiError
from dgtui.text import decode_utf8, sanitize
from dgtui.tui import keymap
from dgtui.tui.backend import Backend, RunHandle
from dgtui.tui.drafts import Draft, Kind, Refused, Version
from dgtui.tui.frames import view_at
from dgtui.tui.messages import BlockDone, FramesReady, RunEnded, explain
from dgtui.tui.theme import Look
from dgtui.tui.widgets import meters
from dgtui.tui.widgets.alternatives import Alternatives
from dgtui.tui.widgets.canvas_view import CanvasView, View
from dgtui.tui.widgets.timeline import Timeline


class CanvasPanel(Vertical):
    """A canvas that can be steered. Hidden while there is nothing on it."""

    DEFAULT_CSS = """
    CanvasPanel { height: auto; max-height: 60%; border: round $primary; padding: 0 1; display: none; }
    CanvasPanel.open { display: block; }
    CanvasPanel:focus-within { border: round $accent; }
    CanvasPanel CanvasView { height: auto; max-height: 100%; }
    CanvasPanel #typing { display: none; height: 1; border: none; padding: 0; }
    CanvasPanel #typing.open { display: block; }
    CanvasPanel #meters { height: 1; color: $text-muted; }
    """
    BINDINGS: ClassVar[list[Any]] = keymap.bindings("steering")

    class Changed(Message):
        """The draft's text is another one now: a block or a run has ended, or another version was chosen."""

        def __init__(self, version: Version) -> None:
            super().__init__()
            self.version = version

    class Accepted(Message):
        """The draft is the reply."""

    class Discarded(Message):
        """The draft is not wanted."""

    def __init__(self, backend: Backend, look: Look, seeds: Callable[[], int], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.backend, self._look, self._seeds = backend, look, seeds
        self.draft: Draft | None = None
        self.playhead: int | None = None
        "index of the frame that is shown; None: the newest"
        self.strength = 1.0
        self.frame: dict[int, int] = {}
        "place → token, pinned before the next run"
        self.max_fps, self.reduced_motion, self.show_timeline = 30, False, True
        self.record_to: Path | None = None
        self._asking: Callable[[str], None] | None = None
        self._shown_frame: Frame | None = None

    def compose(self) -> ComposeResult:
        yield CanvasView(id="canvas")
        yield Input(id="typing", compact=True)
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
        run = self.backend.submit(job, self._sink())
        version = draft.add(kind, run, span=span, pins=pins, beside=beside)
        run.ended.add_done_callback(lambda _: self._tell(RunEnded(run)))
        self.playhead = None
        self.add_class("open")
        self.repaint()
        return version

    def _sink(self) -> Callable[[RunHandle, int], None]:
        """Tells the screen of a growing log, at most `max_fps` times a second. Called on the model thread."""
        least, last = 1 / self.max_fps, 0.0

        def sink(run: RunHandle, upto: int) -> None:
            nonlocal last
            event = run.log[upto - 1]
            if isinstance(event, BlockFinished):
                self._tell(BlockDone(run))
            elif not self.reduced_motion and not isinstance(event, Finished):
                now = time.monotonic()
                if now - last >= least or run.control.paused:
                    last = now
                    self._tell(FramesReady(run))

        return sink

    def _tell(self, message: Message) -> None:
        if self.is_attached:
            self.post_message(message)

    @on(FramesReady)
    def _frames_ready(self, message: FramesReady) -> None:
        message.stop()
        if self.version and message.run is self.version.run:
            self.repaint()

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
        if error := run.ended.exception():
            self._say(explain(error), "error")
            draft.forget(run)
        elif draft.current and draft.current.run is run:
            if run.job.candidates > 1:
                self._rank(draft, run)
            if self.record_to:
                self.save(self.record_to)
            self.post_message(self.Changed(draft.version))
        self.repaint()

    def _rank(self, draft: Draft, run: RunHandle) -> None:
        """The candidates of a search become proposals, the best one first, those that end the reply in the gap last."""
        version = draft.version
        at = version.span[0] if version.span else 0
        stops = draft.facts.stop_ids
        best, *others = sorted(rank(run.log), key=lambda r: any(i in stops for i in r.ids[at : at + r.length].tolist()))
        version.candidate = best.candidate
        for other in others:
            draft.add(version.kind, run, candidate=other.candidate, span=version.span, pins=version.pins, beside=True)
        draft.current = version

    # -- what is shown ----------------------------------------------------------------------------------------------

    def repaint(self) -> None:
        """Draws the newest state of the version that is shown."""
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
            version.run.log, block, at.step if at else None, version.candidate, self.backend.pieces, facts.stop_ids
        )
        self._shown_frame = frame
        if not version.running and at is None:
            view = _with_pins(view, self.draft.user_pins(block))
        self.canvas.calm = version.running
        self.canvas.show(view)
        self.query_one(Timeline).show([f.mean_entropy for f in frames], self._index(frames, frame), version.running)
        self.border_title = self._title(version, frame, view)
        size, of = self.backend.memory()
        measures = meters.measure(
            version.run.log,
            now=None,
            stop_ids=facts.stop_ids,
            candidate=version.candidate,
            memory=meters.memory(size, of),
            proposal=self._proposal(),
        )
        self.query_one("#meters", Static).update(meters.line(measures, max(20, self.content_size.width)))

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
        facts = self.backend.facts
        if facts is None or not self.has_class("open"):
            self.canvas.show(None)
            return
        length = facts.canvas_length
        ids = [self.frame.get(place, facts.fill_id) for place in range(length)]
        pieces = tuple(p if at in self.frame else b"\xc2\xb7 " for at, p in enumerate(self.backend.pieces(ids)))
        flags = np.full(length, int(Flag.RENOISED), np.uint8)
        flags[list(self.frame)] = int(Flag.PINNED)
        held = (flags & Flag.PINNED).astype(bool)
        entropy = np.where(held, 0.0, 1.0).astype(np.float32)
        self.canvas.show(View(pieces, entropy, flags, np.ones(length, np.bool_), length))
        self.border_title = f" frame · {len(self.frame)} tokens pinned · t types at the cursor, then send a message "
        self.query_one(Timeline).show([], None, False)
        self.query_one("#meters", Static).update("")

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
            self._pin_frame(at, words)
        self.repaint()

    def _pin_frame(self, at: int, words: str) -> None:
        facts = self.backend.facts
        assert facts is not None, "a frame is opened after loading"
        ids = self.backend.encode(words)
        if not 0 <= at <= facts.canvas_length - len(ids):
            raise Refused(f"{len(ids)} tokens do not fit at place {at} of {facts.canvas_length}")
        self.frame |= dict(enumerate(ids, start=at))

    def close(self) -> None:
        """Takes the canvas off the screen; its versions stay."""
        self.remove_class("open")

    # -- keys -------------------------------------------------------------------------------------------------------

    def _say(self, text: str, severity: Any = "information") -> None:
        self.app.notify(sanitize(text, newlines=False), severity=severity, markup=False)

    def _act(self, work: Callable[[Draft, Version], None]) -> None:
        """Does something to the draft; a refusal is a notice."""
        try:
            if self.draft is None:
                raise Refused("there is no draft yet", hint="send a message first")
            work(self.draft, self.draft.version)
        except (DgtuiError, BadJob) as refused:
            self._say(explain(refused) if isinstance(refused, DgtuiError) else str(refused), "warning")
        self.repaint()

    def _block(self) -> int:
        """The block that keys work on: the newest. Going back in time is for looking and forking."""
        if self.playhead is not None:
            raise Refused("this is an earlier step", hint="f forks here, } returns to the end")
        assert self.version is not None
        return self.version.block

    def _span(self) -> tuple[int, int]:
        """The selection, or the token under the cursor."""
        return self.canvas.selection or (self.canvas.cursor, self.canvas.cursor + 1)

    def action_pause(self) -> None:
        """Holds the run, or lets it go on."""

        def work(draft: Draft, version: Version) -> None:
            if not version.running:
                raise Refused("nothing is running")
            control = version.run.control
            if control.paused:
                control.resume()
            else:
                control.pause()

        self._act(work)

    def action_step(self) -> None:
        """One denoising step of a held run."""

        def work(draft: Draft, version: Version) -> None:
            if not (version.running and version.run.control.paused):
                raise Refused("the run is not paused", hint="space pauses it")
            version.run.control.step()

        self._act(work)

    def action_scrub(self, by: int) -> None:
        """Moves the playhead."""
        if self.version is None:
            return
        last = len(self.version.frames()) - 1
        now = last if self.playhead is None else self.playhead
        to = max(0, min(last, now + by))
        self.playhead = None if to >= last else to
        self.repaint()

    def action_scrub_to(self, end: str) -> None:
        """Moves the playhead to the first step or the last."""
        self.action_scrub(-(10**6) if end == "first" else 10**6)

    @on(Timeline.Picked)
    def _picked(self, message: Timeline.Picked) -> None:
        message.stop()
        self.playhead = message.step
        self.repaint()

    def action_rediffuse(self) -> None:
        """Writes the selection anew, everything else pinned."""

        def work(draft: Draft, version: Version) -> None:
            span = self._span()
            job = draft.rediffuse(self._block(), span, self.strength, self._seeds())
            again = version.kind == "re-diffuse" and version.span == span and not version.running
            self.run(draft, "re-diffuse", job, span=span, pins=version.pins, beside=again)

        self._act(work)

    def action_strength(self, by: float) -> None:
        """How much of the old text a re-diffusion renoises."""
        self.strength = max(0.1, min(1.0, round(self.strength + by, 1)))
        self._say(f"strength {self.strength:.0%}: {'from noise' if self.strength == 1 else 'keeps part of the text'}")
        self.repaint()

    def action_polish(self) -> None:
        """Renoises the least certain tokens."""

        def work(draft: Draft, version: Version) -> None:
            self._block()
            if self._shown_frame is None:
                raise Refused("there are no steps to judge by")
            stops = np.isin(self._shown_frame.ids, list(draft.facts.stop_ids))
            end = int(stops.argmax()) if stops.any() else len(stops)
            job, places = draft.polish(self._shown_frame, end, self._seeds())
            self.run(draft, "polish", job, span=(min(places), max(places) + 1), pins=version.pins)

        self._act(work)

    def action_gap(self, ask: bool = False) -> None:
        """Opens a gap at the cursor and fills it."""
        if ask:
            self._ask("tokens in the gap", self._gap_of)
        else:
            self._gap(None)

    def _gap_of(self, answer: str) -> None:
        if not (answer.isascii() and answer.isdigit() and int(answer) > 0):
            self._say("the length of a gap is a number of tokens, such as 8", "warning")
            return
        self._gap(int(answer))

    def _gap(self, length: int | None) -> None:
        def work(draft: Draft, version: Version) -> None:
            at, block = self.canvas.cursor, self._block()
            job = draft.gap(block, at, length, self._seeds())
            self.run(draft, "gap", job, span=(at, at))

        self._act(work)

    def action_type_here(self) -> None:
        """Asks for text that is pinned at the cursor."""
        self._ask(f"text from place {self.canvas.cursor}", self._typed)

    def _typed(self, text: str) -> None:
        at = self.canvas.cursor
        if self.draft is None:
            try:
                self._pin_frame(at, text)
            except Refused as refused:
                self._say(explain(refused), "warning")
            self.canvas.select(at, at + 1)
            self.repaint()
            return

        def work(draft: Draft, version: Version) -> None:
            block = self._block()
            before = version.ids(block)
            replaced = self.backend.pieces(before[at : at + 1].tolist())[0] if before is not None else b""
            words = " " + text if replaced.startswith(b" ") and not text.startswith(" ") else text
            ids = self.backend.encode(words)
            if at + len(ids) > draft.facts.canvas_length:
                raise Refused(f"{len(ids)} tokens do not fit behind place {at}")
            self._hold(draft, version, block, "type", dict(enumerate(ids, start=at)))

        self._act(work)

    def _hold(self, draft: Draft, version: Version, block: int, kind: Kind, tokens: dict[int, int]) -> None:
        """Pins tokens: at once in a run that goes on, else with a run in which the rest settles around them."""
        if version.running:
            for place, token in tokens.items():
                version.run.control.amend(Amendment(place, Action.PIN, token, version.candidate, block))
            version.pins[block] = draft.user_pins(block) | frozenset(tokens)
        else:
            job, pins = draft.settle(block, tokens, self._seeds())
            self.run(draft, kind, job, pins=version.pins | {block: pins})

    def action_pin(self) -> None:
        """Pins the selection, or frees it."""

        def work(draft: Draft, version: Version) -> None:
            block = self._block()
            places, pinned = draft.toggle_pins(block, self._span())
            ids = self._shown_frame.ids if self._shown_frame else version.ids(block)
            if version.running and ids is not None:
                action = Action.PIN if pinned else Action.UNPIN
                for place in places:
                    token = int(ids[place]) if pinned else None
                    version.run.control.amend(Amendment(place, action, token, version.candidate, block))
            words = "token" if len(places) == 1 else "tokens"
            self._say(f"{len(places)} {words} {'pinned' if pinned else 'unpinned'}")

        self._act(work)

    def action_alternatives(self) -> None:
        """Shows what else would fit under the cursor."""

        def work(draft: Draft, version: Version) -> None:
            self._block()
            frame, place = self._shown_frame, self.canvas.cursor
            if frame is None:
                raise Refused("there are no alternatives before the first step")
            ids = frame.top_ids[place].tolist()
            choices = list(zip(ids, self.backend.pieces(ids), frame.top_probs[place].tolist(), strict=True))
            held = int(frame.ids[place])
            names = dict.fromkeys(draft.facts.special_ids, "(markup)") | {draft.facts.turn_end_id: "(end)"}
            self.app.push_screen(Alternatives(place, choices, names=names, held=held), self._chosen)

        self._act(work)

    def _chosen(self, choice: tuple[int, int] | None) -> None:
        if choice is not None:
            place, token = choice
            self._act(lambda draft, version: self._hold(draft, version, self._block(), "pick", {place: token}))

    def action_fork(self) -> None:
        """Goes on from the step that is shown, under a new seed."""

        def work(draft: Draft, version: Version) -> None:
            frame = self._shown_frame
            if frame is None:
                raise Refused("there is no step to fork from yet")
            self.run(draft, "fork", draft.fork(frame.block, frame.step, self._seeds()), pins=version.pins)

        self._act(work)

    def action_proposal(self, by: int) -> None:
        """The next or previous proposal for the span."""

        def work(draft: Draft, version: Version) -> None:
            if not draft.turn(by):
                raise Refused("there is one proposal only", hint="r makes another")
            self._switched()

        self._act(work)

    def action_undo(self) -> None:
        """The version before."""

        def work(draft: Draft, version: Version) -> None:
            if not draft.undo():
                raise Refused("there is nothing to undo")
            self._switched()

        self._act(work)

    def action_redo(self) -> None:
        """The version that undo came from."""

        def work(draft: Draft, version: Version) -> None:
            if not draft.redo():
                raise Refused("there is nothing to redo")
            self._switched()

        self._act(work)

    def action_branches(self) -> None:
        """Lists all versions, to switch to one."""

        def work(draft: Draft, version: Version) -> None:
            from dgtui.tui.screens.versions import Versions

            rows = [(v.number, v is draft.current, self._describe(v)) for v in draft.versions]
            self.app.push_screen(Versions(rows), self._switch)

        self._act(work)

    def _describe(self, version: Version) -> str:
        assert self.draft is not None
        origin = f" of {version.parent.number}" if version.parent else ""
        words = " ".join(self.text(version).split())
        return f"{version.number}  {version.kind}{origin} · seed {version.run.job.seed} · {words}"

    def _switch(self, number: int | None) -> None:
        if number is not None and self.draft is not None:
            self.draft.current = self.draft.versions[number - 1]
            self._switched()
            self.repaint()

    def _switched(self) -> None:
        self.playhead = None
        if self.version:
            self.post_message(self.Changed(self.version))

    def action_copy(self) -> None:
        """Copies the selection, or the whole reply."""

        def work(draft: Draft, version: Version) -> None:
            selection, ids = self.canvas.selection, version.ids(self._block())
            if selection and ids is not None:
                text = decode_utf8(b"".join(self.backend.pieces(ids[slice(*selection)].tolist())))
            else:
                text = self.text(version)
            self.app.copy_to_clipboard(text)
            self._say(f"{len(text)} characters copied")

        self._act(work)

    def action_record(self) -> None:
        """Writes the run to a recording in the current folder."""

        def work(draft: Draft, version: Version) -> None:
            names: Iterator[Path] = (
                Path(f"dgtui-{version.run.job.seed}{suffix}.dgtui")
                for suffix in ("", *(f"-{n}" for n in range(2, 1000)))
            )
            self.save(next(name for name in names if not name.exists()))

        self._act(work)

    def save(self, path: Path) -> None:
        from dgtui.session import recording
        from dgtui.session.run_pack import occurring_ids

        assert self.draft is not None
        facts, run = self.draft.facts, self.draft.version.run
        ids = occurring_ids(run.log).tolist()
        recording.save(
            path,
            run.log,
            pieces=dict(zip(ids, self.backend.pieces(ids), strict=True)),
            special_ids=facts.special_ids,
            fingerprint=facts.fingerprint,
            model=facts.name,
            stepper=facts.stepper,
            device=facts.device,
            versions=facts.versions,
        )
        self._say(f"recorded to {path}")

    def action_accept(self) -> None:
        """Takes the draft as the reply."""
        if self.draft is None:
            self.post_message(self.Accepted())
            return
        if self.running:
            self._say("the run goes on: esc stops it", "warning")
            return
        self.post_message(self.Accepted())

    def action_stop(self) -> None:
        """Stops the run and keeps its draft; then goes back to the newest step; then discards the draft."""
        if self.version and self.version.running:
            self.version.run.control.cancel()
        elif self.playhead is not None:
            self.playhead = None
            self.repaint()
        else:
            self.post_message(self.Discarded())

    def text(self, version: Version) -> str:
        """A version's reply as text, thoughts left out."""
        assert self.draft is not None
        _, answer = self.backend.split_thought(version.reply_ids(self.draft.facts.stop_ids))
        return decode_utf8(b"".join(self.backend.pieces(answer)))

    # -- asking -----------------------------------------------------------------------------------------------------

    def _ask(self, what: str, answer: Callable[[str], None]) -> None:
        self._asking = answer
        line = self.query_one("#typing", Input)
        line.placeholder = f"{what}: enter pins or takes it, esc leaves"
        line.value = ""
        line.add_class("open")
        line.focus()

    @on(Input.Submitted, "#typing")
    def _answered(self, message: Input.Submitted) -> None:
        message.stop()
        answer, self._asking = self._asking, None
        self._stop_asking()
        if answer and message.value:
            answer(message.value)

    def _stop_asking(self) -> None:
        self.query_one("#typing", Input).remove_class("open")
        self.canvas.focus()

    def on_key(self, event: Any) -> None:
        """Esc leaves the question."""
        if event.key == "escape" and self.query_one("#typing", Input).has_focus:
            event.stop()
            event.prevent_default()
            self._stop_asking()


def _with_pins(view: View, pins: frozenset[int]) -> View:
    """The view with the places that a person pinned marked, and no others."""
    flags = view.flags & ~np.uint8(Flag.PINNED)
    flags[list(pins)] |= np.uint8(Flag.PINNED)
    return View(view.pieces, view.entropy, flags, view.settled, view.end)
