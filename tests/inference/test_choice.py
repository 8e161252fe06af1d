"""A way that does not work here is passed over, the next one runs, and the reason is said."""

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from checkpoints import tiny_checkpoint

from dgtui.diffusion import engine
from dgtui.diffusion.events import Finished
from dgtui.diffusion.job import Job
from dgtui.inference import choice
from dgtui.inference.choice import Unavailable, check_grouped, open_stepper
from dgtui.inference.cpu import CPU
from dgtui.kernels import availability
from dgtui.model.catalog import resolve
from dgtui.model.loader import LoadedModel, load
from dgtui.model.parts import LoadOptions


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return load(resolve(str(tiny_checkpoint(tmp_path_factory.mktemp("model")))), LoadOptions(device="cpu"))


class OnGpu:
    """A model on the CPU that says it is on a GPU, as far as the choice asks; its steppers run on the CPU."""

    def __init__(self, loaded: LoadedModel) -> None:
        self.model, self.stop_ids, self.plan = loaded.model, loaded.stop_ids, loaded.plan
        self.device, self.dtype = torch.device("cuda", 0), torch.bfloat16


@pytest.fixture
def gpu(loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> Any:
    """An H100 with a C compiler and Triton, where PyTorch's grouped product works."""
    monkeypatch.setattr(availability, "architecture", lambda device: 90)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: (8, 0))
    monkeypatch.setattr(choice, "check_grouped", lambda device, dtype: None)
    monkeypatch.setattr(choice, "self_check", lambda model, device, ops: "experts: an error of 3.0e-02")
    return OnGpu(loaded)


def runs(stepper: Any) -> bool:
    *_, last = engine.run(stepper, Job("a job", tuple(range(10, 30)), 1, 8))
    return isinstance(last, Finished)


def test_on_the_cpu_the_own_forward_runs(loaded: LoadedModel) -> None:
    opened = open_stepper(loaded)
    assert (opened.stepper.name, opened.reason) == ("device-cpu", "")
    assert runs(opened.stepper)


def test_the_reference_runs_where_it_is_asked_for(loaded: LoadedModel) -> None:
    opened = open_stepper(loaded, "reference")
    assert (opened.stepper.name, opened.reason) == ("reference", "")
    assert runs(opened.stepper)


def test_a_way_for_a_gpu_on_the_cpu_falls_to_one_that_works_and_says_why(loaded: LoadedModel) -> None:
    opened = open_stepper(loaded, "triton")
    assert opened.stepper.name == "device-cpu"
    assert "triton is not used: no NVIDIA GPU" in opened.reason
    assert runs(opened.stepper)


def test_a_model_held_in_bfloat16_on_the_cpu_runs_on_the_reference(loaded: LoadedModel) -> None:
    other: Any = SimpleNamespace(
        device=loaded.device, dtype=torch.bfloat16, model=loaded.model, stop_ids=loaded.stop_ids, plan=loaded.plan
    )
    opened = open_stepper(other)
    assert opened.stepper.name == "reference" and "bfloat16" in opened.reason


def test_products_in_bfloat16_run_where_the_cpu_has_them_and_they_are_asked_for(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": False, "amx_bf16": False})
    without = open_stepper(loaded, "cpu-bf16")
    assert without.stepper.name == "device-cpu"
    assert without.reason == "cpu-bf16 is not used: the CPU has neither AVX512-BF16 nor AMX"
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    assert open_stepper(loaded).stepper.name == "device-cpu"
    opened = open_stepper(loaded, "cpu-bf16")
    assert (opened.stepper.name, opened.reason) == ("device-cpu-bf16", "")
    assert runs(opened.stepper)
    found: list[torch.Tensor] = []
    for stepper in (without.stepper, opened.stepper):
        stepper.encode(list(range(10, 40)))
        ids = torch.arange(50, 50 + stepper.canvas_length).unsqueeze(0)
        found.append(stepper.denoiser.logits(ids, None))  # type: ignore[attr-defined]
    difference = (found[0] - found[1]).norm() / found[0].norm()
    assert 1e-5 < difference < 3e-2


def test_a_broken_triton_leaves_the_grouped_product(gpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(availability, "broken_triton", lambda: "Triton is broken: ImportError: libcuda.so.1")
    opened = open_stepper(gpu)
    assert opened.stepper.name == "device-grouped"
    assert opened.reason == "triton is not used: Triton is broken: ImportError: libcuda.so.1"
    assert runs(opened.stepper)


def test_an_old_gpu_leaves_the_grouped_product(gpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(availability, "architecture", lambda device: 75)
    opened = open_stepper(gpu)
    assert opened.stepper.name == "device-grouped"
    assert "the GPU has compute capability 7.5, but the kernels need 8.0" in opened.reason
    assert runs(opened.stepper)


def test_no_c_compiler_leaves_the_grouped_product(gpu: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    opened = open_stepper(gpu)
    assert opened.stepper.name == "device-grouped"
    assert "no C compiler" in opened.reason


def test_a_kernel_that_is_wrong_is_not_used(gpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "/bin/sh")
    opened = open_stepper(gpu)
    assert opened.stepper.name == "device-grouped"
    assert "its self-test failed: experts: an error of 3.0e-02" in opened.reason


def test_where_the_grouped_product_fails_too_the_reference_runs(gpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(device: torch.device, dtype: torch.dtype) -> None:
        raise Unavailable("PyTorch's grouped product fails (no kernel image)")

    monkeypatch.setattr(availability, "architecture", lambda device: 75)
    monkeypatch.setattr(choice, "check_grouped", fails)
    opened = open_stepper(gpu)
    assert opened.stepper.name == "reference"
    assert "compute capability 7.5" in opened.reason and "no kernel image" in opened.reason
    assert runs(opened.stepper)


def test_where_nothing_can_be_captured_steps_run_without_a_graph(gpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The capture fails: what stands for a GPU here has none."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: (9, 0))
    monkeypatch.setattr(availability, "architecture", lambda device: 75)
    opened = open_stepper(gpu)
    assert opened.stepper.name == "device-grouped"
    assert "steps are not captured in a CUDA graph: " in opened.reason
    assert runs(opened.stepper)


def test_the_doctor_says_where_nothing_can_be_captured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(availability, "unavailable", lambda device: None)
    name, why = choice.expected(torch.device("cuda", 0))
    assert name == "triton" and why.startswith("steps are not captured in a CUDA graph: ")


def test_a_grouped_product_that_is_wrong_or_fails_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    check_grouped(torch.device("cpu"), torch.float32)
    product = torch.nn.functional.grouped_mm

    def wrong(x: torch.Tensor, stack: torch.Tensor, offs: torch.Tensor) -> torch.Tensor:
        return product(x, stack.flip(0), offs=offs)

    def missing(*_: object, **__: object) -> torch.Tensor:
        raise RuntimeError("no kernel image is available\nmore")

    for broken, said in ((wrong, "an error of"), (missing, r"\(no kernel image is available\)")):
        monkeypatch.setattr(torch.nn.functional, "grouped_mm", broken)
        with pytest.raises(Unavailable, match=said):
            check_grouped(torch.device("cpu"), torch.float32)


def test_the_reason_is_among_the_notes_of_the_model(loaded: LoadedModel) -> None:
    from dgtui.worker import best_stepper

    before = loaded.notes
    try:
        assert best_stepper(loaded, "triton").name == "device-cpu"
        why = open_stepper(loaded, "triton").reason
        assert loaded.notes[len(before) :] == (why,)
        assert loaded.slow == why
    finally:
        loaded.notes, loaded.slow = before, ""


def test_ops_of_the_cpu_name_themselves() -> None:
    assert CPU.name == "cpu" and {field.name for field in dataclasses.fields(CPU)} > {"experts", "sample"}
