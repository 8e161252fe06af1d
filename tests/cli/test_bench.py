"""What `dgtui bench` promises: both sides, the memory, and the floor of the machine that they ran on."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from dgtui.cli import bench_floor
from dgtui.cli.bench import measure
from dgtui.inference.profile import PARTS
from dgtui.model.catalog import resolve
from dgtui.model.geometry import read_geometry
from dgtui.model.loader import load
from dgtui.model.parts import LoadOptions, Packing
from dgtui.model.plan import estimate
from dgtui.model.random_weights import RandomWeights

REAL = Path(__file__).parent.parent / "data" / "diffusiongemma-26B-A4B-it" / "config.json"
CPU = torch.device("cpu")


def test_both_sides_are_measured_beside_the_floor(dgtui: Any, tiny: Path) -> None:
    args = ("bench", "--pairs", "1", "--steps", "2", "--seed", "1", "--model", tiny)
    found = dgtui(*args, "--json").json
    assert found["same_tokens"] is True
    assert set(found["step_ms"]) == {"dgtui", "reference", "transformers"}
    assert (found["stepper"], found["reason"]) == ("device-cpu", "")
    assert set(found["parts_ms"]) == set(PARTS) and min(found["parts_ms"].values()) > 0
    assert found["prefill_tokens_per_second"] > 0
    assert found["tokens_per_second_at"]["20"] == pytest.approx(20_000 / found["step_ms"]["dgtui"], rel=0.01)
    assert found["step_ratio"] == pytest.approx(found["step_ms"]["dgtui"] / found["step_ms"]["transformers"], rel=0.01)
    assert found["memory_gb"] > 0 and found["answer"]["tokens_per_second"] >= 0
    floor = found["floor"]
    assert 0 < floor["ms"] < found["step_ms"]["dgtui"]
    assert floor["ms"] == pytest.approx(sum(floor["parts_ms"].values()), abs=0.01)
    text = dgtui(*args).out.decode()
    assert "lower bound of a step" in text and "GB/s" in text and "TFLOP/s" in text


def test_it_says_how_far_it_is_and_ends_where_it_is_told_to(tiny: Path) -> None:
    said: list[str] = []

    def progress(text: str) -> None:
        said.append(text)
        if len(said) == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure(load(resolve(str(tiny)), LoadOptions(device="cpu")), progress, pairs=9, steps=1, seed=1)
    assert said[0] == "warming up: dgtui" and said[3].startswith("pair 1 of 9")


@pytest.mark.parametrize(("packing", "size"), [(Packing(nf4=True), 16.9), (Packing(), 52.0)])
def test_the_floor_counts_what_a_step_reads_and_multiplies(
    packing: Packing, size: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At full size: experts, attention and dense MLP as they are held, the embedding twice; eight of 128 experts."""
    geometry: Any = read_geometry(json.loads(REAL.read_text()))
    tensors = RandomWeights(geometry, CPU).tensors
    taken = estimate(geometry, tensors, packing, torch.bfloat16)
    numbers = [(name, entry.elements) for name, entry in tensors.items()]

    def floor(bandwidth: float, rate: float) -> dict[str, Any]:
        monkeypatch.setattr(bench_floor, "_rates", lambda device, dtype: (bandwidth, rate))
        return bench_floor.measure(taken, numbers, geometry, CPU, torch.bfloat16)

    slow_memory = floor(1e12, 1e18)
    assert slow_memory["read_bytes"] / 1e9 == pytest.approx(size, abs=0.2)
    assert slow_memory["bound_by"] == "memory" and slow_memory["ms"] == pytest.approx(size, abs=0.2)
    slow_arithmetic = floor(1e18, 1e14)
    assert slow_arithmetic["flop"] == pytest.approx(2 * 256 * (1.11 + 0.54 + 22.84 / 16 + 2 * 0.74) * 1e9, rel=0.02)
    assert slow_arithmetic["bound_by"] == "arithmetic"
    assert slow_arithmetic["ms"] == pytest.approx(slow_arithmetic["flop"] / 1e11, rel=1e-3)
    beside = estimate(geometry, tensors, Packing(nf4=packing.nf4, streamed=3), torch.bfloat16)
    assert sum(beside.weights.values()) + beside.streamed == sum(taken.weights.values())


def test_random_weights_are_measured_beside_their_plan(dgtui: Any, tiny: Path) -> None:
    args = ("bench", "--random-weights", tiny, "--context", "100", "--steps", "2", "--device", "cpu")
    found = dgtui(*args, "--json").json
    assert found["floor"]["ms"] > 0 and found["planned_peak_bytes"] > found["planned_weights_bytes"] > 0
    assert found["peak_reserved_bytes"] is None
    assert (found["stepper"], found["reason"]) == ("device-cpu", "")
    assert set(found["parts_ms"]) == set(PARTS) and found["reference_step_ms"] > 0
    assert found["prefill_tokens_per_second"] > 0
    assert found["tokens_per_second_at"]["15"] == pytest.approx(15_000 / found["step_ms"], rel=0.01)
    text = dgtui(*args).out.decode()
    assert "planned" in text and "lower bound of a step" in text and "None" not in text


@pytest.mark.parametrize("context", [30, 10**6])
def test_a_context_that_the_geometry_cannot_have_is_refused(context: int, dgtui: Any, tiny: Path) -> None:
    done = dgtui("bench", "--random-weights", tiny, "--context", str(context), "--device", "cpu")
    assert (done.code, done.out) == (2, b"") and f"--context {context}" in done.err


def test_memory_that_runs_out_is_exit_5(dgtui: Any, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: RandomWeights, name: str) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.88 GiB.")

    monkeypatch.setattr(RandomWeights, "pieces", full)
    done = dgtui("bench", "--random-weights", tiny / "config.json", "--context", "100", "--device", "cpu")
    assert (done.code, done.out) == (5, b"") and "out of memory" in done.err
