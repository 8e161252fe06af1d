"""Two parts of the training step with gradients written by hand: autograd would read and write far more memory."""

from typing import Any

import torch
from torch.nn import functional as F

Tensor = torch.Tensor
ROWS_AT_ONCE = 256
"""Number of positions whose logits are in memory at a time."""


def rms_norm(x: Tensor, weight: Tensor | None, eps: float) -> Tensor:
    """x (…, H) divided by its root mean square, times `weight` (H)."""
    if x.is_cuda or not (torch.is_grad_enabled() and x.requires_grad):
        return F.rms_norm(x, x.shape[-1:], weight, eps)
    result: Tensor = _Norm.apply(x, weight, eps)  # type: ignore[no-untyped-call]
    return result


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor | None, eps: float) -> Tensor:
        size = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        inverse = (size * size / x.shape[-1] + eps).rsqrt_()
        ctx.save_for_backward(x, weight, inverse)
        scaled: Tensor = x * inverse
        return scaled if weight is None else scaled.mul_(weight)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor | None, None]:
        (gradient,) = gradients
        x, weight, inverse = ctx.saved_tensors
        both = gradient * x
        flat = both.flatten(0, -2)
        of_weight = inverse.flatten() @ flat if weight is not None else None
        along = (both.sum(-1, keepdim=True) if weight is None else (flat @ weight).view(inverse.shape)) * inverse**3
        scaled = gradient * inverse if weight is None else (gradient * weight).mul_(inverse)
        return scaled.addcmul_(x, along, value=-1 / x.shape[-1]), of_weight, None


def head_loss(
    states: Tensor, embedding: Tensor, cap: float | None, target: Tensor, share: Tensor, low: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Cross-entropy of softcapped logits, computed for a few positions at a time and only once.

    Args:
        states: (N, H) final states.
        embedding: (V, H), tied to the head.
        target: (N) ids.
        share: (N) weight of each position in the sum.

    Returns:
        The weighted sum of the losses; each loss (N) in nats and each argmax (N), without gradients.
    """
    total, each, best = _Head.apply(  # type: ignore[no-untyped-call]
        states, embedding, cap, target, share, low, torch.is_grad_enabled()
    )
    return total, each, best


class _Head(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, states: Tensor, embedding: Tensor, cap: float | None, target: Tensor, share: Tensor, low: bool,
        learning: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
        kind = torch.bfloat16 if low else embedding.dtype
        table = embedding.to(kind)
        of_states = torch.empty_like(states) if learning and states.requires_grad else None
        of_table = torch.zeros_like(embedding) if learning and embedding.requires_grad else None
        each, best = torch.empty_like(share), torch.empty_like(target)
        for start in range(0, len(states), ROWS_AT_ONCE):
            here = slice(start, start + ROWS_AT_ONCE)
            mine, wanted = states[here].to(kind), target[here, None]
            logits = F.linear(mine, table).float()
            if cap is not None:
                logits.div_(cap).tanh_().mul_(cap)
            log = logits.log_softmax(-1)
            each[here] = -log.gather(1, wanted)[:, 0]
            best[here] = log.argmax(-1)
            if of_states is None and of_table is None:
                continue
            back = log.exp_()
            back.scatter_add_(1, wanted, back.new_full(wanted.shape, -1.0))
            back.mul_(share[here, None])
            if cap is not None:
                back.mul_(logits.div_(cap).square_().neg_().add_(1.0))
            back = back.to(kind)
            if of_states is not None:
                of_states[here] = back @ table
            if of_table is not None:
                of_table.addmm_(back.T.to(of_table.dtype), mine.to(of_table.dtype))
        ctx.save_for_backward(of_states, of_table)
        ctx.mark_non_differentiable(each, best)
        return (each * share).sum(), each, best

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        of_states, of_table = ctx.saved_tensors
        by = gradients[0]
        return (
            None if of_states is None else of_states * by,
            None if of_table is None else of_table * by,
            None, None, None, None, None,
        )  # fmt: skip
