"""Random models in geometries that differ in everything a forward depends on, held as loaders hold them."""

import functools
from typing import Any

import torch
from checkpoints import altered, tiny_config, tiny_model
from transformers import DiffusionGemmaConfig

from dgtui.model.parts import Packing, held_formats
from dgtui.model.skeleton import lay_out, slots
from dgtui.model.stored import StoredTensor
from dgtui.model.weights import fill


def narrow() -> DiffusionGemmaConfig:
    """A window shorter than the prompts, and than the canvas."""
    return tiny_config(layers=2, experts=4, hidden=64, canvas=16, sliding_window=8)


def wide() -> DiffusionGemmaConfig:
    """A window longer than any prompt; three experts at once, twice as many heads."""
    config = tiny_config(layers=3, experts=6, hidden=128, canvas=24, sliding_window=256)
    return altered(config, top_k_experts=3, num_attention_heads=8, num_key_value_heads=4)


def single() -> DiffusionGemmaConfig:
    """One expert at once, two full layers of five, a canvas of eight."""
    config = tiny_config(layers=5, experts=3, hidden=64, canvas=8, sliding_window=26)
    return altered(config, top_k_experts=1)


def large_heads() -> DiffusionGemmaConfig:
    """Heads of 512 in the full layers, of 256 in the sliding ones, as the published model has them."""
    return altered(tiny_config(layers=3, hidden=64, canvas=16), head_dim=256, global_head_dim=512)


def many_experts() -> DiffusionGemmaConfig:
    """More experts than tokens that are sent to them, a hidden width that is no power of two, a large vocabulary."""
    config = tiny_config(layers=3, experts=40, hidden=192, canvas=32, vocab=1500, sliding_window=16)
    return altered(config, top_k_experts=4, moe_intermediate_size=64)


GEOMETRIES = {make.__name__: make for make in (narrow, wide, single, large_heads, many_experts)}


@functools.cache
def dense(geometry: str) -> Any:
    """The model as transformers makes it, in fp32."""
    model = tiny_model(GEOMETRIES[geometry](), seed=3)
    for (
        layer
    ) in model.model.decoder.layers:  # scores of the size that heads of 16 give: of 512 they would be all or none
        attention = layer.self_attn
        attention.q_norm.weight.data *= (16 / attention.head_dim) ** 0.5
    return model


@functools.cache
def packed(geometry: str) -> Any:
    """The same weights in NF4, in modules that encoder and decoder share."""
    original = dense(geometry)
    packing = Packing(nf4=True)
    source = _Held(original)
    model = lay_out(original.config, held_formats(source.tensors, packing), torch.float32)
    fill(model, source, packing, torch.device("cpu"))
    return model


class _Held:
    """The weights of a model that is in memory; see `weights.TensorSource`."""

    def __init__(self, model: Any) -> None:
        held = dict(model.named_parameters(remove_duplicate=False)) | dict(model.named_buffers(remove_duplicate=False))
        names = slots(lay_out(model.config, {}, torch.float32))
        self._own = {name: held[name].detach() for name in names}
        self.tensors = {name: StoredTensor("F32", tuple(t.shape), 4 * t.numel()) for name, t in self._own.items()}

    def pieces(self, name: str) -> Any:
        yield self._own[name]

    def skip(self, name: str) -> None: ...
