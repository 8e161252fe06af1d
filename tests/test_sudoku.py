"""Puzzles are found in whatever layout people paste, and only puzzles are."""

import pytest

from dgtui.sudoku import Puzzle, find, solutions
from dgtui.train import own_words

NINE = "530070000600195000098000060800060003400803001700020006060000280000419005000080079"
FOUR = "1030340201004021"


def test_every_layout_of_the_hand_written_prompts_is_found() -> None:
    for row in own_words.prompts():
        found = find(row["prompt"])
        if row["kind"] == "sudoku":
            assert found is not None and "".join(map(str, found.cells)) == row["puzzle"], row["prompt"]
        else:
            assert found is None, row["prompt"]


@pytest.mark.parametrize(
    "text",
    [
        "call 0123456789012345 now",
        "1 2 3 4\n1 2 3 4",
        "2026-11-28",
        "0000000000000000",
        "my card is 4111 1111 1111 1111",
        "def f(x):\n    return x + 1\n",
        "",
    ],
)
def test_other_digits_are_no_puzzle(text: str) -> None:
    assert find(text) is None


@pytest.mark.parametrize("line_break", ["\n", "\r\n", "\n\n", " \n"])
@pytest.mark.parametrize("blank", list("0._?*x"))
def test_blank_signs_and_line_breaks_do_not_matter(blank: str, line_break: str) -> None:
    rows = [NINE[i : i + 9].replace("0", blank) for i in range(0, 81, 9)]
    found = find("Solve:\n" + line_break.join(rows) + line_break)
    assert found is not None and "".join(map(str, found.cells)) == NINE


def test_drawn_boxes_are_read() -> None:
    rows = []
    for r in range(9):
        if r % 3 == 0:
            rows.append("┌───────┼───────┼───────┐")
        cells = [c if c != "0" else "·" for c in NINE[r * 9 : r * 9 + 9]]
        rows.append("│ " + " │ ".join(" ".join(cells[c : c + 3]) for c in (0, 3, 6)).replace("·", ".") + " │")
    found = find("\n".join(rows))
    assert found is not None and "".join(map(str, found.cells)) == NINE


def test_a_contradiction_is_named() -> None:
    cells = [int(c) for c in NINE]
    cells[1] = 5
    assert Puzzle(tuple(cells)).conflict() == "5 occurs twice in row 1"
    cells[1] = 3
    cells[20] = 5  # row 3, column 3: the box has a 5 already
    assert "box 1" in Puzzle(tuple(cells)).conflict()
    assert Puzzle(tuple(map(int, NINE))).conflict() == ""
    assert Puzzle((1, 2, 3, 0, 0, 0, 0, 4, *[0] * 8)).conflict() == "it has no solution"


@pytest.mark.parametrize("digits", [NINE, FOUR])
def test_a_solution_is_recognised(digits: str) -> None:
    puzzle = Puzzle(tuple(map(int, digits)))
    (solved,) = solutions(puzzle.cells)
    text = "\n".join(Puzzle(solved).rows())
    assert puzzle.solved_by(text) and puzzle.solved_by(f"Here it is:\n{text}\nDone.")
    wrong = text[:-1] + ("1" if text[-1] != "1" else "2")
    assert not puzzle.solved_by(wrong)
    assert not puzzle.solved_by(text[:-2])
    assert not puzzle.solved_by("\n".join(puzzle.rows()))


def test_the_prompt_is_found_again() -> None:
    puzzle = Puzzle(tuple(map(int, NINE)))
    assert find(puzzle.prompt()) == puzzle
