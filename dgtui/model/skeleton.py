"""Builds the model without weights, on the meta device. Encoder and decoder share their modules from the start.

So there is never a second copy of the shared weights, packed or not.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from dgtui.errors import ModelUnloadable
from dgtui.model.formats import NF4_TABLE, Format
from dgtui.model.shards import some

if TYPE_CHECKING:
    from transformers.models.diffusion_gemma.configuration_diffusion_gemma import DiffusionGemmaConfig
    from transformers.models.diffusion_gemma.modeling_diffusion_gemma import DiffusionGemmaForBlockDiffusion

    from dgtui.model.quantized_weight import QuantizedWeight


def lay_out(
    config: "DiffusionGemmaConfig", held: Mapping[str, Format], dtype: torch.dtype, *, vision: bool = True
) -> "DiffusionGemmaForBlockDiffusion":
    """The model with its weights on the meta device; buffers that are computed from the config have their values.

    Encoder and decoder share all modules whose weights they share.

    Args:
        config: The model's config.
        held: The weights that are held in a quantized format; see `parts.held_formats`.
        dtype: The type of all other weights.
        vision: Keep the vision tower.
    """
    from transformers.models.diffusion_gemma.modeling_diffusion_gemma import DiffusionGemmaForBlockDiffusion

    config._attn_implementation = "sdpa"
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device("meta"):
            model: Any = DiffusionGemmaForBlockDiffusion(config)
        config.dtype = dtype
        _compute_buffers(model)
    finally:
        torch.set_default_dtype(before)
    quantize_layers(model, held)
    if not vision:
        model.model.encoder.vision_tower = model.model.encoder.embed_vision = None
    share_layers(model)
    whole: DiffusionGemmaForBlockDiffusion = model.eval().requires_grad_(False)
    return whole


def _compute_buffers(model: Any) -> None:
    """Computes the buffers that no checkpoint holds (rotary frequencies, scales), as transformers does at a load."""
    for module in model.modules():
        for name in module._non_persistent_buffers_set:
            if module._buffers[name] is not None:
                module._buffers[name] = torch.empty_like(module._buffers[name], device="cpu")
    model.initialize_weights()  # leaves tensors on the meta device alone


def quantize_layers(model: Any, held: Mapping[str, Format]) -> None:
    """Replaces the modules in `held` by quantized ones, still without weights."""
    from dgtui.model.quantized_layers import QuantizedExperts, QuantizedLinear
    from dgtui.model.quantized_weight import QuantizedWeight

    def quantized(name: str, weight: torch.Tensor) -> "QuantizedWeight":
        shape = tuple(weight.shape)
        gate_and_up = 2 if name.endswith("gate_up_proj") else 1
        parts = gate_and_up * shape[0] if len(shape) == 3 else 1
        return QuantizedWeight(held[name], shape, parts, device="meta")

    for at, layer in enumerate(model.model.decoder.layers):
        start = f"model.decoder.layers.{at}"
        experts = getattr(layer, "experts", None)
        if f"{start}.experts.down_proj" in held and experts is not None:
            stacks = [
                quantized(f"{start}.experts.{name}", getattr(experts, name)) for name in ("gate_up_proj", "down_proj")
            ]
            layer.experts = QuantizedExperts(model.config.text_config, *stacks)
        for group in ("self_attn", "mlp"):
            for name, linear in list(getattr(layer, group).named_children()):
                own = f"{start}.{group}.{name}.weight"
                if isinstance(linear, nn.Linear) and own in held:
                    setattr(getattr(layer, group), name, QuantizedLinear(quantized(own, linear.weight)))


def share_layers(model: Any) -> None:
    """Makes the encoder use the decoder's layers, except for what only one of them has."""
    encoder, decoder = model.model.encoder.language_model, model.model.decoder
    encoder.embed_tokens, encoder.norm = decoder.embed_tokens, decoder.norm
    for own, shared in zip(encoder.layers, decoder.layers, strict=True):
        for name, module in shared.named_children():
            if name != "self_attn":
                setattr(own, name, module)
        for name, module in shared.self_attn.named_children():
            setattr(own.self_attn, name, module)
    model.lm_head.weight = decoder.embed_tokens.weight


Slot = tuple[nn.Module, str]
"""A module and the name of its parameter or buffer."""


def slots(model: "DiffusionGemmaForBlockDiffusion") -> dict[str, Slot]:
    """Checkpoint name → slot of each tensor, once each; shared tensors are listed under the decoder's name."""
    found: dict[str, Slot] = {}
    seen: set[int] = set()
    for prefix, root in (("model.decoder", model.model.decoder), ("model.encoder", model.model.encoder)):
        for path, module in root.named_modules():
            if id(module) in seen:
                continue
            seen.add(id(module))
            persistent = {n: t for n, t in module._buffers.items() if n not in module._non_persistent_buffers_set}
            for name, tensor in (module._parameters | persistent).items():
                if tensor is not None:
                    found[".".join(filter(None, (prefix, path, name)))] = (module, name)
    return found


def quantized_weights(model: nn.Module) -> "dict[str, QuantizedWeight]":
    """The quantized weights, by their names in an unquantized checkpoint."""
    from dgtui.model.quantized_weight import QuantizedWeight

    root: Any = model
    return {
        f"model.decoder.{path}": module
        for path, module in root.model.decoder.named_modules()
        if isinstance(module, QuantizedWeight)
    }


def use_bitsandbytes(model: Any, device: torch.device) -> None:
    """Replaces NF4 linear layers by bitsandbytes' own, if it is installed and has kernels for the device."""
    from dgtui.model import bnb
    from dgtui.model.quantized_layers import QuantizedLinear

    packed = [
        (group, name, linear.weight)
        for layer in model.model.decoder.layers
        for group in (layer.self_attn, layer.mlp)
        for name, linear in group.named_children()
        if isinstance(linear, QuantizedLinear) and linear.weight.form.table is NF4_TABLE
    ]
    if packed and bnb.native(device.type):  # its import takes two seconds
        for group, name, weight in packed:
            setattr(group, name, bnb.linear4bit(weight, model.dtype))


def verify_shared(model: "DiffusionGemmaForBlockDiffusion") -> None:
    """Reject a model whose encoder, decoder and output layer do not share one copy of their weights.

    A second copy doubles the memory and may hold different values.
    """
    decoder = dict(model.model.decoder.named_parameters())
    pairs = [(name, tensor, decoder[name]) for name, tensor in model.model.encoder.language_model.named_parameters()]
    pairs.append(("lm_head.weight", model.lm_head.weight, decoder["embed_tokens.weight"]))
    separate = [name for name, one, other in pairs if one.data_ptr() != other.data_ptr()]
    if separate:
        raise not_shared(separate)


def not_shared(names: list[str]) -> ModelUnloadable:
    """The error for weights of which encoder and decoder have separate copies."""
    return ModelUnloadable(
        f"encoder and decoder do not share {some(names)}",
        hint="the checkpoint was saved untied; in DiffusionGemma both share one stack of weights",
    )
