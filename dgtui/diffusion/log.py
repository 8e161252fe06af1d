"""The run log: all events of a run in order. The model thread appends; timeline, forks and recordings read it."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from dgtui.diffusion.events import Amended, BlockFinished, BlockStarted, Event, Finished, Frame
from dgtui.diffusion.job import Amendment, BadJob, Fork, Job, Start


class RunLog:
    """The events of one job. One thread appends; any thread may read up to a length it has seen."""

    def __init__(self, job: Job, events: Iterable[Event] = (), stepper: str = "") -> None:
        self.job = job
        self.stepper = stepper
        "name of the stepper that runs the job; empty until it starts"
        self._events: list[Event] = list(events)

    def append(self, event: Event) -> int:
        """Adds an event and returns the new length of the log."""
        self._events.append(event)
        return len(self._events)

    def copy(self) -> "RunLog":
        """A copy of the current log, which does not grow."""
        return RunLog(self.job, list(self._events), self.stepper)

    def __len__(self) -> int:
        return len(self._events)

    def __getitem__(self, index: int) -> Event:
        return self._events[index]

    def __iter__(self) -> Iterator[Event]:
        return iter(self._events)

    def frames(self, block: int | None = None, candidate: int = 0) -> list[Frame]:
        """The frames of a candidate, of one block or of all blocks."""
        return [
            e
            for e in self._events
            if isinstance(e, Frame) and e.candidate == candidate and (block is None or e.block == block)
        ]

    def blocks(self, candidate: int = 0) -> list[BlockFinished]:
        """The finished blocks of a candidate."""
        return [e for e in self._events if isinstance(e, BlockFinished) and e.candidate == candidate]

    def amended(self, candidate: int = 0) -> set[tuple[int, int]]:
        """The blocks and steps after which the user changed something in a candidate."""
        return {(e.block, e.step) for e in self._events if isinstance(e, Amended) and e.candidate == candidate}

    @property
    def finished(self) -> Finished | None:
        """How the run ended, if it has."""
        last = self._events[-1] if self._events else None
        return last if isinstance(last, Finished) else None

    def _block_start(self, block: int) -> BlockStarted:
        for event in self._events:
            if isinstance(event, BlockStarted) and event.block == block:
                return event
        raise BadJob(f"this run has no block {block}")

    def _job_at(self, block: int, candidate: int, job_id: str, seed: int) -> Job:
        before = {f.block: tuple(f.ids.tolist()) for f in self.blocks(candidate) if f.block < block}
        blocks = tuple(self.job.blocks) + tuple(ids for _, ids in sorted(before.items()))
        return replace(self.job, id=job_id, seed=seed, blocks=blocks, starts=(Start(),), fork=None)

    def fork(self, block: int, step: int, job_id: str, seed: int, candidate: int = 0) -> Job:
        """A job that repeats the first `step` frames of a block of this run and continues with a new seed.

        Exact on the stepper, device, model and versions that made this log. Raises `BadJob` for a step that was not
        taken.
        """
        started = self._block_start(block)
        if not 0 <= step <= len(self.frames(block, candidate)):
            raise BadJob(f"block {block} has {len(self.frames(block, candidate))} steps, not {step}")
        first = block == len(self.job.blocks)
        earlier = self.job.fork.reseeds if first and self.job.fork else ()
        amendments = tuple(
            (e.step, Amendment(e.position, e.action, e.token))
            for e in self._events
            if isinstance(e, Amended) and e.block == block and e.candidate == candidate and e.step < step
        )
        fork = Fork(started.rng[candidate], amendments, (*(r for r in earlier if r[0] < step), (step, seed)))
        job = self._job_at(block, candidate, job_id, seed)
        return replace(job, starts=(self.job.starts[candidate],) if first else (Start(),), fork=fork)

    def fork_from_canvas(self, block: int, step: int, job_id: str, seed: int, candidate: int = 0) -> Job:
        """The approximate fork, for a log from another machine: starts from a frame's canvas with its pins.

        The canvas enters the schedule at the same step. The self-conditioning of that step is lost. Raises `BadJob` for
        a step that was not taken.
        """
        frames = self.frames(block, candidate)
        if not 1 <= step <= len(frames):
            raise BadJob(f"block {block} has {len(frames)} steps, not {step}")
        frame = frames[step - 1]
        started = self._block_start(block)
        left = max(1, started.remaining - step)
        pinned = frozenset(int(i) for i in (frame.flags & 1).nonzero()[0])
        start = Start(tuple(frame.canvas.tolist()), pinned, left / started.max_steps, noised=True)
        return replace(self._job_at(block, candidate, job_id, seed), starts=(start,))
