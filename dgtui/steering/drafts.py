"""What steering makes of a reply: a tree of versions, each a run and what is pinned in it, none of them ever lost.

Steering asks for a job here (plain data, for the worker) and adds its run as a new version below the current one; undo
goes to the parent, redo to the child that was left.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from dgtui.backend import Facts, RunHandle
from dgtui.diffusion.events import Action, BlockFinished, BlockStarted, Frame, Ids
from dgtui.diffusion.image import Image
from dgtui.diffusion.job import Amendment, Job, SamplerSettings, Start
from dgtui.errors import DgtuiError
from dgtui.steering.lengths import candidate_lengths, gap_room, gap_starts

Kind = Literal["reply", "fork", "re-diffuse", "polish", "gap", "pick", "type", "pin"]

POLISHED_SHARE = 0.15
"the part of a reply's free tokens, least certain first, that polishing renoises"
SURE = 0.01
"nats under which a token is left alone by polishing"
SETTLING_STRENGTH = 0.5
"what is renoised around a token that was chosen or typed"
GAP_CANDIDATES = 6
LONGEST_GAP = 24
"tokens that are tried where no length is given"


class Refused(DgtuiError):
    """Something that cannot be done to this canvas now; the message says why."""


@dataclass(slots=True, eq=False)
class Version:
    """A state of the reply. `pins` are the places that a person pinned, by block."""

    number: int
    kind: Kind
    run: RunHandle
    parent: Version | None = None
    candidate: int = 0
    span: tuple[int, int] | None = None
    "the places that were given free, for proposals"
    pins: dict[int, frozenset[int]] = field(default_factory=dict)
    left: Version | None = None
    "the child that undo came from"

    @property
    def running(self) -> bool:
        """Its run has not ended."""
        return not self.run.ended.done()

    @property
    def block(self) -> int:
        """The newest block."""
        newest = len(self.run.job.blocks)
        for event in self.run.log:
            if isinstance(event, BlockStarted):
                newest = event.block
        return newest

    def ids(self, block: int) -> Ids | None:
        """The canvas of a block as it stands, or None before its first step."""
        import numpy as np

        before = self.run.job.blocks
        if block < len(before):
            return np.asarray(before[block], dtype=np.int32)
        found: Ids | None = None
        for event in self.run.log:
            if isinstance(event, (Frame, BlockFinished)) and (event.block, event.candidate) == (block, self.candidate):
                found = event.ids
        return found

    def frames(self) -> list[Frame]:
        """All frames of its candidate, block after block: what the timeline shows."""
        return self.run.log.frames(candidate=self.candidate)

    def reply_ids(self, stop_ids: frozenset[int]) -> tuple[int, ...]:
        """The reply as it stands, up to and without the first stop id."""
        ids: list[int] = []
        for block in range(self.block + 1):
            canvas = self.ids(block)
            ids += canvas.tolist() if canvas is not None else []
        stops = (at for at, token in enumerate(ids) if token in stop_ids)
        return tuple(ids[: min(next(stops, len(ids)), self.run.job.max_tokens)])


class Draft:
    """The versions of one reply, and the jobs that make more of them."""

    def __init__(self, facts: Facts, settings: SamplerSettings) -> None:
        self.facts, self.settings = facts, settings
        self.versions: list[Version] = []
        self.current: Version | None = None
        self._ids = itertools.count(1)

    @property
    def version(self) -> Version:
        """The current version. Raises `Refused` before the first run."""
        if self.current is None:
            raise Refused("there is no draft yet", hint="send a message first")
        return self.current

    def job_id(self) -> str:
        """A name for the next job."""
        return f"run-{next(self._ids)}"

    def add(
        self,
        kind: Kind,
        run: RunHandle,
        *,
        candidate: int = 0,
        span: tuple[int, int] | None = None,
        pins: Mapping[int, frozenset[int]] | None = None,
        beside: bool = False,
    ) -> Version:
        """A new version below the current one, or `beside` it as another proposal; current from now on."""
        parent = self.current.parent if beside and self.current else self.current
        version = Version(len(self.versions) + 1, kind, run, parent, candidate, span, dict(pins or {}))
        self.versions.append(version)
        self.current = version
        return version

    def remove(self, run: RunHandle) -> None:
        """Takes a run that failed out of the tree; what it came from is current again."""
        failed = [v for v in self.versions if v.run is run]
        for version in failed:
            if self.current is version:
                self.current = version.parent
            if version.parent and version.parent.left is version:
                version.parent.left = None

    def undo(self) -> bool:
        """Goes back to what the current version was made from."""
        if self.current is None or self.current.parent is None:
            return False
        self.current.parent.left = self.current
        self.current = self.current.parent
        return True

    def redo(self) -> bool:
        """Goes to the version that undo came from."""
        if self.current is None or self.current.left is None:
            return False
        self.current = self.current.left
        return True

    def discard(self) -> bool:
        """Goes back to what the current version's run was made from; False for a first run."""
        now = self.current
        while now and self.current and self.current.run is now.run:
            if not self.undo():
                self.current = now
                return False
        return True

    def proposals(self) -> list[Version]:
        """The versions for the same span of the same parent, in order; the current one is among them."""
        now = self.current
        if now is None or now.span is None:
            return []
        return [v for v in self.versions if v.parent is now.parent and v.kind == now.kind and v.span is not None]

    def cycle(self, by: int) -> bool:
        """Goes to the next or previous proposal, round and round."""
        proposals = self.proposals()
        if len(proposals) < 2 or self.current is None:
            return False
        self.current = proposals[(proposals.index(self.current) + by) % len(proposals)]
        return True

    def go_to(self, number: int) -> bool:
        """Goes to a version by its number, from 1."""
        self.current = self.versions[number - 1]
        return True

    # -- by hand ----------------------------------------------------------------------------------------------------

    def user_pins(self, block: int) -> frozenset[int]:
        """What a person pinned in a block of the current version."""
        return self.version.pins.get(block, frozenset())

    def toggle_pins(self, block: int, span: tuple[int, int]) -> tuple[frozenset[int], bool]:
        """Pins a span, or frees it where all of it is pinned: the places, and whether they are pinned now.

        While the run goes on, the caller amends it; afterwards this is a version of its own, to be undone.
        """
        version, places = self.version, frozenset(range(*span))
        held = self.user_pins(block)
        pinning = not places <= held
        after = held | places if pinning else held - places
        if version.running:
            version.pins[block] = after
        else:
            self.add("pin", version.run, candidate=version.candidate, pins=version.pins | {block: after})
        return places, pinning

    # -- jobs -------------------------------------------------------------------------------------------------------

    def first(
        self,
        prompt_ids: Sequence[int],
        seed: int,
        max_tokens: int,
        frame: Mapping[int, int],
        images: Sequence[Image] = (),
    ) -> Job:
        """The reply's first run; `frame` maps places to tokens that are pinned before it."""
        start = Start()
        if frame:
            length = self.facts.model.canvas_length
            ids = tuple(frame.get(place, self.facts.model.fill_id) for place in range(length))
            start = Start(ids, frozenset(frame))
        return Job(self.job_id(), tuple(prompt_ids), seed, max_tokens, self.settings, (start,), images=tuple(images))

    def _from(self, block: int, seed: int) -> Job:
        """A job that goes on from the blocks before `block` as they stand."""
        version = self.version
        before = [version.ids(b) for b in range(block)]
        return replace(
            version.run.job,
            id=self.job_id(),
            seed=seed,
            settings=self.settings,
            blocks=tuple(tuple(ids.tolist()) for ids in before if ids is not None),
            starts=(Start(),),
            fork=None,
        )

    def _canvas(self, block: int) -> Ids:
        ids = self.version.ids(block)
        if ids is None:
            raise Refused("this block has no text yet", hint="wait for its first step")
        return ids

    def free_only(self, block: int, free: frozenset[int], strength: float, seed: int) -> Job:
        """Renoises `free` places of a block, less what is pinned, and holds everything else."""
        ids = self._canvas(block)
        free -= self.user_pins(block)
        if not free:
            raise Refused("everything selected is pinned", hint="p unpins the selection")
        pinned = frozenset(range(len(ids))) - free
        return replace(self._from(block, seed), starts=(Start(tuple(ids.tolist()), pinned, strength),))

    def rediffuse(self, block: int, span: tuple[int, int], strength: float, seed: int) -> Job:
        """Writes a span anew, everything else pinned."""
        return self.free_only(block, frozenset(range(*span)), strength, seed)

    def polish(self, frame: Frame, end: int, seed: int) -> tuple[Job, frozenset[int]]:
        """Renoises the least certain free tokens before `end`; the job and the places."""
        free = [place for place in range(end) if place not in self.user_pins(frame.block)]
        unsure = sorted(
            (place for place in free if frame.entropy[place] > SURE), key=lambda p: (-float(frame.entropy[p]), p)
        )
        if not unsure:
            raise Refused("every token is certain: there is nothing to polish")
        places = frozenset(unsure[: max(1, round(POLISHED_SHARE * len(free)))])
        return self.free_only(frame.block, places, 1.0, seed), places

    def settle(self, block: int, tokens: Mapping[int, int], seed: int) -> tuple[Job, frozenset[int]]:
        """Pins tokens at places (chosen or typed) and lets what is free settle around them; the job and all pins."""
        ids = self._canvas(block).copy()
        for place, token in tokens.items():
            ids[place] = token
        pinned = self.user_pins(block) | frozenset(tokens)
        start = Start(tuple(ids.tolist()), pinned, SETTLING_STRENGTH)
        return replace(self._from(block, seed), starts=(start,)), pinned

    def gap(self, block: int, at: int, length: int | None, seed: int) -> Job:
        """Opens a gap before place `at` and fills it; without a length, several are tried at once."""
        ids = self._canvas(block).tolist()
        fill, stops = self.facts.model.fill_id, self.facts.model.stop_ids
        room = gap_room(ids, at, 0, fill, stops)
        lengths = (length,) if length else candidate_lengths(None, min(room, LONGEST_GAP), GAP_CANDIDATES)
        starts = gap_starts(ids, at, 0, lengths, fill, stops)
        return replace(self._from(block, seed), starts=starts, likelihood=len(starts) > 1)

    def pins_around(
        self, job: Job, at: int, candidate: int, pins: Mapping[int, frozenset[int]]
    ) -> dict[int, frozenset[int]]:
        """What a person had pinned before a gap was opened at place `at`; what stood behind it has moved on."""
        block, canvas = len(job.blocks), self.facts.model.canvas_length
        length = canvas - len(job.starts[candidate].pinned)
        moved = (place + length if place >= at else place for place in pins.get(block, ()))
        return {**pins, block: frozenset(place for place in moved if place < canvas)}

    def fork(self, block: int, step: int, seed: int) -> Job:
        """Goes on from a step of the current version's run under a new seed, with what a person pinned held from there
        on."""
        version, log, ids = self.version, self.version.run.log, self._canvas(block)
        whole = log.finished is not None and log.finished.reason != "cancelled"
        if whole and block == version.block and step == len(log.frames(block, version.candidate)):
            raise Refused("nothing is left to write from this step on", hint="[ goes back to one before")
        pins = {place: int(ids[place]) for place in sorted(self.user_pins(block))}
        if version.run.job.candidates == 1:
            job = log.fork(block, step, self.job_id(), seed)
            assert job.fork is not None
            held = tuple((step, Amendment(place, Action.PIN, token)) for place, token in pins.items())
            return replace(job, fork=replace(job.fork, amendments=(*job.fork.amendments, *held)))
        job = log.fork_from_canvas(block, step, self.job_id(), seed, version.candidate)
        (start,) = job.starts
        held_ids = tuple(pins.get(place, token) for place, token in enumerate(start.ids or ()))
        return replace(job, starts=(replace(start, ids=held_ids, pinned=start.pinned | pins.keys()),))
