"""The block-diffusion objective (uniform-state): corrupt, denoise, cross-entropy on the clean ids.

Corruption level t ~ U(0, 1] for each example; a free position is replaced by a uniform random id with probability t;
self-conditioning on half of the rows; an autoregressive co-loss on the encoder. After Google's published recipe for
DiffusionGemma (hackable_diffusion_adapter in google-deepmind/gemma), with four additions: a share of examples at
t = 1, where generation starts; infills, whose other positions are pinned and certain in the self-conditioning, exactly
like the sampler's pins; canvases with the model's own confident guesses among the noise, which teach it to correct its
own mistakes; and canvases in which the text from some position on stands a little too far to the left or right, as it
does after a name of several tokens whose length was misjudged ("Priyaya", "the the").
"""

from dataclasses import dataclass

import torch

from dgtui.train.fused import ROWS_AT_ONCE
from dgtui.train.packed import Pack, PackedPass

FULL_NOISE_SHARE = 0.2
INFILL_FULL_NOISE_SHARE = 0.5
T_MIN, T_MAX = 0.4, 0.8
OWN_SHARE, OWN_CONFIDENCE = 0.5, 0.5
SHIFT_SHARE, SHIFTS = 0.2, (-2, -1, 1, 2)
"""Share of the examples in which the rest of the reply is shifted, and by how many positions."""
PINNED_WEIGHT = 0.05
"""Loss weight of pinned positions, which are given."""


ENCODER_WEIGHT = 0.5
ENCODER_SHARE = 0.25
"""Share of the prefix positions that the encoder loss is computed at."""


@dataclass(frozen=True, slots=True)
class Losses:
    """`total` is minimised, and the only one with gradients; `diffusion` and `encoder` in nats per token; `accuracy` of
    the argmax at corrupted positions."""

    total: torch.Tensor
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
    noise, moved = torch.randint(vocab, shape, generator=rng).to(device), _shifted(pack, rng)
    return torch.where(replaced, noise, moved), replaced | (moved != pack.ids), level


def _shifted(pack: Pack, rng: torch.Generator) -> torch.Tensor:
    """Ids (R, L); in some examples, the reply from a random position on stands a few positions off.

    What is to the left of that position is right, so the text can be continued from there.
    """
    device, index, count = pack.ids.device, pack.example.clamp_min(0), pack.count
    chosen = torch.rand(count, generator=rng) < SHIFT_SHARE
    by = torch.randint(len(SHIFTS), (count,), generator=rng)
    share = torch.rand(count, generator=rng)
    reply = pack.canvas & (pack.weight == 1.0)
    begins = torch.full((count,), pack.ids.shape[1], device=device)
    begins = begins.scatter_reduce(0, index[reply], pack.positions[reply], "amin")
    lengths = torch.zeros(count, dtype=torch.long, device=device).scatter_add(0, index[reply], reply[reply].long())
    start = begins + (share.to(device) * lengths).long()
    moved = chosen.to(device)[index] & reply & ~pack.infill & (pack.positions >= start[index])
    result = pack.ids
    for number, shift in enumerate(SHIFTS):
        of_reply = reply.roll(shift, 1) & (pack.example.roll(shift, 1) == pack.example)
        result = torch.where(moved & of_reply & (by == number).to(device)[index], pack.ids.roll(shift, 1), result)
    return result


def losses(through: PackedPass, pack: Pack, rng: torch.Generator) -> Losses:
    """The losses of one pack; canvases in the first half of its rows are self-conditioned."""
    vocab, half = int(through.config.vocab_size), len(pack.ids) // 2
    noisy, replaced, level = corrupt(pack, vocab, rng)
    soft = None
    if half:
        soft, noisy[:half] = _conditioned(through, pack.rows(half), noisy[:half], replaced[:half], level[:half], rng)
        soft = torch.cat((soft, soft.new_zeros((len(pack.ids) - half, *soft.shape[1:]))))
    states = through.states(noisy, pack, soft)

    ahead = torch.zeros_like(pack.canvas)  # prefix positions whose next position belongs to the same prefix
    ahead[:, :-1] = ~pack.canvas[:, :-1] & ~pack.canvas[:, 1:] & (pack.example[:, :-1] == pack.example[:, 1:])
    ahead &= pack.example >= 0
    ahead &= torch.rand(tuple(ahead.shape), generator=rng).to(ahead.device) < ENCODER_SHARE
    weight = pack.weight * torch.where(pack.infill & ~pack.free, PINNED_WEIGHT, 1.0)
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
    through: PackedPass, pack: Pack, noisy: torch.Tensor, replaced: torch.Tensor, level: torch.Tensor,
    rng: torch.Generator,
) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
    """Soft embeddings (R, L, H) of a first guess, and canvases; in half of them confident guesses replace noise."""
    device, shape = pack.ids.device, tuple(pack.ids.shape)
    threshold = torch.rand(shape, generator=rng).to(device).flatten()
    own = torch.rand(pack.count, generator=rng).to(device)[pack.example.clamp_min(0)] < OWN_SHARE
    states = through.states(noisy, pack).flatten(0, 1)
    soft, new = torch.zeros_like(states), noisy.flatten().clone()
    pinned, open_to_own = (pack.infill & ~pack.free).flatten(), (replaced & own).flatten()
    temperature = (T_MIN + (T_MAX - T_MIN) * level).flatten()
    held = pinned.nonzero().flatten()
    soft[held] = through.embedded(pack.ids.flatten()[held])
    guessed = (pack.canvas.flatten() & ~pinned).nonzero().flatten()
    for places in torch.split(guessed, ROWS_AT_ONCE):
        guess = (through.logits(states[places]) / temperature[places, None]).softmax(-1)
        soft[places] = through.soft(guess)
        sample = (guess.cumsum(-1) < threshold[places, None]).sum(-1).clamp_max(guess.shape[-1] - 1)
        sure = guess.gather(-1, sample[:, None])[:, 0] > OWN_CONFIDENCE
        new[places] = torch.where(open_to_own[places] & sure, sample, new[places])
    return soft.view(*shape, -1), new.view(shape)
