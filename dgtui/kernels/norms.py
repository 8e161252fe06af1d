"""The operations between a layer's products: RMS norms with the residual, q/k norm with rotary embedding, the router.

T tokens = B candidates × C canvas positions, H hidden. Sums are computed in fp32.
"""

from collections.abc import Sequence

import torch

from dgtui.kernels.tiles import power


def residual_norm(
    x: torch.Tensor,
    branches: Sequence[tuple[torch.Tensor, torch.Tensor]],
    post: torch.Tensor | None,
    scale: torch.Tensor | None,
    norms: Sequence[torch.Tensor],
    eps: float,
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """See `ops.ResidualNorm`. One launch."""
    from dgtui.kernels.jit import norms as jit

    tokens, hidden = x.shape
    stream, normed = torch.empty_like(x), x.new_empty((len(norms), tokens, hidden))
    (y, y_weight), (z, z_weight) = branches[0], branches[-1]
    first, second, third = (*norms, x, x, x)[:3]
    jit.residual_norm[(tokens,)](
        x, y, y_weight, z, z_weight, x if post is None else post, x if scale is None else scale, first, second, third,
        stream, normed, tokens, eps,
        hidden, power(hidden), len(branches) > 1, post is not None, scale is not None, len(norms), num_warps=8,
    )  # fmt: skip
    return stream, list(normed.unbind())


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
    """See `ops.Rotate`. One launch."""
    from dgtui.kernels.jit import norms as jit

    b, c, width = qkv.shape
    kv, d = keys.shape[1], keys.shape[3]
    q = qkv.new_empty((b, heads, c, d))
    jit.rotate[b * c, heads + 2 * kv](
        qkv, q_norm, k_norm, cos, sin, start, q, keys, values, c, *keys.stride()[:3], *values.stride()[:3], eps,
        d, power(d // 2), heads, kv, width == (heads + 2 * kv) * d, num_warps=1,
    )  # fmt: skip
    return q


def route(scores: torch.Tensor, expert_scale: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """See `ops.Route`. One launch."""
    from dgtui.kernels.jit import norms as jit

    tokens, e = scores.shape
    weights, index = (
        scores.new_empty((tokens, k), dtype=torch.float32),
        scores.new_empty((tokens, k), dtype=torch.int32),
    )
    jit.route[(tokens,)](scores, expert_scale, weights, index, e, power(e), k, power(k), num_warps=1)
    return weights, index


def residual_norm_reference(
    x: torch.Tensor,
    branches: Sequence[tuple[torch.Tensor, torch.Tensor]],
    post: torch.Tensor | None,
    scale: torch.Tensor | None,
    norms: Sequence[torch.Tensor],
    eps: float,
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """`residual_norm` using PyTorch's operations."""
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
    """`rotate` using PyTorch's operations."""
    b, c, width = qkv.shape
    kv, d = keys.shape[1], keys.shape[3]
    parts = _rms(qkv.view(b, c, width // d, d).float(), eps).transpose(1, 2)
    q, k = parts[:, :heads] * q_norm.float(), parts[:, heads : heads + kv] * k_norm.float()
    v = parts[:, -kv:]  # without v: k itself, not weighted and not rotated
    places = start + torch.arange(c, device=qkv.device)
    keys.index_copy_(2, places, _turn(k, cos, sin).to(keys.dtype))
    values.index_copy_(2, places, v.to(values.dtype))
    return _turn(q, cos, sin).to(qkv.dtype).contiguous()


def route_reference(scores: torch.Tensor, expert_scale: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """`route` using PyTorch's operations."""
    probs, index = scores.float().softmax(-1).topk(k, -1)
    weights = probs / probs.sum(-1, keepdim=True) * expert_scale.float()[index]
    return weights, index.int()


def _rms(x: torch.Tensor, eps: float) -> torch.Tensor:
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps)


def _turn(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    first, second = x.chunk(2, -1)
    return x * cos + torch.cat([-second, first], -1) * sin
