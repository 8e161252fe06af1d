"""Muon (Jordan et al., 2024, kellerjordan.github.io/posts/muon): momentum, orthogonalized by Newton-Schulz.

torch's own `torch.optim.Muon` takes only matrices; the fused experts are stacks of matrices. So here every parameter of
two or three dimensions is a stack, and stacks of the same shape share one batched iteration.
"""

from collections import defaultdict
from collections.abc import Iterable

import torch
import torch.distributed as dist

_A, _B, _C = 3.4445, -4.7750, 2.0315  # quintic coefficients of the post


def orthogonalize(stack: torch.Tensor, iterations: int = 5) -> torch.Tensor:
    """Nearest semi-orthogonal matrices (roughly: singular values in 0.7 … 1.2) of a stack (N, rows ≤ cols)."""
    x: torch.Tensor = stack / (stack.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(iterations):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=_B, alpha=_C), x, beta=_A)
    return x


def shared(stack: torch.Tensor) -> torch.Tensor:
    """`orthogonalize` of a stack that all processes hold: each one computes a part."""
    if not dist.is_initialized():
        return orthogonalize(stack)
    result = torch.zeros_like(stack)
    mine = slice(*(len(stack) * r // dist.get_world_size() for r in (dist.get_rank(), dist.get_rank() + 1)))
    result[mine] = orthogonalize(stack[mine])
    dist.all_reduce(result)
    return result


class Muon(torch.optim.Optimizer):
    """SGD with Nesterov momentum whose updates are orthogonalized, for parameters of 2 or 3 dimensions."""

    def __init__(self, params: Iterable[torch.nn.Parameter], lr: float = 0.02, momentum: float = 0.95) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One update of every parameter that has a gradient."""
        for group in self.param_groups:
            shapes: dict[tuple[int, int], list[tuple[torch.nn.Parameter, bool, torch.Tensor]]] = defaultdict(list)
            for p in group["params"]:
                if p.grad is None:
                    continue
                buffer = self.state[p].setdefault("momentum", torch.zeros_like(p))
                buffer.lerp_(p.grad, 1 - group["momentum"])
                update = p.grad.lerp(buffer, group["momentum"])
                update = update.unsqueeze(0) if p.ndim == 2 else update
                wide = update.shape[-2] <= update.shape[-1]
                update = update if wide else update.mT
                shapes[update.shape[-2], update.shape[-1]].append((p, wide, update))
            for members in shapes.values():
                stack = shared(torch.cat([update for _, _, update in members]))
                for p, wide, update in members:
                    mine, stack = stack[: len(update)], stack[len(update) :]
                    mine = mine if wide else mine.mT
                    scale = max(1.0, mine.shape[-2] / mine.shape[-1]) ** 0.5
                    p.add_(mine.reshape(p.shape), alpha=-group["lr"] * scale)
