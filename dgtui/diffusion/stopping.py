"""Stable and confident: the draft has not changed for some steps and the free positions are certain."""

import torch


class StableAndConfident:
    """Watches the drafts of B canvases of C positions.

    Stops a canvas when its argmax draft equals those of the last `stability` steps and the mean entropy over its *free*
    positions is under `confidence` nats. (Over all positions, a canvas that is mostly pinned would stop far too early.)
    """

    def __init__(self, stability: int, confidence: float) -> None:
        self.stability, self.confidence = stability, confidence
        self._history: list[torch.Tensor] = []

    def update(self, draft: torch.Tensor, mean_entropy: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """The rows that are done, (len(rows),) bool, after a step that gave `draft` (B, C).

        `mean_entropy` (len(rows),) is over the free positions of the rows of `draft` that are still running.
        """
        confident = mean_entropy < self.confidence
        stable = torch.full_like(confident, len(self._history) >= self.stability)
        for earlier in self._history:
            stable &= (earlier[rows] == draft[rows]).all(-1)
        if self.stability:
            self._history = [*self._history, draft][-self.stability :]
        return stable & confident
