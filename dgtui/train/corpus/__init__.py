"""The embedded model's world: seven tasks, each with a generator and a check.

Every task module offers `NAME`, `make(rng)` and `check(example, reply)`. `check` accepts each reply that `make` could
have written for that prompt, and rejects others.
"""

from types import ModuleType

from dgtui.train.corpus import about, json_facts, other, python_functions, sorting, sudoku, tales
from dgtui.train.lessons.example import Example, Split, split_of, stream

TASKS: dict[str, ModuleType] = {
    module.NAME: module for module in (tales, json_facts, python_functions, sudoku, sorting, about, other)
}

SHARES = {"tales": 60, "json": 10, "python": 6, "sudoku": 12, "sorting": 3, "about": 7, "other": 2}


__all__ = ["SHARES", "TASKS", "Example", "Split", "split_of", "stream"]
