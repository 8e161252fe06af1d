"""Steps are captured once for each number of candidates and repeated from then on; what fails runs without a graph."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from test_stepper import CANVAS, SETTINGS, Job, Start, job, pinned_start, run, same, stepper

from dgtui.diffusion.log import RunLog
from dgtui.inference.graphs import Graphs, trouble
from dgtui.inference.stepper import DeviceStepper
from dgtui.kernels.ops import TORCH


class Repeating:
    """Stands in for CUDA graphs: a replay does the captured work again."""

    def __init__(self) -> None:
        self.done: list[str] = []

    def warm_up(self, work: Callable[[], torch.Tensor]) -> torch.Tensor:
        self.done.append("warm up")
        return work()

    def capture(self, work: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor]:
        self.done.append("capture")

        def replay() -> torch.Tensor:
            self.done.append("replay")
            return work()

        return replay


class Failing(Repeating):
    """Captures end as they do where an operation waits for the device."""

    def capture(self, work: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor]:
        super().capture(work)
        raise RuntimeError("operation not permitted when stream is capturing\nmore")


def captured(graphs: Graphs | None) -> DeviceStepper:
    own = stepper(ops=TORCH)
    own._graphs = graphs
    return own


def equal(a: RunLog, b: RunLog) -> None:
    assert len(a) == len(b) > SETTINGS.steps
    for candidate in range(len(a.job.starts)):
        pairs = list(zip(a.frames(candidate=candidate), b.frames(candidate=candidate), strict=True))
        assert all(same(one, other) for one, other in pairs)
        assert all(np.array_equal(one.entropy, other.entropy) for one, other in pairs)


@pytest.fixture(scope="module")
def two() -> Job:
    """Two candidates over three blocks of one bucket."""
    return job(pinned_start(2), Start(), max_tokens=CANVAS)


def test_steps_of_several_candidates_are_captured_once_and_give_the_same_frames(two: Job) -> None:
    recorder = Repeating()
    own, plain = captured(Graphs(recorder)), captured(None)
    for seed in (3, 4):
        made = job(pinned_start(2), Start(), seed=seed)
        equal(run(made, own), run(made, plain))
    assert recorder.done == ["warm up", "capture", *["replay"] * (2 * SETTINGS.steps - 1)]


def test_each_number_of_candidates_has_its_own_graph() -> None:
    recorder = Repeating()
    own = captured(Graphs(recorder))
    for count in (2, 1, 2, 1):
        run(job(*[Start()] * count), own)
    # buffers are made again when the number changes
    assert recorder.done.count("capture") == 4
    state = own._states
    assert {rows: len(each.ids) for rows, each in state.items() if rows} == {1: 1, 2: 2}


def test_a_capture_that_fails_is_reported_once_and_steps_go_on_without_one(two: Job) -> None:
    recorder, said = Failing(), list[str]()
    own = captured(Graphs(recorder, said.append))
    equal(run(two, own), run(two, captured(None)))
    run(two, own)
    assert said == ["steps are not captured in a CUDA graph: operation not permitted when stream is capturing"]
    assert recorder.done == ["warm up", "capture"]


def test_whether_a_device_captures_is_tried() -> None:
    cpu = torch.device("cpu")
    assert "operation not permitted" in trouble(cpu, Failing())
    assert trouble(cpu, Repeating()) == ""
    assert trouble(cpu).startswith("steps are not captured in a CUDA graph: ")
