"""A GPU that is there and cannot be used is not taken by itself, and a person who asks for it is told why."""

from typing import Any

import pytest
import torch

from dgtui.errors import ModelUnloadable
from dgtui.model import devices

FULL = torch.AcceleratorError("CUDA error: out of memory\nCUDA kernel errors might be reported elsewhere")
OLD = torch.AcceleratorError("CUDA error: no kernel image is available for execution on the device")


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A machine with one GPU, as far as PyTorch says."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(torch, "ones", lambda size, device: torch.zeros(size))
    return monkeypatch


def raising(error: BaseException) -> Any:
    def fail(*given: Any, **named: Any) -> None:
        raise error

    return fail


@pytest.fixture
def current(gpu: pytest.MonkeyPatch) -> list[torch.device]:
    """The GPUs that were made the thread's own."""
    made: list[torch.device] = []
    gpu.setattr(torch.cuda, "set_device", made.append)
    return made


def test_a_gpu_that_works_is_taken(gpu: pytest.MonkeyPatch, current: list[torch.device]) -> None:
    gpu.setattr(torch.cuda, "device_count", lambda: 2)
    wanted = {"auto": 0, "cuda": 0, "cuda:1": 1}
    for name, index in wanted.items():
        assert devices.choose_device(name) == torch.device("cuda", index)
    assert [device.index for device in current] == [*wanted.values()]


def test_apples_gpu_has_a_part_of_the_memory(gpu: pytest.MonkeyPatch) -> None:
    gpu.setattr(torch.mps, "recommended_max_memory", lambda: 3_000_000)
    gpu.setattr(torch.mps, "driver_allocated_memory", lambda: 1_000_000)
    assert devices.available(torch.device("mps")) == 2_000_000 < devices.available(torch.device("cpu"))


@pytest.mark.parametrize("error", [FULL, OLD])
def test_a_gpu_that_does_not_is_left_alone_unless_it_was_asked_for(
    error: RuntimeError, gpu: pytest.MonkeyPatch, current: list[torch.device]
) -> None:
    gpu.setattr(torch, "ones", raising(error))
    assert devices.choose_device("auto") == torch.device("cpu")
    with pytest.raises(ModelUnloadable) as caught:
        devices.choose_device("cuda:0")
    assert str(error).splitlines()[0] in caught.value.message and "elsewhere" not in caught.value.message
    assert "--device cpu" in caught.value.hint and current == []
