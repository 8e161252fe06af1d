"""Training with weights rounded to NF4."""

from collections.abc import Iterator
from contextlib import contextmanager

from transformers import DiffusionGemmaForBlockDiffusion

from dgtui.model import nf4
from dgtui.model.parts import can_be_packed


@contextmanager
def as_packed(model: DiffusionGemmaForBlockDiffusion) -> Iterator[None]:
    """Within the block, weights are rounded to NF4; gradients go to the original weights."""
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
