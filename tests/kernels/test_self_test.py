"""Kernels that cannot run, or are wrong, are not used, and the reason is told."""

import dataclasses
import shutil
import sys
from collections.abc import Iterator

import pytest
import torch
from weights import random_weight

from dgtui.kernels import availability, ops, self_test, tiles
from dgtui.kernels.self_test import Outcome, Widths

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)
WIDTHS = Widths(hidden=64, experts=4, top=2, vocabulary=2500, softcap=30.0, attention=((2, 1, 32),))


def check(operations: ops.Ops = ops.TRITON) -> Outcome:
    experts = [(random_weight("nf4", 4, 128, 64), random_weight("nf4", 4, 64, 64))]
    return self_test.check(operations, WIDTHS, CPU, experts, [random_weight("nvfp4", 1, 64, 64)])


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """A machine with an H100, as far as is asked."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.delenv("CC", raising=False)
    tiles.architecture.cache_clear()
    availability.broken_triton.cache_clear()
    yield monkeypatch
    tiles.architecture.cache_clear()
    availability.broken_triton.cache_clear()


def test_the_kernels_pass_at_the_widths_of_a_model() -> None:
    outcome = check()
    assert outcome.failure is None
    assert max(outcome.errors.values()) <= 5e-3


def test_the_references_pass_too() -> None:
    assert check(ops.TORCH).failure is None


@pytest.mark.parametrize("name", ["experts", "linear", "gated", "residual_norm", "rotate", "route", "sample", "accept"])
def test_a_wrong_kernel_is_found(name: str) -> None:
    """Each result is a little off: ids by one, numbers by 2%."""
    right = getattr(ops.TORCH, name)

    def off(value: object) -> object:
        if isinstance(value, torch.Tensor):
            return value * 1.02 if value.is_floating_point() else value ^ 1
        if isinstance(value, list | tuple):
            return type(value)(map(off, value))
        fields = {each.name: off(getattr(value, each.name)) for each in dataclasses.fields(value)}  # type: ignore[arg-type]
        return type(value)(**fields)

    wrong = dataclasses.replace(ops.TORCH, **{name: lambda *given: off(right(*given))})
    failure = check(wrong).failure
    assert failure is not None
    assert "an error of" in failure


def test_nan_is_found() -> None:
    wrong = dataclasses.replace(ops.TORCH, linear=lambda x, weight: x.new_full((len(x), 64), torch.nan))
    assert check(wrong).failure == "linear, E2M1: an error of nan"


def test_a_kernel_that_does_not_compile_is_told_in_one_line() -> None:
    def broken(*given: object) -> torch.Tensor:
        raise RuntimeError("ptxas exited with 255\n.version 9.0\n.target sm_90a")

    assert check(dataclasses.replace(ops.TORCH, gated=broken)).failure == "gated: RuntimeError: ptxas exited with 255"


def test_a_capable_gpu_is_used(gpu: pytest.MonkeyPatch) -> None:
    assert availability.unavailable(CUDA) is None


def test_without_a_gpu_there_are_no_kernels() -> None:
    assert availability.unavailable(CPU) == "no NVIDIA GPU"


def test_an_old_card_is_told_apart(gpu: pytest.MonkeyPatch) -> None:
    gpu.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    assert availability.unavailable(CUDA) == "the GPU has compute capability 7.5, but the kernels need 8.0"


def test_a_missing_compiler_is_told(gpu: pytest.MonkeyPatch) -> None:
    gpu.setattr(shutil, "which", lambda name: None)
    assert availability.unavailable(CUDA) == "there is no C compiler: Triton needs gcc or clang"
    gpu.setenv("CC", "/opt/cc")
    assert availability.unavailable(CUDA) == "the C compiler /opt/cc (CC) cannot be found"


def test_a_missing_triton_is_told(gpu: pytest.MonkeyPatch) -> None:
    gpu.setitem(sys.modules, "triton", None)
    assert availability.unavailable(CUDA) == "Triton is not installed"


def test_a_broken_triton_is_told(gpu: pytest.MonkeyPatch) -> None:
    gpu.delitem(sys.modules, "triton")

    class Broken:
        def find_spec(self, name: str, path: object = None, target: object = None) -> None:
            if name == "triton":
                raise OSError("libtriton.so: undefined symbol")

    gpu.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    assert availability.unavailable(CUDA) == "Triton is broken: OSError: libtriton.so: undefined symbol"
