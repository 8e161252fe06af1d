"""Entropy-bound acceptance and renoising for uniform-state diffusion, aware of pins.

There is no mask token: undecided positions hold random tokens. Each step samples every position, accepts the most
certain samples while the sum of their entropies stays under a bound (Ben-Hamu et al., arXiv 2505.24857), and redraws
all others uniformly. A pinned position is certain: its entropy is 0, so it does not use up the bound, and its logits,
also in the self-conditioning, are 0 at its id and -inf elsewhere.

Shapes: B candidates, C canvas positions, V vocabulary.
"""

import torch


def distribution(logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Probabilities (B, C, V) and entropies (B, C) in nats of temperature-scaled logits, in fp32."""
    probs = logits.softmax(-1, dtype=torch.float32)
    log_probs = logits.log_softmax(-1, dtype=torch.float32)
    # p·log p → 0 where p is 0; log p may be -inf there
    entropy = -(log_probs.clamp_min_(torch.finfo(torch.float32).min).mul_(probs)).sum(-1)
    return probs, entropy


def accept(entropy: torch.Tensor, bound: float) -> torch.Tensor:
    """Mask (B, C) of the accepted positions: those for which the entropies of all more certain ones sum to ≤ bound.

    The most certain position is always accepted.
    """
    ordered, order = entropy.sort(-1)
    within = ordered.cumsum(-1) - ordered <= bound
    return torch.zeros_like(within).scatter_(-1, order, within)


def draw(probs: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """One sample per position: probabilities (C, V) → ids (C,)."""
    return torch.multinomial(probs, 1, generator=rng).squeeze(-1)


def noise(length: int, vocab_size: int, rng: torch.Generator) -> torch.Tensor:
    """Uniform random ids (length,)."""
    # The shape (1, length) is that of `generate`, for the same draws
    return torch.randint(vocab_size, (1, length), generator=rng, device=rng.device)[0]


def pin_logits(logits: torch.Tensor, ids: torch.Tensor, pinned: torch.Tensor) -> torch.Tensor:
    """Makes pinned positions certain, in place: logits (B, C, V), ids (B, C), pinned (B, C) bool."""
    if pinned.any():
        logits[pinned] = -torch.inf
        logits[pinned, ids[pinned]] = 0.0
    return logits
