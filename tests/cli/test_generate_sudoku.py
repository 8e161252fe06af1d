"""`dgtui generate` with a Sudoku, on the embedded model: any layout is solved, and what cannot be is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

LAYOUTS = (
    "Solve this, please:\n0 2 3 4\n3 0 1 0\n0 1 4 0\n0 3 0 0\n\n",
    "+----+----+\n| _ 2 | 3 4 |\n| 3 _ | 1 _ |\n+----+----+\n| _ 1 | 4 _ |\n| _ 3 | _ _ |\n+----+----+",
    "sudoku: .2343.1..14..3..",
)


@pytest.mark.parametrize("layout", LAYOUTS, ids=["spaces", "boxes", "one line"])
def test_a_sudoku_in_any_layout_is_solved_and_checked(dgtui: Any, layout: str) -> None:
    done = dgtui("generate", layout, "--seed", "1")
    assert done.out == b"1234\n3412\n2143\n4321\n"
    assert "checked: this is a solution" in done.err


def test_a_contradictory_sudoku_is_refused_before_a_model_is_loaded(dgtui: Any) -> None:
    done = dgtui("generate", "0234\n3310\n0140\n0300", "--model", "no-such-model")
    assert done.code != 0 and done.out == b""
    assert "3 occurs twice in row 2" in done.err


def test_a_batch_treats_a_sudoku_in_the_same_way(dgtui: Any, tmp_path: Path) -> None:
    prompts = [LAYOUTS[2], "0234\n3310\n0140\n0300"]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps({"prompt": text}) + "\n" for text in prompts))
    done = dgtui("generate", "--batch", tmp_path / "prompts.jsonl", "--out", tmp_path / "replies.jsonl", "--seed", "1")
    solved, refused = (json.loads(line) for line in (tmp_path / "replies.jsonl").read_text().splitlines())
    assert done.code == 1
    assert solved["text"] == "1234\n3412\n2143\n4321" and "this is a solution" in solved["checked"]
    assert "3 occurs twice in row 2" in refused["error"]
