"""The one loop that drives an infill: job by job, each planned from the log of the one before.

A screen submits with `start`, and calls `advance` when it is told that `run` has ended. A command calls `finish`.
"""

from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from dgtui.backend import RunHandle
from dgtui.diffusion.events import StopReason
from dgtui.diffusion.job import Job
from dgtui.diffusion.log import RunLog


class Plan(Protocol):
    """What a search does next."""

    def job(self) -> Job | None:
        """The next job; None when the search is over."""

    def take(self, log: RunLog) -> None:
        """Takes the log of the newest job, which has ended."""

    def stop(self, log: RunLog) -> None:
        """Takes the log of the newest job, which was cancelled: what it has written is the result."""


PlanT = TypeVar("PlanT", bound=Plan)


class Search(Generic[PlanT]):
    """A search that goes on. Its result is in the plan."""

    def __init__(self, plan: PlanT, submit: Callable[[Job], RunHandle]) -> None:
        self.plan, self._submit = plan, submit
        self.run: RunHandle | None = None
        "the newest run"
        self.done = False
        self.stopping = False
        "it was stopped by hand"
        self.steps = 0
        "denoising steps of all runs that have ended"

    def start(self) -> None:
        """Submits the next job, if there is one."""
        job = self.plan.job()
        if job is None:
            self.done = True
        else:
            self.run = self._submit(job)

    def advance(self) -> bool:
        """Waits for the end of the run, takes its log and submits the next job. False: the search is over.

        Raises:
            RunFailed: What the model wrote is not text.
            Exception: What the run raised.
        """
        assert self.run is not None, "a search is started first"
        finished = self.run.ended.result()
        self.steps += sum(finished.steps)
        if self.stopping or finished.reason is StopReason.CANCELLED:
            self.stopping = self.done = True
            self.plan.stop(self.run.log)
        else:
            self.plan.take(self.run.log)
            self.start()
        return not self.done

    def finish(self) -> None:
        """Runs the whole search and waits for its end. Raises what `advance` raises."""
        self.start()
        while not self.done:
            self.advance()

    def stop(self) -> None:
        """Ends the search within a denoising step. What is written by then is its result."""
        self.stopping = True
        if self.run is not None:
            self.run.control.cancel()
