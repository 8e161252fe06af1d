"""Training with the weights as NF4 holds them."""

from collections.abc import Iterator
from contextlib import contextmanager

from transformers import DiffusionGemmaForBlockDiffusion

from dgtui.model import nf4
from dgtui.model.parts import can_be_packed


@contextmanager
def as_packed(model: DiffusionGemmaForBlockDiffusion) -> Iterator[None]:
    """Until the block ends, weights have the values that NF4 has for them; gradients go to the weights themselves."""
    weights = {
        weight: weight.detach().clone()
        for name, weight in model.model.decoder.named_parameters(prefix="model.decoder")
        if can_be_packed(name, tuple(weight.shape))
    }
    try:
        for weight, own in weights.items():
            weight.data.copy_(nf4.quantize(own).dequantize(own.dtype))
        yield
    finally:
        for weight, own in weights.items():
            weight.data.copy_(own)
