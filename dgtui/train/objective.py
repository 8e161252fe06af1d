"""The block-diffusion objective (uniform-state): corrupt, denoise, cross-entropy on the clean ids.

Corruption level t ~ U(0, 1] for each example; a free position is replaced by a uniform random id with probability t;
self-conditioning on half of the rows; an autoregressive co-loss on the encoder. After Google's published recipe for
DiffusionGemma (hackable_diffusion_adapter in google-deepmind/gemma), with five additions: a share of examples at
t = 1, where generation starts; infills, whose other positions are pinned and certain in the self-conditioning, exactly
like the sampler's pins; canvases with the model's own confident guesses among the noise, which teach it to correct its
own mistakes; canvases whose noise rises from left to right, because text settles mostly in that order; and
self-conditioning from a guess of several steps, the first on a noisier canvas, as the sampler makes it.
"""

from dataclasses import dataclass
from typing import Final

import torch

from dgtui.train.fused import ROWS_AT_ONCE
from dgtui.train.packed import Pack, PackedPass

FULL_NOISE_SHARE = 0.2
INFILL_FULL_NOISE_SHARE = 0.5
T_MIN, T_MAX = 0.4, 0.8
OWN_SHARE, OWN_CONFIDENCE = 0.5, 0.5
MOST_STEPS = 3
"""Most steps that the guess of the self-conditioning is made in. After one step it is right more often than it says.
A model that learns only this makes itself certain: each step trusts the guess of the one before a little more."""
LONGEST_RISE = 16
"""In how many positions noise rises at most. Two fifths rise in one: there the next token has to be told from the one
after it."""
STALE = 0.5
"""Most additional noise in the canvas that the self-conditioning comes from: the sampler's guess is a step old."""
NEAR = 6
"""Positions behind a rise with the full weight: the next ones to settle."""
PINNED_WEIGHT = 0.05
"""Loss weight of pinned positions, which are given."""
ENCODER_WEIGHT = 0.5
ENCODER_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class Noise:
    """How replies become noise."""

    rising_share: float = 0.8
    """Share of the examples whose noise rises from left to right."""
    far_weight: float = 0.05
    """Loss weight of the pure noise behind a rise: small where only a longer settled text makes it predictable."""


USUAL_NOISE: Final = Noise()


@dataclass(frozen=True, slots=True)
class Losses:
    """`total` is minimised, and the only one with gradients; `diffusion` and `encoder` in nats per token; `accuracy` of
    the argmax at corrupted positions."""

    total: torch.Tensor
    diffusion: torch.Tensor
    encoder: torch.Tensor
    accuracy: torch.Tensor


@dataclass(frozen=True, slots=True)
class Corrupted:
    """`ids` (R, L) with noise; `before` (R, L) with more of it, as an earlier step of the sampler sees the same canvas;
    `replaced` (R, L) bool, positions of noise in `ids`; `level` (R, L) of corruption, the same at all positions of an
    example; `far` (R, L) bool, pure noise behind a rise."""

    ids: torch.Tensor
    before: torch.Tensor
    replaced: torch.Tensor
    level: torch.Tensor
    far: torch.Tensor


def corrupt(pack: Pack, vocab: int, rng: torch.Generator, form: Noise = USUAL_NOISE) -> Corrupted:
    """A noisy pack. Draws from `rng` on the CPU, so the numbers are the same on every device."""
    device, shape, index = pack.ids.device, tuple(pack.ids.shape), pack.example.clamp_min(0)
    level = torch.rand(pack.count, generator=rng).clamp_min(0.02).to(device)[index]
    begins = torch.where(pack.infill, INFILL_FULL_NOISE_SHARE, FULL_NOISE_SHARE)
    level = torch.where(torch.rand(pack.count, generator=rng).to(device)[index] < begins, 1.0, level)
    rising = (torch.rand(pack.count, generator=rng) < form.rising_share).to(device)[index] & pack.canvas & ~pack.infill
    stale = (STALE * torch.rand(pack.count, generator=rng)).to(device)[index]
    places, lengths = _in_reply(pack)
    rise = 1 + (LONGEST_RISE * torch.rand(pack.count, generator=rng) ** 3).long().to(device)[index]
    behind = torch.randint(NEAR + 1, (pack.count,), generator=rng).to(device)[index]
    rising |= pack.open  # and its noise ends with the canvas
    amount = torch.where(pack.open, ((rise + behind) / (lengths + rise)).clamp_max(1.0), level)
    draw = torch.rand(shape, generator=rng).to(device)

    def noised(level: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        front = (1 - level) * (lengths + rise) - rise  # where the rise begins, before the reply or in it
        chance = torch.where(rising, ((places - front) / rise).clamp(0.02, 1.0), level)
        replaced = (draw < chance) & pack.free
        noise = torch.randint(vocab, shape, generator=rng).to(device)
        return torch.where(replaced, noise, pack.ids), replaced, rising & (places > front + rise + NEAR)

    before, _, _ = noised(amount + (1 - amount) * stale)
    ids, replaced, far = noised(amount)
    return Corrupted(ids, before, replaced, level, far)


def _in_reply(pack: Pack) -> tuple[torch.Tensor, torch.Tensor]:
    """Places in the reply (R, L), counted from 0, and the lengths of the replies (R, L)."""
    index, reply = pack.example.clamp_min(0), pack.canvas & (pack.weight == 1.0)
    begins = torch.full((pack.count,), pack.ids.shape[1], device=index.device)
    begins = begins.scatter_reduce(0, index[reply], pack.positions[reply], "amin")
    lengths = torch.zeros_like(begins).scatter_add(0, index[reply], torch.ones_like(index[reply]))
    return pack.positions - begins[index], lengths[index]


def losses(through: PackedPass, pack: Pack, rng: torch.Generator, encoder_share: float = ENCODER_SHARE,
           form: Noise = USUAL_NOISE) -> Losses:  # fmt: skip
    """The losses of one pack; canvases in the first half of its rows are self-conditioned.

    Args:
        encoder_share: Share of the prefix positions that the encoder loss is computed at.
    """
    vocab, half = int(through.config.vocab_size), len(pack.ids) // 2
    corrupted = corrupt(pack, vocab, rng, form)
    noisy, replaced = corrupted.ids, corrupted.replaced
    soft = None
    if half:
        soft, noisy[:half] = _conditioned(through, pack.rows(half), corrupted, rng)
        soft = torch.cat((soft, soft.new_zeros((len(pack.ids) - half, *soft.shape[1:]))))
    states = through.states(noisy, pack, soft)

    ahead = torch.zeros_like(pack.canvas)  # prefix positions whose next position belongs to the same prefix
    ahead[:, :-1] = ~pack.canvas[:, :-1] & ~pack.canvas[:, 1:] & (pack.example[:, :-1] == pack.example[:, 1:])
    ahead &= pack.example >= 0
    ahead &= torch.rand(tuple(ahead.shape), generator=rng).to(ahead.device) < encoder_share
    weight = pack.weight * torch.where(pack.infill & ~pack.free, PINNED_WEIGHT, 1.0)
    weight = weight * torch.where(corrupted.far, form.far_weight, 1.0) * pack.emphasis
    weight, of_encoder = weight / weight.sum(), ahead / ahead.sum().clamp_min(1)
    places = (ahead | (weight > 0)).flatten().nonzero().flatten()
    target = torch.where(ahead, pack.ids.roll(-1, 1), pack.ids).flatten()[places]
    weight, of_encoder = weight.flatten()[places], of_encoder.flatten()[places]
    total, each, best = through.loss(states.flatten(0, 1).index_select(0, places), target,
                                     weight + ENCODER_WEIGHT * of_encoder)  # fmt: skip
    judged = (replaced & (pack.weight == 1.0)).flatten()[places]
    right = ((best == target) & judged).sum() / judged.sum().clamp_min(1)
    return Losses(total, (each * weight).sum(), (each * of_encoder).sum(), right)


@torch.no_grad()
def _conditioned(
    through: PackedPass, pack: Pack, corrupted: Corrupted, rng: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Soft embeddings (R, L, H) of a guess, and canvases; in half of them confident guesses replace noise.

    The guess is that of several steps, as the sampler makes them: the first sees a noisier canvas, the others new noise
    and the guess of the step before.
    """
    before, noisy, replaced, level = (
        tensor[: len(pack.ids)] for tensor in (corrupted.before, corrupted.ids, corrupted.replaced, corrupted.level)
    )
    device, shape = pack.ids.device, tuple(pack.ids.shape)
    own = torch.rand(pack.count, generator=rng).to(device)[pack.example.clamp_min(0)] < OWN_SHARE
    threshold = torch.rand(shape, generator=rng).to(device).flatten()
    pinned, open_to_own = (pack.infill & ~pack.free).flatten(), (replaced & own).flatten()
    temperature = (T_MIN + (T_MAX - T_MIN) * level).flatten()
    held, guessed = pinned.nonzero().flatten(), (pack.canvas.flatten() & ~pinned).nonzero().flatten()
    seen, soft, new = before, None, noisy.flatten().clone()
    steps = int(torch.randint(1, MOST_STEPS + 1, (), generator=rng))
    for step in range(1, steps + 1):
        states = through.states(seen, pack, soft).flatten(0, 1)
        guesses = torch.zeros_like(states)
        guesses[held] = through.embedded(pack.ids.flatten()[held])
        for places in torch.split(guessed, ROWS_AT_ONCE):
            guess = (through.logits(states[places]) / temperature[places, None]).softmax(-1)
            guesses[places] = through.soft(guess)
            if step == steps:
                sample = (guess.cumsum(-1) < threshold[places, None]).sum(-1).clamp_max(guess.shape[-1] - 1)
                sure = guess.gather(-1, sample[:, None])[:, 0] > OWN_CONFIDENCE
                new[places] = torch.where(open_to_own[places] & sure, sample, new[places])
        soft = guesses.view(*shape, -1)
        noise = torch.randint(int(through.config.vocab_size), shape, generator=rng).to(device)
        seen = torch.where(replaced, noise, pack.ids)
    assert soft is not None
    return soft, new.view(shape)
