"""Small checkpoints in the layouts of the published quantized ones: key names, types and shapes as they are there.

Quantized here by the formulas of the format, apart from the program's own code; what a weight then stands for is given
back. The libraries that write such checkpoints are tried in `test_libraries`.
"""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

E2M1 = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6])

Coded = tuple[dict[str, torch.Tensor], torch.Tensor]
"""The tensors of a layer, by what follows its name; and what they stand for."""


def fp8(weight: torch.Tensor) -> Coded:
    """compressed-tensors' FP8-dynamic: a scale per row."""
    scale = (weight.abs().amax(1, keepdim=True) / 448).bfloat16()
    codes = (weight / scale.float()).to(torch.float8_e4m3fn)
    return {"weight": codes, "weight_scale": scale}, codes.float() * scale.float()


def int8(weight: torch.Tensor) -> Coded:
    """compressed-tensors' INT8-dynamic: a scale per row."""
    scale = weight.abs().amax(1, keepdim=True) / 127
    codes = (weight / scale).round().to(torch.int8)
    return {"weight": codes, "weight_scale": scale}, codes.float() * scale


def int4(weight: torch.Tensor, group: int = 32) -> Coded:
    """compressed-tensors' pack-quantized W4A16: eight codes in a word, the lowest first."""
    rows, columns = weight.shape
    groups = weight.view(rows, -1, group)
    scale = (groups.abs().amax(-1) / 7).bfloat16()
    codes = (groups / scale.float().unsqueeze(-1)).round().clamp(-8, 7)
    stored = (codes.view(rows, -1, 8).long() + 8) << torch.arange(0, 32, 4)
    packed = stored.sum(-1).to(torch.uint32).view(torch.int32)
    tensors = {"weight_packed": packed, "weight_scale": scale, "weight_shape": torch.tensor([rows, columns])}
    return tensors, (codes * scale.float().unsqueeze(-1)).view(rows, columns)


def nvfp4(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Codes, block scales, the global scale that multiplies, and what they stand for."""
    rows, columns = weight.shape
    top = weight.abs().amax() / (6 * 448)
    blocks = weight.view(rows, -1, 16)
    scale = (blocks.abs().amax(-1) / 6 / top).to(torch.float8_e4m3fn)
    whole = (scale.float() * top).unsqueeze(-1)
    scaled = blocks / whole.clamp_min(1e-30)
    nearest = (scaled.abs().unsqueeze(-1) - E2M1).abs().argmin(-1)
    codes = (nearest + 8 * (scaled < 0)).to(torch.uint8).view(rows, -1, 2)
    values = torch.where(scaled < 0, -E2M1[nearest], E2M1[nearest]) * whole
    return codes[..., 0] | codes[..., 1] << 4, scale, top, values.view(rows, columns)


def modelopt_nvfp4(weight: torch.Tensor) -> Coded:
    """NVIDIA's NVFP4: its global scale multiplies."""
    codes, scale, top, values = nvfp4(weight)
    return {"weight": codes, "weight_scale": scale, "weight_scale_2": top, "input_scale": torch.tensor(0.01)}, values


def compressed_nvfp4(weight: torch.Tensor) -> Coded:
    """RedHat's NVFP4: its global scale divides."""
    codes, scale, top, values = nvfp4(weight)
    tensors = {"weight_packed": codes, "weight_scale": scale, "weight_global_scale": (1 / top).view(1)}
    return tensors | {"input_global_scale": torch.tensor(100.0)}, values


EXPERTS, MLP, ATTENTION = r"experts\.(gate_up|down)_proj", r"mlp\.\w+_proj\.weight", r"self_attn\.[qkvo]_proj\.weight"
LINEAR = f"{EXPERTS}|{MLP}|{ATTENTION}"


def compressed(form: str) -> dict[str, Any]:
    return {"quant_method": "compressed-tensors", "format": form}


LAYOUTS: dict[str, tuple[Callable[[torch.Tensor], Coded], str, dict[str, Any]]] = {
    "RedHat FP8": (fp8, LINEAR, compressed("float-quantized")),
    "INT8": (int8, LINEAR, compressed("int-quantized")),
    "W4A16": (int4, LINEAR, compressed("pack-quantized")),
    "RedHat NVFP4": (compressed_nvfp4, f"{EXPERTS}|{MLP}", compressed("nvfp4-pack-quantized")),
    "NVIDIA NVFP4": (modelopt_nvfp4, EXPERTS, {"quant_method": "modelopt", "quant_algo": "NVFP4"}),
}
"""A published layout → how a layer is coded, which are, and the `quantization_config`."""


def publish(source: Path, folder: Path, layout: str) -> dict[str, torch.Tensor]:
    """Write `source`, a checkpoint in full, in a published layout; what each of its quantized weights stands for."""
    code, pattern, about = LAYOUTS[layout]
    shutil.copytree(source, folder)
    (folder / "model.safetensors").unlink()
    config = json.loads((source / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"quantization_config": about}))
    tensors: dict[str, torch.Tensor] = {}
    values: dict[str, torch.Tensor] = {}
    for name, tensor in load_file(source / "model.safetensors").items():
        if not re.fullmatch(rf"model\.decoder\.layers\.\d+\.({pattern})", name):
            tensors[name] = tensor.to(torch.bfloat16)
            continue
        parts = []
        for layer, weight in layers(name, tensor.float()):
            own, meant = code(weight)
            tensors |= {f"{layer}.{kind}": part.contiguous() for kind, part in own.items()}
            parts.append(meant)
        values[name] = torch.cat(parts).view(tensor.shape)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return values


def layers(name: str, tensor: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
    """The linear layers of a weight, by name: experts apart, and their gates from their ups."""
    if tensor.dim() == 2:
        yield name.removesuffix(".weight"), tensor
        return
    path, _, which = name.rpartition(".")
    for number, expert in enumerate(tensor):
        if which == "down_proj":
            yield f"{path}.{number}.down_proj", expert
        else:
            gate, up = expert.chunk(2)
            yield f"{path}.{number}.gate_proj", gate
            yield f"{path}.{number}.up_proj", up
