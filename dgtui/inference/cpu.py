"""The operations between a layer's matrix products in their fastest form for the CPU, in fp32; see `kernels.ops`.

PyTorch's tanh takes five times as long as its sigmoid. A norm by `vector_norm` takes half as long as one by a mean of
squares. A pass over a tensor that does not fit into a cache takes longer than its arithmetic.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import torch

from dgtui.kernels.ops import TORCH, Ops


def gated(gate_up: torch.Tensor) -> torch.Tensor:
    """See `kernels.ops.Gated`. The tanh form of gelu(x) equals x · sigmoid(2u)."""
    gate, up = gate_up.chunk(2, -1)
    u = gate.square().mul_(_CUBIC).add_(_LINEAR).mul_(gate)
    return u.sigmoid_().mul_(gate).mul_(up)


_LINEAR: Final = 2 * math.sqrt(2 / math.pi)
_CUBIC: Final = 0.044715 * _LINEAR


def residual_norm(
    x: torch.Tensor,
    branches: Sequence[tuple[torch.Tensor, torch.Tensor]],
    post: torch.Tensor | None,
    scale: torch.Tensor | None,
    norms: Sequence[torch.Tensor],
    eps: float,
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """See `kernels.ops.ResidualNorm`."""
    if post is None and len(branches) == 1:
        ((branch, weight),) = branches
        stream = torch.addcmul(x, _normed(branch, eps), weight)
    else:
        total = _normed(*branches[0][:1], eps).mul_(branches[0][1])
        for branch, weight in branches[1:]:
            total.addcmul_(_normed(branch, eps), weight)
        stream = x + total if post is None else torch.addcmul(x, _normed(total, eps), post)
    if scale is not None:
        stream.mul_(scale)
    normed = _normed(stream, eps)
    return stream, [normed * weight for weight in norms]


def rotate(
    qkv: torch.Tensor,
    q_norm: torch.Tensor,
    k_norm: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    start: torch.Tensor,
    heads: int,
    eps: float,
) -> torch.Tensor:
    """See `kernels.ops.Rotate`."""
    batch, canvas, width = qkv.shape
    kv, d = keys.shape[1], keys.shape[3]
    normed = _normed(qkv.view(batch, canvas, width // d, d), eps)
    turned = torch.empty((batch, canvas, heads + kv, d), dtype=qkv.dtype)
    torch.mul(normed[:, :, :heads], q_norm, out=turned[:, :, :heads])
    torch.mul(normed[:, :, heads : heads + kv], k_norm, out=turned[:, :, heads:])
    swapped = turned.roll(d // 2, -1)  # its first half carries the sign of the sine
    signed = torch.cat([-sin[:, : d // 2], sin[:, d // 2 :]], -1).unsqueeze(1)
    turned.mul_(cos.unsqueeze(1)).addcmul_(swapped, signed)
    places = start + torch.arange(canvas)
    keys.index_copy_(2, places, turned[:, :, heads:].transpose(1, 2))
    values.index_copy_(2, places, normed[:, :, -kv:].transpose(1, 2))
    return turned[:, :, :heads].transpose(1, 2).contiguous()


def route(scores: torch.Tensor, expert_scale: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """See `kernels.ops.Route`."""
    probs, index = scores.softmax(-1).topk(k, -1)
    return probs.div_(probs.sum(-1, keepdim=True)).mul_(expert_scale[index]), index


def _normed(x: torch.Tensor, eps: float) -> torch.Tensor:
    """x / sqrt(mean(x²) + eps) over the last dimension."""
    norm: torch.Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return x * norm.square_().mul_(1 / x.shape[-1]).add_(eps).rsqrt_()


CPU: Final[Ops] = replace(TORCH, name="cpu", gated=gated, residual_norm=residual_norm, rotate=rotate, route=route)
