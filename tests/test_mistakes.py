"""Mistakes in names and TOML files: what is suggested, and which line is named."""

import os
from pathlib import Path

import pytest

from dgtui.mistakes import TomlError, closest, closest_dotted, did_you_mean, in_brackets, line_of, read_toml


def test_the_most_similar_name_is_suggested_and_a_distant_one_is_not() -> None:
    assert closest("midnigt", ["paper", "midnight"]) == "midnight"
    assert closest("zebra", ["paper", "midnight"]) is None


@pytest.mark.parametrize(
    ("name", "meant"),
    [("theme", "screen.theme"), ("model.max_fps", "screen.max_fps"), ("screen.thme", "screen.theme"),
     ("thme", "screen.theme"), ("x.y", None)],
)  # fmt: skip
def test_a_key_in_a_missing_or_wrong_section_is_found(name: str, meant: str | None) -> None:
    assert closest_dotted(name, ["screen.theme", "screen.max_fps", "model.name"]) == meant


def test_a_hint_is_empty_without_a_match() -> None:
    assert did_you_mean("paper") == "did you mean paper?"
    assert in_brackets(did_you_mean("paper")) == " (did you mean paper?)"
    assert did_you_mean(None, "see the list") == "see the list"
    assert in_brackets(did_you_mean(None)) == ""


def test_a_value_is_found_on_its_own_line_of_its_section() -> None:
    source = '[other]\nramp = [\n "nil"]\n[entropy]\nramp = [\n "red",\n "nil",\n]\n'
    assert line_of("entropy.ramp", source) == 5
    assert line_of("entropy.ramp", source, "nil") == 7
    assert line_of("entropy.rmap", source) == 4
    assert line_of("missing.key", source) is None


def test_a_missing_file_is_told_from_an_unusable_one(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.toml")
    (tmp_path / "large.toml").write_bytes(b"#" * 1025)
    for name, is_missing in (("gone", True), ("pipe.toml", False), ("large.toml", False)):
        with pytest.raises(TomlError) as caught:
            read_toml(tmp_path / name, 1024)
        assert caught.value.is_missing is is_missing
