"""The versions of a reply: a tree in which each node is a run with its pins. No version is ever lost.

A `Draft` creates the job for each change of the reply (plain data, for the worker). The job's run becomes a new version
below the current one. Undo goes to the parent, redo back to the child.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace

from dgtui.backend import Facts, RunHandle
from dgtui.diffusion.events import Action, Ids
from dgtui.diffusion.image import Image
from dgtui.diffusion.job import Amendment, Job, SamplerSettings, Start
from dgtui.steering.doubts import DOUBTED, Doubts
from dgtui.steering.lengths import CANDIDATES, GappedCanvas, LengthSearch, open_gap
from dgtui.steering.search import Search
from dgtui.steering.version import Kind as Kind
from dgtui.steering.version import Refused as Refused
from dgtui.steering.version import Version as Version

POLISHED_SHARE = 0.15
"the share of a reply's free tokens, most doubted first, that polishing renoises"
SETTLING_STRENGTH = 0.5
"the share of free tokens that is renoised after a token was chosen or typed"


class Draft:
    """The versions of one reply, and the jobs that create further ones."""

    def __init__(self, facts: Facts, settings: SamplerSettings) -> None:
        self.facts, self.settings = facts, settings
        self.versions: list[Version] = []
        self.current: Version | None = None
        self.between: GappedCanvas | None = None
        "what the reply is written between; None: it is not"
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
        """Adds a version below the current one, or `beside` it as another proposal, and makes it current."""
        parent = self.current.parent if beside and self.current else self.current
        version = Version(len(self.versions) + 1, kind, run, parent, candidate, span, dict(pins or {}))
        self.versions.append(version)
        self.current = version
        return version

    def remove(self, run: RunHandle) -> None:
        """Removes a run that failed before its first step from the tree. If it was current, its parent becomes
        current again. If a run failed later, its draft is kept."""
        failed = [v for v in self.versions if v.run is run]
        if any(version.frames() for version in failed):
            for version in failed:
                version.search = None
            return
        for version in failed:
            version.search = None
            if self.current is version:
                self.current = version.parent
            if version.parent and version.parent.left is version:
                version.parent.left = None

    def undo(self) -> bool:
        """Goes back to the version that the current one was made from. False if it is the first."""
        if self.current is None or self.current.parent is None:
            return False
        self.current.parent.left = self.current
        self.current = self.current.parent
        return True

    def redo(self) -> bool:
        """Goes to the version that undo came from. False if there is none."""
        if self.current is None or self.current.left is None:
            return False
        self.current = self.current.left
        return True

    def discard(self) -> bool:
        """Goes back to the version that the current version's run was made from; False for a first run."""
        now = self.current
        while now and self.current and self.current.run is now.run:
            if not self.undo():
                self.current = now
                return False
        return True

    def proposals(self) -> list[Version]:
        """The versions with the same parent and span, including the current one, in order."""
        now = self.current
        if now is None or now.span is None:
            return []
        return [v for v in self.versions if v.parent is now.parent and v.kind == now.kind and v.span is not None]

    def cycle(self, by: int) -> bool:
        """Goes to the next or previous proposal; the first follows the last. False if there is no other."""
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
        """The positions that the user pinned in a block of the current version."""
        return self.version.pins.get(block, frozenset())

    def toggle_pins(self, block: int, span: tuple[int, int]) -> tuple[frozenset[int], bool]:
        """Pins a span, or unpins it if all of it is pinned.

        During the run, the caller amends it. Afterwards the pins become a version of their own, which can be undone.

        Returns:
            The positions, and whether they are pinned now.
        """
        version, places = self.version, frozenset(range(*span))
        pins = self.user_pins(block)
        pinning = not places <= pins
        after = pins | places if pinning else pins - places
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
        template: Mapping[int, int],
        images: Sequence[Image] = (),
    ) -> Job:
        """The reply's first run. `template` maps positions to the tokens that are pinned there."""
        start = Start()
        if template:
            model = self.facts.model
            ids = tuple(template.get(place, model.fill_id) for place in range(model.canvas_length))
            start = Start(ids, frozenset(template))
        return Job(self.job_id(), tuple(prompt_ids), seed, max_tokens, self.settings, (start,), images=tuple(images))

    def written(self, job: Job, ids: Sequence[int]) -> Job:
        """The job for an existing reply of full canvases: all positions are pinned, so it takes no step."""
        *blocks, last = self._blocks(ids)[0]
        return replace(job, blocks=tuple(blocks), starts=(Start(last, frozenset(range(len(last)))),))

    def further(self, ids: Sequence[int], most: int, seed: int) -> Job:
        """Continues after the `ids` of a reply that was cut, by at most `most` tokens."""
        model, before = self.facts.model, self.version.run.job
        room = model.max_context - len(before.prompt_ids)
        blocks, rest = self._blocks(ids)
        if (len(blocks) + 1) * model.canvas_length > room:
            raise Refused("the context is full", hint="use /new to start a new conversation")
        canvas = (*rest, *[model.fill_id] * (model.canvas_length - len(rest)))
        start = Start(canvas, frozenset(range(len(rest)))) if rest else Start()
        job = replace(before, max_tokens=min(len(ids) + most, room), likelihood=False, suppressed=frozenset())
        return replace(
            job, id=self.job_id(), seed=seed, settings=self.settings, blocks=tuple(blocks), starts=(start,), fork=None
        )

    def _blocks(self, ids: Sequence[int]) -> tuple[list[tuple[int, ...]], tuple[int, ...]]:
        """Full canvases of ids, and the ids after them."""
        length = self.facts.model.canvas_length
        full = len(ids) // length * length
        return [tuple(ids[at : at + length]) for at in range(0, full, length)], tuple(ids[full:])

    def _from(self, block: int, seed: int) -> Job:
        """A job that writes `block` again, after the current blocks before it."""
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
            suppressed=frozenset(),
            likelihood=False,
        )

    def _canvas(self, block: int) -> Ids:
        ids = self.version.ids(block)
        if ids is None:
            raise Refused("this block has no text yet", hint="wait for its first step")
        return ids

    def free_only(self, block: int, free: frozenset[int], strength: float, seed: int) -> Job:
        """Renoises the `free` positions of a block, except those pinned by the user. Everything else is pinned."""
        ids = self._canvas(block)
        free -= self.user_pins(block)
        if not free:
            raise Refused("everything selected is pinned", hint="press p to unpin the selection")
        pinned = frozenset(range(len(ids))) - free
        return replace(self._from(block, seed), starts=(Start(tuple(ids.tolist()), pinned, strength),))

    def rediffuse(
        self, block: int, span: tuple[int, int], strength: float, seed: int, without: frozenset[int] = frozenset()
    ) -> Job:
        """Rewrites a span, `without` some ids. Everything else is pinned."""
        return replace(self.free_only(block, frozenset(range(*span)), strength, seed), suppressed=without)

    def tried(self, block: int, span: tuple[int, int]) -> frozenset[int]:
        """The ids that stand in a span, here and in every proposal for it."""
        versions = [v for v in self.proposals() if v.span == span] or [self.version]
        versions += [versions[0].parent] if versions[0].span == span and versions[0].parent else []
        canvases = (version.ids(block) for version in versions)
        return frozenset(token for ids in canvases if ids is not None for token in ids[slice(*span)].tolist())

    def unchanged(self, version: Version) -> bool:
        """A version has the same ids in its span as the one that it was made from."""
        before = version.parent.ids(version.block) if version.parent else None
        after = version.ids(version.block)
        if before is None or after is None or version.span is None:
            return False
        where = slice(*version.span)
        return bool((before[where] == after[where]).all())

    def end(self, block: int) -> int:
        """Places of a block up to the end of the reply."""
        ids = self._canvas(block).tolist()
        return next((at for at, token in enumerate(ids) if token in self.facts.model.stop_ids), len(ids))

    def doubts(self, block: int, places: Sequence[int], seed: int, draws: int = 1) -> Doubts:
        """Asks what the model thinks of places of a finished block. See `doubts.Doubts`."""
        return Doubts(self._from(block, seed), self._canvas(block).tolist(), places, self.facts.model, draws)

    def doubted(self, block: int) -> dict[int, float]:
        """Nats by which the model doubts the tokens of a block, as far as it was asked, by place."""
        ids = self._canvas(block).tolist()
        return {place: doubt.nats(ids[place]) for place, doubt in self.version.doubts.get(block, {}).items()}

    def polish(self, block: int, seed: int) -> tuple[Job, frozenset[int]]:
        """Renoises the tokens that the model doubts most. Returns the job and the places."""
        nats = self.doubted(block)
        free = [place for place in range(self.end(block)) if place not in self.user_pins(block)]
        unsure = sorted((p for p in free if nats.get(p, 0.0) > DOUBTED), key=lambda p: (-nats[p], p))
        if not unsure:
            raise Refused("the model doubts no token: there is nothing to polish")
        places = frozenset(unsure[: max(1, round(POLISHED_SHARE * len(free)))])
        return self.free_only(block, places, 1.0, seed), places

    def settle(self, block: int, tokens: Mapping[int, int], seed: int) -> tuple[Job, frozenset[int]]:
        """Pins chosen or typed tokens, by position, and rewrites around them. Returns the job and all pins."""
        ids = self._canvas(block).copy()
        for place, token in tokens.items():
            ids[place] = token
        pinned = self.user_pins(block) | frozenset(tokens)
        start = Start(tuple(ids.tolist()), pinned, SETTLING_STRENGTH)
        return replace(self._from(block, seed), starts=(start,)), pinned

    def gap(self, block: int, at: int, length: int | None, seed: int) -> LengthSearch:
        """Opens a gap before position `at` and fills it. Without a length, several are tried."""
        model = self.facts.model
        canvas = open_gap(self._canvas(block).tolist(), at, model)
        if (length or 1) > canvas.room:
            left = f"{canvas.room or 'no'} position{'' if canvas.room == 1 else 's'}"
            raise Refused(f"a gap of {length or 1} does not fit: the canvas has {left} left")
        job = replace(self._from(block, seed), suppressed=model.special_ids | model.stop_ids)
        lengths, candidates = ([length], 1) if length else (None, CANDIDATES)
        return LengthSearch(job, canvas, [0], lengths=lengths, candidates=candidates, may_be_empty=True)

    def add_search(self, kind: Kind, search: Search[LengthSearch], at: int = 0, *, beside: bool = False) -> Version:
        """The version of a search that was started, for a gap before place `at`. `advance` continues it whenever its
        run has ended."""
        assert search.run is not None
        version = self.add(kind, search.run, span=(at, at), beside=beside)
        version.search = search
        self.follow(version)
        return version

    def follow(self, version: Version) -> None:
        """Shows the best candidate so far in a version whose search is going on."""
        if version.search is not None:
            plan = version.search.plan
            candidate = plan.best(version.run.log)
            version.candidate = candidate
            version.pins = self._pins_around(version, plan, candidate)

    def advance(self, version: Version) -> None:
        """Continues the search of a version whose run has ended. When the search is over, the other candidates become
        proposals after this one, the most likely first."""
        search = version.search
        assert search is not None and search.run is not None
        if search.advance():
            version.run = search.run
            self.follow(version)
            return
        version.search = None
        empty = any(not ranked.tokens for ranked in search.plan.ranked)
        for number, ranked in enumerate(search.plan.ranked[: CANDIDATES + empty]):
            proposal = version
            if number:
                proposal = replace(version, number=len(self.versions) + 1, left=None)
                self.versions.append(proposal)
            proposal.candidate, proposal.pins = (
                ranked.candidate,
                self._pins_around(version, search.plan, ranked.candidate),
            )

    def _pins_around(self, version: Version, plan: LengthSearch, candidate: int) -> dict[int, frozenset[int]]:
        """What the person holds in a version that fills gaps: what was pinned before, which has moved on after the
        first gap, and what stands between the gaps. Of a reply that is written between, all that is kept."""
        assert version.span is not None
        gaps, block = plan.gaps(candidate), len(version.run.job.blocks)
        free = {place for gap in gaps for place in gap}
        if version.kind == "between":
            end = gaps[-1].stop + len(plan.canvas.kept[-1])
            return {block: frozenset(range(min(end, plan.canvas.size))) - free}
        at, stop = version.span[0], gaps[-1].stop
        pins = version.parent.pins if version.parent else {}
        moved = {place + stop - at if place >= at else place for place in pins.get(block, ())}
        held = moved | (set(range(at, stop)) - free)
        return {**pins, block: frozenset(place for place in held if place < self.facts.model.canvas_length)}

    def fork(self, block: int, step: int, seed: int) -> Job:
        """Continues from a step of the current version's run with a new seed. The user's pins are kept."""
        version, log, ids = self.version, self.version.run.log, self._canvas(block)
        whole = log.finished is not None and log.finished.reason != "cancelled"
        if whole and block == version.block and step == len(log.frames(block, version.candidate)):
            raise Refused("nothing is left to write from this step on", hint="press [ to go back to an earlier step")
        pins = {place: int(ids[place]) for place in sorted(self.user_pins(block))}
        if version.run.job.candidates == 1:
            job = log.fork(block, step, self.job_id(), seed)
            assert job.fork is not None
            pinned = tuple((step, Amendment(place, Action.PIN, token)) for place, token in pins.items())
            return replace(job, fork=replace(job.fork, amendments=(*job.fork.amendments, *pinned)))
        job = log.fork_from_canvas(block, step, self.job_id(), seed, version.candidate)
        (start,) = job.starts
        ids_then = tuple(pins.get(place, token) for place, token in enumerate(start.ids or ()))
        return replace(job, starts=(replace(start, ids=ids_then, pinned=start.pinned | pins.keys()),))
