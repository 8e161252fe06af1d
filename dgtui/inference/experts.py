"""The experts of a layer, one function for each way of holding and multiplying them.

T tokens, H hidden, E experts of width W, k experts per token. Every function takes x (T, H), index (T, k) and weights
(T, k) fp32 and returns (T, H): the sum over a token's experts in the order of `index`, so the result is
deterministic.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

from dgtui.kernels.ops import Gated
from dgtui.model.quantized_weight import QuantizedWeight

ExpertsFunction = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


def sorted_experts(experts: Any, gated: Gated, products: torch.dtype | None = None) -> ExpertsFunction:
    """One expert after the other, each on its own tokens. For the CPU: it needs the token counts on the host.

    `products`: plain matrices are copied, and all are multiplied, in this type; None for the type of the activations.
    """
    stacks = [
        stack if products is None or isinstance(stack, QuantizedWeight) else stack.to(products)
        for stack in (experts.gate_up_proj, experts.down_proj)
    ]

    def matrix(stack: Any, expert: int, dtype: torch.dtype) -> torch.Tensor:
        found: torch.Tensor = stack.dequantize(dtype, expert) if isinstance(stack, QuantizedWeight) else stack[expert]
        return found

    def run(x: torch.Tensor, index: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        tokens, k = index.shape
        routes = index.flatten()
        order = routes.argsort(stable=True)
        dtype = products or x.dtype
        rows = x.to(dtype)[order // k]
        at = 0
        for expert, count in enumerate(routes.bincount().tolist()):
            if count:
                mine = slice(at, at + count)
                mid = gated(functional.linear(rows[mine], matrix(stacks[0], expert, dtype)).to(x.dtype))
                torch.mm(mid.to(dtype), matrix(stacks[1], expert, dtype).t(), out=rows[mine])
                at += count
        return _combine(rows.to(x.dtype), order, weights, tokens, k)

    return run


def grouped_experts(experts: Any, gated: Gated) -> ExpertsFunction:
    """One grouped product for all experts; quantized ones are decoded first. Static shapes, no synchronisation."""

    def stack(weight: Any, x: torch.Tensor) -> torch.Tensor:
        if isinstance(weight, QuantizedWeight):
            weight = weight.on(x.device).dequantize(x.dtype)
        found: torch.Tensor = weight.transpose(1, 2)
        return found

    def run(x: torch.Tensor, index: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        tokens, k = index.shape
        routes, order = index.flatten().sort(stable=True)
        numbers = torch.arange(experts.num_experts, device=x.device, dtype=routes.dtype)
        ends = torch.searchsorted(routes, numbers, right=True, out_int32=True)
        mid = gated(functional.grouped_mm(x[order // k], stack(experts.gate_up_proj, x), offs=ends))
        each = functional.grouped_mm(mid, stack(experts.down_proj, x), offs=ends)
        return _combine(each, order, weights, tokens, k)

    return run


def _combine(each: torch.Tensor, order: torch.Tensor, weights: torch.Tensor, tokens: int, k: int) -> torch.Tensor:
    """Results (T·k, H) in sorted order → weighted sums per token."""
    back = torch.empty_like(each).index_copy_(0, order, each).view(tokens, k, -1)
    return (weights.to(each.dtype).unsqueeze(1) @ back).squeeze(1)
