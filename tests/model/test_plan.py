"""What a model will take is known before it is loaded, and the best way of holding it that fits is taken."""

import json
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from dgtui.errors import OutOfMemory
from dgtui.model import devices
from dgtui.model.formats import GGUF, NF4_DOUBLE
from dgtui.model.geometry import read_geometry
from dgtui.model.parts import Packing, experts_layer, held_formats
from dgtui.model.plan import Estimate, Plan, choose, estimate
from dgtui.model.random_weights import RandomWeights
from dgtui.model.stored import StoredTensor

REAL = Path(__file__).parent.parent / "data" / "diffusiongemma-26B-A4B-it" / "config.json"
CUDA = torch.device("cuda", 0)
GB = 10**9


@pytest.fixture(scope="module")
def geometry() -> Any:
    return read_geometry(json.loads(REAL.read_text()))


@pytest.fixture(scope="module")
def tensors(geometry: Any) -> Mapping[str, StoredTensor]:
    """The names and shapes of the published checkpoint, without a byte of it."""
    return RandomWeights(geometry, torch.device("cpu")).tensors


def taken(geometry: Any, tensors: Mapping[str, StoredTensor], packing: Packing) -> Estimate:
    return estimate(geometry, tensors, packing, torch.bfloat16)


# The real geometry, against what was counted from its config by hand


def test_the_real_geometry_in_full(geometry: Any, tensors: Mapping[str, StoredTensor]) -> None:
    weights = taken(geometry, tensors, Packing()).weights
    for part, numbers in {
        "experts": 22.84,
        "attention": 1.11,
        "dense MLP": 0.54,
        "embedding": 0.74,
        "vision": 0.57,
    }.items():
        assert weights[part] / 2 / GB == pytest.approx(numbers, abs=0.006), part
    assert sum(weights.values()) / GB == pytest.approx(51.6, abs=0.1)


@pytest.mark.parametrize(
    ("packing", "experts", "total"),
    [
        (Packing(nf4=True), 12.85, 16.4),
        (Packing(nf4=True, double=True), 11.78, 15.3),
        (Packing(nf4=True, vision=False), 12.85, 15.3),
    ],
)
def test_the_real_geometry_in_nf4(
    packing: Packing, experts: float, total: float, geometry: Any, tensors: Mapping[str, StoredTensor]
) -> None:
    found = taken(geometry, tensors, packing)
    assert found.weights["experts"] / GB == pytest.approx(experts, abs=0.01)
    assert sum(found.weights.values()) / GB == pytest.approx(total, abs=0.06)


def test_the_real_geometrys_keys_and_values(geometry: Any, tensors: Mapping[str, StoredTensor]) -> None:
    def prefix(context: int, snapshots: int) -> float:
        return estimate(geometry, tensors, Packing(), torch.bfloat16, context, snapshots, reference=True).prefix / GB

    assert prefix(8192, 1) == pytest.approx(0.21 + 0.17, abs=0.01)
    assert prefix(8192, 2) - prefix(8192, 1) == pytest.approx(0.21, abs=0.005)


def test_the_real_geometry_in_nf4_stays_under_18_gb_with_8k_of_context(
    geometry: Any, tensors: Mapping[str, StoredTensor]
) -> None:
    """Planned; what a GPU says to it is for `dgtui bench --random-weights` to measure."""
    for reference in (False, True):
        found = estimate(
            geometry, tensors, Packing(nf4=True), torch.bfloat16, 8192, 1, device="cuda", reference=reference
        )
        assert found.total < 18.0 * GB


def test_the_real_geometry_with_its_experts_alone_in_4_bit(geometry: Any, tensors: Mapping[str, StoredTensor]) -> None:
    """Attention and dense MLP in bfloat16: a card of 24 GB has room for it."""
    whole, experts = (
        estimate(geometry, tensors, Packing(nf4=True, experts_only=only), torch.bfloat16, 8192, 1, device="cuda")
        for only in (False, True)
    )
    assert experts.weights["experts"] == whole.weights["experts"]
    assert experts.weights["attention"] / GB == pytest.approx(2 * 1.11, abs=0.02)
    assert experts.weights["dense MLP"] / GB == pytest.approx(2 * 0.54, abs=0.02)
    assert 19 * GB < experts.total < 20.5 * GB


def test_what_the_steppers_and_their_kernels_take_is_counted(
    geometry: Any, tensors: Mapping[str, StoredTensor]
) -> None:
    """Keys and values beside a canvas, held twice by the device stepper; integers as kernels read them."""
    packing = Packing()
    own, reference = (
        estimate(geometry, tensors, packing, torch.bfloat16, 8192, 1, device="cuda", reference=each)
        for each in (False, True)
    )
    canvas = 5 * 8192 * 2 * 512 + 25 * (1023 + 256) * 8 * 256  # of full layers, of sliding ones
    assert own.prefix - reference.prefix == 2 * 2 * canvas
    stored = {
        name: replace(tensor, form=GGUF["Q4_K"]) if name in held_formats(tensors, Packing(nf4=True)) else tensor
        for name, tensor in tensors.items()
    }
    on_gpu, on_cpu = (
        estimate(geometry, stored, packing, torch.bfloat16, 8192, 1, device=device).weights["experts"]
        for device in ("cuda", "cpu")
    )
    values = sum(t.elements for name, t in tensors.items() if experts_layer(name) is not None and len(t.shape) == 3)
    assert on_gpu / values == pytest.approx(5 / 8, rel=1e-3)  # a scale and a minimum in fp16 for 32 values
    assert on_cpu / values == pytest.approx(4.625 / 8, rel=1e-3)


# What is chosen


def chosen(
    gpu: float, geometry: Any, tensors: Mapping[str, StoredTensor], monkeypatch: pytest.MonkeyPatch, **options: Any
) -> Plan:
    free = {"cuda": int(gpu * GB), "cpu": 64 * GB}
    monkeypatch.setattr(devices, "available", lambda device: free[device.type])
    return choose(geometry, tensors, CUDA, torch.bfloat16, **options)


@pytest.mark.parametrize(
    ("gpu", "packing"),
    [
        (80, Packing()),
        (23.5, Packing(nf4=True, experts_only=True)),
        (20.0, Packing(nf4=True)),
        (18.1, Packing(nf4=True, double=True)),
        (17.0, Packing(nf4=True, double=True, vision=False)),
    ],
)
def test_as_little_is_given_up_as_the_gpu_asks_for(
    gpu: float, packing: Packing, geometry: Any, tensors: Mapping[str, StoredTensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = chosen(gpu, geometry, tensors, monkeypatch)
    assert plan.packing == packing
    assert plan.estimate.total <= plan.available < gpu * GB
    assert plan.context >= 8192
    assert bool(plan.reason) == packing.nf4
    if packing.nf4:
        held = "held with the experts in 4 bit" if packing.experts_only else "held in 4 bit"
        assert plan.reason.startswith(held) and "otherwise it would take" in plan.reason


@pytest.mark.parametrize("gpu", [15.5, 11.5, 8.0])
def test_experts_of_the_last_layers_stay_beside_a_small_gpu(
    gpu: float, geometry: Any, tensors: Mapping[str, StoredTensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = chosen(gpu, geometry, tensors, monkeypatch)
    assert plan.packing.streamed > 0 and plan.estimate.streamed > 0
    assert plan.estimate.total <= plan.available
    fewer = Packing(nf4=True, double=True, vision=False, streamed=plan.packing.streamed - 1)
    assert estimate(geometry, tensors, fewer, torch.bfloat16, 8192, 2).total > plan.available
    whole = Packing(nf4=True, double=True, vision=False)
    moved = estimate(geometry, tensors, whole, torch.bfloat16).weights["experts"] - plan.estimate.weights["experts"]
    assert plan.estimate.streamed == moved


def test_what_does_not_fit_is_refused_with_what_it_takes(
    geometry: Any, tensors: Mapping[str, StoredTensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(OutOfMemory, match=r"experts of 30 layers .*, but the GPU has only 2\.5 GB free") as caught:
        chosen(3, geometry, tensors, monkeypatch)
    assert "--device cpu" in caught.value.hint and "--context" in caught.value.hint


def test_options_are_kept(geometry: Any, tensors: Mapping[str, StoredTensor], monkeypatch: pytest.MonkeyPatch) -> None:
    assert chosen(80, geometry, tensors, monkeypatch, most=20 * GB).packing == Packing(nf4=True)
    assert chosen(80, geometry, tensors, monkeypatch, vision=False).packing == Packing(vision=False)
    assert chosen(17.0, geometry, tensors, monkeypatch, vision=True).packing.vision
    assert chosen(80, geometry, tensors, monkeypatch, context=4096).context == 4096
    stored = {
        name: replace(tensor, form=NF4_DOUBLE) if name in held_formats(tensors, Packing(nf4=True)) else tensor
        for name, tensor in tensors.items()
    }
    plan = chosen(80, geometry, stored, monkeypatch)
    assert plan.packing == Packing() and plan.formats == (NF4_DOUBLE.name,)
    assert chosen(80, geometry, tensors, monkeypatch, fixed=True).packing == Packing()


def test_the_context_grows_into_the_memory_that_is_left(
    geometry: Any, tensors: Mapping[str, StoredTensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    contexts = [chosen(gpu, geometry, tensors, monkeypatch).context for gpu in (19.5, 23.5, 32.0)]
    assert contexts == sorted(contexts) and contexts[0] < contexts[-1]
    assert chosen(139, geometry, tensors, monkeypatch).context == geometry.text_config.max_position_embeddings


def test_as_many_canvases_go_through_at_once_as_there_is_memory_left_for(
    geometry: Any, tensors: Mapping[str, StoredTensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [chosen(gpu, geometry, tensors, monkeypatch, context=32768).rows for gpu in (21.0, 23.5, 31.5, 48.0)]
    assert rows == sorted(rows) and rows[0] < 4 and rows[-1] == 16
    short, long = (chosen(28.0, geometry, tensors, monkeypatch, context=tokens).rows for tokens in (8192, 65536))
    assert short > long  # each of them joins its keys to those of the whole prefix


def test_on_the_processor_nothing_is_streamed(
    geometry: Any, tensors: Mapping[str, StoredTensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "available", lambda device: 24 * GB)
    plan = choose(geometry, tensors, torch.device("cpu"), torch.float32)
    assert plan.packing.nf4 and plan.packing.streamed == 0
    monkeypatch.setattr(devices, "available", lambda device: 12 * GB)
    with pytest.raises(OutOfMemory, match=r"this machine has only 12\.0 GB free"):
        choose(geometry, tensors, torch.device("cpu"), torch.float32)


# What is planned, and what is measured


def small(folder: Path, **text: Any) -> Path:
    """A config.json of the real one's kind, with other numbers."""
    config = json.loads(REAL.read_text())
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "num_global_key_value_heads": 1, "head_dim": 64}
    config["text_config"] |= heads | {"global_head_dim": 128, "num_hidden_layers": 6, "vocab_size": 8192} | text
    config["vision_config"] |= {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "head_dim": 32}
    config["vision_config"] |= {"num_attention_heads": 2, "num_key_value_heads": 2}
    (folder / "config.json").write_text(json.dumps(config))
    return folder / "config.json"


EXPERTS = {"hidden_size": 704, "intermediate_size": 512, "moe_intermediate_size": 192, "num_hidden_layers": 5}
VOCABULARY = {"hidden_size": 128, "intermediate_size": 512, "moe_intermediate_size": 64, "num_experts": 8}
VOCABULARY |= {"top_k_experts": 2, "num_hidden_layers": 2, "vocab_size": 262144}
CONTEXT = {"hidden_size": 256, "intermediate_size": 512, "moe_intermediate_size": 64, "num_experts": 8}
CONTEXT |= {"top_k_experts": 2, "num_attention_heads": 8, "num_key_value_heads": 8, "num_global_key_value_heads": 8}
CONTEXT |= {"global_head_dim": 256, "layer_types": ["sliding_attention", *["full_attention"] * 5]}

TAKE = """
import json, sys
from pathlib import Path
from dgtui.cli import bench_random
path, packing, context = sys.argv[1:]
taken = bench_random.take(Path(path), packing, int(context), 1, True, "cpu", 0)
print(json.dumps({"planned": taken.planned.total, "peak": taken.peak}))
"""
"""What `dgtui bench --random-weights` measures first; how long steps take does not matter here."""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the kernel does not tell anonymous memory")
@pytest.mark.parametrize(
    ("text", "packing", "context"),
    [(EXPERTS, "nf4", 1024), (VOCABULARY, "nf4-double", 512), (CONTEXT, "full", 2048)],
    ids=["most of it experts", "most of it logits", "most of it context"],
)
def test_the_plan_is_within_5_percent_of_what_is_taken(
    text: dict[str, Any], packing: str, context: int, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", TAKE, small(tmp_path, **text), packing, str(context)]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert found["peak"] > 250_000_000
    assert found["planned"] / found["peak"] == pytest.approx(1, abs=0.05), found


def others_than(*wanted: str) -> list[str]:
    """The top-level modules here that none of these distributions needs, nor what they need."""
    needed, left = set[str](), list(wanted)
    while left:
        name = canonicalize_name(left.pop())
        if name in needed:
            continue
        needed.add(name)
        with suppress(metadata.PackageNotFoundError):
            requirements = map(Requirement, metadata.requires(name) or ())
            left += [each.name for each in requirements if each.marker is None or each.marker.evaluate({"extra": ""})]
    return [
        module
        for module, owners in metadata.packages_distributions().items()
        if not needed & {canonicalize_name(owner) for owner in owners} and not module.startswith(("dgtui", "__"))
    ]


@pytest.mark.slow
def test_measuring_needs_no_more_than_torch_and_transformers(tmp_path: Path) -> None:
    """What a bare machine has: none of the packages that only the rest of the program needs can be imported."""
    tiny = {"hidden_size": 64, "intermediate_size": 64, "moe_intermediate_size": 64, "num_experts": 4}
    tiny |= {"top_k_experts": 2, "num_hidden_layers": 2, "vocab_size": 512}
    absent = others_than("torch", "transformers", "triton", "safetensors", "typer", "rich")
    assert {"platformdirs", "psutil", "textual"} <= {*absent}
    code = (
        "import sys\n"
        f"sys.modules |= dict.fromkeys({absent!r})\n"
        "from dgtui.cli import main\n"
        f"sys.exit(main(['bench', '--random-weights', {str(small(tmp_path, **tiny))!r}, '--device', 'cpu',\n"
        "               '--context', '300', '--steps', '2', '--json']))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["bitsandbytes"] is False and found["packing"] == "nf4"
    assert found["step_ms"] > 0 and found["load_s"] > 0 and found["stepper"] == "device-cpu"
