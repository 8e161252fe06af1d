"""The run of a stored reply: its stored steps, with the interface of a run, without a model."""

from collections import Counter
from concurrent.futures import Future
from dataclasses import dataclass, field, replace

from dgtui.diffusion.control import Control
from dgtui.diffusion.events import Finished, StopReason
from dgtui.diffusion.job import Job
from dgtui.diffusion.log import RunLog


@dataclass(frozen=True, slots=True)
class StoredRun:
    """A run that has ended, with the steps that its timeline shows. It has no alternatives and cannot be forked."""

    log: RunLog
    control: Control = field(default_factory=Control)
    ended: "Future[Finished]" = field(default_factory=Future)

    @property
    def job(self) -> Job:
        """The job of the run."""
        return self.log.job


def stored_run(packed: bytes, job: Job) -> StoredRun | None:
    """The run with these packed steps, for a job with the prompt of its conversation; None if there are no steps or
    they cannot be read."""
    from dgtui.session.run_schema import Malformed
    from dgtui.session.timeline import unpack_timeline

    try:
        steps = unpack_timeline(packed) if packed else None
    except Malformed:
        return None
    if steps is None or not steps.frames():
        return None
    kept = steps.job
    log = RunLog(replace(kept, id=job.id, prompt_ids=job.prompt_ids, images=job.images), steps)
    end = log.finished
    if end is None:  # the program ended during the run
        end = Finished(job.id, StopReason.CANCELLED, (), _steps(log), log.frames()[-1].seconds)
        log.append(end)
    run = StoredRun(log)
    run.ended.set_result(end)
    return run


def _steps(log: RunLog) -> tuple[int, ...]:
    """The number of steps of each block."""
    return tuple(Counter(frame.block for frame in log.frames()).values())
