"""Training in one packed pass: prefixes and canvases of many examples share rows of fixed length.

transformers runs the encoder over the prefix and then the decoder over the canvas, each padded to its longest example.
Here both are one sequence (the prefix attends causally, the canvas to its prefix and to itself), several examples share
a row, and every tensor has the same shape in every step. The weights are the model's own, and the logits equal
transformers' (see tests/train/test_training.py). Text only.
"""

import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from difflib import SequenceMatcher
from functools import partial
from typing import Any

import torch
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint
from transformers import DiffusionGemmaForBlockDiffusion
from transformers.models.diffusion_gemma.modeling_diffusion_gemma import DiffusionGemmaTextExperts

from dgtui.train.fused import head_loss, rms_norm
from dgtui.train.items import FILL_WEIGHT, Item

Tensor = torch.Tensor
_NO_EXAMPLE = -1
FILLERS = 32
"""Items that are tried in the places which longer items leave empty."""
PADDING = (0, 8, 16)
"""Lengths of the end-of-sequence padding on a canvas that ends soon after its reply."""
SHORT_REPLY = 48
"""Replies of at most so many tokens are never cut: the model has to learn where they end."""
COPIED_WEIGHT = 2.0
"""Loss weight of what repeats two or more tokens of the prefix, above all names: one wrong piece of a name spoils a
reply."""
CHANGED_WEIGHT, MOSTLY = 5.0, 0.6
"""Loss weight of what is new in a reply of which so much repeats the prefix, in the same order: an edit is that change,
and the rest is easy."""


@dataclass(frozen=True, slots=True)
class Pack:
    """Examples in R rows of L positions.

    `ids` (R, L) clean ids; `positions` (R, L); `example` (R, L) index of the canvas and its prefix, -1 for padding (a
    prefix of several canvases has the index of the first); `canvas` (R, L) bool; `free` (R, L) bool, positions that may
    be corrupted; `infill` (R, L) bool, canvases whose other positions are pinned; `open` (R, L) bool, canvases of open
    items or cuts; `weight` (R, L) of the loss; `emphasis` (R, L), another factor of it (see `_emphasis`); `full`,
    `sliding` (R, 1, L, L) bool, attention masks; `count` of canvases.
    """

    ids: Tensor
    positions: Tensor
    example: Tensor
    canvas: Tensor
    free: Tensor
    infill: Tensor
    open: Tensor
    weight: Tensor
    emphasis: Tensor
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
         rng: random.Random, open_share: float = 0.0, padding: Sequence[int] = PADDING) -> Pack:  # fmt: skip
    """Fills rows with the next items, as many as there are positions. The few that do not fit are left out.

    Args:
        window: The window of the sliding layers.
        canvas: Length of every canvas; None: the reply and some end-of-sequence padding.
        open_share: Share of the replies without spans that are made open, unless `canvas` is given.
        padding: The lengths that this padding may have.
    """
    placed = _placed(items, rows, length, canvas, rng, partial(_shaped, rng, open_share, padding))
    shape = (rows, length)
    ids = torch.full(shape, pad)
    positions = torch.zeros(shape, dtype=torch.long)
    item_of, example = torch.full(shape, _NO_EXAMPLE), torch.full(shape, _NO_EXAMPLE)
    prefix_of = torch.zeros(shape, dtype=torch.long)
    on_canvas, free, infill, opened = (torch.zeros(shape, dtype=torch.bool) for _ in range(4))
    weight, emphasis = torch.zeros(shape), torch.ones(shape)
    used, count = [0] * rows, 0
    for number, (row, item, places) in enumerate(placed):
        start, prefix = used[row], _context(item)
        used[row] += len(prefix) + places
        item_of[row, start : used[row]] = number
        middle = start + len(prefix)
        ids[row, start:middle] = torch.tensor(prefix)
        positions[row, start:middle] = torch.arange(middle - start)
        example[row, start:middle] = count
        factors = torch.ones(len(item.reply))
        for begin, past in item.spans or ((0, len(item.reply)),):
            factors[begin:past] = torch.tensor(_emphasis(item.prefix, item.reply[begin:past]))
        for first, last in item.cuts or ((0, places),):
            reply, end = item.reply[first:last], middle + last - first
            ids[row, middle:end] = eos
            ids[row, middle : middle + len(reply)] = torch.tensor(reply)
            prefix_of[row, middle:end] = len(item.prefix) + first
            positions[row, middle:end] = torch.arange(len(item.prefix) + first, len(item.prefix) + last)
            example[row, middle:end] = count
            on_canvas[row, middle:end] = True
            opened[row, middle:end] = item.open or bool(item.cuts)
            weight[row, middle:end] = FILL_WEIGHT
            weight[row, middle : min(middle + len(reply) + 1, end)] = 1.0
            emphasis[row, middle : middle + len(reply)] = factors[first : first + len(reply)]
            free[row, middle:end] = item.spans is None
            infill[row, middle:end] = item.spans is not None
            for begin, past in item.spans or ():
                free[row, middle + begin : middle + past] = True
            middle, count = end, count + 1
    same = (item_of[:, :, None] == item_of[:, None, :]) & (item_of >= 0)[:, :, None]
    query, key, before = positions[:, :, None], positions[:, None, :], prefix_of[:, :, None]
    from_canvas, to_canvas = on_canvas[:, :, None], on_canvas[:, None, :]
    seen = torch.where(to_canvas, example[:, :, None] == example[:, None, :], key < before)
    full = same & torch.where(from_canvas, seen, ~to_canvas & (key <= query))
    near = torch.where(from_canvas, to_canvas | (key > before - window), key > query - window)
    itself = torch.eye(length, dtype=torch.bool)
    return Pack(ids, positions, example, on_canvas, free, infill, opened, weight, emphasis,
                (full | itself)[:, None], ((full & near) | itself)[:, None], count)  # fmt: skip


def _emphasis(prefix: Sequence[int], reply: Sequence[int]) -> list[float]:
    """The factor for the loss of each token of a reply; see `COPIED_WEIGHT` and `CHANGED_WEIGHT`."""
    pairs, weights = set(itertools.pairwise(prefix)), [1.0] * len(reply)
    for place, pair in enumerate(itertools.pairwise(reply)):
        if pair in pairs:
            weights[place] = weights[place + 1] = COPIED_WEIGHT
    if weights.count(COPIED_WEIGHT) < MOSTLY * len(reply):
        return weights
    blocks = SequenceMatcher(None, prefix, reply, autojunk=False).get_matching_blocks()
    kept = {place for _, begin, size in blocks if size > 1 for place in range(begin, begin + size)}
    if len(kept) < MOSTLY * len(reply):
        return weights
    return [1.0 if place in kept else CHANGED_WEIGHT for place in range(len(reply))]


def _context(item: Item) -> tuple[int, ...]:
    """What the encoder reads."""
    return item.prefix + item.reply if item.cuts else item.prefix


def _placed(items: Iterator[Item], rows: int, length: int, canvas: int | None, rng: random.Random,
            shaped: Callable[[Item, int | None], tuple[Item, int]]) -> list[tuple[int, Item, int]]:  # fmt: skip
    """Row, item and canvas length of the next items.

    The longest are placed first, and a few more items fill the places that stay empty. The rows are then shuffled,
    because only the first half of them is self-conditioned."""
    drawn, wanted = [], rows * length
    for item in items:
        item, places = shaped(item, canvas)
        if (total := len(_context(item)) + places) <= length:
            drawn.append((item, places))
            wanted -= total
        if wanted <= 0:
            break
    fillers = [shaped(item, None) for item in itertools.islice(items, FILLERS)]
    longest_first = sorted(drawn, key=lambda one: -len(_context(one[0])) - one[1])
    left, found = [length] * rows, []
    for item, places in (*longest_first, *fillers):
        total = len(_context(item)) + places
        row = next((r for r in range(rows) if left[r] >= total), None)
        if row is not None:
            left[row] -= total
            found.append((row, item, places))
    order = rng.sample(range(rows), rows)
    return [(order[row], item, places) for row, item, places in found]


def _shaped(
    rng: random.Random, open_share: float, padding: Sequence[int], item: Item, canvas: int | None
) -> tuple[Item, int]:
    """The item, open or not, and the length of its canvases."""
    if item.cuts:
        return item, sum(last - first for first, last in item.cuts)
    if canvas:
        return item, canvas
    if item.spans is None and len(item.reply) > SHORT_REPLY and rng.random() < open_share:
        kept = rng.randint(1, min(256, len(item.reply)))
        return replace(item, reply=item.reply[:kept], open=True), kept
    return item, min(256, len(item.reply) + 1 + rng.choice(padding))


class PackedPass:
    """The forward pass of a model on packs; gradients reach the model's own parameters.

    Args:
        model: In fp32, or with quantized layers, which stay frozen.
        low: Do matrix products in bfloat16, everything else in fp32. Faster if the processor supports such products.
        recompute: Keep only the input of each layer for the backward pass, and compute the rest again.
    """

    def __init__(self, model: DiffusionGemmaForBlockDiffusion, low: bool = False, recompute: bool = False) -> None:
        base: Any = model
        self.config: Any = base.config.text_config
        self.decoder: Any = base.model.decoder
        self.encoder_scales = [layer.layer_scalar for layer in base.model.encoder.language_model.layers]
        self.cap: float | None = base.final_logit_softcapping
        self.scale: float = self.config.hidden_size**0.5
        self.low, self.recompute = low, recompute

    def _product(self, x: Tensor, weight: Any) -> Tensor:
        return F.linear(x.bfloat16(), weight.bfloat16()).float() if self.low else F.linear(x, weight)

    def _linear(self, x: Tensor, part: Any) -> Tensor:
        if type(part) is torch.nn.Linear:
            return self._product(x, part.weight)
        result: Tensor = part(x.bfloat16() if self.low else x)  # quantized, or with an adapter
        return result.float()

    def _norm(self, x: Tensor, weight: Tensor | None = None) -> Tensor:
        return rms_norm(x, weight, self.config.rms_norm_eps)

    def _gated(self, x: Tensor, part: Any) -> Tensor:
        gate = F.gelu(self._linear(x, part.gate_proj), approximate="tanh")
        return self._linear(gate * self._linear(x, part.up_proj), part.down_proj)

    def _attention(self, x: Tensor, part: Any, turn: tuple[Tensor, Tensor], mask: Tensor) -> Tensor:
        rows, length, _ = x.shape
        head = part.head_dim
        query = self._linear(x, part.q_proj).view(rows, length, -1, head)
        raw = self._linear(x, part.k_proj).view(rows, length, -1, head)
        value = raw if part.v_proj is None else self._linear(x, part.v_proj).view(rows, length, -1, head)
        query = _turned(self._norm(query, part.q_norm.weight), *turn).transpose(1, 2)
        key = _turned(self._norm(raw, part.k_norm.weight), *turn).transpose(1, 2)
        value = self._norm(value).transpose(1, 2)
        share = query.shape[1] // key.shape[1]
        key, value = key.repeat_interleave(share, 1), value.repeat_interleave(share, 1)
        out = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=1.0)
        return self._linear(out.transpose(1, 2).reshape(rows, length, -1), part.o_proj)

    def _experts(self, h: Tensor, x: Tensor, layer: Any) -> Tensor:
        """The chosen experts of every position. Positions are sorted by expert, and each expert runs once."""
        router, experts = layer.router, layer.experts
        k, width = self.config.top_k_experts, x.shape[-1]
        scores = F.linear(self._norm(h) * (router.scale * router.scalar_root_size), router.proj.weight)
        best, index = scores.float().softmax(-1).flatten(0, -2).topk(k, -1)
        share = best / best.sum(-1, keepdim=True) * router.per_expert_scale[index]
        if type(experts) is not DiffusionGemmaTextExperts:
            mixed: Tensor = experts(x.flatten(0, -2).to(torch.bfloat16 if self.low else x.dtype), index, share)
            return mixed.view(x.shape).float()
        routes = index.flatten()
        order = routes.argsort(stable=True)
        counts = routes.bincount(minlength=self.config.num_experts).tolist()
        each = x.reshape(-1, width).index_select(0, order // k)
        stacks = zip(
            torch.split(each, counts), experts.gate_up_proj.unbind(0), experts.down_proj.unbind(0), strict=True
        )
        sent = [self._expert(mine, wide, down) for mine, wide, down in stacks if len(mine)]
        back = torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=order.device))
        results = torch.cat(sent).index_select(0, back).view(-1, k, width)
        mixed = (share.unsqueeze(1) @ results).squeeze(1)
        return mixed.view(x.shape)

    def _expert(self, x: Tensor, gate_up: Tensor, down: Tensor) -> Tensor:
        gate, up = self._product(x, gate_up).chunk(2, -1)
        return self._product(F.gelu(gate, approximate="tanh") * up, down)

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
        embedded = self.embedded(ids)
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
            if self.recompute and torch.is_grad_enabled():
                of = (h, layer, scales, turns[kind], masks[kind])
                h = checkpoint(self._layer, *of, use_reentrant=False)
            else:
                h = self._layer(h, layer, scales, turns[kind], masks[kind])
        states: Tensor = self._norm(h, decoder.norm.weight)
        return states

    def embedded(self, ids: Tensor) -> Tensor:
        """Embeddings (…, H) of ids (…)."""
        return F.embedding(ids, self.decoder.embed_tokens.weight) * self.scale

    def loss(self, states: Tensor, target: Tensor, share: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`fused.head_loss` of states (N, H)."""
        return head_loss(states, self.decoder.embed_tokens.weight, self.cap, target, share, self.low)

    def logits(self, states: Tensor) -> Tensor:
        """Logits (…, V) of states (…, H), softcapped."""
        logits: Tensor = self._product(states, self.decoder.embed_tokens.weight)
        return logits if self.cap is None else logits.div(self.cap).tanh().mul(self.cap)

    def soft(self, probabilities: Tensor) -> Tensor:
        """Soft embeddings (…, H) of probabilities (…, V)."""
        return self._product(probabilities, self.decoder.embed_tokens.weight.T) * self.scale


def _turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = x.chunk(2, -1)
    return x * cos + torch.cat((-second, first), -1) * sin
