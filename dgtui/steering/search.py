"""The loop that drives an infill: job by job, each planned from the previous job's log.

A screen calls `start`, and then `advance` each time `run` has ended. A command calls `finish`.
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
        """Processes the log of the newest job, which has ended."""

    def stop(self, log: RunLog) -> None:
        """Processes the log of the newest job, which was cancelled: the text so far is the result."""


PlanT = TypeVar("PlanT", bound=Plan)


class Search(Generic[PlanT]):
    """A running search. Its result is in the plan."""

    def __init__(self, plan: PlanT, submit: Callable[[Job], RunHandle]) -> None:
        self.plan, self._submit = plan, submit
        self.run: RunHandle | None = None
        "the newest run"
        self.done = False
        self.stopping = False
        "the user stopped it"
        self.steps = 0
        "denoising steps of all finished runs"

    def start(self) -> None:
        """Submits the next job, if there is one."""
        job = self.plan.job()
        if job is None:
            self.done = True
        else:
            self.run = self._submit(job)

    def advance(self) -> bool:
        """Waits for the end of the run, processes its log and submits the next job. False if the search is over.

        Raises:
            RunFailed: The model's output is not text.
            Exception: The run's own error.
        """
        assert self.run is not None, "start the search first"
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
        """Runs the whole search and waits for its end. Raises the errors of `advance`."""
        self.start()
        while not self.done:
            self.advance()

    def stop(self) -> None:
        """Ends the search within a denoising step. The text so far is its result."""
        self.stopping = True
        if self.run is not None:
            self.run.control.cancel()
