"""The training data of the embedded model: generators of examples, and their mixture."""

import random
from collections.abc import Callable, Iterator, Mapping

from dgtui.train.lessons import echo, edits, facts, functions, grids, guide, honest, prose, tales, turns
from dgtui.train.lessons.example import Example, Split, split_of, stream

LESSONS: dict[str, Callable[[random.Random], Example]] = {
    module.NAME: module.make for module in (tales, facts, functions, grids, guide, honest, turns, edits, echo, prose)
} | {"4x4": grids.make_small, "tale turns": turns.make_of_tales}
SHARES = {
    "tales": 27, "json": 14, "python": 11, "4x4": 3, "about": 6, "other": 6, "turns": 15, "edits": 13, "echo": 4,
    "prose": 1,
}  # fmt: skip

EASY_SHARES = {"about": 28, "other": 24, "json": 14, "4x4": 14, "python": 10, "tales": 8, "turns": 2}
"""The mixture at the beginning: mostly replies that are one of a few texts, or copy from the prompt."""


def mixture(rng: random.Random, split: Split, shares: Mapping[str, int] = SHARES) -> Iterator[Example]:
    """An endless stream of examples of one split; lessons are drawn by their shares."""
    streams = {name: stream(LESSONS[name], rng, split) for name in shares}
    names, weights = list(shares), list(shares.values())
    while True:
        yield next(streams[rng.choices(names, weights)[0]])


__all__ = ["EASY_SHARES", "LESSONS", "SHARES", "Example", "Split", "mixture", "split_of", "stream"]
