"""Products with weights in 4 bit: the experts of a layer, grouped by expert, and single matrices.

T tokens, H hidden, E experts of width W, k experts a token.
"""

import torch

from dgtui.kernels.packed import PackedWeight


def experts_reference(
    x: torch.Tensor, index: torch.Tensor, weights: torch.Tensor, gate_up: PackedWeight, down: PackedWeight
) -> torch.Tensor:
    """What `experts` computes, in PyTorch's own operations and the type of `x`: every expert for every token."""
    mid = gated_reference(torch.einsum("th,ewh->tew", x, gate_up.dequantize(x.dtype)))
    each = torch.einsum("tew,ehw->teh", mid, down.dequantize(x.dtype))
    chosen = each.gather(1, index.long().unsqueeze(-1).expand(-1, -1, each.shape[-1]))
    return torch.einsum("tk,tkh->th", weights.to(x.dtype), chosen)


def linear_reference(x: torch.Tensor, weight: PackedWeight) -> torch.Tensor:
    """What `linear` computes: (…, K) → (…, N)."""
    return torch.nn.functional.linear(x, weight.dequantize(x.dtype, 0))


def gated_reference(gate_up: torch.Tensor) -> torch.Tensor:
    """What `gated` computes: (…, 2W), gate first → gelu(gate) · up (…, W)."""
    gate, up = gate_up.chunk(2, -1)
    return torch.nn.functional.gelu(gate, approximate="tanh") * up
