"""Examples as token ids, and items as padded batches.

An item is what the model sees at once: a prefix for the encoder and a canvas for the decoder. In a canvas the reply
is followed by `<turn|>` and then by end-of-sequence fill to the end. `free` marks the positions that may be corrupted:
all of them, or the span of an infill.
"""

import bisect
import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

FILL_WEIGHT = 0.1  # end-of-sequence fill is easy and plentiful: it must not drown the rest of the loss


@dataclass(frozen=True, slots=True)
class Item:
    """Prefix ids, reply ids ending in `<turn|>`, and the span [start, end) that is re-written (None: everything)."""

    prefix: tuple[int, ...]
    reply: tuple[int, ...]
    spans: tuple[tuple[int, int], ...] | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """One micro-batch; B items, prefix padded on the left to P, canvas of C places.

    `prefix`, `prefix_mask` (B, P); `canvas` (B, C) clean ids; `free` (B, C) bool; `weight` (B, C) float;
    `infill` (B,) bool: the rows whose other positions are pinned.
    """

    prefix: torch.Tensor
    prefix_mask: torch.Tensor
    canvas: torch.Tensor
    free: torch.Tensor
    weight: torch.Tensor
    infill: torch.Tensor


def random_spans(rng: random.Random, length: int) -> tuple[tuple[int, int], ...]:
    """One to three disjoint spans of 1 to 20 tokens inside [0, length)."""
    spans: list[tuple[int, int]] = []
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        size = min(length, rng.randint(1, 20))
        start = rng.randint(0, length - size)
        if all(start + size < s or e < start for s, e in spans):
            spans.append((start, start + size))
    return tuple(sorted(spans))


def collate(items: Sequence[Item], canvas_length: int, pad_id: int, eos_id: int) -> Batch:
    """Pads items to one batch."""
    width = max(len(item.prefix) for item in items)
    prefix = torch.full((len(items), width), pad_id)
    mask = torch.zeros((len(items), width), dtype=torch.bool)
    canvas = torch.full((len(items), canvas_length), eos_id)
    free = torch.zeros((len(items), canvas_length), dtype=torch.bool)
    weight = torch.full((len(items), canvas_length), FILL_WEIGHT)
    for row, item in enumerate(items):
        prefix[row, width - len(item.prefix) :] = torch.tensor(item.prefix)
        mask[row, width - len(item.prefix) :] = True
        n = min(len(item.reply), canvas_length)
        canvas[row, :n] = torch.tensor(item.reply[:n])
        weight[row, : n + 1] = 1.0
        if item.spans is None:
            free[row] = True
        else:
            for start, end in item.spans:
                free[row, start:end] = True
    infill = torch.tensor([item.spans is not None for item in items])
    return Batch(prefix, mask, canvas, free, weight, infill)


def batches(
    items: Iterator[Item], rng: random.Random, tokens: int, canvas: int | None, pad_id: int, eos_id: int, step: int = 8
) -> Iterator[list[Batch]]:
    """Endless optimizer steps of four micro-batches each, two of short items and two of long ones.

    Items of like length share a batch, which saves padding; four of them keep several tasks in every step.

    A micro-batch holds about `tokens` places, prefix and canvas counted. `canvas`: a fixed canvas length, or None for
    the shortest multiple of `step` that holds the longest reply, stretched at random: fill is seen at any length.
    """
    while True:
        pool = sorted((next(items) for _ in range(512)), key=lambda item: len(item.reply) + len(item.prefix) // 4)
        sizes = list(itertools.accumulate(len(item.reply) + len(item.prefix) for item in pool))
        middle = bisect.bisect(sizes, sizes[-1] // 2)
        halves: list[list[Batch]] = []
        for half in (pool[:middle], pool[middle:]):
            half.sort(key=lambda item: (len(item.prefix) // 24, len(item.reply) + rng.random() * 20))
            made: list[Batch] = []
            while half:
                take: list[Item] = []
                while half:
                    longest = max(len(i.reply) for i in [*take, half[0]])
                    places = max(len(i.prefix) for i in [*take, half[0]]) + (canvas or longest + step)
                    if take and places * (len(take) + 1) > tokens:
                        break
                    take.append(half.pop(0))
                longest = max(len(i.reply) for i in take) + 1
                length = canvas or min(256, (longest + rng.choice((0, step, 2 * step)) + step - 1) // step * step)
                made.append(collate(take, length, pad_id, eos_id))
            rng.shuffle(made)
            halves.append(made)
        for pairs in zip(halves[0][::2], halves[0][1::2], halves[1][::2], halves[1][1::2], strict=False):
            yield list(pairs)
