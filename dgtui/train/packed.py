"""Training in one packed pass: prefixes and canvases of many examples share rows of fixed length.

transformers runs the encoder over the prefix and then the decoder over the canvas, each padded to its longest example.
Here both are one sequence (the prefix attends causally, the canvas to its prefix and to itself), several examples share
a row, and every tensor has the same shape in every step. The weights are the model's own, and the logits equal
transformers' (see tests/train/test_packed.py). Text only; dense experts.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch.nn import functional as F
from transformers import DiffusionGemmaForBlockDiffusion

from dgtui.train.items import FILL_WEIGHT, Item

Tensor = torch.Tensor
_NO_EXAMPLE = -1


@dataclass(frozen=True, slots=True)
class Pack:
    """Examples in R rows of L positions.

    `ids` (R, L) clean ids; `positions` (R, L); `example` (R, L) index of the example, -1 for padding; `canvas` (R, L)
    bool; `free` (R, L) bool, positions that may be corrupted; `infill` (R, L) bool, canvases whose other positions are
    pinned; `weight` (R, L) of the loss; `full`, `sliding` (R, 1, L, L) bool, attention masks; `count` of examples.
    """

    ids: Tensor
    positions: Tensor
    example: Tensor
    canvas: Tensor
    free: Tensor
    infill: Tensor
    weight: Tensor
    full: Tensor
    sliding: Tensor
    count: int

    def rows(self, count: int) -> "Pack":
        """Only the first rows."""
        return self._each(lambda tensor: tensor[:count])

    def to(self, device: torch.device) -> "Pack":
        """The pack on a device."""
        return self._each(lambda tensor: tensor.to(device))

    def _each(self, of: Callable[[Tensor], Tensor]) -> "Pack":
        tensors: dict[str, Any] = {f.name: of(getattr(self, f.name)) for f in fields(self) if f.name != "count"}
        return replace(self, **tensors)


def pack(items: Iterator[Item], rows: int, length: int, pad: int, eos: int, window: int, canvas: int | None,
         rng: random.Random) -> Pack:  # fmt: skip
    """Fills rows with the next items, first fit; an item that does not fit anywhere ends the pack.

    Args:
        window: The window of the sliding layers.
        canvas: Length of every canvas; None: the reply and a little end-of-sequence padding.
    """
    shape = (rows, length)
    ids = torch.full(shape, pad)
    positions = torch.zeros(shape, dtype=torch.long)
    example = torch.full(shape, _NO_EXAMPLE)
    prefix_of = torch.zeros(shape, dtype=torch.long)
    on_canvas, free, infill = (torch.zeros(shape, dtype=torch.bool) for _ in range(3))
    weight = torch.zeros(shape)
    used, count = [0] * rows, 0
    for item in items:
        prefix = len(item.prefix)
        places = canvas or min(256, len(item.reply) + 1 + rng.choice((0, 8, 16)))
        total = prefix + places
        row = next((r for r in range(rows) if used[r] + total <= length), None)
        if total > length:
            continue
        if row is None:
            break
        start = used[row]
        middle, end = start + prefix, start + total
        reply = item.reply[:places]
        ids[row, start:middle] = torch.tensor(item.prefix)
        ids[row, middle:end] = eos
        ids[row, middle : middle + len(reply)] = torch.tensor(reply)
        positions[row, start:end] = torch.arange(total)
        example[row, start:end] = count
        prefix_of[row, start:end] = prefix
        on_canvas[row, middle:end] = True
        weight[row, middle:end] = FILL_WEIGHT
        weight[row, middle : middle + len(reply) + 1] = 1.0
        if item.spans is None:
            free[row, middle:end] = True
        else:
            infill[row, middle:end] = True
            for first, last in item.spans:
                free[row, middle + first : middle + last] = True
        used[row], count = end, count + 1
    same = (example[:, :, None] == example[:, None, :]) & (example >= 0)[:, :, None]
    query, key = positions[:, :, None], positions[:, None, :]
    from_canvas, to_canvas = on_canvas[:, :, None], on_canvas[:, None, :]
    full = same & torch.where(from_canvas, True, ~to_canvas & (key <= query))
    near = torch.where(from_canvas, to_canvas | (key > prefix_of[:, :, None] - window), key > query - window)
    itself = torch.eye(length, dtype=torch.bool)
    return Pack(ids, positions, example, on_canvas, free, infill, weight,
                (full | itself)[:, None], ((full & near) | itself)[:, None], count)  # fmt: skip


class PackedPass:
    """The forward pass of a model on packs; gradients reach the model's own parameters.

    Args:
        model: Dense, in fp32.
        low: Do matrix products in bfloat16, everything else in fp32. Faster if the processor supports such products.
    """

    def __init__(self, model: DiffusionGemmaForBlockDiffusion, low: bool = False) -> None:
        base: Any = model
        self.config: Any = base.config.text_config
        self.decoder: Any = base.model.decoder
        self.encoder_scales = [layer.layer_scalar for layer in base.model.encoder.language_model.layers]
        self.cap: float | None = base.final_logit_softcapping
        self.scale: float = self.config.hidden_size**0.5
        self.low = low

    def _linear(self, x: Tensor, weight: Any) -> Tensor:
        return F.linear(x.bfloat16(), weight.bfloat16()).float() if self.low else F.linear(x, weight)

    def _norm(self, x: Tensor, weight: Tensor | None = None) -> Tensor:
        return F.rms_norm(x, x.shape[-1:], weight, self.config.rms_norm_eps)

    def _gated(self, x: Tensor, part: Any) -> Tensor:
        gate = F.gelu(self._linear(x, part.gate_proj.weight), approximate="tanh")
        return self._linear(gate * self._linear(x, part.up_proj.weight), part.down_proj.weight)

    def _attention(self, x: Tensor, part: Any, turn: tuple[Tensor, Tensor], mask: Tensor) -> Tensor:
        rows, length, _ = x.shape
        head = part.head_dim
        query = self._linear(x, part.q_proj.weight).view(rows, length, -1, head)
        raw = self._linear(x, part.k_proj.weight).view(rows, length, -1, head)
        value = raw if part.v_proj is None else self._linear(x, part.v_proj.weight).view(rows, length, -1, head)
        query = _turned(self._norm(query, part.q_norm.weight), *turn).transpose(1, 2)
        key = _turned(self._norm(raw, part.k_norm.weight), *turn).transpose(1, 2)
        value = self._norm(value).transpose(1, 2)
        share = query.shape[1] // key.shape[1]
        key, value = key.repeat_interleave(share, 1), value.repeat_interleave(share, 1)
        out = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=1.0)
        return self._linear(out.transpose(1, 2).reshape(rows, length, -1), part.o_proj.weight)

    def _experts(self, h: Tensor, x: Tensor, layer: Any) -> Tensor:
        """Every expert for every position, weighted by the router: with few experts this is cheaper than sorting."""
        router, experts = layer.router, layer.experts
        scores = F.linear(self._norm(h) * router.scale * router.scalar_root_size, router.proj.weight).softmax(-1)
        best, index = scores.topk(self.config.top_k_experts, -1)
        best = best / best.sum(-1, keepdim=True)
        share = torch.zeros_like(scores).scatter(-1, index, best) * router.per_expert_scale
        both = self._linear(x, experts.gate_up_proj.flatten(0, 1)).view(*x.shape[:-1], self.config.num_experts, -1)
        gate, up = both.chunk(2, -1)
        act = (F.gelu(gate, approximate="tanh") * up * share[..., None]).flatten(-2)
        return self._linear(act, experts.down_proj.transpose(0, 1).flatten(1))

    def _layer(self, h: Tensor, layer: Any, scale: Tensor, turn: tuple[Tensor, Tensor], mask: Tensor) -> Tensor:
        x = self._attention(self._norm(h, layer.input_layernorm.weight), layer.self_attn, turn, mask)
        h = h + self._norm(x, layer.post_attention_layernorm.weight)
        dense = self._gated(self._norm(h, layer.pre_feedforward_layernorm.weight), layer.mlp)
        dense = self._norm(dense, layer.post_feedforward_layernorm_1.weight)
        routed = self._experts(h, self._norm(h, layer.pre_feedforward_layernorm_2.weight), layer)
        routed = self._norm(routed, layer.post_feedforward_layernorm_2.weight)
        return (h + self._norm(dense + routed, layer.post_feedforward_layernorm.weight)) * scale

    def states(self, ids: Tensor, pack: Pack, soft: Tensor | None = None) -> Tensor:
        """Final states (R, L, H).

        Args:
            ids: (R, L), the canvases corrupted.
            soft: (R, L, H) soft embeddings of the previous step, zero if there are none.
        """
        decoder = self.decoder
        embedded = decoder.embed_tokens.weight[ids] * self.scale
        part = decoder.self_conditioning
        signal = 0.0 if soft is None else self._gated(self._norm(soft, part.pre_norm.weight), part)
        canvas = pack.canvas[..., None]
        h = torch.where(canvas, self._norm(embedded + signal), embedded)
        turns = {}
        for kind in set(self.config.layer_types):
            angles = pack.positions[..., None].float() * getattr(decoder.rotary_emb, f"{kind}_inv_freq")
            angles = torch.cat((angles, angles), -1)[:, :, None]
            turns[kind] = (angles.cos(), angles.sin())
        masks = {"full_attention": pack.full, "sliding_attention": pack.sliding}
        for kind, layer, scale in zip(self.config.layer_types, decoder.layers, self.encoder_scales, strict=True):
            scales = torch.where(canvas, layer.layer_scalar, scale)
            h = self._layer(h, layer, scales, turns[kind], masks[kind])
        states: Tensor = self._norm(h, decoder.norm.weight)
        return states

    def logits(self, states: Tensor) -> Tensor:
        """Logits (…, V) of states (…, H), softcapped."""
        logits: Tensor = self._linear(states, self.decoder.embed_tokens.weight)
        return logits if self.cap is None else logits.div(self.cap).tanh().mul(self.cap)

    def soft(self, probabilities: Tensor) -> Tensor:
        """Soft embeddings (…, H) of probabilities (…, V)."""
        return self._linear(probabilities, self.decoder.embed_tokens.weight.T) * self.scale


def _turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = x.chunk(2, -1)
    return x * cos + torch.cat((-second, first), -1) * sin
