"""Runs quantized layers on kernels: finds the layers that kernels can read, and the fallback for the others."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from dgtui.inference.experts import ExpertsFunction, grouped_experts
from dgtui.kernels.ops import Ops
from dgtui.kernels.packed import PackedWeight
from dgtui.model.kernel_weights import for_kernels
from dgtui.model.quantized_weight import QuantizedWeight


@dataclass(frozen=True, slots=True)
class Kernels:
    """The products of a model's layers on kernels, for `forward.Decoder`."""

    ops: Ops

    def experts(self, experts: Any) -> ExpertsFunction:
        """The kernels if they can read both stacks and these are on the device, else a grouped product."""
        stacks = [packed_here(experts.gate_up_proj), packed_here(experts.down_proj)]
        gate_up, down = stacks
        if gate_up is None or down is None:
            return grouped_experts(experts, self.ops.gated)

        def run(x: torch.Tensor, index: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
            return self.ops.experts(x, index, weights, gate_up, down)

        return run

    def product(self, layer: nn.Module) -> Callable[[torch.Tensor], torch.Tensor]:
        """The kernels for a quantized linear layer if they can read it, else the layer itself."""
        weight = packed_here(getattr(layer, "weight", None))
        return layer if weight is None else lambda x: self.ops.linear(x, weight)


def packed_here(weight: Any) -> PackedWeight | None:
    """`for_kernels` of a quantized weight in GPU memory; None for anything else."""
    return for_kernels(weight) if isinstance(weight, QuantizedWeight) and weight.packed.is_cuda else None
