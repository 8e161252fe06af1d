"""A step as a captured CUDA graph: one launch instead of several hundred.

Only the model thread may capture and replay, because the state of a capture belongs to its thread. Capturing executes
nothing; whatever changes from step to step is in tensors at fixed addresses. If a capture fails, steps run without
graphs from then on. None of this has run on a GPU yet: the tests show on the CPU that a step never synchronises and
has static shapes, as a capture requires.
"""

from collections.abc import Callable, Hashable
from typing import Any, Final

import torch

BUCKET: Final = 1024
"""KV buffers are rounded up to a multiple of this many positions, so blocks of similar length share a graph. It is the
sliding window of the published model."""
_KEPT: Final = 16
# Number of graphs to keep: one for each number of running candidates.

Work = Callable[[], torch.Tensor]


class Graphs:
    """Does a step's work the first time, captures it the second time, and then replays it as long as its tensors keep
    their addresses."""

    def __init__(
        self, recorder: "CudaRecorder | None" = None, report: Callable[[str], None] = lambda why: None
    ) -> None:
        """
        Args:
            recorder: CUDA graphs by default.
            report: Called once, with the reason, if steps can no longer be captured.
        """
        self._recorder = recorder or CudaRecorder()
        self._report = report
        self._failed = False
        self._reads: tuple[object, ...] = ()
        self._captured: dict[Hashable, tuple[object, Work | None]] = {}
        "with the state of each, kept alive so no other object can get its id"

    def __call__(self, work: Work, state: object, reads: tuple[object, ...], settings: Hashable) -> torch.Tensor:
        """The result of `work`, which changes `state` in place, reads the tensors of `reads`, and depends on
        `settings`. Graphs of other `reads` are freed."""
        if self._failed:
            return work()
        if len(reads) != len(self._reads) or any(a is not b for a, b in zip(reads, self._reads, strict=True)):
            self.forget()
            self._reads = reads
        key = (id(state), settings)
        if key not in self._captured:
            while len(self._captured) >= _KEPT:
                del self._captured[next(iter(self._captured))]
            self._captured[key] = (state, None)
            return self._recorder.warm_up(work)
        captured = self._captured[key][1]
        if captured is None:
            try:
                captured = self._recorder.capture(work)
            except Exception as error:  # the driver, the compiler and the libraries raise anything
                self._failed = True
                self.forget()
                self._report(f"steps are not captured in a CUDA graph: {_first_line(error)}")
                return work()
            self._captured[key] = (state, captured)
        return captured()

    def forget(self) -> None:
        """Frees all graphs and their memory."""
        self._captured.clear()
        self._reads = ()


class CudaRecorder:
    """CUDA graphs. They share their memory: only one runs at a time, and its result is read before the next runs."""

    def __init__(self) -> None:
        self._stream: Any = None
        self._pool: Any = None

    def warm_up(self, work: Work) -> torch.Tensor:
        """Does the work once on the captures' stream: kernels are compiled and libraries allocate their memory."""
        if self._stream is None:
            self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            self._pool = torch.cuda.graph_pool_handle()
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            result = work()
        torch.cuda.current_stream().wait_stream(self._stream)
        return result

    def capture(self, work: Work) -> Work:
        """Records the work without doing it, and returns a function that does it. May raise any exception."""
        graph, before = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
        try:
            # Other threads may use the GPU meanwhile
            with torch.cuda.graph(graph, self._pool, self._stream, capture_error_mode="thread_local"):
                result = work()
        finally:  # a failed capture leaves its stream current
            torch.cuda.set_stream(before)

        def replay() -> torch.Tensor:
            graph.replay()
            return result

        return replay


def trouble(device: torch.device, recorder: CudaRecorder | None = None) -> str:
    """The reason why steps cannot be captured on a device; empty if they can."""
    found: list[str] = []
    try:
        graphs, x = Graphs(recorder, found.append), torch.zeros(8, device=device)
        for _ in range(2):
            graphs(lambda: x.add_(1), x, (), ())
        if not found and float(x.sum()) != 16:
            found.append("steps are not captured in a CUDA graph: a captured sum is wrong")
    except Exception as error:  # as above
        found.append(f"steps are not captured in a CUDA graph: {_first_line(error)}")
    return "".join(found)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), "") or type(error).__name__
