"""Sudoku, 9×9 and 4×4: mostly with the givens pinned on the canvas, as dgtui lays them out, sometimes a plain prompt.

Puzzles have one solution. Some are made by search and kept in memory; relabelling digits and exchanging rows,
columns and bands, which keeps the solution unique, makes the rest.
"""

import random
from functools import cache

from dgtui.sudoku import Grid, Puzzle, solutions
from dgtui.train.lessons.example import Example

NAME = "sudoku"
MAKERS = 2000
"""Puzzles of each size that are made by search, when they are first drawn."""
HELD_OUT_MAKERS = 500
"""More of them, for evaluations."""
MOST_BLANKS = {9: 53, 4: 10}


def _unique(cells: Grid) -> bool:
    found = solutions(cells)
    next(found)
    return next(found, None) is None


@cache
def _maker(size: int, number: int) -> tuple[Grid, tuple[int, ...]]:
    """A solved grid, and an order in which cells can be emptied while the solution stays unique."""
    rng = random.Random(f"sudoku {size} {number}")
    while True:
        first = rng.sample(range(1, size + 1), size)
        solved = next(solutions((*first, *([0] * (size * size - size)))))
        cells, order = list(_mixed(solved, rng)), []
        whole = tuple(cells)
        for i in rng.sample(range(size * size), size * size):
            cells[i] = 0
            if _unique(tuple(cells)):
                order.append(i)
                if len(order) == MOST_BLANKS[size]:
                    return whole, tuple(order)
            else:
                cells[i] = whole[i]


def _symmetry(size: int, rng: random.Random) -> tuple[list[int], list[int]]:
    """A new order of the cells and new names of the digits (index 0 stays a blank)."""
    box = {4: 2, 9: 3}[size]
    lines = [
        [band * box + line for band in rng.sample(range(box), box) for line in rng.sample(range(box), box)]
        for _ in "rc"
    ]
    cells = [r * size + c for r in lines[0] for c in lines[1]]
    if rng.random() < 0.5:
        cells = [cells[c * size + r] for r in range(size) for c in range(size)]
    return cells, [0, *rng.sample(range(1, size + 1), size)]


def _mixed(grid: Grid, rng: random.Random) -> Grid:
    cells, digits = _symmetry(9 if len(grid) == 81 else 4, rng)
    return tuple(digits[grid[i]] for i in cells)


def draw(rng: random.Random, size: int, blanks: int, makers: range = range(MAKERS)) -> tuple[Puzzle, Puzzle]:
    """A puzzle with that many blanks, and its solution."""
    whole, order = _maker(size, rng.choice(makers))
    emptied = set(order[:blanks])
    cells, digits = _symmetry(size, rng)
    solved = tuple(digits[whole[i]] for i in cells)
    return Puzzle(tuple(0 if i in emptied else v for i, v in zip(cells, solved, strict=True))), Puzzle(solved)


def lesson(puzzle: Puzzle, solution: Puzzle, pinned: bool) -> Example:
    """The request and the solved grid; pinned: only the blanks are free."""
    text = "\n".join(solution.rows())
    at = [i + i // puzzle.size for i in range(len(puzzle.cells))]
    free = tuple((at[i], at[i] + 1) for i, value in enumerate(puzzle.cells) if not value) if pinned else ()
    return Example(NAME, puzzle.prompt(), text, expect={"sudoku": puzzle.cells}, free=free)


def make(rng: random.Random) -> Example:
    """A puzzle of either size."""
    return _sized(rng, 9 if rng.random() < 0.8 else 4)


def make_small(rng: random.Random) -> Example:
    """A 4×4 puzzle: all that the embedded model learns, because another model solves the large ones."""
    return _sized(rng, 4)


def _sized(rng: random.Random, size: int) -> Example:
    blanks = rng.randint(20, MOST_BLANKS[9]) if size == 9 else rng.randint(4, MOST_BLANKS[4])
    return lesson(*draw(rng, size, blanks), pinned=rng.random() < 0.85)
