"""Chooses the step of a run to show: the newest, or one after the other at a readable pace."""

import time
from collections.abc import Callable
from typing import Final

PACES: Final = (0, 100, 250, 500, 1000)
"""The paces that the key cycles through, in milliseconds; 0: live."""


class Player:
    """Plays a run, which may still grow.

    Args:
        pace: Least milliseconds to show each step; 0: always the newest step.
    """

    def __init__(self, pace: int = 0, clock: Callable[[], float] = time.monotonic) -> None:
        self.pace = pace
        self._clock = clock
        self._shown = -1
        self._since = float("-inf")

    def restart(self) -> None:
        """Starts another run with its first step."""
        self._shown, self._since = -1, float("-inf")

    def advance(self, steps: int) -> None:
        """Moves to the next step if it is due. Only for the moment before a step is drawn: no step is skipped then."""
        now = self._clock()
        if self.pace and self._shown < steps - 1 and now - self._since >= self.pace / 1000:
            self._shown, self._since = self._shown + 1, now

    def at(self, steps: int) -> int | None:
        """The index of the step to show; None: the newest."""
        return self._shown if self.pace and 0 <= self._shown < steps - 1 else None

    def behind(self, steps: int) -> int:
        """How many steps remain to be shown."""
        return max(0, steps - 1 - max(0, self._shown)) if self.pace else 0

    @property
    def wait(self) -> float:
        """Seconds until the next step may be shown."""
        return max(0.0, self._since + self.pace / 1000 - self._clock())

    def next_pace(self) -> int:
        """Changes to the next slower pace, or from the slowest to live. The shown step does not change."""
        self.pace = next((pace for pace in PACES if pace > self.pace), 0)
        return self.pace
