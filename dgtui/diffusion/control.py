"""Steers a running job: flags and amendments, read between denoising steps. Safe from any thread."""

import threading
import time
from collections import deque
from collections.abc import Callable

from dgtui.diffusion.job import Amendment


class Control:
    """Held by the caller that steers the run; the engine reads it before every step."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._cancelled = False
        self._paused = False
        self._single = 0
        self._paused_seconds = 0.0
        self._interrupt: Callable[[], None] = lambda: None
        self._amendments: deque[Amendment] = deque()

    @property
    def cancelled(self) -> bool:
        """The run was asked to stop."""
        return self._cancelled

    @property
    def paused(self) -> bool:
        """The run waits before its next step."""
        return self._paused

    @property
    def paused_seconds(self) -> float:
        """How long the run has waited in `wait` so far."""
        return self._paused_seconds

    def cancel(self) -> None:
        """Ends the run before its next step, or in the middle of one that waits for another machine."""
        with self._changed:
            self._cancelled = True
            self._changed.notify_all()
            interrupt = self._interrupt
        interrupt()

    def on_cancel(self, interrupt: Callable[[], None]) -> None:
        """Sets the function that `cancel` calls; calls it at once if `cancel` was already called."""
        with self._changed:
            self._interrupt = interrupt
            cancelled = self._cancelled
        if cancelled:
            interrupt()

    def pause(self) -> None:
        """Pauses the run before its next step."""
        with self._changed:
            self._paused = True

    def resume(self) -> None:
        """Continues a paused run."""
        with self._changed:
            self._paused, self._single = False, 0
            self._changed.notify_all()

    def step(self) -> None:
        """Lets a paused run take one step. No effect on a run that is not paused."""
        with self._changed:
            self._single += self._paused
            self._changed.notify_all()

    def amend(self, amendment: Amendment) -> None:
        """Changes a position before the next step, also while the run is paused."""
        with self._changed:
            self._amendments.append(amendment)
            self._changed.notify_all()

    def wait(self) -> tuple[list[Amendment], bool]:
        """Blocks while the run is paused and no amendment arrives. Returns new amendments, and whether to take a step.

        Call it again until it returns True, which it also does when the run is cancelled.
        """
        with self._changed:
            began = time.perf_counter()
            self._changed.wait_for(lambda: self._amendments or self._cancelled or not self._paused or self._single)
            self._paused_seconds += time.perf_counter() - began
            amendments = list(self._amendments)
            self._amendments.clear()
            go = self._cancelled or not self._paused
            if not go and self._single:
                self._single -= 1
                go = True
            return amendments, go
