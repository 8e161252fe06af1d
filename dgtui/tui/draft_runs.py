"""The draft of a reply that the user steers: its runs and its versions. Independent of the screen.

An impossible action raises `Refused` and changes nothing. A text that a method returns is a notice for the user.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Protocol

from dgtui.backend import Backend, RunHandle
from dgtui.diffusion.events import Frame
from dgtui.diffusion.job import Job
from dgtui.steering.drafts import Draft, Kind, Refused, Version
from dgtui.steering.lengths import LengthSearch
from dgtui.steering.search import Search
from dgtui.text import decode_utf8
from dgtui.tui.fixed import refusal, refuse_fixed
from dgtui.tui.inquiry import Inquiry
from dgtui.tui.share import record
from dgtui.tui.stored_run import StoredRun
from dgtui.tui.version_tree import version_tree

Pins = Mapping[int, frozenset[int]]
"""Pinned positions by block."""
Span = tuple[int, int]
"""Positions of a canvas, the end exclusive."""


_LOOKING = (
    "scrub",
    "scrub_to",
    "stop",
    "accept",
    "copy",
    "alternatives",
    "doubts",
    "pace",
    "xray",
    "share",
    "screen.preview",
)


class Pointer(Protocol):
    """The user's cursor and selection on the canvas."""

    @property
    def cursor(self) -> int: ...
    @property
    def selection(self) -> Span | None: ...


class DraftRuns:
    """Holds at most one draft, and which of its versions and steps is shown.

    Args:
        pointer: The user's cursor and selection.
        submit: Submits a job to the model. Call `ended` after the run.
        switched: Called after another version has become current.
        seeds: Draws the seed of each new run.
    """

    def __init__(
        self,
        backend: Backend,
        pointer: Callable[[], Pointer],
        submit: Callable[[Job], RunHandle],
        switched: Callable[[], None],
        seeds: Callable[[], int],
    ) -> None:
        self._backend, self._pointer, self._submit, self._switched = backend, pointer, submit, switched
        self._seeds = seeds
        self.inquiry = Inquiry(submit)
        "what is asked about the finished text"
        self.draft: Draft | None = None
        self.past: int | None = None
        "the position of the earlier reply: its steps can only be viewed, because later turns depend on its text"
        self.strength = 1.0
        "the share of the old text that a re-diffusion renoises"
        self.playhead: int | None = None
        "index of the frame that is shown; None: the newest"
        self.frame: Frame | None = None
        "the frame that is shown; None if there is none yet"

    @property
    def version(self) -> Version | None:
        """The current version."""
        return self.draft.current if self.draft else None

    @property
    def running(self) -> bool:
        """Whether the run of the current version has not ended."""
        return bool(self.version and self.version.running)

    @property
    def searching(self) -> bool:
        """Whether the length of a gap in the current version is being searched."""
        return bool(self.version and self.version.search)

    @property
    def stopping(self) -> bool:
        """Whether the run of the current version was asked to stop but has not ended."""
        version = self.version
        return bool(version and version.running and version.run.control.cancelled)

    @property
    def stopped(self) -> bool:
        """Whether the user stopped the run of the current version."""
        return bool(self.version and (ended := self.version.run.log.finished) and ended.reason == "cancelled")

    @property
    def block(self) -> int:
        """The block that changes apply to: the newest. Earlier steps can only be viewed and forked."""
        if self.playhead is not None:
            raise Refused("this is an earlier step", hint="press f to fork here, } to return to the newest step")
        return self._now()[1].block

    @property
    def _span(self) -> Span:
        """The selection, or the token under the cursor."""
        pointer = self._pointer()
        return pointer.selection or (pointer.cursor, pointer.cursor + 1)

    def refuse_while_searching(self) -> None:
        """Raises `Refused` while lengths of a gap are tried, because each has its text at other positions."""
        refuse_fixed(self._backend)
        if self.searching:
            raise Refused(
                "the length of the gap is still being searched", hint="press t to type words that every length keeps"
            )

    def refuse_past(self) -> None:
        """Raises `Refused` for an earlier reply."""
        if self.past is not None:
            raise Refused("this is an earlier reply: its steps can be viewed but not changed")

    def _now(self) -> tuple[Draft, Version]:
        if self.draft is None:
            raise Refused("there is no draft yet", hint="send a message first")
        return self.draft, self.draft.version

    def _frame(self, refusal: str) -> Frame:
        self._now()
        if self.frame is None:
            raise Refused(refusal)
        return self.frame

    def can(self, action: str) -> bool:
        """Whether an action of the canvas panel has an effect now."""
        draft, version = self.draft, self.version
        if draft is None or version is None:  # on a template
            return action in ("pin", "type_here", "stop", "accept")
        if self.past is not None and action not in _LOOKING:
            return False
        checks: dict[str, Callable[[], object]] = {
            **dict.fromkeys(("scrub", "scrub_to", "fork", "record", "share"), version.frames),
            "alternatives": lambda: version.frames() or not version.running,
            **dict.fromkeys(("polish", "doubts"), lambda: not version.running),
            "pause": lambda: version.running,
            "step": lambda: version.running and version.run.control.paused,
            "accept": lambda: not version.running,
            "undo": lambda: version.parent,
            "redo": lambda: version.left,
            "proposal": lambda: len(draft.proposals()) > 1,
            "branches": lambda: len(draft.versions) > 1,
        }
        return not refusal(self._backend, action) and bool(checks.get(action, lambda: True)())

    @property
    def phase(self) -> tuple[object, ...]:
        """The state that `can` depends on: the keys are redrawn when it changes."""
        version = self.version
        paused = version is not None and version.run.control.paused
        versions, back = self.draft and len(self.draft.versions), self.playhead is None
        return version, self.frame is None, self.running, self.inquiry.running, paused, versions, back

    def label_of(self, action: str, label: str) -> str:
        """The current label of an action."""
        if action == "stop" and self.version and not (self.running or self.inquiry.running):
            return "back" if self.playhead is not None else "discard" if self.stopped else "leave"
        return "resume" if action == "pause" and self.version and self.version.run.control.paused else label

    def states(self) -> list[str]:
        """Remarks about the current state, in words."""
        _, version = self._now()
        states = {
            f"strength {self.strength:.0%}": self.strength < 1,
            "looking back": self.playhead is not None,
            "paused": version.running and version.run.control.paused,
            "stopping": self.stopping,
            "asking the model": self.inquiry.running,
            self._doubts(): self.shows_doubts,
            "unlikely: the model has not seen such text": version.unlikely,
            version.kind: version.kind not in ("reply", "between", "pin"),
            refusal(self._backend): True,
        }
        return [state for state, holds in states.items() if state and holds]

    @property
    def shows_doubts(self) -> bool:
        """The canvas shows what the model doubts."""
        return self.inquiry.shown and not self.running and self.playhead is None

    def _doubts(self) -> str:
        draft, version = self._now()
        return self.inquiry.doubts(draft, version.block) if self.shows_doubts else ""

    def text(self, version: Version) -> str:
        """A version's reply as text, without its thought."""
        _, answer = self._backend.split_thought(version.reply_ids(self._now()[0].facts.model.stop_ids))
        return decode_utf8(b"".join(self._backend.pieces(answer)))

    def selected_text(self) -> str:
        """The text of the selection, or the whole reply."""
        version, block, selection = self._now()[1], self.block, self._pointer().selection
        ids = version.ids(block)
        if selection is None or ids is None:
            return self.text(version)
        return decode_utf8(b"".join(self._backend.pieces(ids[slice(*selection)].tolist())))

    # -- runs -------------------------------------------------------------------------------------------------------

    def run(
        self, kind: Kind, job: Job, *, span: Span | None = None, pins: Pins | None = None, beside: bool = False
    ) -> Version:
        """Submits a job, stops the run before it, and makes the new run the current version."""
        self.refuse_past()
        draft = self.draft
        assert draft is not None
        if kind != "reply":
            refuse_fixed(self._backend)
        self.stop()
        self.playhead, self.inquiry.shown = None, False
        return draft.add(kind, self._submit(job), span=span, pins=pins, beside=beside)

    def search(self, kind: Kind, plan: LengthSearch, at: int = 0, *, beside: bool = False) -> Version:
        """Starts a search that fills gaps, stops the run before it, and makes the search the current version."""
        self.refuse_past()
        draft = self.draft
        assert draft is not None
        refuse_fixed(self._backend)
        self.stop()
        self.playhead, self.inquiry.shown = None, False
        search = Search(plan, self._submit)
        search.start()
        return draft.add_search(kind, search, at, beside=beside)

    def stop(self) -> bool:
        """Stops the run and keeps its draft, or stops asking the model. False if nothing runs."""
        if self.inquiry.stop():
            return True
        if (version := self.version) is None or not version.running:
            return False
        version.stop()
        return True

    def follow(self) -> None:
        """While lengths are tried, shows the best candidate so far."""
        if self.draft is not None and self.searching:
            self.draft.follow(self.draft.version)

    def ended(self, run: RunHandle) -> str | None:
        """Processes a run that has ended. A failed one is removed, and with it the draft if nothing else is left."""
        draft, version = self._now()
        if run.ended.exception():
            draft.remove(run)
            if draft.current is None:
                self.draft = None
            return None
        for searching in draft.versions[:]:
            if searching.run is run and searching.search is not None:
                draft.advance(searching)
        if version.run is run and version.kind == "re-diffuse" and not self.stopped and draft.unchanged(version):
            return "the same words again: press e for something else"
        return None

    def pause(self) -> None:
        """Pauses the run, or resumes it."""
        _, version = self._now()
        if not version.running:
            raise Refused("nothing is running")
        control = version.run.control
        (control.resume if control.paused else control.pause)()

    def step(self) -> None:
        """Takes one denoising step of a paused run."""
        _, version = self._now()
        if not (version.running and version.run.control.paused):
            raise Refused("the run is not paused", hint="press space to pause it")
        version.run.control.step()

    def scrub(self, by: int) -> None:
        """Moves the playhead by steps."""
        last = len(self._now()[1].frames()) - 1
        self.scrub_to((last if self.playhead is None else self.playhead) + by)

    def scrub_to(self, step: int | None) -> None:
        """Moves the playhead to a step, from 0; to the newest for None or a step that was not taken."""
        last = len(self._now()[1].frames()) - 1
        self.playhead = None if step is None or step >= last else max(0, step)

    def fork(self) -> None:
        """Continues from the shown step with a new seed."""
        draft, version = self._now()
        frame = self._frame("there is no step to fork from yet")
        if isinstance(version.run, StoredRun):
            raise Refused("a stored reply does not have the data for a fork", hint="press R to write it again")
        self.run("fork", draft.fork(frame.block, frame.step, self._seeds()), pins=version.pins)

    def record(self, path: Path | None = None) -> str:
        """Writes the run to a recording; without a path, to a new one in the current folder."""
        draft, version = self._now()
        if not version.frames() or isinstance(version.run, StoredRun):
            raise Refused("there are no steps to record", hint="a stored reply does not have the data for a recording")
        if path is None:
            name = f"dgtui-{version.run.job.seed}"
            paths = (Path(f"{name}{suffix}.dgtui") for suffix in ("", *(f"-{n}" for n in range(2, 1000))))
            path = next(path for path in paths if not path.exists())
        record(path, version.run, draft.facts, self._backend)
        return f"recorded to {path}"

    # -- versions ---------------------------------------------------------------------------------------------------

    def undo(self) -> None:
        """Goes to the previous version."""
        self._switch(Draft.undo, "there is nothing to undo")

    def redo(self) -> None:
        """Goes to the version that undo came from."""
        self._switch(Draft.redo, "there is nothing to redo")

    def cycle(self, by: int) -> None:
        """Goes to the next or previous proposal for the span."""
        self._switch(lambda draft: draft.cycle(by), "there is only one proposal", "press r for another")

    def go_to(self, number: int | None) -> None:
        """Goes to a version by its number, from 1; does nothing for None."""
        if number is not None:
            self._switch(lambda draft: draft.go_to(number))

    def discard(self) -> bool:
        """Goes back to the version that the current version's run was made from; False for a first run."""
        if self.draft is None or not self.draft.discard():
            return False
        self._switched()
        return True

    def _switch(self, switch: Callable[[Draft], bool], refusal: str = "", hint: str = "") -> None:
        """Makes another version current. A run that is no longer shown is stopped; its text is kept."""
        draft, before = self._now()
        if not switch(draft):
            raise Refused(refusal, hint=hint)
        self.playhead = None
        if before.running and draft.version.run is not before.run:
            before.stop()
        self._switched()

    def described(self) -> Iterator[tuple[int, bool, str]]:
        """For each version: its number, whether it is current, and a line that describes it."""
        return version_tree(self._now()[0], self.text)
