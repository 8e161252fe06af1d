"""The canvas panel under the keys of a person: everything that changes a reply.

Each action turns what is selected into a job or an amendment; what cannot be done is refused with a notice, and changes
nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial, wraps
from pathlib import Path
from typing import Any, ClassVar, Concatenate, ParamSpec

from textual import on
from textual.app import ComposeResult
from textual.events import Key
from textual.message import Message
from textual.widgets import Input

from dgtui.diffusion.events import Action
from dgtui.diffusion.job import Amendment, BadJob, Job
from dgtui.errors import DgtuiError
from dgtui.steering.drafts import Draft, Kind, Refused, Version
from dgtui.text import decode_utf8, sanitize
from dgtui.tui import keymap
from dgtui.tui.messages import explain
from dgtui.tui.widgets.alternatives import Alternatives
from dgtui.tui.widgets.canvas_panel import CanvasPanel
from dgtui.tui.widgets.timeline import Timeline

P = ParamSpec("P")


def _steers(
    action: Callable[Concatenate[Steering, Draft, Version, P], None],
) -> Callable[Concatenate[Steering, P], None]:
    """An action on the draft and its current version. A refusal becomes a notice."""

    @wraps(action)
    def act(self: Steering, /, *args: P.args, **kwargs: P.kwargs) -> None:
        try:
            if self.draft is None:
                raise Refused("there is no draft yet", hint="send a message first")
            action(self, self.draft, self.draft.version, *args, **kwargs)
        except (DgtuiError, BadJob) as refused:
            self.say(explain(refused), "warning")
        self.repaint()

    return act


def _tokens(count: int) -> str:
    return f"{count} token{'' if count == 1 else 's'}"


class Steering(CanvasPanel):
    """A canvas that can be steered."""

    DEFAULT_CSS = """
    Steering #asking { display: none; height: 1; border: none; padding: 0; }
    Steering #asking.open { display: block; }
    """
    BINDINGS: ClassVar[list[Any]] = keymap.bindings("steering")

    class Accepted(Message):
        """The draft is the reply."""

    class Discarded(Message):
        """The draft is not wanted."""

    _asked: Callable[[str], None] | None = None

    def compose(self) -> ComposeResult:
        yield from super().compose()
        yield Input(id="asking", compact=True)

    def _block(self) -> int:
        """The block that keys work on: the newest. Going back in time is for looking and forking."""
        if self.playhead is not None:
            raise Refused("this is an earlier step", hint="f forks here, } returns to the end")
        assert self.version is not None
        return self.version.block

    def _span(self) -> tuple[int, int]:
        """The selection, or the token under the cursor."""
        return self.canvas.selection or (self.canvas.cursor, self.canvas.cursor + 1)

    # -- the run ----------------------------------------------------------------------------------------------------

    @_steers
    def action_pause(self, draft: Draft, version: Version) -> None:
        """Holds the run, or lets it go on."""
        if not version.running:
            raise Refused("nothing is running")
        control = version.run.control
        if control.paused:
            control.resume()
        else:
            control.pause()

    @_steers
    def action_step(self, draft: Draft, version: Version) -> None:
        """One denoising step of a held run."""
        if not (version.running and version.run.control.paused):
            raise Refused("the run is not paused", hint="space pauses it")
        version.run.control.step()

    def action_stop(self) -> None:
        """Leaves a question; else stops the run and keeps its draft; then goes back to the newest step; then discards
        what was stopped, a change of the reply or the whole draft."""
        if self._asked:
            self._stop_asking()
        elif self.stop():
            pass
        elif self.playhead is not None:
            self.playhead = None
            self.repaint()
        elif self.stopped and self.draft and self.draft.discard():
            self._switched()
            self.repaint()
            self.say("discarded: U brings it back")
        else:
            self.post_message(self.Discarded())

    def action_accept(self) -> None:
        """Takes the draft as the reply."""
        if self.running:
            self.say("the run goes on: esc stops it", "warning")
        else:
            self.post_message(self.Accepted())

    @_steers
    def action_scrub(self, draft: Draft, version: Version, by: int) -> None:
        """Moves the playhead."""
        last = len(version.frames()) - 1
        to = max(0, (last if self.playhead is None else self.playhead) + by)
        self.playhead = None if to >= last else to

    def action_scrub_to(self, end: str) -> None:
        """Moves the playhead to the first step or the last."""
        self.playhead = 0 if end == "first" and self.version and len(self.version.frames()) > 1 else None
        self.repaint()

    @on(Timeline.Picked)
    def _picked(self, message: Timeline.Picked) -> None:
        message.stop()
        self.playhead = message.step
        self.repaint()

    @_steers
    def action_fork(self, draft: Draft, version: Version) -> None:
        """Goes on from the step that is shown, under a new seed."""
        frame = self.shown_frame
        if frame is None:
            raise Refused("there is no step to fork from yet")
        self.run(draft, "fork", draft.fork(frame.block, frame.step, self.seeds()), pins=version.pins)

    # -- a span -----------------------------------------------------------------------------------------------------

    @_steers
    def action_rediffuse(self, draft: Draft, version: Version) -> None:
        """Writes the selection anew, everything else pinned."""
        span = self._span()
        job = draft.rediffuse(self._block(), span, self.strength, self.seeds())
        again = version.kind == "re-diffuse" and version.span == span and not version.running
        self.run(draft, "re-diffuse", job, span=span, pins=version.pins, beside=again)

    def action_strength(self, by: float) -> None:
        """How much of the old text a re-diffusion renoises."""
        self.strength = max(0.1, min(1.0, round(self.strength + by, 1)))
        self.say(f"strength {self.strength:.0%}: {'from noise' if self.strength == 1 else 'keeps part of the text'}")
        self.repaint()

    @_steers
    def action_polish(self, draft: Draft, version: Version) -> None:
        """Renoises the least certain tokens."""
        import numpy as np

        self._block()
        if self.shown_frame is None:
            raise Refused("there are no steps to judge by")
        stops = np.isin(self.shown_frame.ids, list(draft.facts.model.stop_ids))
        end = int(stops.argmax()) if stops.any() else len(stops)
        job, places = draft.polish(self.shown_frame, end, self.seeds())
        self.run(draft, "polish", job, span=(min(places), max(places) + 1), pins=version.pins)

    def action_gap(self, ask: bool = False) -> None:
        """Opens a gap at the cursor and fills it."""
        if ask:
            self._ask_here("tokens in the gap", self._gap_of)
        else:
            self._gap(None)

    def _gap_of(self, answer: str) -> None:
        if answer.isascii() and answer.isdigit() and int(answer) > 0:
            self._gap(int(answer))
        else:
            self.say("the length of a gap is a number of tokens, such as 8", "warning")

    @_steers
    def _gap(self, draft: Draft, version: Version, length: int | None) -> None:
        at = self.canvas.cursor
        job = draft.gap(self._block(), at, length, self.seeds())
        self.run(draft, "gap", job, span=(at, at), pins=draft.pins_around(job, at, 0, version.pins))

    @_steers
    def action_proposal(self, draft: Draft, version: Version, by: int) -> None:
        """The next or previous proposal for the span."""
        if not draft.cycle(by):
            raise Refused("there is one proposal only", hint="r makes another")
        self._switched(version)

    # -- tokens -----------------------------------------------------------------------------------------------------

    def action_pin(self) -> None:
        """Pins the selection, or frees it; on a frame only what was typed can be freed."""
        if self.draft or not self.frame:
            self._pin()
            return
        freed = [self.frame.pop(place) for place in range(*self._span()) if place in self.frame]
        self.repaint()
        if freed:
            self.say(f"{_tokens(len(freed))} unpinned")
        else:
            self.say("nothing is pinned here: t types text at the cursor", "warning")

    @_steers
    def _pin(self, draft: Draft, version: Version) -> None:
        block = self._block()
        places, pinned = draft.toggle_pins(block, self._span())
        if version.running and self.shown_frame is not None:
            for place in places:
                token = int(self.shown_frame.ids[place]) if pinned else None
                action = Action.PIN if pinned else Action.UNPIN
                version.run.control.amend(Amendment(place, action, token, version.candidate, block))
        self.say(f"{_tokens(len(places))} {'pinned' if pinned else 'unpinned'}")

    @_steers
    def action_alternatives(self, draft: Draft, version: Version) -> None:
        """Shows what else would fit under the cursor."""
        block = self._block()
        frame, place = self.shown_frame, self.canvas.cursor
        if frame is None:
            raise Refused("there are no alternatives before the first step")
        ids = frame.top_ids[place].tolist()
        choices = list(zip(ids, self.backend.pieces(ids), frame.top_probs[place].tolist(), strict=True))
        names = dict.fromkeys(draft.facts.model.special_ids, "(markup)") | {draft.facts.model.turn_end_id: "(end)"}
        held, at = int(frame.ids[place]), self.canvas.cursor_cell
        self.app.push_screen(Alternatives(place, choices, at, names=names, held=held), partial(self._chosen, block))

    def _chosen(self, block: int, choice: tuple[int, int] | None) -> None:
        if choice is not None:
            place, token = choice
            self._in_block(block, lambda: self._hold("pick", {place: token}))

    @_steers
    def _in_block(self, draft: Draft, version: Version, block: int, action: Callable[[], None]) -> None:
        """Does what was asked for in a block, if a run has not left it meanwhile."""
        if self._block() != block:
            raise Refused("the reply has gone on to another block", hint="space pauses it")
        action()

    def action_type_here(self) -> None:
        """Asks for text that is pinned at the cursor."""
        what = f"text from place {self.canvas.cursor}"
        if self.draft:
            self._ask_here(what, self._typed)
        else:
            self._ask(what, self._typed_on_frame)

    def _typed_on_frame(self, text: str) -> None:
        try:
            self.pin_frame(self.canvas.cursor, text)
        except Refused as refused:
            self.say(explain(refused), "warning")
        self.repaint()

    @_steers
    def _typed(self, draft: Draft, version: Version, text: str) -> None:
        at, before = self.canvas.cursor, version.ids(self._block())
        replaced = self.backend.pieces(before[at : at + 1].tolist())[0] if before is not None else b""
        ids = self.backend.encode(" " + text if replaced.startswith(b" ") and not text.startswith(" ") else text)
        if at + len(ids) > draft.facts.model.canvas_length:
            raise Refused(f"{len(ids)} tokens do not fit behind place {at}")
        self._hold("type", dict(enumerate(ids, start=at)))

    @_steers
    def _hold(self, draft: Draft, version: Version, kind: Kind, tokens: dict[int, int]) -> None:
        """Pins tokens: at once in a run that goes on, else with a run in which the rest settles around them."""
        block = self._block()
        if version.running:
            for place, token in tokens.items():
                version.run.control.amend(Amendment(place, Action.PIN, token, version.candidate, block))
            version.pins[block] = draft.user_pins(block) | frozenset(tokens)
            self.say(f"{_tokens(len(tokens))} pinned from the next step on")
        else:
            job, pins = draft.settle(block, tokens, self.seeds())
            self.run(draft, kind, job, pins=version.pins | {block: pins})

    # -- versions ---------------------------------------------------------------------------------------------------

    @_steers
    def action_undo(self, draft: Draft, version: Version) -> None:
        """The version before."""
        if not draft.undo():
            raise Refused("there is nothing to undo")
        self._switched(version)

    @_steers
    def action_redo(self, draft: Draft, version: Version) -> None:
        """The version that undo came from."""
        if not draft.redo():
            raise Refused("there is nothing to redo")
        self._switched(version)

    @_steers
    def action_branches(self, draft: Draft, version: Version) -> None:
        """Lists all versions, to switch to one."""
        from dgtui.tui.screens.versions import Versions

        def describe(v: Version) -> str:
            origin = f" of {v.parent.number}" if v.parent else ""
            return f"{v.number}  {v.kind}{origin} · seed {v.run.job.seed} · {' '.join(self.text(v).split())}"

        rows = [(v.number, v is draft.current, describe(v)) for v in draft.versions]
        self.app.push_screen(Versions(rows), self._switch)

    def _switch(self, number: int | None) -> None:
        if number is not None and self.draft is not None:
            before = self.version
            self.draft.current = self.draft.versions[number - 1]
            self._switched(before)
            self.repaint()

    def _switched(self, before: Version | None = None) -> None:
        """Another version is shown now. A run that nobody watches any more is stopped; what it wrote is kept."""
        self.playhead = None
        if before and before.running and self.version and self.version.run is not before.run:
            before.run.control.cancel()
        if self.version:
            self.post_message(self.Changed(self.version))

    # -- out of here ------------------------------------------------------------------------------------------------

    @_steers
    def action_copy(self, draft: Draft, version: Version) -> None:
        """Copies the selection, or the whole reply."""
        selection, ids = self.canvas.selection, version.ids(self._block())
        if selection and ids is not None:
            text = decode_utf8(b"".join(self.backend.pieces(ids[slice(*selection)].tolist())))
        else:
            text = self.text(version)
        self.app.copy_to_clipboard(text)
        self.say(f"{len(text)} characters copied")

    @_steers
    def action_record(self, draft: Draft, version: Version) -> None:
        """Writes the run to a recording in the current folder."""
        seed = version.run.job.seed
        names = (Path(f"dgtui-{seed}{suffix}.dgtui") for suffix in ("", *(f"-{n}" for n in range(2, 1000))))
        self.save(next(name for name in names if not name.exists()))

    # -- asking -----------------------------------------------------------------------------------------------------

    @_steers
    def _ask_here(self, draft: Draft, version: Version, what: str, answer: Callable[[str], None]) -> None:
        """Asks about the newest step; of an earlier one nothing need be answered."""
        block = self._block()
        self._ask(what, lambda text: self._in_block(block, lambda: answer(text)))

    def _ask(self, what: str, answer: Callable[[str], None]) -> None:
        self._asked = answer
        line = self.query_one("#asking", Input)
        line.placeholder = f"{what}: enter takes it, esc leaves"
        line.value = ""
        line.add_class("open")
        self.canvas.pointing = True
        line.focus()

    @on(Input.Changed, "#asking")
    def _cleaned(self, message: Input.Changed) -> None:
        """An input shows what was pasted as it is, escape bytes too."""
        clean = sanitize(message.value, newlines=False, tabs="replace")
        if clean != message.value:
            message.input.value = clean

    @on(Input.Submitted, "#asking")
    def _answered(self, message: Input.Submitted) -> None:
        message.stop()
        answer = self._asked
        self._stop_asking()
        if answer and message.value:
            answer(message.value)

    def _stop_asking(self) -> None:
        self._close_question()
        self.canvas.focus()

    def _close_question(self) -> None:
        self._asked = None
        self.query_one("#asking", Input).remove_class("open")
        self.canvas.pointing = False

    def start(self, draft: Draft, job: Job, pins: Mapping[int, frozenset[int]] | None = None) -> Version:
        self._close_question()  # it was about what was there before
        return super().start(draft, job, pins)

    def close(self) -> None:
        self._close_question()
        super().close()

    def on_key(self, event: Key) -> None:
        """Esc leaves the question."""
        if event.key == "escape" and self.query_one("#asking", Input).has_focus:
            event.stop()
            event.prevent_default()
            self._stop_asking()
