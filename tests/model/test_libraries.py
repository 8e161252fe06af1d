"""Layers that the formats' own libraries write stand for the numbers that these libraries read."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from dgtui.model.decoding import decoded
from dgtui.model.quantized_weight import QuantizedWeight
from dgtui.model.shards import read_shard
from dgtui.model.stored import stored_tensors

pytestmark = pytest.mark.filterwarnings("ignore")  # of the libraries, on versions that are newer than they are

LAYER = "model.decoder.layers.0.mlp.up_proj"
SHAPE = (96, 256)


def weight() -> torch.Tensor:
    draw = torch.Generator().manual_seed(1)
    return torch.randn(SHAPE, generator=draw) * torch.rand((SHAPE[0], 1), generator=draw)


def read(tensors: dict[str, torch.Tensor], folder: Path) -> QuantizedWeight:
    """A layer of these tensors, as a checkpoint's file gives it."""
    own = {f"{LAYER}.{kind}": tensor.contiguous() for kind, tensor in tensors.items()}
    save_file(own, folder / "model.safetensors")
    stored = stored_tensors(read_shard(folder / "model.safetensors").tensors, {})[f"{LAYER}.weight"]
    assert stored.form is not None and stored.shape == SHAPE
    (part,) = stored.parts
    return decoded(stored.scheme, stored.form, SHAPE, {kind: own[name] for kind, name in part.tensors.items()})


def rows(top: float, kind: torch.dtype) -> Callable[[torch.Tensor], dict[str, torch.Tensor]]:
    return lambda w: {"weight_scale": (w.abs().amax(1, keepdim=True) / top).to(kind)}


def groups(w: torch.Tensor) -> dict[str, torch.Tensor]:
    return {"weight_scale": (w.view(SHAPE[0], -1, 128).abs().amax(-1) / 7.5)}


def blocks(w: torch.Tensor) -> dict[str, torch.Tensor]:
    top = 448 * 6 / w.abs().amax()
    scale = (w.view(SHAPE[0], -1, 16).abs().amax(-1) / 6 * top).to(torch.float8_e4m3fn).float()
    return {"weight_scale": scale, "weight_global_scale": top.view(1)}


@pytest.mark.parametrize(
    ("compressor", "scheme", "scales", "tolerance"),
    [
        ("FloatQuantizationCompressor", "FP8_DYNAMIC", rows(448, torch.float32), 0),
        ("FloatQuantizationCompressor", "FP8_DYNAMIC", rows(448, torch.bfloat16), 0.004),
        ("IntQuantizationCompressor", "INT8", rows(127, torch.float32), 0),
        ("PackedQuantizationCompressor", "W4A16", groups, 0),
        ("NVFP4PackedCompressor", "NVFP4A16", blocks, 0.004),  # it decompresses to bfloat16
    ],
)
def test_compressed_tensors(
    compressor: str, scheme: str, scales: Callable[[torch.Tensor], dict[str, torch.Tensor]], tolerance: float,
    tmp_path: Path,
) -> None:  # fmt: skip
    library: Any = pytest.importorskip("compressed_tensors.compressors")
    from compressed_tensors.quantization import preset_name_to_scheme

    preset = preset_name_to_scheme(scheme, ["Linear"])
    own: Any = getattr(library, compressor)
    tensors = own.compress({"weight": weight(), **scales(weight())}, preset)
    theirs = own.decompress(dict(tensors), preset)["weight"].float()
    ours = read({kind: tensor for kind, tensor in tensors.items() if tensor is not None}, tmp_path)
    difference = (ours.dequantize(torch.float32) - theirs).abs()
    assert (difference <= tolerance * theirs.abs() + 1e-6 * theirs.abs()).all(), difference.max()
    assert (theirs - weight()).norm() / weight().norm() < 0.15  # the library has packed what it was given


def test_modelopt_nvfp4(tmp_path: Path) -> None:
    library: Any = pytest.importorskip("modelopt.torch.quantization.qtensor")
    packed, scale, top = library.NVFP4QTensor.quantize(weight(), 16)
    theirs = packed.dequantize(torch.float32, scale=scale, double_scale=top, block_sizes={-1: 16})
    tensors = {"weight": packed._quantized_data, "weight_scale": scale, "weight_scale_2": top}
    ours = read(tensors | {"input_scale": torch.tensor(1.0)}, tmp_path)
    torch.testing.assert_close(ours.dequantize(torch.float32), theirs, rtol=1e-6, atol=0)
