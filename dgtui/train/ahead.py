"""The data of the steps to come, prepared by other processes while the model trains."""

from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context

import torch

from dgtui.train.packed import Pack


class Ahead:
    """Packs of the steps to come, prepared by other processes.

    Args:
        of: step → its packs; a partial of `packs`.
        workers: Processes; 0: every call prepares its own.
    """

    def __init__(self, of: Callable[[int], list[Pack]], workers: int) -> None:
        self._of, self._ahead = of, 2 * workers
        self._pool = ProcessPoolExecutor(workers, get_context("spawn"), _one_thread) if workers else None
        self._coming: dict[int, Future[list[Pack]]] = {}

    def __call__(self, step: int) -> list[Pack]:
        """The packs of a step."""
        if self._pool is None:
            return self._of(step)
        for later in range(step, step + self._ahead + 1):
            if later not in self._coming:
                self._coming[later] = self._pool.submit(self._of, later)
        return self._coming.pop(step).result()

    def close(self) -> None:
        """Ends the processes."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)


def _one_thread() -> None:
    torch.set_num_threads(1)
    torch.multiprocessing.set_sharing_strategy("file_system")  # type: ignore[no-untyped-call]
