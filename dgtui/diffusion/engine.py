"""The two loops as one generator of events: blocks, and within a block denoising steps, over a `Stepper`.

    1. Make the prompt and the finished blocks the prefix.
    2. For every block:
        a. lay out the canvas: noise, or noise among pinned ids,
        b. take denoising steps until every candidate is done or the steps are used up; before each step, listen to
           the control: amendments, pause, cancel,
        c. proofread it, if the settings say so,
        d. finish: the argmax canvas is the result; stop at an end-of-sequence id or when `max_tokens` is reached,
        e. append the result to the prefix.

The stepper owns canvas, prefix and random streams. The engine only keeps track of where the run is.
"""

import time
from collections import Counter
from collections.abc import Collection, Generator, Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from dgtui.diffusion import proofreading
from dgtui.diffusion.control import Control
from dgtui.diffusion.events import (
    Action,
    Amended,
    BlockFinished,
    BlockStarted,
    Event,
    Finished,
    Flag,
    Floats,
    Frame,
    Ids,
    StopReason,
)
from dgtui.diffusion.job import Amendment, BadJob, Job, Start
from dgtui.diffusion.proofreading import Passage, Text
from dgtui.diffusion.schedule import entry_step
from dgtui.diffusion.stepper import CandidateStep, Interrupted, Stepper, derived_seed, frozen


class PinViolated(AssertionError):
    """A pinned position changed: a defect of the stepper, not a mistake of the user."""


def cut(ids: Ids, stop_ids: frozenset[int], max_tokens: int) -> tuple[Ids, bool]:
    """`ids` up to the first stop id, without it, at most `max_tokens`; and whether a stop id came before that limit."""
    stops = np.flatnonzero(np.isin(ids, list(stop_ids)))
    end = int(stops[0]) if len(stops) else len(ids)
    kept = ids[: min(end, max_tokens)]
    kept.flags.writeable = False
    return kept, bool(len(stops)) and end <= max_tokens


def _mask(places: Collection[int], length: int) -> npt.NDArray[np.bool_]:
    mask = np.zeros(length, dtype=np.bool_)
    mask[list(places)] = True
    mask.flags.writeable = False
    return mask


def run(stepper: Stepper, job: Job, control: Control | None = None) -> Iterator[Event]:
    """Runs a job. Raises `BadJob` before the first event when it does not fit the model."""
    _check(stepper, job)
    return _Run(stepper, job, control or Control()).events()


def _check(stepper: Stepper, job: Job) -> None:
    length = stepper.canvas_length
    sizes = {len(start.ids) for start in job.starts if start.ids is not None}
    known = [i for ids in (job.prompt_ids, *job.blocks, *(start.ids or () for start in job.starts)) for i in ids]
    room = stepper.max_context - length - len(job.prompt_ids) - len(job.blocks) * length
    for wrong, message in (
        (
            min(known) < 0 or max(known) >= stepper.vocab_size,
            f"a token id is outside the vocabulary of {stepper.vocab_size}",
        ),
        (
            not sizes <= {length},
            f"the start canvas has {min(sizes - {length}, default=0)} ids: this model's canvas has {length}",
        ),
        (
            any(not 0 <= p < length for start in job.starts for p in start.pinned),
            f"a pin is outside the canvas of {length}",
        ),
        (
            any(not 0 <= i < stepper.vocab_size for i in job.suppressed) or len(job.suppressed) >= stepper.vocab_size,
            f"suppressed ids must be some, but not all, of the vocabulary of {stepper.vocab_size}",
        ),
        (any(len(block) != length for block in job.blocks), f"a finished block must have {length} ids"),
        (
            room < 0,
            f"the prompt has {len(job.prompt_ids)} tokens: with a canvas of {length} at most "
            f"{stepper.max_context - length} fit this model's context",
        ),
    ):
        if wrong:
            raise BadJob(message)


class _Run:
    """A run: one block after the other until there is a reason to stop."""

    def __init__(self, stepper: Stepper, job: Job, control: Control) -> None:
        self.stepper, self.job, self.control = stepper, job, control
        self.began = time.perf_counter()
        self.written = [list(job.blocks) for _ in range(job.candidates)]

    def seconds(self) -> float:
        """Seconds since the run began, without pauses."""
        return time.perf_counter() - self.began - self.control.paused_seconds

    def events(self) -> Iterator[Event]:
        job, stepper = self.job, self.stepper
        for candidate in range(job.candidates):
            stepper.seed(candidate, derived_seed(job.seed, candidate))
        stepper.encode([*job.prompt_ids, *(i for block in job.blocks for i in block)], job.images)
        steps: list[int] = []
        while True:
            block = _Block(self, len(job.blocks) + len(steps))
            yield block.lay_out()
            yield from block.denoise()
            yield from block.proofread()
            yield from block.finish()
            steps.append(block.taken)
            if reason := self._reason(block):
                tokens = tuple(self._tokens(candidate)[0] for candidate in range(job.candidates))
                yield Finished(job.id, reason, tokens, tuple(steps), self.seconds())
                return
            stepper.commit(np.asarray(self.written[0][-1], dtype=np.int32))

    def _tokens(self, candidate: int) -> tuple[Ids, bool]:
        ids = np.asarray([i for block in self.written[candidate] for i in block], dtype=np.int32)
        return cut(ids, self.stepper.stop_ids, self.job.max_tokens)

    def _reason(self, block: "_Block") -> StopReason | None:
        """Why the run ends after a block, if it does. A cancel after a complete reply has no effect."""
        if block.cancelled:
            return StopReason.CANCELLED
        if all(self._tokens(candidate)[1] for candidate in range(self.job.candidates)):
            return StopReason.LENGTH if block.cut else StopReason.EOS
        length, next_block = self.stepper.canvas_length, block.number + 1
        full = len(self.job.prompt_ids) + (next_block + 1) * length > self.stepper.max_context
        if self.job.candidates > 1 or next_block * length >= self.job.max_tokens or full:
            return StopReason.LENGTH
        return StopReason.CANCELLED if self.control.cancelled else None


class _Block:
    """One block of a run."""

    def __init__(self, run: _Run, number: int) -> None:
        self.run, self.number = run, number
        self.stepper, self.job, self.control = run.stepper, run.job, run.control
        first = number == len(self.job.blocks)
        self.starts = self.job.starts if first else (Start(),) * self.job.candidates
        self.fork = self.job.fork if first else None
        self.reseeds = dict(self.fork.reseeds) if self.fork else {}
        self.pins = [{p: start.ids[p] for p in start.pinned} if start.ids else {} for start in self.starts]
        self.taken = 0
        "denoising steps so far"
        self.cancelled = False
        self.cut = False
        "there was no more room for the reply"
        self.running: set[int] = set()
        "candidates that are not done"
        self.done_after: dict[int, int] = {}
        "candidate → the steps it took until it was done"
        self.drafts: dict[int, Ids] = {}
        "candidate → its newest draft, or the canvas itself if nothing in it is free"

    def lay_out(self) -> BlockStarted:
        """Draws the canvases."""
        job, stepper = self.job, self.stepper
        if self.fork:
            stepper.restore_rng(0, self.fork.rng)
        rng = tuple(stepper.rng_state(candidate) for candidate in range(job.candidates))
        canvases = stepper.begin(self.starts, job.settings, job.suppressed)
        pinned = tuple(_mask(start.pinned, stepper.canvas_length) for start in self.starts)
        for candidate, (canvas, mask) in enumerate(zip(canvases, pinned, strict=True)):
            if mask.all():
                self.drafts[candidate], self.done_after[candidate] = canvas, 0
            else:
                self.running.add(candidate)
        self._reseed()
        return BlockStarted(
            job.id,
            self.number,
            tuple(canvases),
            pinned,
            rng,
            job.settings.steps,
            self._most_steps(),
            self.run.seconds(),
        )

    def denoise(self) -> Iterator[Event]:
        """Takes steps until every candidate is done, the steps are used up, or the run is cancelled."""
        while self.running and self.taken < self._most_steps():
            yield from self.listen()
            if self.control.cancelled:
                self.cancelled = True
                return
            try:
                steps = self.stepper.step()
            except Interrupted:
                self.cancelled = True
                return
            self.taken += 1
            for step in steps:
                self._check_pins(step)
                self.drafts[step.candidate] = step.ids
                self.cut |= step.cut
                if step.done:
                    self.running.discard(step.candidate)
                    self.done_after[step.candidate] = self.taken
                yield self._frame(step)
            self._reseed()

    def listen(self) -> Iterator[Event]:
        """Applies the amendments that have arrived. Blocks while the run is paused."""
        for step, amendment in self.fork.amendments if self.fork else ():
            if step == self.taken:
                yield from self._amend(amendment)
        go = False
        while not go:
            amendments, go = self.control.wait()
            for amendment in amendments:
                yield from self._amend(amendment)

    def proofread(self) -> Iterator[Event]:
        """Writes again what is unlikely when it is read from left to right (see `proofreading`).

        Only for a single candidate without pins. The frames are those of the texts that are kept. Whatever the user
        changes is changed in the text as it is now, and ends the proofreading; so does a cancel.
        """
        left = self.job.settings.proofread
        if not left or not self.stepper.reads or self.cancelled or self.job.candidates > 1 or self.pins[0]:
            return
        text = self._read([self.drafts[0]])[0]
        if len(text.unlikely()) >= proofreading.HOPELESS * left:
            return
        attempts: Counter[int] = Counter()
        while passages := text.passages(attempts, left):
            left -= len(passages)
            kept = yield from self._written_again(text, passages)
            if kept is None:
                return
            for number in range(max((len(steps) for *_, steps in kept), default=0)):
                now = [(passage, change, steps[min(number, len(steps) - 1)]) for passage, change, steps in kept]
                yield self._proofread_frame(proofreading.joined(now))
                self._reseed()
            attempts.update({passage.place for passage in passages} - {passage.place for passage, *_ in kept})
            moved = {at: sum(change for one, change, _ in kept if one.place < at) for at in attempts}
            attempts = Counter({at + moved[at]: count for at, count in attempts.items()})
            text = self._read([self.drafts[0]])[0] if kept else text

    def _written_again(
        self, text: Text, passages: list[Passage]
    ) -> Generator[Event, None, list[tuple[Passage, int, list[CandidateStep]]] | None]:
        """The passages that have become more likely, by how much their length changes, and the steps of their canvas;
        None if proofreading is to end."""
        stepper, settings = self.stepper, replace(self.job.settings, steps=proofreading.STEPS)
        openings = [(passage, start) for passage in passages for start in text.openings(passage)]
        for candidate in range(1, len(openings)):
            stepper.seed(candidate, derived_seed(0, candidate))  # not the job's: a fork repeats these steps
        stepper.begin([start for _, start in openings], settings, self.job.suppressed | stepper.stop_ids)
        tried: list[list[CandidateStep]] = [[] for _ in openings]
        for _ in range(settings.steps):
            if (yield from self._left_alone()):
                return None
            for step in stepper.step():
                tried[step.candidate].append(step)
            if all(steps[-1].done for steps in tried):
                break
        kept = []
        texts = self._read([steps[-1].ids for steps in tried])
        for passage in passages:
            mine = [candidate for candidate, (one, _) in enumerate(openings) if one is passage]
            best = max(mine, key=lambda candidate: texts[candidate].nats)
            if texts[best].nats >= text.nats + proofreading.GAIN:
                kept.append((passage, texts[best].end - text.end, tried[best]))
        return kept

    def _read(self, canvases: list[Ids]) -> list[Text]:
        log_probs = self.stepper.log_probs(canvases)
        return [Text.of(ids, read, self.stepper.stop_ids) for ids, read in zip(canvases, log_probs, strict=True)]

    def _left_alone(self) -> Generator[Event, None, bool]:
        """Blocks while the run is paused. True if proofreading is to end, because the user changed or stopped it."""
        go = changed = False
        while not (go or changed):
            amendments, go = self.control.wait()
            for amendment in amendments:
                if amendment.action is Action.PIN and amendment.candidate == 0 and self._fits(amendment):
                    ids, position = self.drafts[0].copy(), amendment.position
                    token = int(ids[position]) if amendment.token is None else amendment.token
                    ids[position] = token
                    self.drafts[0], changed = frozen(ids, np.int32), True
                    yield Amended(self.job.id, 0, self.number, self.taken, position, amendment.action, token)
        return changed or self.control.cancelled

    def _proofread_frame(self, step: CandidateStep) -> Frame:
        """The next frame of the block. Nothing in it is pinned: the text around the words was only held."""
        self.taken += 1
        if 0 in self.done_after:
            self.done_after[0] = self.taken
        flags = np.where(step.flags & Flag.PINNED, Flag.ACCEPTED, step.flags & ~Flag.CHANGED)
        flags = flags | np.where(step.ids != self.drafts[0], Flag.CHANGED, 0)
        self.drafts[0] = step.ids
        return self._frame(replace(step, candidate=0, flags=frozen(flags, np.uint8)))

    def finish(self) -> Iterator[Event]:
        """Makes the drafts the results, for all candidates that took a step or had no free position."""
        results = dict(sorted(self.drafts.items()))
        likelihood: dict[int, Floats] = {}
        if self.job.likelihood and not self.cancelled:
            try:
                likelihood = dict(zip(results, self.stepper.log_probs([*results.values()]), strict=True))
            except Interrupted:
                self.cancelled = True
        for candidate, ids in results.items():
            self.run.written[candidate].append(tuple(ids.tolist()))
            yield BlockFinished(
                self.job.id, candidate, self.number, ids, self.done_after.get(candidate, self.taken),
                candidate in self.done_after, self.run.seconds(), likelihood.get(candidate),
            )  # fmt: skip

    def _most_steps(self) -> int:
        return entry_step(self.starts[0].strength, self.job.settings.steps)

    def _reseed(self) -> None:
        """Gives a fork its new seed; also after the last step, because the next block draws from it."""
        if self.taken in self.reseeds:
            self.stepper.seed(0, self.reseeds[self.taken])

    def _amend(self, amendment: Amendment) -> Iterator[Event]:
        """Changes a position. An amendment that came too late, or does not fit the model, is dropped."""
        candidate, position = amendment.candidate, amendment.position
        if candidate not in self.running or not self._fits(amendment):
            return
        token = self.stepper.amend(amendment)
        if amendment.action is Action.PIN:
            self.pins[candidate][position] = token
        else:
            self.pins[candidate].pop(position, None)
        yield Amended(self.job.id, candidate, self.number, self.taken, position, amendment.action, token)

    def _fits(self, amendment: Amendment) -> bool:
        """Whether an amendment is meant for this block, and its position and token exist."""
        return (
            amendment.block in (None, self.number)
            and 0 <= amendment.position < self.stepper.canvas_length
            and (amendment.token is None or 0 <= amendment.token < self.stepper.vocab_size)
        )

    def _check_pins(self, step: CandidateStep) -> None:
        """Raises `PinViolated`."""
        if pins := self.pins[step.candidate]:
            where, ids = np.fromiter(pins, dtype=np.intp), np.fromiter(pins.values(), dtype=np.int32)
            marked = (step.flags[where] & Flag.PINNED).astype(bool)
            if not ((step.ids[where] == ids).all() and (step.canvas[where] == ids).all() and marked.all()):
                raise PinViolated(f"a pinned position of candidate {step.candidate} changed")

    def _frame(self, step: CandidateStep) -> Frame:
        return Frame(
            job=self.job.id,
            candidate=step.candidate,
            block=self.number,
            step=self.taken,
            max_steps=max(self.job.settings.steps, self.taken),
            ids=step.ids,
            canvas=step.canvas,
            entropy=step.entropy,
            flags=step.flags,
            top_ids=step.top_ids,
            top_probs=step.top_probs,
            mean_entropy=step.mean_entropy,
            temperature=step.temperature,
            seconds=self.run.seconds(),
        )
