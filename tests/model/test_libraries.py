"""Layers that the formats' own libraries write stand for the numbers that these libraries read."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import logits, opened, tiny_checkpoint
from safetensors.torch import load_file, save_file

from dgtui.errors import ModelUnloadable
from dgtui.model.decoding import decoded
from dgtui.model.loader import load
from dgtui.model.parts import LoadOptions
from dgtui.model.quantized_weight import QuantizedWeight
from dgtui.model.shards import read_shard
from dgtui.model.skeleton import quantized_weights
from dgtui.model.stored import stored_tensors

pytestmark = pytest.mark.filterwarnings("ignore")  # of the libraries, on versions that are newer than they are

LAYER = "model.decoder.layers.0.mlp.up_proj"
SHAPE = (96, 256)
PYTHON = os.environ.get("DGTUI_LLMCOMPRESSOR", "")
"""An interpreter with llm-compressor."""


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


@pytest.mark.slow  # the library takes long to import
def test_modelopt_nvfp4(tmp_path: Path) -> None:
    library: Any = pytest.importorskip("modelopt.torch.quantization.qtensor")
    packed, scale, top = library.NVFP4QTensor.quantize(weight(), 16)
    theirs = packed.dequantize(torch.float32, scale=scale, double_scale=top, block_sizes={-1: 16})
    tensors = {"weight": packed._quantized_data, "weight_scale": scale, "weight_scale_2": top}
    ours = read(tensors | {"input_scale": torch.tensor(1.0)}, tmp_path)
    torch.testing.assert_close(ours.dequantize(torch.float32), theirs, rtol=1e-6, atol=0)


LLM_COMPRESSOR = """
import sys
import torch
from llmcompressor import oneshot
from llmcompressor.modifiers.quantization import QuantizationModifier
from transformers import DiffusionGemmaForBlockDiffusion
model = DiffusionGemmaForBlockDiffusion.from_pretrained(sys.argv[1], dtype=torch.bfloat16)
ignore = ["lm_head", "re:.*router.*", "re:.*vision.*", "re:.*self_conditioning.*", "re:.*o_proj"]
oneshot(model=model, recipe=QuantizationModifier(targets="Linear", scheme=sys.argv[3], ignore=ignore))
model.save_pretrained(sys.argv[2], save_compressed=True)
"""


@pytest.mark.slow
@pytest.mark.skipif(not PYTHON, reason="DGTUI_LLMCOMPRESSOR names no interpreter that has it")
@pytest.mark.parametrize(
    ("compressor", "scheme"),
    [
        ("FloatQuantizationCompressor", "FP8_DYNAMIC"),
        ("IntQuantizationCompressor", "W8A8"),
        ("PackedQuantizationCompressor", "W4A16"),
        ("NVFP4PackedCompressor", "NVFP4A16"),
    ],
)
def test_llm_compressor(compressor: str, scheme: str, tmp_path: Path) -> None:
    """A whole model, in an environment of its own: llm-compressor 0.14 wants an older transformers than dgtui does.

    It takes the experts out of their stacks, and writes encoder and decoder apart, with the same numbers.
    """
    library: Any = pytest.importorskip("compressed_tensors.compressors")
    from compressed_tensors.quantization import preset_name_to_scheme

    tiny_checkpoint(tmp_path / "source", hidden=256, dtype=torch.bfloat16)
    command = [PYTHON, "-c", LLM_COMPRESSOR, tmp_path / "source", tmp_path / "m", scheme]
    subprocess.run(command, check=True, capture_output=True)
    for file in (tmp_path / "source").glob("*token*"):
        (tmp_path / "m" / file.name).write_bytes(file.read_bytes())
    (tmp_path / "m" / "chat_template.jinja").write_bytes((tmp_path / "source" / "chat_template.jinja").read_bytes())
    loaded = load(opened(tmp_path / "m"), LoadOptions(device="cpu", context=512))
    weights = quantized_weights(loaded.model)
    assert len(weights) > 10 and any("experts" in name for name in weights)
    on_disk = load_file(tmp_path / "m" / "model.safetensors")
    preset = preset_name_to_scheme(scheme, ["Linear"])
    stored = opened(tmp_path / "m").tensors
    for name, weight in weights.items():
        values = []
        for part in stored[name].parts:
            own = {kind: on_disk[place] for kind, place in part.tensors.items()}
            own |= {"weight_shape": torch.tensor([part.rows, weight.shape[-1]])} if scheme == "W4A16" else {}
            values.append(getattr(library, compressor).decompress(own, preset)["weight"].float())
        theirs = torch.cat(values).view(weight.shape)
        difference = (weight.dequantize(torch.float32) - theirs).abs()
        assert (difference <= 0.004 * theirs.abs() + 1e-9).all(), name
    assert torch.isfinite(logits(loaded.model)).all()


def test_weights_that_are_written_twice_are_those_of_encoder_and_decoder_if_they_are_equal(tmp_path: Path) -> None:
    tiny_checkpoint(tmp_path / "m", hidden=256)
    file = tmp_path / "m" / "model.safetensors"
    tensors = load_file(file)
    whole = opened(tmp_path / "m")
    shared = [name for name in tensors if "decoder.layers.0" in name and "layer_scalar" not in name]
    copies = {name.replace("model.decoder.", "model.encoder.language_model."): tensors[name].clone() for name in shared}
    copies["lm_head.weight"] = tensors["model.decoder.embed_tokens.weight"].clone()
    save_file(tensors | copies, file, metadata={"format": "pt"})
    twice = opened(tmp_path / "m")
    assert twice.parameters == whole.parameters and len(twice.copies) == len(shared) + 1
    load(twice, LoadOptions(device="cpu", context=512))
    for name in list(tensors):
        if "decoder.layers.0" in name and name in shared:  # written under the encoder's name alone
            copies[name.replace("model.decoder.", "model.encoder.language_model.")] = tensors.pop(name)
    save_file(tensors | copies, file, metadata={"format": "pt"})
    load(opened(tmp_path / "m"), LoadOptions(device="cpu", context=512))
    copies["lm_head.weight"][3, 4] += 1
    save_file(tensors | copies, file, metadata={"format": "pt"})
    with pytest.raises(ModelUnloadable, match=r"do not share lm_head\.weight"):
        load(opened(tmp_path / "m"), LoadOptions(device="cpu", context=512))
