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


@pytest.mark.parametrize(
    "typed",
    [
        "{}/my pics/a c\u0327at.png", "  {}/my pics/a c\u0327at.png \n", "'{}/my pics/a c\u0327at.png'",
        '"{}/my pics/a c\u0327at.png" ', "{}/my\\ pics/a\\ c\u0327at.png", "file://{}/my%20pics/a%20c%CC%A7at.png",
        "file:{}/my%20pics/a%20c%CC%A7at.png", "FILE://localhost{}/my%20pics/a%20c%CC%A7at.png\r",
        "~/my pics/a c\u0327at.png", "'~/my pics/a c\u0327at.png'", "~/my\\ pics/a\\ c\u0327at.png",
    ],
)  # fmt: skip
def test_a_path_is_taken_as_other_programs_write_it(tmp_path, monkeypatch, typed: str) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert paths.typed_path(typed.format(tmp_path)) == tmp_path / "my pics" / "a c\u0327at.png"


@pytest.mark.parametrize("name", ["'quoted'", "back\\slash", " blank ", "file:name", "it's", "~tilde"])
def test_a_file_with_such_a_name_is_meant_by_its_name(tmp_path, monkeypatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).touch()
    assert paths.typed_path(name) == Path(name)


@pytest.mark.parametrize("text", ["it's new.md", "'one' two", "file://elsewhere/x", "~nobody-of-that-name/x", "'"])
def test_what_only_looks_like_a_quoted_path_is_kept(text: str) -> None:
    assert paths.typed_path(text) == Path(text)
