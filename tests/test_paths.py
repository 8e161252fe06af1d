"""What `dgtui.paths` promises: XDG folders, for their owner alone."""

import os
import stat
from pathlib import Path

import pytest

from dgtui import paths
from dgtui.errors import RunFailed

FOLDERS = [
    (paths.config_dir, "XDG_CONFIG_HOME", ".config"),
    (paths.data_dir, "XDG_DATA_HOME", ".local/share"),
    (paths.cache_dir, "XDG_CACHE_HOME", ".cache"),
    (paths.state_dir, "XDG_STATE_HOME", ".local/state"),
]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize(("folder", "variable", "_default"), FOLDERS)
def test_xdg_variables_are_honoured(folder, variable, _default, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv(variable, str(tmp_path / "elsewhere"))
    assert folder() == tmp_path / "elsewhere" / "dgtui"
    assert folder().is_dir()


@pytest.mark.parametrize(("folder", "variable", "default"), FOLDERS)
@pytest.mark.parametrize("unset", ["", "relative/folder"])
def test_an_empty_or_relative_variable_counts_as_unset(folder, variable, default, unset, monkeypatch) -> None:
    monkeypatch.setenv(variable, unset)
    assert folder() == Path.home() / default / "dgtui"


def test_folders_are_made_for_their_owner_alone(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "new" / "share"))
    previous = os.umask(0)
    try:
        made = paths.data_dir()
    finally:
        os.umask(previous)
    assert [mode(folder) for folder in (made, made.parent, made.parent.parent)] == [0o700] * 3


def test_a_folder_that_exists_keeps_its_mode(tmp_path) -> None:
    (tmp_path / "shared").mkdir(mode=0o755)
    before = mode(tmp_path / "shared")
    assert mode(paths.private_dir(tmp_path / "shared")) == before


def test_a_file_in_the_way_is_a_typed_error(tmp_path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunFailed, match="should be a folder"):
        paths.private_dir(tmp_path / "file")
    with pytest.raises(RunFailed, match="cannot be created") as raised:
        paths.private_dir(tmp_path / "file" / "below")
    assert "XDG_" in raised.value.hint


def test_asking_for_the_settings_file_makes_nothing(own_folders) -> None:
    assert paths.config_file() == own_folders / ".config" / "dgtui" / "config.toml"
    assert not (own_folders / ".config").exists()


def test_the_embedded_checkpoint_lies_in_the_package() -> None:
    assert paths.embedded_dir() == Path(paths.__file__).parent / "model" / "embedded"


def test_shipped_data_is_found_in_a_checkout_and_in_a_wheel(tmp_path, monkeypatch) -> None:
    package = tmp_path / "dgtui"
    package.mkdir()
    (tmp_path / "themes").mkdir()
    monkeypatch.setattr(paths, "_PACKAGE", package)
    with pytest.raises(RunFailed):
        paths.shipped_dir("themes")  # a neighbour in site-packages, not ours
    (tmp_path / "pyproject.toml").touch()
    assert paths.shipped_dir("themes") == tmp_path / "themes"
    (package / "themes").mkdir()
    assert paths.shipped_dir("themes") == package / "themes"
