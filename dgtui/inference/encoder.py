"""The encoder's forward on the layers of the decoder, for prompts, finished blocks and likelihoods.

Encoder and decoder share all weights except the scalar of each layer. The encoder appends to transformers' cache and
uses transformers' masks.

B rows, N ids, H hidden, L keys: those in the cache and the new ones.
"""

from collections.abc import Mapping
from typing import Any, Final

import torch
from torch.nn import functional

from dgtui.inference.forward import WIDEST_FUSED, Context, Decoder, rms_norm

_SCORES: Final = 1 << 25
# Attention scores held at a time if no fused kernel supports the heads: 134 MB in fp32.


class Encoder:
    """The encoder of a model, on the layers of its `decoder`."""

    def __init__(self, model: Any, decoder: Decoder) -> None:
        self._decoder = decoder
        self._scalars = [layer.layer_scalar for layer in model.model.encoder.language_model.layers]

    def read(
        self,
        embeddings: torch.Tensor,
        positions: torch.Tensor,
        masks: Mapping[str, torch.Tensor | None],
        cache: Any,
    ) -> torch.Tensor:
        """Appends keys and values to a cache and returns the states (B, N, H); see `TransformersDenoiser._encoded`."""
        decoder, (rows, count, hidden) = self._decoder, embeddings.shape
        x = embeddings.reshape(rows * count, hidden)
        normed = rms_norm(x, decoder.eps, decoder.norms[0])
        contexts = {kind: self._context(kind, positions) for kind in set(decoder.kinds)}
        for at, (kind, layer, scalar) in enumerate(zip(decoder.kinds, decoder.layers, self._scalars, strict=True)):
            keys, values = x.new_empty((2, rows, layer.kv_heads, count, layer.width)).unbind()
            q = layer.project(normed, keys, values, contexts[kind])
            keys, values = cache.update(keys, values, at)
            seen = attend_masked(q, keys, values, masks[kind])
            x, normed = layer.finish(x, seen, scalar, decoder.norms[at + 1])
        return normed.view(rows, count, hidden)

    def _context(self, kind: str, positions: torch.Tensor) -> Context:
        device = positions.device
        cos, sin = self._decoder.rotary(torch.empty(0, device=device), positions, kind)
        return Context(cos[0], sin[0], torch.zeros((), dtype=torch.int32, device=device), None)


def attend_masked(q: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """q (B, heads, N, d), keys and values (B, kv, L, d), mask (B, 1, N, L) bool → (B, N, heads, d), with scale 1.

    Without a mask, position i sees the first i + 1 keys.
    """
    if mask is None:
        mask = torch.ones((1, 1, q.shape[2], keys.shape[2]), dtype=torch.bool, device=q.device).tril()
    batch, heads, _, width = q.shape
    kv = keys.shape[1]
    if width > WIDEST_FUSED and q.is_cuda:
        seen = _attend_in_pieces(q, keys, values, mask)
    else:  # heads with the same keys become more queries of one head, which every fused kernel supports
        folded, visible = q.view(batch, kv, -1, width), mask.repeat(1, 1, heads // kv, 1)
        seen = functional.scaled_dot_product_attention(folded, keys, values, visible, scale=1.0).view(q.shape)
    return seen.transpose(1, 2).contiguous()


def _attend_in_pieces(q: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The same with plain products, some queries at a time; heads that share keys are multiplied together."""
    batch, heads, _, width = q.shape
    kv, length = keys.shape[1:3]
    step = max(1, _SCORES // (batch * heads * length))
    found = []
    for part, visible in zip(torch.split(q, step, 2), torch.split(mask, step, 2), strict=True):
        folded = part.reshape(batch, kv, -1, width) @ keys.transpose(-1, -2)
        scores = folded.view(batch, kv, heads // kv, -1, length).float().masked_fill_(~visible.unsqueeze(2), -torch.inf)
        weights = scores.softmax(-1).to(values.dtype).view(batch, kv, -1, length)
        found.append((weights @ values).view(batch, heads, -1, width))
    return torch.cat(found, 2)
