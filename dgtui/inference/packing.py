"""Quantized weights of a loaded model as the kernels read them. Codes are shared; scales are copied where they turn."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from dgtui.inference.experts import ExpertsFunction, grouped_experts
from dgtui.kernels import packed
from dgtui.kernels.ops import Ops
from dgtui.kernels.packed import PackedWeight
from dgtui.model import bnb
from dgtui.model.formats import E2M1_TABLE, NF4_TABLE
from dgtui.model.quantized_weight import QuantizedWeight

_ORDERS = {"high first": packed.BITSANDBYTES, "low first": packed.COMPRESSED, "halves": packed.HALVES}


def packed_weight(weight: QuantizedWeight) -> PackedWeight | None:
    """A weight (…, rows, columns) for the kernels; None for a format that they do not read."""
    form = weight.form
    e, n, k = (1, *weight.shape)[-3:]
    if form.bits != 4 or k % packed.BLOCK or len(weight.shape) > 3:
        return None
    codes = weight.packed.view(e, n, k // 2)
    if form.table is NF4_TABLE:
        nested = None
        if weight.group_scales is not None and weight.scale_offset is not None:
            nested = (bnb.dynamic_map(codes.device), weight.group_scales, weight.scale_offset)
        return packed.nf4(weight.packed, weight.scales, (e, n, k), nested)
    if form.table is E2M1_TABLE and weight.group_scales is not None:
        return packed.nvfp4(codes, weight.scales.view(e, n, k // 16), weight.group_scales.float().view(e, -1))
    if form.table is not None or (form.zero != 8 and not form.minima):
        return None
    each = (e, n, k // weight.block)
    minima = weight.block_minima()
    try:
        return packed.int4(
            codes, weight.block_scales().view(each), None if minima is None else minima.view(each), _ORDERS[form.order]
        )
    except ValueError:  # groups that the kernels do not read
        return None


@dataclass(frozen=True, slots=True)
class Kernels:
    """How the layers of a model run on kernels, for `forward.Decoder`."""

    ops: Ops

    def experts(self, experts: Any) -> ExpertsFunction:
        """The kernels if they read both stacks and these are on the device, or else a grouped product."""
        stacks = [packed_here(experts.gate_up_proj), packed_here(experts.down_proj)]
        gate_up, down = stacks
        if gate_up is None or down is None:
            return grouped_experts(experts, self.ops.gated)

        def run(x: torch.Tensor, index: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
            return self.ops.experts(x, index, weights, gate_up, down)

        return run

    def product(self, layer: nn.Module) -> Callable[[torch.Tensor], torch.Tensor]:
        """The kernels for a quantized linear layer that they read, or else the layer itself."""
        weight = packed_here(getattr(layer, "weight", None))
        return layer if weight is None else lambda x: self.ops.linear(x, weight)


def packed_here(weight: Any) -> PackedWeight | None:
    """`packed_weight` of what is a quantized weight in the GPU's memory; None for anything else."""
    return packed_weight(weight) if isinstance(weight, QuantizedWeight) and weight.packed.is_cuda else None
