"""Checkpoints in the published quantized layouts are loaded as what they stand for, planned and run."""

from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import logits, opened, tiny_checkpoint
from layouts import LAYOUTS, publish
from safetensors.torch import load_file, save_file

from dgtui.errors import CorruptCheckpoint, ModelUnloadable
from dgtui.model import devices
from dgtui.model.geometry import read_geometry
from dgtui.model.loader import LoadedModel, load
from dgtui.model.parts import LoadOptions, Packing
from dgtui.model.plan import SNAPSHOTS, estimate
from dgtui.model.quantized_weight import QuantizedWeight
from dgtui.model.skeleton import quantized_weights

FORMAT = {"RedHat FP8": "FP8", "INT8": "INT8", "W4A16": "INT4", "RedHat NVFP4": "NVFP4", "NVIDIA NVFP4": "NVFP4"}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("source") / "model"
    return tiny_checkpoint(folder, hidden=128, layers=3, dtype=torch.bfloat16)


def read(folder: Path, **options: Any) -> LoadedModel:
    return load(opened(folder), LoadOptions(device="cpu", context=512, **options))


def short_of_memory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves so much memory that the checkpoint fits if what takes more than 4 bits is packed."""
    checkpoint = opened(folder)
    geometry = read_geometry(checkpoint.config)
    takes = [
        estimate(geometry, checkpoint.tensors, packing, torch.float32, 512, SNAPSHOTS[1]).total
        for packing in (Packing(), Packing(nf4=True))
    ]
    assert takes[0] > takes[1]
    monkeypatch.setattr(devices, "available", lambda device: takes[1])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_weights_are_held_as_they_are_stored_and_mean_what_the_format_says(
    layout: str, source: Path, tmp_path: Path
) -> None:
    values = publish(source, tmp_path / "m", layout)
    loaded = read(tmp_path / "m")
    weights = quantized_weights(loaded.model)
    assert weights.keys() == values.keys()
    assert loaded.plan.formats == (FORMAT[layout],)
    for name, weight in weights.items():
        torch.testing.assert_close(weight.dequantize(torch.float32), values[name], rtol=1e-6, atol=0)
        for index in range(len(values[name]) if values[name].dim() == 3 else 0):
            assert torch.equal(weight.dequantize(torch.float32, index), weight.dequantize(torch.float32)[index])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_model_computes_what_its_values_do(layout: str, source: Path, tmp_path: Path) -> None:
    values = publish(source, tmp_path / "m", layout)
    whole = read(source).model
    for name, meant in values.items():
        whole.get_parameter(name).data.copy_(meant)
    torch.testing.assert_close(logits(read(tmp_path / "m").model), logits(whole), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_plan_counts_what_is_held(layout: str, source: Path, tmp_path: Path) -> None:
    publish(source, tmp_path / "m", layout)
    loaded = read(tmp_path / "m")
    held = sum(tensor.nbytes for weight in quantized_weights(loaded.model).values() for tensor in weight.buffers())
    planned = loaded.plan.estimate.weights
    others = sum(
        tensor.nbytes
        for name, tensor in loaded.model.model.decoder.named_parameters()
        if any(part in name for part in ("self_attn", "mlp", "experts")) and "norm" not in name
    )
    quantized_parts = planned["experts"] + planned["attention"] + planned["dense MLP"]
    assert held + others == pytest.approx(quantized_parts, rel=0.02)


@pytest.mark.parametrize("layout", ["RedHat FP8", "INT8"])
def test_eight_bits_are_packed_into_four_where_memory_is_short(
    layout: str, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(source, tmp_path / "m", layout)
    short_of_memory(tmp_path / "m", monkeypatch)
    packed = read(tmp_path / "m")
    assert packed.plan.formats == ("NF4",) and packed.fingerprint.endswith("-nf4")
    assert torch.isfinite(logits(packed.model)).all()


@pytest.mark.parametrize("layout", ["RedHat NVFP4", "NVIDIA NVFP4"])
def test_four_bits_stay_as_they_are_and_the_rest_is_packed(
    layout: str, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(source, tmp_path / "m", layout)
    short_of_memory(tmp_path / "m", monkeypatch)
    packed = read(tmp_path / "m")
    assert set(packed.plan.formats) == {"NVFP4", "NF4"}


def test_gate_and_up_keep_their_own_global_scales(source: Path, tmp_path: Path) -> None:
    publish(source, tmp_path / "m", "NVIDIA NVFP4")
    stack = quantized_weights(read(tmp_path / "m").model)["model.decoder.layers.0.experts.gate_up_proj"]
    assert stack.group_scales is not None and len(stack.group_scales) == 2 * stack.shape[0]
    assert len(stack.group_scales.unique()) > 1


def drop(folder: Path, name: str) -> None:
    tensors = load_file(folder / "model.safetensors")
    del tensors[name]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def test_an_expert_that_is_missing_is_named(source: Path, tmp_path: Path) -> None:
    publish(source, tmp_path / "m", "RedHat FP8")
    for kind in ("weight", "weight_scale"):
        drop(tmp_path / "m", f"model.decoder.layers.1.experts.2.up_proj.{kind}")
    with pytest.raises(CorruptCheckpoint, match=r"lacks model\.decoder\.layers\.1\.experts\.2\.up_proj"):
        opened(tmp_path / "m")


def test_a_layer_without_its_scale_is_refused_by_name(source: Path, tmp_path: Path) -> None:
    publish(source, tmp_path / "m", "NVIDIA NVFP4")
    drop(tmp_path / "m", "model.decoder.layers.0.experts.0.gate_proj.weight_scale_2")
    with pytest.raises(ModelUnloadable, match=r"experts\.0\.gate_proj is stored in an unsupported format"):
        opened(tmp_path / "m")


def test_a_quantized_weight_of_whole_blocks_is_decoded_alike_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    from layouts import compressed_nvfp4

    from dgtui.model import quantized_weight
    from dgtui.model.decoding import decoded
    from dgtui.model.formats import NVFP4

    tensors, values = compressed_nvfp4(torch.randn(37, 192))
    weight: QuantizedWeight = decoded("nvfp4 compressed", NVFP4, (37, 192), tensors)
    whole = weight.dequantize(torch.float32)
    monkeypatch.setattr(quantized_weight, "_PIECE", 1000)
    assert torch.equal(weight.dequantize(torch.float32), whole)
    torch.testing.assert_close(whole, values, rtol=1e-6, atol=0)
