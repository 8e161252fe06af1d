"""4x4 Sudoku: four rows of four digits, 0 for an empty cell, exactly one solution."""

import itertools
import random

from dgtui.train.lessons.example import Example

NAME = "sudoku"
PROMPT = "Solve this 4x4 Sudoku puzzle. 0 marks an empty cell.\n"

Grid = tuple[int, ...]  # sixteen cells, row by row

_UNITS = (
    *(tuple(4 * r + c for c in range(4)) for r in range(4)),
    *(tuple(4 * r + c for r in range(4)) for c in range(4)),
    *(tuple(4 * (2 * R + r) + 2 * C + c for r in range(2) for c in range(2)) for R in range(2) for C in range(2)),
)


def _all_solutions() -> tuple[Grid, ...]:
    rows = itertools.permutations((1, 2, 3, 4))
    halves = [a + b for a, b in itertools.product(rows, repeat=2) if not {*a[:2]} & {*b[:2]}]  # two boxes
    grids = (upper + lower for upper, lower in itertools.product(halves, repeat=2))
    return tuple(g for g in grids if all(len({g[i] for i in unit}) == 4 for unit in _UNITS))


SOLUTIONS = _all_solutions()  # 288


def solutions(puzzle: Grid) -> list[Grid]:
    """Every full grid that keeps the puzzle's givens."""
    givens = [(i, v) for i, v in enumerate(puzzle) if v]
    return [g for g in SOLUTIONS if all(g[i] == v for i, v in givens)]


def show(grid: Grid) -> str:
    """Four lines of four digits."""
    return "\n".join("".join(map(str, grid[r : r + 4])) for r in range(0, 16, 4))


def make(rng: random.Random) -> Example:
    """A puzzle with 4 to 10 empty cells and one solution."""
    solution = rng.choice(SOLUTIONS)
    puzzle = list(solution)
    wanted = rng.randint(4, 10)
    for cell in rng.sample(range(16), 16):
        if puzzle.count(0) == wanted:
            break
        puzzle[cell] = 0
        if len(solutions(tuple(puzzle))) > 1:
            puzzle[cell] = solution[cell]
    return Example(NAME, PROMPT + show(tuple(puzzle)), show(solution))


def check(example: Example, reply: str) -> bool:
    """The reply is the one full grid that keeps every given."""
    return reply.strip() == example.response
