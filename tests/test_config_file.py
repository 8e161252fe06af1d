"""A setting that the program writes changes nothing else in the settings file."""

from pathlib import Path

import pytest

from dgtui.config import load
from dgtui.config_file import change
from dgtui.errors import InvalidSettings

SOURCE = """\
# my settings
[screen]  # looks
theme = "paper"   # by day
max_fps = 20

[keys]
"canvas.pin" = "P"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "conf" / "config.toml"


def test_comments_order_and_all_other_settings_stay(file: Path) -> None:
    file.parent.mkdir()
    file.write_text(SOURCE)
    change({"screen.theme": "ember"}, file)
    assert file.read_text() == SOURCE.replace('"paper"', '"ember"')
    change({"screen.theme": "paper"}, file)
    assert file.read_text() == SOURCE


def test_a_missing_file_and_its_folder_are_made(file: Path) -> None:
    assert change({"screen.theme": "ember", "sampler.max_steps": 12}, file) == file
    settings, problems = load(file, env={})
    assert (settings.screen.theme, settings.sampler.chosen, problems) == ("ember", {"steps": 12}, [])
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_setting_is_removed_and_its_default_counts(file: Path) -> None:
    file.parent.mkdir()
    file.write_text(SOURCE)
    change({"screen.theme": None, "history.enabled": None}, file)
    assert load(file, env={})[0].screen.theme == "midnight"
    assert "max_fps = 20" in file.read_text() and "# my settings" in file.read_text()


@pytest.mark.parametrize(
    "source",
    ['screen.theme = "paper" # dotted\n', 'screen = { theme = "paper", max_fps = 20 }\n', "model.name = 'a'\n"],
)
def test_other_ways_to_write_a_section_are_kept(file: Path, source: str) -> None:
    file.parent.mkdir()
    file.write_text(source)
    change({"screen.theme": "ember"}, file)
    assert load(file, env={})[0].screen.theme == "ember"
    assert ("# dotted" in source) == ("# dotted" in file.read_text())
    assert ("max_fps" in source) == ("max_fps" in file.read_text())


@pytest.mark.parametrize(("name", "value"), [("screen.max_fps", 0), ("screen.them", "ember"), ("keys.canvas.pin", "p")])
def test_a_wrong_setting_writes_nothing(file: Path, name: str, value: object) -> None:
    with pytest.raises(InvalidSettings):
        change({name: value}, file)
    assert not file.exists()


def test_a_broken_file_is_not_touched(file: Path) -> None:
    file.parent.mkdir()
    file.write_text("[screen\n")
    with pytest.raises(InvalidSettings, match="is not changed"):
        change({"screen.theme": "ember"}, file)
    assert file.read_text() == "[screen\n"
