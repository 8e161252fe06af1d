"""The block-diffusion objective (uniform-state): corrupt, denoise, cross-entropy on the clean ids.

Corruption level t ~ U(0, 1] an example, a free position replaced by a uniform random id with probability t;
self-conditioning on half of the examples; an autoregressive co-loss on the encoder. After Google's published recipe
for DiffusionGemma (hackable_diffusion_adapter in google-deepmind/gemma), with three additions: a share of examples at
t = 1, where generation starts; infills, whose other positions are pinned and carry themselves in the self-conditioning
exactly as the sampler's pins do; and canvases with the model's own confident guesses among the noise.
"""

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import cross_entropy
from transformers import DiffusionGemmaForBlockDiffusion, DynamicCache

from dgtui.model.denoiser import CACHE
from dgtui.train.items import Batch

FULL_NOISE_SHARE = 0.2
INFILL_FULL_NOISE_SHARE = 0.5
T_MIN, T_MAX = 0.4, 0.8
OWN_SHARE, OWN_CONFIDENCE = 0.5, 0.5


@dataclass(frozen=True, slots=True)
class Losses:
    """`diffusion` and `encoder`, nats a token; `accuracy` of the argmax on corrupted positions."""

    diffusion: torch.Tensor
    encoder: torch.Tensor
    accuracy: torch.Tensor


def corrupt(batch: Batch, vocab_size: int, rng: torch.Generator) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Noisy canvas (B, C), the mask of replaced positions (B, C) and the level (B,)."""
    rows = batch.canvas.shape[0]
    level = torch.rand(rows, generator=rng).clamp_min(0.02)
    share = torch.where(batch.infill, INFILL_FULL_NOISE_SHARE, FULL_NOISE_SHARE)
    level = torch.where(torch.rand(rows, generator=rng) < share, 1.0, level)
    replaced = (torch.rand(batch.canvas.shape, generator=rng) < level[:, None]) & batch.free
    noise = torch.randint(vocab_size, batch.canvas.shape, generator=rng)
    return torch.where(replaced, noise, batch.canvas), replaced, level


def _first_rows(cache: DynamicCache, rows: int) -> DynamicCache:
    part: Any = copy.copy(cache)
    part.layers = [copy.copy(layer) for layer in cache.layers]
    for layer in part.layers:
        layer.keys, layer.values = layer.keys[:rows].detach(), layer.values[:rows].detach()
    first: DynamicCache = part
    return first


def _with_own(logits: torch.Tensor, noisy: torch.Tensor, replaced: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """Canvases (B, C) in half of which confident samples of the model stand where noise was, as they do when it runs:
    so it meets its own mistakes, two words of which each is right in another text, and learns to mend them."""
    probs = logits.softmax(-1)
    samples = torch.multinomial(probs.flatten(0, 1), 1, generator=rng).view(noisy.shape)
    sure = probs.gather(-1, samples[..., None])[..., 0] > OWN_CONFIDENCE
    rows = torch.rand((len(noisy), 1), generator=rng) < OWN_SHARE
    return torch.where(replaced & sure & rows, samples, noisy)


def losses(model: DiffusionGemmaForBlockDiffusion, batch: Batch, rng: torch.Generator) -> Losses:
    """The losses of one micro-batch; rows in the first half of the batch are self-conditioned."""
    text: Any = model.config.text_config
    vocab_size: int = text.vocab_size
    rows, length = batch.canvas.shape
    noisy, replaced, level = corrupt(batch, vocab_size, rng)

    lengths = batch.prefix_mask.sum(-1, keepdim=True)
    encoder_positions = (batch.prefix_mask.cumsum(-1) - 1).clamp_min(0)
    prefix = DynamicCache(config=text)
    encoded = model.model.encoder(
        input_ids=batch.prefix,
        attention_mask=batch.prefix_mask,
        position_ids=encoder_positions,
        **{CACHE: prefix},
    )
    decoder_mask = torch.nn.functional.pad(batch.prefix_mask, (0, length), value=True)
    decoder_positions = lengths + torch.arange(length)

    def decode(rows_: int, cache: DynamicCache, conditioning: torch.Tensor | None, mask: torch.Tensor | None):  # type: ignore[no-untyped-def]
        return model(
            decoder_input_ids=canvas[:rows_],
            decoder_attention_mask=decoder_mask[:rows_],
            decoder_position_ids=decoder_positions[:rows_],
            self_conditioning_logits=conditioning,
            self_conditioning_mask=mask,
            **{CACHE: cache},
        ).logits

    half = rows // 2
    canvas = noisy
    conditioning = None
    conditioned = torch.arange(rows) < half
    if half:
        with torch.no_grad():
            first = decode(half, _first_rows(prefix, half), None, None)
            first = first / (T_MIN + (T_MAX - T_MIN) * level[:half, None, None])
            pinned = batch.infill[:half, None] & ~batch.free[:half]
            certain = torch.full_like(first, -30.0).scatter_(-1, batch.canvas[:half, :, None], 30.0)
            first = torch.where(pinned[..., None], certain, first)
            conditioning = first.new_zeros((rows, length, vocab_size))
            conditioning[:half] = first
            canvas = noisy.clone()
            canvas[:half] = _with_own(first, noisy[:half], replaced[:half], rng)
    logits = decode(rows, prefix, conditioning, conditioned if half else None)

    weight = batch.weight * torch.where(batch.infill[:, None] & ~batch.free, 0.05, 1.0)
    each = cross_entropy(logits.flatten(0, 1), batch.canvas.flatten(), reduction="none").view(rows, length)
    diffusion = (each * weight).sum() / weight.sum()

    cap = model.final_logit_softcapping
    ahead = model.lm_head(encoded.last_hidden_state[:, :-1])
    ahead = torch.tanh(ahead / cap) * cap
    valid = batch.prefix_mask[:, :-1] & batch.prefix_mask[:, 1:]
    encoder = cross_entropy(ahead[valid], batch.prefix[:, 1:][valid])

    judged = replaced & (batch.weight == 1.0)
    accuracy = (logits.argmax(-1) == batch.canvas)[judged].float().mean()
    return Losses(diffusion, encoder, accuracy.detach())
