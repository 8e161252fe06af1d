"""A Sudoku pasted into `dgtui chat` in a real terminal, in the layouts that people use."""

import re
import sys

import pytest
from pty_terminal import Terminal

pytestmark = [pytest.mark.terminal, pytest.mark.slow]

WAIT = 240.0
LAYOUTS = (
    "Solve this:\n0 2 3 4\n3 0 1 0\n0 1 4 0\n0 3 0 0\n",
    "+----+----+\n| _ 2 | 3 4 |\n| 3 _ | 1 _ |\n+----+----+\n| _ 1 | 4 _ |\n| _ 3 | _ _ |\n+----+----+",
    ".2343.1..14..3..",
)


def test_pasted_sudokus_are_solved_and_checked_and_a_contradiction_comes_back() -> None:
    command = [sys.executable, "-m", "dgtui", "chat", "--seed", "1"]
    with Terminal(command, columns=100, rows=40, env={"OMP_NUM_THREADS": "1"}) as terminal:
        terminal.wait_for(re.compile(r"float32 · cpu"), WAIT)
        for number, layout in enumerate(LAYOUTS, 1):
            terminal.paste(layout)
            terminal.keys("enter")
            terminal.wait_for(lambda t: len(re.findall("checked:", t.text())) >= min(number, 2), WAIT)  # noqa: B023
            assert "not a solution" not in terminal.text()
        terminal.paste("0234\n3310\n0140\n0300")
        terminal.keys("enter")
        terminal.wait_for("occurs twice", WAIT)
        terminal.wait_for("3310", WAIT)
