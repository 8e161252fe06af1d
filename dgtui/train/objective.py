"""The block-diffusion objective (uniform-state): corrupt, denoise, cross-entropy on the clean ids.

Corruption level t ~ U(0, 1] for each example; a free position is replaced by a uniform random id with probability t;
self-conditioning on half of the rows; an autoregressive co-loss on the encoder. After Google's published recipe for
DiffusionGemma (hackable_diffusion_adapter in google-deepmind/gemma), with three additions: a share of examples at
t = 1, where generation starts; infills, whose other positions are pinned and certain in the self-conditioning, exactly
like the sampler's pins; and canvases with the model's own confident guesses among the noise, which teach it to correct
its own mistakes.
"""

from dataclasses import dataclass

import torch
from torch.nn import functional as F

from dgtui.train.packed import Pack, PackedPass

FULL_NOISE_SHARE = 0.2
INFILL_FULL_NOISE_SHARE = 0.5
T_MIN, T_MAX = 0.4, 0.8
OWN_SHARE, OWN_CONFIDENCE = 0.5, 0.5
PINNED_WEIGHT = 0.05
"""Loss weight of pinned positions, which are given."""


@dataclass(frozen=True, slots=True)
class Losses:
    """`diffusion` and `encoder` in nats per token; `accuracy` of the argmax at corrupted positions."""

    diffusion: torch.Tensor
    encoder: torch.Tensor
    accuracy: torch.Tensor


def corrupt(pack: Pack, vocab: int, rng: torch.Generator) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Noisy ids (R, L), the mask of replaced positions (R, L) and the corruption level at every position (R, L).

    Draws from `rng` on the CPU, so the numbers are the same on every device.
    """
    device, shape, index = pack.ids.device, tuple(pack.ids.shape), pack.example.clamp_min(0)
    level = torch.rand(pack.count, generator=rng).clamp_min(0.02).to(device)[index]
    begins = torch.where(pack.infill, INFILL_FULL_NOISE_SHARE, FULL_NOISE_SHARE)
    level = torch.where(torch.rand(pack.count, generator=rng).to(device)[index] < begins, 1.0, level)
    replaced = (torch.rand(shape, generator=rng).to(device) < level) & pack.free
    noise = torch.randint(vocab, shape, generator=rng).to(device)
    return torch.where(replaced, noise, pack.ids), replaced, level


def losses(through: PackedPass, pack: Pack, rng: torch.Generator) -> Losses:
    """The losses of one pack; canvases in the first half of its rows are self-conditioned."""
    vocab, half = int(through.config.vocab_size), len(pack.ids) // 2
    noisy, replaced, level = corrupt(pack, vocab, rng)
    soft = None
    if half:
        soft, noisy[:half] = _conditioned(through, pack.rows(half), noisy[:half], replaced[:half], level[:half], rng)
        soft = torch.cat((soft, soft.new_zeros((len(pack.ids) - half, *soft.shape[1:]))))
    logits = through.logits(through.states(noisy, pack, soft))

    ahead = torch.zeros_like(pack.canvas)  # prefix positions whose next position belongs to the same prefix
    ahead[:, :-1] = ~pack.canvas[:, :-1] & ~pack.canvas[:, 1:] & (pack.example[:, :-1] == pack.example[:, 1:])
    ahead &= pack.example >= 0
    target = torch.where(ahead, pack.ids.roll(-1, 1), pack.ids)
    each = F.cross_entropy(logits.flatten(0, 1), target.flatten(), reduction="none").view(target.shape)
    weight = pack.weight * torch.where(pack.infill & ~pack.free, PINNED_WEIGHT, 1.0)
    judged = replaced & (pack.weight == 1.0)
    right = (logits.argmax(-1) == pack.ids) & judged
    return Losses(
        (each * weight).sum() / weight.sum(),
        (each * ahead).sum() / ahead.sum().clamp_min(1),
        (right.sum() / judged.sum().clamp_min(1)).detach(),
    )


@torch.no_grad()
def _conditioned(
    through: PackedPass, pack: Pack, noisy: torch.Tensor, replaced: torch.Tensor, level: torch.Tensor,
    rng: torch.Generator,
) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
    """Soft embeddings (R, L, H) of a first guess, and canvases; in half of them confident guesses replace noise."""
    device, vocab = pack.ids.device, int(through.config.vocab_size)
    temperature = T_MIN + (T_MAX - T_MIN) * level[..., None]
    guess = (through.logits(through.states(noisy, pack)) / temperature).softmax(-1)
    pinned = (pack.infill & ~pack.free)[..., None]
    guess = torch.where(pinned, F.one_hot(pack.ids, vocab).to(guess.dtype), guess)
    threshold = torch.rand((*pack.ids.shape, 1), generator=rng).to(device)
    sample = (guess.cumsum(-1) < threshold).sum(-1).clamp_max(vocab - 1)
    sure = guess.gather(-1, sample[..., None])[..., 0] > OWN_CONFIDENCE
    own = torch.rand(pack.count, generator=rng).to(device)[pack.example.clamp_min(0)] < OWN_SHARE
    return through.soft(guess) * pack.canvas[..., None], torch.where(replaced & sure & own, sample, noisy)
