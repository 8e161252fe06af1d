"""Stable and confident: the draft has not changed for some steps and the free positions are certain."""

import torch


class StableAndConfident:
    """Decides when the drafts of B canvases of C positions are done.

    A canvas is done when its argmax draft equals those of the last `stability` steps and the mean entropy of its *free*
    positions is under `confidence` nats. Over all positions, a mostly pinned canvas would be done far too early.
    """

    def __init__(self, stability: int, confidence: float) -> None:
        self.stability, self.confidence = stability, confidence
        self._history: list[torch.Tensor] = []

    def update(self, draft: torch.Tensor, mean_entropy: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Which rows are done, (len(rows),) bool, after a step that gave `draft` (B, C).

        `rows` are the canvases that took the step; `mean_entropy` (len(rows),) is over their free positions.
        """
        confident = mean_entropy < self.confidence
        stable = torch.full_like(confident, len(self._history) >= self.stability)
        for earlier in self._history:
            stable &= (earlier[rows] == draft[rows]).all(-1)
        if self.stability:
            self._history = [*self._history, draft][-self.stability :]
        return stable & confident
