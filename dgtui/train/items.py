"""Examples as token ids.

An item is one input of the model: a prefix for the encoder and a canvas for the decoder. In a canvas the reply is
followed by `<turn|>` and then by end-of-sequence padding.
"""

import random
from dataclasses import dataclass

FILL_WEIGHT = 0.1
"""Loss weight of end-of-sequence padding, which is easy and plentiful."""


@dataclass(frozen=True, slots=True)
class Item:
    """Prefix ids, reply ids ending in `<turn|>`, and the spans [start, end) that are rewritten (None: everything).

    An `open` item has only the beginning of its reply, and its canvas ends there. With `cuts` [start, end), the encoder
    reads the whole reply too, and each of these parts of it is a canvas that sees what comes before.
    """

    prefix: tuple[int, ...]
    reply: tuple[int, ...]
    spans: tuple[tuple[int, int], ...] | None = None
    open: bool = False
    cuts: tuple[tuple[int, int], ...] = ()


def random_cuts(rng: random.Random, length: int) -> tuple[tuple[int, int], ...]:
    """Parts of 2 to 12 tokens of [0, length), 4 to 14 apart."""
    apart = rng.randint(4, 14)
    return tuple((at, min(length, at + rng.randint(2, 12))) for at in range(rng.randrange(apart), length, apart))


def random_spans(rng: random.Random, length: int) -> tuple[tuple[int, int], ...]:
    """One to three disjoint spans of 1 to 20 tokens inside [0, length)."""
    spans: list[tuple[int, int]] = []
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        size = min(length, rng.randint(1, 20))
        start = rng.randint(0, length - size)
        if all(start + size < s or e < start for s, e in spans):
            spans.append((start, start + size))
    return tuple(sorted(spans))
