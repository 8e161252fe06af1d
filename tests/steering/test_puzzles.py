"""A pasted Sudoku is laid out on the canvas, and what cannot be solved is refused."""

from types import SimpleNamespace
from typing import Any

import pytest

from dgtui import sudoku
from dgtui.errors import InputRefused
from dgtui.message import Message
from dgtui.steering import puzzles

INFO: Any = SimpleNamespace(canvas_length=32, turn_end_id=7, fill_id=1)
DRAWN = "Please solve:\n+--+--+\n|_2|34|\n|3_|1_|\n+--+--+\n|_1|4_|\n|_3|__|\n+--+--+\n"


def encode(text: str) -> list[int]:
    return [100 + ord(c) for c in text]


def test_a_grid_is_pinned_but_for_its_blanks() -> None:
    start = puzzles.laid_out(DRAWN, encode, INFO)
    assert start.ids is not None
    cells = "0234\n3010\n0140\n0300"
    assert list(start.ids) == [*encode(cells), 7, *[1] * 12]
    assert set(range(32)) - start.pinned == {i for i, cell in enumerate(cells) if cell == "0"}


def test_what_is_no_puzzle_starts_from_noise() -> None:
    for text in ("Tell me a story.", "1234\n3412\n2143\n4321", "Compare 0234\n3010\n0140\n0300 " + "with prose " * 30):
        assert puzzles.laid_out(text, encode, INFO).ids is None
    assert puzzles.laid_out(DRAWN, lambda text: [1, 2], INFO).ids is None


def test_the_model_reads_a_puzzle_in_the_usual_form() -> None:
    said, reply = puzzles.normalised([Message("user", DRAWN), Message("model", DRAWN)])
    assert said.content == "Solve this 4x4 Sudoku puzzle. 0 marks an empty cell.\n0234\n3010\n0140\n0300"
    assert reply.content == DRAWN


def test_a_contradiction_is_refused_and_a_reply_is_checked() -> None:
    with pytest.raises(InputRefused, match="3 occurs twice in row 2"):
        sudoku.refuse_contradiction("0234\n3310\n0140\n0300")
    sudoku.refuse_contradiction(DRAWN)
    assert sudoku.checked(DRAWN, "1234\n3412\n2143\n4321") == "checked: this is a solution"
    assert sudoku.checked(DRAWN, "1234\n3412\n2143\n4322").startswith("not a solution: 2 occurs twice in row 4")
    assert sudoku.checked(DRAWN, "2134\n3412\n2143\n4321") == "not a solution: a given digit was changed"
    assert sudoku.checked("Hello", "1234\n3412\n2143\n4321") == ""


def test_a_search_that_takes_too_long_is_given_up() -> None:
    with pytest.raises(TimeoutError):
        next(sudoku.solutions((0,) * 81, most=5))
    assert sudoku.Puzzle((1, *[0] * 80)).conflict() == ""
