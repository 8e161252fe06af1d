"""The embedded model's world: seven tasks, each with a generator and a check, and the mixture they are trained in."""

import random
from collections.abc import Iterator
from types import ModuleType

from dgtui.train.corpus import about, json_facts, other, python_functions, sorting, sudoku, tales
from dgtui.train.corpus.example import Example, Split, split_of, stream

TASKS: dict[str, ModuleType] = {
    module.NAME: module for module in (tales, json_facts, python_functions, sudoku, sorting, about, other)
}

SHARES = {"tales": 60, "json": 10, "python": 6, "sudoku": 12, "sorting": 3, "about": 7, "other": 2}


def mixture(rng: random.Random, split: Split) -> Iterator[Example]:
    """Endless examples of one side, tasks drawn by their shares."""
    streams = {name: stream(TASKS[name].make, rng, split) for name in SHARES}
    names, shares = list(SHARES), list(SHARES.values())
    while True:
        yield next(streams[rng.choices(names, shares)[0]])


__all__ = ["SHARES", "TASKS", "Example", "Split", "mixture", "split_of", "stream"]
