"""What lies between a layer's products: RMS norms with the residual, q/k norm with rotary embedding, the router.

T tokens = B candidates × C canvas positions, H hidden. Sums are taken in fp32.
"""

from collections.abc import Sequence

import torch


def residual_norm_reference(
    x: torch.Tensor,
    branches: Sequence[tuple[torch.Tensor, torch.Tensor]],
    post: torch.Tensor | None,
    scale: torch.Tensor | None,
    norms: Sequence[torch.Tensor],
    eps: float,
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """What `residual_norm` computes."""
    total = torch.stack([_rms(y.float(), eps) * weight.float() for y, weight in branches]).sum(0)
    if post is not None:
        total = _rms(total, eps) * post.float()
    total = x.float() + total
    if scale is not None:
        total = total * scale.float()
    stream = total.to(x.dtype)
    normed = _rms(stream.float(), eps)
    return stream, [(normed * weight.float()).to(x.dtype) for weight in norms]


def rotate_reference(
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
    """What `rotate` computes."""
    b, c, width = qkv.shape
    kv, d = keys.shape[1], keys.shape[3]
    parts = _rms(qkv.view(b, c, width // d, d).float(), eps).transpose(1, 2)
    q, k = parts[:, :heads] * q_norm.float(), parts[:, heads : heads + kv] * k_norm.float()
    v = parts[:, -kv:]  # k itself, not weighted and not turned, where there is no v
    places = start + torch.arange(c, device=qkv.device)
    keys.index_copy_(2, places, _turn(k, cos, sin).to(keys.dtype))
    values.index_copy_(2, places, v.to(values.dtype))
    return _turn(q, cos, sin).to(qkv.dtype).contiguous()


def route_reference(scores: torch.Tensor, expert_scale: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """What `route` computes."""
    probs, index = scores.float().softmax(-1).topk(k, -1)
    weights = probs / probs.sum(-1, keepdim=True) * expert_scale.float()[index]
    return weights, index.int()


def _rms(x: torch.Tensor, eps: float) -> torch.Tensor:
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps)


def _turn(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    first, second = x.chunk(2, -1)
    return x * cos + torch.cat([-second, first], -1) * sin
