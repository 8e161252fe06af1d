"""Computes the next canvas from logits: entropy, most likely ids, draws, acceptance and renoising.

Shapes: B candidates, C canvas positions, V vocabulary. Ids are int64, masks are bool. Whatever changes from step to
step (temperature, step number, pins) is read from device memory, so a captured graph sees the change.

Randomness is Philox 4x32-10 (Salmon et al., SC 2011): a function of the candidate's seed and of (position, step, block,
candidate). The same key gives the same numbers on every device, however many other candidates run.
"""

from dataclasses import dataclass
from typing import Final

import torch

ROUNDS: Final = 10
_MULTIPLIERS: Final = (0xD2511F53, 0xCD9E8D57)
_WEYL: Final = (0x9E3779B9, 0xBB67AE85)
_WORD: Final = 0xFFFFFFFF


@dataclass(frozen=True, slots=True, eq=False)
class Pins:
    """Pinned positions, and ids that no position may take."""

    held: torch.Tensor
    "(B, C) int64: read where pinned"
    pinned: torch.Tensor
    "(B, C) bool"
    suppressed: torch.Tensor | None
    "(V) bool: never drawn, not counted in the distribution. Must not be all of V."


@dataclass(frozen=True, slots=True, eq=False)
class Draws:
    """The key of a step's random numbers."""

    seeds: torch.Tensor
    "(B) int64, non-negative"
    candidates: torch.Tensor
    "(B) int32"
    counter: torch.Tensor
    "(2) int32: the number of the block, and of the step in it (from 1; 0 is the initial canvas)"


@dataclass(frozen=True, slots=True, eq=False)
class Sampled:
    """The results of a step's logits for each position. A pinned position has its id with certainty."""

    entropy: torch.Tensor
    "(B, C) fp32, nats"
    argmax: torch.Tensor
    "(B, C) int64"
    drawn: torch.Tensor
    "(B, C) int64: a sample of the distribution"
    noise: torch.Tensor
    "(B, C) int64: a uniform id, from the same key"
    top_ids: torch.Tensor
    "(B, C, 8) int64, most likely first; at a pinned position the others are 0"
    top_probs: torch.Tensor
    "(B, C, 8) fp32"
    normalizer: torch.Tensor
    "(B, C) fp32: log Σ exp of the scaled logits"


@dataclass(frozen=True, slots=True, eq=False)
class Accepted:
    """The result of a step for a canvas."""

    accepted: torch.Tensor
    "(B, C) bool, including pinned positions"
    canvas: torch.Tensor
    "(B, C) int64: accepted positions get their sample, others a uniform id, pinned ones keep theirs"
    mean_entropy: torch.Tensor
    "(B) fp32, over free positions"


TOP: Final = 8
"""Number of most likely ids that a step reports."""


_PART: Final = 2048
"""Number of logits in a part of a row."""
_PARTS_AT_ONCE: Final = 4
_OTHERS_AT_ONCE: Final = 8


def sample(
    logits: torch.Tensor, inverse_temperature: torch.Tensor, softcap: float | None, pins: Pins, draws: Draws
) -> Sampled:
    """See `ops.Sample`. Two launches, the first of which reads the logits once."""
    from dgtui.kernels.jit import sampler as jit

    b, c, v = logits.shape
    rows, count = b * c, -(-v // _PART)
    suppressed, options = _options(logits, softcap, pins)
    highest, sums, moments = logits.new_empty((3, rows, count), dtype=torch.float32)
    places = logits.new_empty((rows, count), dtype=torch.int32)
    jit.parts[rows, -(-count // _PARTS_AT_ONCE)](
        logits, suppressed, inverse_temperature, highest, places, sums, moments, v, softcap or 1.0,
        _PART, _PARTS_AT_ONCE, **options, num_warps=4,
    )  # fmt: skip
    entropy, normalizer = logits.new_empty((2, b, c), dtype=torch.float32)
    argmax, drawn, noise = logits.new_empty((3, b, c), dtype=torch.long)
    top_ids = logits.new_empty((b, c, TOP), dtype=torch.long)
    top_probs = logits.new_empty((b, c, TOP), dtype=torch.float32)
    jit.draw[(rows,)](
        logits, suppressed, pins.held, pins.pinned, inverse_temperature, draws.seeds, draws.candidates, draws.counter,
        highest, places, sums, moments,
        entropy, argmax, drawn, noise, top_ids, top_probs, normalizer, v, c, softcap or 1.0,
        _PART, 1 << (count - 1).bit_length(), TOP, ROUNDS, **options, num_warps=8,
    )  # fmt: skip
    return Sampled(entropy, argmax, drawn, noise, top_ids, top_probs, normalizer)


def probabilities(
    logits: torch.Tensor,
    normalizer: torch.Tensor,
    inverse_temperature: torch.Tensor,
    softcap: float | None,
    pins: Pins,
    live: torch.Tensor,
) -> torch.Tensor:
    """See `ops.Probabilities`. One launch; the logits are overwritten."""
    from dgtui.kernels.jit import sampler as jit

    b, c, v = logits.shape
    suppressed, options = _options(logits, softcap, pins)
    jit.probabilities[b * c, -(-v // _PART)](
        logits, suppressed, pins.held, pins.pinned, inverse_temperature, normalizer, live, logits, v, c,
        softcap or 1.0, _PART, **options, num_warps=4,
    )  # fmt: skip
    return logits


def accept(sampled: Sampled, pins: Pins, bound: torch.Tensor) -> Accepted:
    """See `ops.Accept`. One launch."""
    from dgtui.kernels.jit import sampler as jit

    b, c = sampled.entropy.shape
    accepted, canvas = torch.empty_like(pins.pinned), torch.empty_like(sampled.drawn)
    mean = sampled.entropy.new_empty(b)
    jit.accept[(b,)](
        sampled.entropy, sampled.drawn, sampled.noise, pins.held, pins.pinned, bound, accepted, canvas, mean, c,
        1 << (c - 1).bit_length(), _OTHERS_AT_ONCE, num_warps=4,
    )  # fmt: skip
    return Accepted(accepted, canvas, mean)


def _options(logits: torch.Tensor, softcap: float | None, pins: Pins) -> tuple[torch.Tensor, dict[str, bool]]:
    """The suppressed ids, or a dummy tensor if there are none; and the kernels' compile-time arguments."""
    given = pins.suppressed is not None
    suppressed = logits if pins.suppressed is None else pins.suppressed
    return suppressed, {"SUPPRESS": given, "SOFTCAP": softcap is not None}


def scaled_reference(
    logits: torch.Tensor, inverse_temperature: torch.Tensor, softcap: float | None, pins: Pins
) -> torch.Tensor:
    """(B, C, V) raw logits → softcapped, divided by the temperature, −inf where suppressed, pins held; in fp32."""
    z = logits.float()
    if softcap is not None:
        z = softcap * torch.tanh(z / softcap)
    z = z * inverse_temperature
    if pins.suppressed is not None:
        z = z.masked_fill(pins.suppressed, -torch.inf)
    certain = torch.full_like(z, -torch.inf).scatter_(-1, pins.held.unsqueeze(-1), 0.0)
    return torch.where(pins.pinned.unsqueeze(-1), certain, z)


def sample_reference(
    logits: torch.Tensor,
    inverse_temperature: torch.Tensor,
    softcap: float | None,
    pins: Pins,
    draws: Draws,
) -> Sampled:
    """`sample` using PyTorch's operations. Sums are computed in fp64."""
    c, v = logits.shape[1:]
    z = scaled_reference(logits, inverse_temperature, softcap, pins)
    normalizer = z.double().logsumexp(-1)
    log_probs = z.double() - normalizer.unsqueeze(-1)
    probs = log_probs.exp()
    entropy = -(log_probs.clamp_min(torch.finfo(torch.float32).min) * probs).sum(-1)
    entropy = entropy.clamp_min(0)
    words = philox_reference(draws, c)
    wanted = uniform_reference(words[0]).double().unsqueeze(-1)
    cumulative = probs.cumsum(-1)
    possible = torch.where(probs > 0, torch.arange(v, device=z.device), -1).amax(-1, keepdim=True)
    drawn = torch.searchsorted(cumulative, wanted * cumulative[..., -1:], right=True).minimum(possible).squeeze(-1)
    top_probs, top_ids = probs.topk(min(TOP, v), -1)
    missing = (0, TOP - top_ids.shape[-1])
    top_ids = torch.nn.functional.pad(torch.where(top_probs > 0, top_ids, 0), missing)
    argmax = torch.where(pins.pinned, pins.held, z.argmax(-1))
    return Sampled(
        entropy.float(),
        argmax,
        torch.where(pins.pinned, pins.held, drawn),
        (words[1] * v) >> 32,
        top_ids,
        torch.nn.functional.pad(top_probs, missing).float(),
        normalizer.float(),
    )


def probabilities_reference(
    logits: torch.Tensor,
    normalizer: torch.Tensor,
    inverse_temperature: torch.Tensor,
    softcap: float | None,
    pins: Pins,
    live: torch.Tensor,
) -> torch.Tensor:
    """`probabilities` using PyTorch's operations: (B, C, V) in the type of the logits."""
    z = scaled_reference(logits, inverse_temperature, softcap, pins)
    sums = torch.where(pins.pinned, 0.0, normalizer).unsqueeze(-1)
    return torch.where(live.view(-1, 1, 1), (z - sums).exp(), 0.0).to(logits.dtype)


def accept_reference(sampled: Sampled, pins: Pins, bound: torch.Tensor) -> Accepted:
    """`accept` using PyTorch's operations."""
    entropy = sampled.entropy
    ordered, order = entropy.sort(dim=-1, stable=True)
    within = ordered.cumsum(-1) - ordered <= bound
    accepted = torch.zeros_like(within).scatter_(-1, order, within)
    fresh = torch.where(accepted, sampled.drawn, sampled.noise)
    free = (~pins.pinned).sum(-1).clamp_min(1)
    return Accepted(accepted, torch.where(pins.pinned, pins.held, fresh), entropy.sum(-1) / free)


def philox_reference(draws: Draws, positions: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The first two of the four 32-bit words of each key, (B, C) int64 each."""
    b, device = len(draws.seeds), draws.seeds.device
    block, step = draws.counter.long()
    zeros = torch.zeros((b, positions), dtype=torch.long, device=device)
    c0, c1 = zeros + torch.arange(positions, device=device), zeros + step
    c2, c3 = zeros + block, zeros + draws.candidates.long().unsqueeze(-1)
    seeds = draws.seeds.unsqueeze(-1)
    k0, k1 = seeds & _WORD, (seeds >> 32) & _WORD
    for _ in range(ROUNDS):
        high0, low0 = _multiply(c0, _MULTIPLIERS[0])
        high2, low2 = _multiply(c2, _MULTIPLIERS[1])
        c0, c1, c2, c3 = high2 ^ c1 ^ k0, low2, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + _WEYL[0]) & _WORD, (k1 + _WEYL[1]) & _WORD
    return c0, c1


def _multiply(a: torch.Tensor, b: int) -> tuple[torch.Tensor, torch.Tensor]:
    """High and low words of the product of two 32-bit words, in int64 without overflow."""
    low, high = (a & 0xFFFF) * b, (a >> 16) * b
    total = low + ((high & 0xFFFF) << 16)
    return (high >> 16) + (total >> 32), total & _WORD


def uniform_reference(words: torch.Tensor) -> torch.Tensor:
    """32-bit words → fp32 in [0, 1)."""
    return (words >> 8).float() * 2.0**-24
