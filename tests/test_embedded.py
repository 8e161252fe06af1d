"""The model that ships: small enough, whole, and as good as it was measured to be.

The full table is made by `python -m dgtui.train.table`; here a few held-out prompts of each task keep a broken or
half-trained model from being shipped. The floors are below the table's figures by the spread of so few prompts.
"""

import json

import pytest

from dgtui.cli import main
from dgtui.model import catalog
from dgtui.paths import embedded_dir
from dgtui.train.table import SPAN, trials

FEW = 16


def test_it_is_at_most_twelve_megabytes() -> None:
    assert sum(f.stat().st_size for f in embedded_dir().rglob("*") if f.is_file()) <= 12e6


def test_its_folder_holds_data_only() -> None:
    assert {f.suffix for f in embedded_dir().iterdir() if f.is_file()} <= {".json", ".jinja", ".safetensors"}


def test_it_has_every_part_of_the_large_architecture() -> None:
    catalog.check(embedded_dir())
    config = catalog.read_config(embedded_dir())
    text = config["text_config"]
    assert set(text["layer_types"]) == {"sliding_attention", "full_attention"}
    assert text["num_experts"] > text["top_k_experts"] > 1
    assert config["canvas_length"] == 256
    generation = json.loads((embedded_dir() / "generation_config.json").read_text())
    assert generation["max_denoising_steps"] == 48


# Well below the README's table, by the spread of so few prompts.
FLOORS = {"tales": 0.75, "json": 0.75, "python": 0.85, "sudoku": 0.75, SPAN: 0.85}


@pytest.mark.slow
@pytest.mark.parametrize(("task", "floor"), FLOORS.items())
def test_it_answers_held_out_prompts(task: str, floor: float) -> None:
    found = trials(None, [task], FEW, 0, 1)
    assert len(found) == FEW
    assert sum(t.right for t in found) / FEW >= floor


@pytest.mark.slow
def test_it_says_what_it_is_when_asked_something_else(capsys: pytest.CaptureFixture[str]) -> None:
    for prompt in ("What is the capital of Portugal?", "Translate good morning into Danish."):
        assert main(["generate", prompt, "--model", "embedded", "--seed", "1"]) == 0
        assert "small model that ships inside dgtui" in capsys.readouterr().out
