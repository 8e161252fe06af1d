"""Computes a step's samples from output states: two heads with one interface.

`Whole` multiplies by the whole embedding and leaves the rest to the kernels' sampler. `Chunked` processes the
vocabulary in pieces that fit into a cache, in two passes, in plain PyTorch: for the CPU, and for a GPU without the
kernels. Neither holds the logits of more than one canvas. Both return the soft embedding that conditions the next step,
so no logits are kept between steps.

C positions, V vocabulary, H hidden, K alternatives. Draws are by inverse CDF: one random number per position.
"""

from typing import Final, NamedTuple, Protocol

import torch
from torch.nn import functional

from dgtui.kernels.ops import Ops
from dgtui.kernels.sampler import TOP, Draws, Pins, Sampled, philox_reference, uniform_reference

_BLOCK: Final = 512
# Number of ids per block; sums of probabilities per block are used to find draws and the most likely ids.
_PIECE: Final = 1 << 20
# Number of logits to process at a time: 4 MB in fp32.
_PIECE_GPU: Final = 1 << 24
_LOW: Final = -1e30
# The logit of a suppressed id: finite, because 0 · log 0 must be 0.


class Head(Protocol):
    """The last part of a step."""

    def suppress(self, ids: torch.Tensor) -> None:
        """Sets the ids (n) that no free position may take."""

    def __call__(
        self, states: torch.Tensor, inverse_temperature: torch.Tensor, pins: Pins, draws: Draws, top_k: int
    ) -> tuple[Sampled, torch.Tensor]:
        """Output states (B, C, H) → the samples, and the soft embedding (B, C, H): probabilities · embedding.

        `inverse_temperature` () fp32; `pins.suppressed` is ignored. The soft embedding of pinned positions is
        undefined. Returns at least `top_k` alternatives, or all V.
        """


class Whole:
    """All logits of a canvas at once, then the kernels' sampler. K is at most `TOP`."""

    def __init__(self, embedding: torch.Tensor, softcap: float | None, ops: Ops) -> None:
        self._embedding, self._softcap, self._ops = embedding, softcap, ops
        self._suppressed = torch.zeros(len(embedding), dtype=torch.bool, device=embedding.device)
        self._always = torch.ones(1, dtype=torch.bool, device=embedding.device)

    def suppress(self, ids: torch.Tensor) -> None:
        """See `Head`."""
        self._suppressed.zero_().index_fill_(0, ids, True)

    def __call__(
        self, states: torch.Tensor, inverse_temperature: torch.Tensor, pins: Pins, draws: Draws, top_k: int
    ) -> tuple[Sampled, torch.Tensor]:
        """See `Head`."""
        each, softs = [], []
        for row in range(len(states)):
            own = slice(row, row + 1)
            held = Pins(pins.held[own], pins.pinned[own], self._suppressed)
            drawn = Draws(draws.seeds[own], draws.candidates[own], draws.counter)
            logits = functional.linear(states[own], self._embedding)
            sampled = self._ops.sample(logits, inverse_temperature, self._softcap, held, drawn)
            probs = self._ops.probabilities(
                logits, sampled.normalizer, inverse_temperature, self._softcap, held, self._always
            )
            each.append(sampled)
            softs.append(probs.to(self._embedding.dtype) @ self._embedding)
        return _stacked(each), torch.cat(softs)


class Chunked:
    """The vocabulary in pieces: first logits and block maxima, then sums of probabilities, entropy and soft embedding.

    Holds the fp32 logits of one canvas at a time, and reuses their memory for the next.
    """

    def __init__(self, embedding: torch.Tensor, softcap: float | None) -> None:
        self._embedding, self._softcap = embedding, softcap
        self._suppressed = torch.empty(0, dtype=torch.long, device=embedding.device)
        self._mask: torch.Tensor | None = None
        if embedding.is_cuda:  # a captured graph reads suppressed ids from a fixed address, whatever their number
            self._mask = torch.zeros(len(embedding), dtype=torch.bool, device=embedding.device)
        self._logits: torch.Tensor | None = None

    def suppress(self, ids: torch.Tensor) -> None:
        """See `Head`."""
        if self._mask is None:
            self._suppressed = ids
        else:
            self._mask.zero_().index_fill_(0, ids, True)

    def __call__(
        self, states: torch.Tensor, inverse_temperature: torch.Tensor, pins: Pins, draws: Draws, top_k: int
    ) -> tuple[Sampled, torch.Tensor]:
        """See `Head`."""
        words, noise = philox_reference(draws, states.shape[1])
        wanted = uniform_reference(words)
        vocab = len(self._embedding)
        each, softs = [], []
        for row in range(len(states)):
            own = slice(row, row + 1)
            sampled, soft = self._row(states[row], inverse_temperature, wanted[row], min(top_k, vocab))
            each.append(_held(sampled, pins.held[own], pins.pinned[own], (noise[own] * vocab) >> 32))
            softs.append(soft)
        return _stacked(each), torch.stack(softs)

    def _row(
        self, states: torch.Tensor, inverse_temperature: torch.Tensor, wanted: torch.Tensor, top_k: int
    ) -> "tuple[_Row, torch.Tensor]":
        """Process one canvas: states (C, H), wanted (C) in [0, 1)."""
        canvas, vocab = len(states), len(self._embedding)
        block = min(_BLOCK, vocab)
        blocks = -(-vocab // block)
        logits = self._room(canvas, blocks * block)
        by_block = logits.view(canvas, blocks, block)
        pieces = self._pieces(canvas, block, vocab)
        self._multiply(states, inverse_temperature, logits, pieces)
        highest = by_block.amax(-1)
        best = highest.amax(-1, keepdim=True)

        sums, weighted = torch.empty_like(highest), torch.empty_like(highest)
        soft = torch.zeros(canvas, self._embedding.shape[1], device=states.device)
        for start, stop in pieces:
            own = slice(start // block, -(-stop // block))
            below = by_block[:, own] - best.unsqueeze(-1)
            weights = below.exp()
            torch.sum(weights, -1, out=sums[:, own])
            torch.sum(below.mul_(weights), -1, out=weighted[:, own])
            _add_product(soft, weights.view(canvas, -1)[:, : stop - start], self._embedding[start:stop])
        total = sums.sum(-1, keepdim=True)
        entropy = (total.log() - weighted.sum(-1, keepdim=True) / total).clamp_min_(0).squeeze(-1)
        top, top_ids = self._top(logits, by_block, highest, top_k)
        found = _Row(
            entropy,
            self._draw(by_block, sums, best, wanted),
            top_ids,
            (top - best).exp_().div_(total),
            (total.log() + best).squeeze(-1) - (self._softcap or 0.0) * inverse_temperature,
        )
        return found, soft.div_(total)

    def _room(self, canvas: int, width: int) -> torch.Tensor:
        """(canvas, width) for logits; the columns after the vocabulary are not changed."""
        if self._logits is None or self._logits.shape != (canvas, width):
            self._logits = torch.full((canvas, width), _LOW, device=self._embedding.device)
        return self._logits

    def _pieces(self, canvas: int, block: int, vocab: int) -> list[tuple[int, int]]:
        """First and last + 1 id of each piece: whole blocks, except at the end of the vocabulary."""
        most = _PIECE_GPU if self._embedding.is_cuda else _PIECE
        step = max(1, most // (canvas * block)) * block
        return [(start, min(start + step, vocab)) for start in range(0, vocab, step)]

    def _multiply(
        self,
        states: torch.Tensor,
        inverse_temperature: torch.Tensor,
        logits: torch.Tensor,
        pieces: list[tuple[int, int]],
    ) -> None:
        """Fills in the scaled logits minus a constant: c · tanh(x / c) = 2c · (sigmoid(2x / c) − ½)."""
        cap = self._softcap
        factor = inverse_temperature * (2 * cap) if cap else inverse_temperature
        states = states * (2 / cap) if cap else states
        for start, stop in pieces:
            part = logits[:, start:stop]
            if part.dtype == self._embedding.dtype:
                torch.mm(states, self._embedding[start:stop].t(), out=part)
            else:
                part.copy_(states @ self._embedding[start:stop].t())
            if cap:
                part.sigmoid_()
            part.mul_(factor)
            if self._mask is not None:
                part.masked_fill_(self._mask[start:stop], _LOW)
        logits.index_fill_(1, self._suppressed, _LOW)

    @staticmethod
    def _top(
        logits: torch.Tensor, by_block: torch.Tensor, highest: torch.Tensor, top_k: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(C, K) logits and ids of the most likely ids, which are in the K blocks with the highest maxima."""
        canvas, blocks, block = by_block.shape
        if blocks <= 2 * top_k:
            top, ids = logits.topk(top_k, -1)
            return top, ids
        which = highest.topk(top_k, -1).indices
        among = by_block.gather(1, which.unsqueeze(-1).expand(-1, -1, block)).view(canvas, -1)
        top, at = among.topk(top_k, -1)
        return top, which.gather(1, at // block) * block + at % block

    @staticmethod
    def _draw(by_block: torch.Tensor, sums: torch.Tensor, best: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        """(C) drawn ids: first the block by its sum of probabilities, then the id in it; never one of probability 0."""
        block = by_block.shape[-1]
        cumulative = sums.double().cumsum(-1)
        target = wanted.double().unsqueeze(-1) * cumulative[:, -1:]
        which = _first_above(cumulative, target, sums)
        before = cumulative.gather(1, which) - sums.double().gather(1, which)
        own = by_block.gather(1, which.unsqueeze(-1).expand(-1, -1, block)).squeeze(1)
        weights = (own - best).exp_()
        inside = _first_above(weights.double().cumsum(-1), target - before, weights)
        return (which * block + inside).squeeze(-1)


class _Row(NamedTuple):
    """`Chunked`'s results for the positions of a canvas; see `Sampled`."""

    entropy: torch.Tensor
    drawn: torch.Tensor
    top_ids: torch.Tensor
    top_probs: torch.Tensor
    normalizer: torch.Tensor


def _first_above(cumulative: torch.Tensor, target: torch.Tensor, each: torch.Tensor) -> torch.Tensor:
    """(C, n) sums, (C, 1) target → (C, 1): the first index with a sum above the target, or the last that adds to it."""
    places = torch.arange(each.shape[-1], device=each.device)
    possible = torch.where(each > 0, places, 0).amax(-1, keepdim=True)
    return torch.searchsorted(cumulative, target, right=True).minimum(possible)


def _held(row: _Row, held: torch.Tensor, pinned: torch.Tensor, noise: torch.Tensor) -> Sampled:
    """A canvas's samples as a batch of one, with pinned positions certain."""
    certain = torch.zeros_like(row.top_probs)
    certain[:, 0] = 1
    only = torch.zeros_like(row.top_ids)
    only[:, 0] = held[0]
    wide = pinned.unsqueeze(-1)
    return Sampled(
        torch.where(pinned, 0.0, row.entropy),
        torch.where(pinned, held, row.top_ids[:, 0]),
        torch.where(pinned, held, row.drawn),
        noise,
        torch.where(wide, only, row.top_ids),
        torch.where(wide, certain, row.top_probs),
        torch.where(pinned, 0.0, row.normalizer),
    )


def _stacked(rows: list[Sampled]) -> Sampled:
    names = Sampled.__dataclass_fields__
    return Sampled(*(torch.cat([getattr(row, name) for row in rows]) for name in names))


def _add_product(total: torch.Tensor, weights: torch.Tensor, rows: torch.Tensor) -> None:
    """total (C, H) fp32 += weights (C, n) · rows (n, H), multiplied in the type of the rows."""
    if rows.dtype == total.dtype:
        total.addmm_(weights, rows)
    else:
        total.add_(weights.to(rows.dtype) @ rows)


def head_for(embedding: torch.Tensor, softcap: float | None, ops: Ops, top_k: int = TOP) -> Head:
    """The head for the operations: `Whole` for kernels; `Chunked` without kernels, or if K is too large for them."""
    if ops.name == "triton" and top_k <= TOP:
        return Whole(embedding, softcap, ops)
    return Chunked(embedding, softcap)
