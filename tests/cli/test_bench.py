"""What `dgtui bench` measures, on a checkpoint of random weights."""

from pathlib import Path
from typing import Any

import pytest

from dgtui.cli.bench import measure
from dgtui.model.catalog import resolve
from dgtui.model.loader import load
from dgtui.model.parts import Wishes


def test_both_sides_take_the_same_steps_to_the_same_tokens(dgtui: Any, tiny: Path) -> None:
    found = dgtui("bench", "-m", tiny, "--pairs", "1", "--steps", "3", "--json").json
    assert found["same_tokens"] is True
    assert found["steps"] == 3 and set(found["step_ms"]) == {"dgtui", "frameless", "transformers"}
    assert all(ms > 0 for ms in found["step_ms"].values())
    assert found["step_ratio"] == pytest.approx(found["step_ms"]["dgtui"] / found["step_ms"]["transformers"], rel=0.01)
    assert found["memory_gb"] > 0.1


def test_people_get_a_table(dgtui: Any, tiny: Path) -> None:
    out = dgtui("bench", "-m", tiny, "--pairs", "1", "--steps", "2").out.decode()
    assert "same tokens as transformers" in out and " ms\n" in out


def test_it_says_how_far_it_is_and_ends_where_it_is_told_to(tiny: Path) -> None:
    said: list[str] = []

    def progress(text: str) -> None:
        said.append(text)
        if len(said) == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure(load(resolve(str(tiny)), Wishes(device="cpu")), progress, pairs=9, steps=1, seed=1)
    assert said[0] == "warming up: dgtui" and said[3].startswith("pair 1 of 9")
