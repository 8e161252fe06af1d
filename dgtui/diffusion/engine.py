"""The two loops, as one generator of events: blocks, and within a block denoising steps, over a `Stepper`.

    1. Make prompt and finished blocks the prefix.
    2. For every block:
        a. lay out the canvas (noise, or noise among what is pinned),
        b. take denoising steps until every candidate is done or the steps are used up; before each step read the
           control: amendments, pause, cancel,
        c. the argmax canvas is the block's result; stop at an end-of-sequence id or when `max_tokens` is reached,
        d. append it to the prefix.

The engine holds nothing but the run's course; the stepper owns canvas, prefix and random streams.
"""

import time
from collections.abc import Collection, Generator, Iterator

import numpy as np
import numpy.typing as npt

from dgtui.diffusion.control import Control
from dgtui.diffusion.events import (
    Action,
    Amended,
    BlockFinished,
    BlockStarted,
    Event,
    Finished,
    Flag,
    Frame,
    Ids,
    StopReason,
)
from dgtui.diffusion.job import Amendment, BadJob, Job, Start
from dgtui.diffusion.schedule import entry_step
from dgtui.diffusion.stepper import CandidateStep, Stepper, derived_seed


class PinViolated(AssertionError):
    """A pinned position changed: a defect of the stepper, never of the user."""


def cut(ids: Ids, stop_ids: frozenset[int], max_tokens: int) -> tuple[Ids, bool]:
    """`ids` up to and without the first stop id, at most `max_tokens`; and whether a stop id came within that."""
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
            f"what is suppressed must be some of the vocabulary of {stepper.vocab_size}",
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
    """The course of one run."""

    def __init__(self, stepper: Stepper, job: Job, control: Control) -> None:
        self.stepper, self.job, self.control = stepper, job, control
        self.began = time.perf_counter()
        self.pins: list[dict[int, int]] = []
        self.last: dict[int, CandidateStep] = {}
        self.written = [list(job.blocks) for _ in range(job.candidates)]
        self.steps: list[int] = []

    def seconds(self) -> float:
        return time.perf_counter() - self.began

    def events(self) -> Iterator[Event]:
        job, stepper = self.job, self.stepper
        for i in range(job.candidates):
            stepper.seed(i, derived_seed(job.seed, i))
        stepper.encode([*job.prompt_ids, *(i for block in job.blocks for i in block)], job.images)
        block = len(job.blocks)
        while True:
            complete = yield from self._block(block)
            if reason := self._reason(block, complete):
                tokens = tuple(self._tokens(i)[0] for i in range(job.candidates))
                yield Finished(job.id, reason, tokens, tuple(self.steps), self.seconds())
                return
            stepper.commit(np.asarray(self.written[0][-1], dtype=np.int32))
            block += 1

    def _tokens(self, candidate: int) -> tuple[Ids, bool]:
        ids = np.asarray([i for block in self.written[candidate] for i in block], dtype=np.int32)
        return cut(ids, self.stepper.stop_ids, self.job.max_tokens)

    def _reason(self, block: int, complete: bool) -> StopReason | None:
        """Why the run ends behind a block, if it does: a cancel that finds the reply complete comes too late."""
        if not complete:
            return StopReason.CANCELLED
        ended = [self._tokens(i)[1] for i in range(self.job.candidates)]
        if all(ended):
            return StopReason.EOS
        length = self.stepper.canvas_length
        full = len(self.job.prompt_ids) + (block + 2) * length > self.stepper.max_context
        if self.job.candidates > 1 or (block + 1) * length >= self.job.max_tokens or full:
            return StopReason.LENGTH
        return StopReason.CANCELLED if self.control.cancelled else None

    def _block(self, block: int) -> Generator[Event, None, bool]:
        """One block; whether it ran to its end, rather than to a cancel."""
        job, stepper = self.job, self.stepper
        first = block == len(job.blocks)
        fork = job.fork if first else None
        if fork:
            stepper.restore_rng(0, fork.rng)
        rng = tuple(stepper.rng_state(i) for i in range(job.candidates))
        starts = job.starts if first else (Start(),) * job.candidates
        canvases = stepper.begin(starts, job.settings, job.suppressed)
        remaining = entry_step(starts[0].strength, job.settings.steps)
        self.pins, self.last = [{p: (s.ids or ())[p] for p in s.pinned} for s in starts], {}
        pinned = tuple(_mask(start.pinned, stepper.canvas_length) for start in starts)
        yield BlockStarted(job.id, block, tuple(canvases), pinned, rng, job.settings.steps, remaining, self.seconds())

        whole = {i for i, mask in enumerate(pinned) if mask.all()}  # nothing is free: the canvas is its own result
        running = set(range(job.candidates)) - whole
        done_at = dict.fromkeys(whole, 0)
        taken, complete = 0, True
        replayed = list(fork.amendments) if fork else []
        reseeds = dict(fork.reseeds) if fork else {}
        if 0 in reseeds:
            stepper.seed(0, reseeds[0])
        while taken < remaining and running:
            while replayed and replayed[0][0] == taken:
                yield from self._amend(replayed.pop(0)[1], block, taken, running)
            go = False
            while not go:
                amendments, go = self.control.wait()
                for amendment in amendments:
                    yield from self._amend(amendment, block, taken, running)
            if self.control.cancelled:
                complete = False
                break
            taken += 1
            for step in stepper.step():
                self._hold_to_pins(step)
                self.last[step.candidate] = step
                yield self._frame(step, block, taken)
                if step.done:
                    running.discard(step.candidate)
                    done_at[step.candidate] = taken
            if taken in reseeds:  # behind the last step, too: the next block draws from the new seed
                stepper.seed(0, reseeds[taken])

        self.steps.append(taken)
        ends = {i: self.last[i].ids if i in self.last else canvases[i] for i in sorted(whole | self.last.keys())}
        likely = (
            dict(zip(ends, stepper.log_probs([*ends.values()]), strict=True)) if job.likelihood and complete else {}
        )
        for i, ids in ends.items():
            self.written[i].append(tuple(ids.tolist()))
            steps, settled = done_at.get(i, taken), i not in running
            yield BlockFinished(job.id, i, block, ids, steps, settled, self.seconds(), likely.get(i))
        return complete

    def _amend(self, amendment: Amendment, block: int, taken: int, running: set[int]) -> Iterator[Event]:
        if amendment.block not in (None, block):
            return
        if amendment.candidate not in running or not 0 <= amendment.position < self.stepper.canvas_length:
            return
        if amendment.token is not None and not 0 <= amendment.token < self.stepper.vocab_size:
            return
        token = self.stepper.amend(amendment)
        pins = self.pins[amendment.candidate]
        if amendment.action is Action.PIN:
            pins[amendment.position] = token
        else:
            pins.pop(amendment.position, None)
        yield Amended(self.job.id, amendment.candidate, block, taken, amendment.position, amendment.action, token)

    def _hold_to_pins(self, step: CandidateStep) -> None:
        pins = self.pins[step.candidate]
        if pins:
            where = np.fromiter(pins, dtype=np.intp)
            held = np.fromiter(pins.values(), dtype=np.int32)
            marked = (step.flags[where] & Flag.PINNED).astype(bool)
            if not ((step.ids[where] == held).all() and (step.canvas[where] == held).all() and marked.all()):
                raise PinViolated(f"a pinned position of candidate {step.candidate} changed")

    def _frame(self, step: CandidateStep, block: int, taken: int) -> Frame:
        return Frame(
            job=self.job.id,
            candidate=step.candidate,
            block=block,
            step=taken,
            max_steps=self.job.settings.steps,
            ids=step.ids,
            canvas=step.canvas,
            entropy=step.entropy,
            flags=step.flags,
            top_ids=step.top_ids,
            top_probs=step.top_probs,
            mean_entropy=step.mean_entropy,
            temperature=step.temperature,
            seconds=self.seconds(),
        )
