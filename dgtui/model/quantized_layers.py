"""Layers on quantized weights in plain PyTorch: used where no kernel runs, and the reference for the kernels.

`QuantizedExperts` replaces transformers' experts. It runs the implementation that its config names in transformers'
experts interface if that one takes quantized weights, else the reference here.
"""

from typing import Any, Final

import torch
from torch import nn
from transformers.activations import ACT2FN
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

from dgtui.model.quantized_weight import QuantizedWeight

IMPLEMENTATION: Final = "quantized"
"""Name of the reference in transformers' experts interface; kernels are named `quantized_…`."""


class _FrozenLinear(torch.autograd.Function):
    """x @ weightᵀ with a weight that is decoded on use: for backward, only the codes are kept."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: QuantizedWeight, index: int | None) -> torch.Tensor:
        ctx.weight, ctx.index = weight, index
        return nn.functional.linear(x, weight.dequantize(x.dtype, index))

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (gradient,) = gradients
        return gradient @ ctx.weight.dequantize(gradient.dtype, ctx.index), None, None


def linear(x: torch.Tensor, weight: QuantizedWeight, index: int | None = None) -> torch.Tensor:
    """(…, in) → (…, out), with a weight or with number `index` of a stack of weights."""
    if torch.is_grad_enabled() and x.requires_grad:
        result: torch.Tensor = _FrozenLinear.apply(x, weight, index)  # type: ignore[no-untyped-call]
        return result
    return nn.functional.linear(x, weight.dequantize(x.dtype, index))


class QuantizedLinear(nn.Module):
    """A linear layer without bias on a quantized weight."""

    def __init__(self, weight: QuantizedWeight) -> None:
        super().__init__()
        self.weight = weight
        self.out_features, self.in_features = weight.shape

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return linear(x, self.weight)


class QuantizedExperts(nn.Module):
    """The experts of one layer on quantized stacks; replaces transformers' `DiffusionGemmaTextExperts`.

    `gate_up_proj`: (experts, 2 × width, hidden), `down_proj`: (experts, hidden, width).
    """

    def __init__(self, config: Any, gate_up_proj: QuantizedWeight, down_proj: QuantizedWeight) -> None:
        super().__init__()
        self.config = config
        self.num_experts, self.hidden_dim, self.intermediate_dim = down_proj.shape
        self.gate_up_proj, self.down_proj = gate_up_proj, down_proj
        self.act_fn = ACT2FN[config.hidden_activation]

    def forward(
        self, hidden_states: torch.Tensor, top_k_index: torch.Tensor, top_k_weights: torch.Tensor
    ) -> torch.Tensor:
        """(tokens, hidden), (tokens, k) experts and (tokens, k) weights → (tokens, hidden)."""
        wanted: str = self.config._experts_implementation or ""
        chosen = wanted if wanted.startswith(IMPLEMENTATION) else IMPLEMENTATION
        result: torch.Tensor = ALL_EXPERTS_FUNCTIONS[chosen](self, hidden_states, top_k_index, top_k_weights)
        return result


def experts_reference(
    experts: QuantizedExperts, hidden_states: torch.Tensor, top_k_index: torch.Tensor, top_k_weights: torch.Tensor
) -> torch.Tensor:
    """Reference of `QuantizedExperts`, expert by expert; an expert without tokens is not decoded.

    The k results of a token are added in the order of `top_k_index`, so the sum is deterministic.
    """
    tokens, k = top_k_index.shape
    routes = top_k_index.flatten()
    order = routes.argsort(stable=True)
    ends = routes.bincount(minlength=experts.num_experts).cumsum(0).tolist()
    gate_up_proj, down_proj = (weight.on(hidden_states.device) for weight in (experts.gate_up_proj, experts.down_proj))
    each = hidden_states.new_empty((tokens * k, experts.hidden_dim))
    for expert, (start, stop) in enumerate(zip([0, *ends[:-1]], ends, strict=True)):
        if start == stop:
            continue
        mine = order[start:stop]
        gate, up = linear(hidden_states[mine // k], gate_up_proj, expert).chunk(2, dim=-1)
        each[mine] = linear(experts.act_fn(gate) * up, down_proj, expert)
    weights = top_k_weights.to(each.dtype).unsqueeze(1)
    return (weights @ each.view(tokens, k, -1)).squeeze(1)


ALL_EXPERTS_FUNCTIONS.register(IMPLEMENTATION, experts_reference)
