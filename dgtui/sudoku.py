"""Finds Sudoku puzzles in a text, checks them, and lays them out for the canvas.

Sizes 4×4 and 9×9. A cell is a digit, or blank: `0 . _ ? * - x` or a space inside a drawn box. Cells may be separated by
blanks, commas, tabs or lines drawn with `|`; rows by line breaks, `/` or brackets; 16 or 81 cells may be one line.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Final

from dgtui.errors import InputRefused

SIZES: Final = (9, 4)
_BLANKS: Final = "0._?*xX-"
_OTHER_WORDS: Final = 40
"""A message with more words beside its grid is about something else."""
_LONGEST_MESSAGE: Final = 4000
_MOST_TRIES: Final = 20_000
"""Number of cells to fill in before the search for a solution stops: about a second."""
_BORDER = re.compile(r"[\s+\-=|:─━│┃┼╋┌┐└┘├┤┬┴╬═║╔╗╚╝╠╣╦╩]*")
_LINES = str.maketrans(dict.fromkeys("│┃║", "|"))

Grid = tuple[int, ...]
"""Cells row by row; 0 is a blank."""


@dataclass(frozen=True, slots=True)
class Puzzle:
    """A grid of givens and blanks; `size` is 4 or 9."""

    cells: Grid

    @property
    def size(self) -> int:
        """Cells in a row."""
        return 9 if len(self.cells) == 81 else 4

    def rows(self) -> list[str]:
        """One string of digits per row, 0 for a blank."""
        return ["".join(map(str, self.cells[i : i + self.size])) for i in range(0, len(self.cells), self.size)]

    def prompt(self) -> str:
        """The request in the form used in training."""
        n = self.size
        return f"Solve this {n}x{n} Sudoku puzzle. 0 marks an empty cell.\n" + "\n".join(self.rows())

    def conflict(self) -> str:
        """Why the puzzle is impossible: equal givens in a row, column or box, or no solution. Empty if solvable."""
        for name, unit in units(self.size):
            values = [self.cells[i] for i in unit if self.cells[i]]
            for value in sorted(set(values)):
                if values.count(value) > 1:
                    return f"{value} occurs twice in {name}"
        try:
            return "" if next(solutions(self.cells, _MOST_TRIES), None) else "it has no solution"
        except TimeoutError:
            return ""

    def solved_by(self, text: str) -> bool:
        """Whether `text` is this puzzle's grid, complete and right."""
        return not self.fault(text)

    def fault(self, text: str) -> str:
        """Why `text` is not this puzzle's solution; empty if it is."""
        answer = find(text)
        if answer is None or answer.size != self.size or 0 in answer.cells:
            return "it is not a full grid"
        if any(given not in (0, value) for given, value in zip(self.cells, answer.cells, strict=True)):
            return "a given digit was changed"
        return answer.conflict()


@cache
def units(size: int) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """Rows, columns and boxes with their names (counted from 1) and their cells."""
    box = {4: 2, 9: 3}[size]
    found = [(f"row {r + 1}", tuple(range(r * size, r * size + size))) for r in range(size)]
    found += [(f"column {c + 1}", tuple(range(c, size * size, size))) for c in range(size)]
    for b in range(size):
        top, left = b // box * box, b % box * box
        found.append((f"box {b + 1}", tuple((top + r) * size + left + c for r in range(box) for c in range(box))))
    return tuple(found)


@cache
def _units_of(size: int) -> tuple[tuple[int, int, int], ...]:
    box = {4: 2, 9: 3}[size]
    return tuple((r, c, r // box * box + c // box) for r in range(size) for c in range(size))


def solutions(cells: Grid, most: int | None = None) -> Iterator[Grid]:
    """Every solution of a grid without conflicts, by search from the cell with the fewest candidates.

    Raises:
        TimeoutError: `most` cells were filled in, and there may be more solutions.
    """
    size = 9 if len(cells) == 81 else 4
    where = _units_of(size)
    full = (1 << size) - 1
    rows, columns, boxes = [full] * size, [full] * size, [full] * size
    grid = list(cells)
    blanks = []
    tried = 0
    for i, value in enumerate(cells):
        r, c, b = where[i]
        bit = 1 << (value - 1) if value else 0
        if bit and not rows[r] & columns[c] & boxes[b] & bit:
            return
        rows[r] &= ~bit
        columns[c] &= ~bit
        boxes[b] &= ~bit
        if not value:
            blanks.append(i)

    def search() -> Iterator[Grid]:
        nonlocal tried
        tried += 1
        if most is not None and tried > most:
            raise TimeoutError
        best, options, fewest = -1, 0, size + 1
        for k, i in enumerate(blanks):
            r, c, b = where[i]
            candidates = rows[r] & columns[c] & boxes[b]
            count = candidates.bit_count()
            if count < fewest:
                best, options, fewest = k, candidates, count
                if count <= 1:
                    break
        if best < 0:
            yield tuple(grid)
            return
        i = blanks.pop(best)
        r, c, b = where[i]
        while options:
            bit = options & -options
            options ^= bit
            rows[r] ^= bit
            columns[c] ^= bit
            boxes[b] ^= bit
            grid[i] = bit.bit_length()
            yield from search()
            rows[r] ^= bit
            columns[c] ^= bit
            boxes[b] ^= bit
        grid[i] = 0
        blanks.insert(best, i)

    yield from search()


def _cells(line: str, size: int) -> list[int] | None:
    """The cells of one row of `size`, or None if the line is not a row."""
    drawn = line.translate(_LINES)
    tight = re.sub(r"[\s,;|'\"]", "", drawn)
    inside = drawn.strip(" \t\r\n").strip("|").replace("|", "")
    for text, blanks in ((tight, _BLANKS), (inside, _BLANKS + " ")):
        if len(text) == size and all(c in blanks or ("1" <= c <= str(size)) for c in text):
            return [0 if c in blanks else int(c) for c in text]
    return None


def find(text: str) -> Puzzle | None:
    """The puzzle in a message, or None. A row counts only among exactly `size` rows that follow one another."""
    lines = [
        part for line in text.splitlines() for part in re.split(r"\s/\s?|/(?=\S)|\]\s*,?|\[", line) if part.strip()
    ]
    for size in SIZES:
        block: list[list[int]] = []
        for line in [*lines, "end"]:
            row = _cells(line.split(":")[-1], size)
            if row is not None and any(c.isdigit() or c in "._?*xX" for c in line):
                block.append(row)
            elif not _BORDER.fullmatch(line):
                if len(block) == size:
                    break
                block = []
        if len(block) == size and any(any(row) for row in block):
            return Puzzle(tuple(cell for row in block for cell in row))
    for size in SIZES:
        for word in re.findall(rf"(?<![\w.])[\d._?*xX-]{{{size * size}}}(?![\w])", text):
            cells = [0 if c in _BLANKS else int(c) for c in word]
            if max(cells) <= size and any(cells):
                return Puzzle(tuple(cells))
    return None


def asked(text: str) -> Puzzle | None:
    """The puzzle that a message wants solved, or None."""
    if len(text) > _LONGEST_MESSAGE or len(re.findall(r"[^\W\d_]{2,}", text)) > _OTHER_WORDS:
        return None
    found = find(text)
    return found if found is not None and 0 in found.cells else None


def refuse_contradiction(text: str) -> None:
    """Raises `InputRefused` if a message asks for the solution of a puzzle that has none."""
    puzzle = asked(text)
    if puzzle is not None and (conflict := puzzle.conflict()):
        raise InputRefused(f"this Sudoku cannot be solved: {conflict}", hint="check its digits")


def checked(question: str, reply: str) -> str:
    """The result of checking the reply, as a short text; empty if the question has no puzzle."""
    puzzle = asked(question)
    if puzzle is None:
        return ""
    fault = puzzle.fault(reply)
    return f"not a solution: {fault}" if fault else "checked: this is a solution"
