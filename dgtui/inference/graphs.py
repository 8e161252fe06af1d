"""A step as a captured CUDA graph: one launch instead of several hundred.

Only the model thread may capture and replay, because the state of a capture belongs to its thread. Capturing executes
nothing; whatever changes from step to step is in tensors at fixed addresses. None of this has run on a GPU yet: the
tests show on the CPU that a step never synchronises and has static shapes, as a capture requires.
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from dgtui.inference.stepper import State

BUCKET = 256
"""KV buffers are rounded up to a multiple of this many positions, so blocks of similar length share a graph."""
_KEPT = 4
# Number of graphs to keep: a conversation grows from one bucket into the next and does not return.


@dataclass(frozen=True, slots=True, eq=False)
class _Captured:
    graph: torch.cuda.CUDAGraph
    result: torch.Tensor
    owners: tuple[object, ...]
    "kept alive: the graph reads their tensors, and no other object may get their id"


class Graphs:
    """Captures a step's work the first time, and replays it as long as its tensors keep their addresses."""

    def __init__(self) -> None:
        self._captured: dict[Hashable, _Captured] = {}

    def __call__(
        self, work: Callable[[], torch.Tensor], state: "State", reads: tuple[object, ...], settings: Hashable
    ) -> torch.Tensor:
        """The result of `work`, which changes `state` in place, reads the tensors of `reads`, and depends on
        `settings`."""
        key = (*map(id, (state, *reads)), settings)
        if key not in self._captured:
            self._captured[key] = _Captured(*self._capture(work, state), (state, *reads))
            while len(self._captured) > _KEPT:
                del self._captured[next(iter(self._captured))]
        captured = self._captured[key]
        captured.graph.replay()
        return captured.result

    def forget(self) -> None:
        """Frees all graphs and their memory."""
        self._captured.clear()

    @staticmethod
    def _capture(work: Callable[[], torch.Tensor], state: "State") -> tuple[torch.cuda.CUDAGraph, torch.Tensor]:
        before = state.clone()
        aside: Any = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(2):  # compiles kernels and lets libraries allocate memory before the capture
                work()
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            result = work()
        state.load(before)
        return graph, result
