"""LoRA adapters in PEFT's format: small matrices for the layers of a checkpoint.

Over layers in full precision an adapter is added into the weights, and the model runs as it did. Over quantized layers
it stays beside them.
"""

import copy
import hashlib
import itertools
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn

from dgtui.errors import CorruptCheckpoint, ModelNotFound, ModelUnloadable, reason
from dgtui.model.shards import shown

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX: Final = "base_model.model."
"""Prefix of module names in PEFT's files."""
LAYERS: Final = re.compile(
    r"model\.decoder\.(layers\.\d+\.(self_attn\.[qkvo]_proj|mlp\.(gate|up|down)_proj)"
    r"|self_conditioning\.(gate|up|down)_proj)"
)
"""The layers that an adapter may change: attention, dense MLP and self-conditioning."""
_KEY = re.compile(re.escape(PREFIX) + r"(?P<layer>.+)\.lora_(?P<side>[AB])\.weight")
_DECODER, _ENCODER = "model.decoder.", "model.encoder.language_model."


@dataclass(frozen=True, slots=True)
class Adapter:
    """For each layer A (rank, in) and B (out, rank); scale · B A x is added to the layer's result."""

    folder: Path
    layers: Mapping[str, tuple[torch.Tensor, torch.Tensor]]
    scale: float
    fingerprint: str


class AdaptedLinear(nn.Module):
    """A quantized linear layer with its adapter."""

    def __init__(self, base: nn.Module, a: torch.Tensor, b: torch.Tensor, scale: float) -> None:
        super().__init__()
        self.base, self.scale = base, scale
        self.a, self.b = nn.Buffer(a), nn.Buffer(b)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(…, in) → (…, out)."""
        added = nn.functional.linear(nn.functional.linear(x.to(self.a.dtype), self.a), self.b)
        result: torch.Tensor = self.base(x) + (added * self.scale).to(x.dtype)
        return result


def read(folder: Path) -> Adapter:
    """The adapter in a folder.

    Raises:
        ModelNotFound: There is none.
        CorruptCheckpoint: Its files cannot be read, or matrices are missing.
        ModelUnloadable: Its kind or its layers are not supported.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not (folder / CONFIG).is_file():
        raise ModelNotFound(f"there is no adapter in {shown(folder)}", hint=f"name a folder with {CONFIG}")
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        tensors = load_file(folder / WEIGHTS)
    except (OSError, ValueError, SafetensorError) as error:
        raise CorruptCheckpoint(f"the adapter in {shown(folder)} cannot be read: {reason(error)}") from error
    scale = _scale(config, folder)
    layers: dict[str, dict[str, torch.Tensor]] = {}
    for name, tensor in tensors.items():
        match = _KEY.fullmatch(name)
        if match is None or not LAYERS.fullmatch(match["layer"]):
            raise ModelUnloadable(
                f"the adapter in {shown(folder)} changes {shown(name)}, which is not supported",
                hint="use an adapter for attention, dense MLP or self-conditioning",
            )
        eight_bits = tensor.dtype is torch.float8_e4m3fn  # there are no products of these on a CPU
        layers.setdefault(match["layer"], {})[match["side"]] = tensor.bfloat16() if eight_bits else tensor
    if any(pair.keys() != {"A", "B"} for pair in layers.values()) or not layers:
        raise CorruptCheckpoint(f"matrices are missing in the adapter in {shown(folder)}")
    digest = hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()[:16]
    return Adapter(folder, {name: (pair["A"], pair["B"]) for name, pair in layers.items()}, scale, digest)


def _scale(config: Any, folder: Path) -> float:
    try:
        if config["peft_type"] != "LORA" or config.get("use_dora") or config.get("bias", "none") != "none":
            raise ModelUnloadable(f"the adapter in {shown(folder)} is not a plain LoRA")
        if config.get("rank_pattern") or config.get("alpha_pattern"):
            raise ModelUnloadable(f"the adapter in {shown(folder)} has several ranks")
        rank, alpha = float(config["r"]), float(config["lora_alpha"])
        return alpha / (rank**0.5 if config.get("use_rslora") else rank)
    except (KeyError, TypeError, AttributeError, ValueError, ZeroDivisionError) as error:
        raise CorruptCheckpoint(f"{CONFIG} in {shown(folder)} is not a valid PEFT config: {reason(error)}") from error


@torch.no_grad()
def attach(model: Any, adapter: Adapter) -> None:
    """Adds an adapter to a model for inference, in encoder and decoder.

    Raises:
        ModelUnloadable: It is for a model of other sizes.
    """
    for name, (a, b) in adapter.layers.items():
        above, _, leaf = name.rpartition(".")
        try:
            base = model.get_submodule(name)
        except AttributeError:
            raise _other_sizes(adapter, name) from None
        if (b.shape[0], a.shape[1], a.shape[0]) != (base.out_features, base.in_features, b.shape[1]):
            raise _other_sizes(adapter, name)
        if type(base) is nn.Linear:  # bitsandbytes derives its own from it
            base.weight.add_((b.float() @ a.float()).to(base.weight), alpha=adapter.scale)
            continue
        device = next(itertools.chain(base.parameters(), base.buffers())).device
        dtype = torch.promote_types(a.dtype, model.get_input_embeddings().weight.dtype)  # of what the layer gets
        adapted = AdaptedLinear(base, a.to(device, dtype), b.to(device, dtype), adapter.scale).eval()
        setattr(model.get_submodule(above), leaf, adapted)
        twin = above.replace(_DECODER, _ENCODER, 1)
        if "self_conditioning" not in name:
            setattr(model.get_submodule(twin), leaf, adapted)


def with_adapter(model: Any, adapter: Adapter) -> Any:
    """A second model: with the adapter, and all weights that it leaves alone shared with the first.

    Raises:
        ModelUnloadable: It is for a model of other sizes.
    """
    tensors = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
    changed = {id(tensor) for name, tensor in tensors if name.removesuffix(".weight") in adapter.layers}
    second = copy.deepcopy(model, {id(tensor): tensor for _, tensor in tensors if id(tensor) not in changed})
    attach(second, adapter)
    return second


def is_beside(model: nn.Module) -> bool:
    """Whether a model has an adapter that is not merged into its weights."""
    return any(isinstance(module, AdaptedLinear) for module in model.modules())


def _other_sizes(adapter: Adapter, name: str) -> ModelUnloadable:
    return ModelUnloadable(
        f"the adapter in {shown(adapter.folder)} does not fit this model at {shown(name)}",
        hint="load the model that it was trained on",
    )
