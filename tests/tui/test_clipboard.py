"""What is said to be copied is where the program says."""

from pathlib import Path

import pytest

from dgtui.cli import doctor_terminal
from dgtui.tui import clipboard

PERSIAN = "می\u200cخواهم 👩\u200d💻"


@pytest.fixture(autouse=True)
def no_desktop(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("TMUX", "SSH_CONNECTION", "SSH_TTY", "WAYLAND_DISPLAY", "DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")


def program(folder: Path, name: str, code: int = 0) -> Path:
    """A program that keeps its arguments and its input."""
    (folder / name).write_text(f'#!/bin/sh\necho "$@" > {folder}/args\ncat > {folder}/input\nexit {code}\n')
    (folder / name).chmod(0o700)
    return folder


def test_tmux_gets_the_text_itself(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program(tmp_path, "tmux")
    monkeypatch.setenv("TMUX", "/tmp/tmux,1,0")
    assert clipboard.copy(PERSIAN) == "tmux's buffer and the clipboard"
    assert (tmp_path / "input").read_text() == PERSIAN
    assert (tmp_path / "args").read_text().split() == ["load-buffer", "-w", "-"]


def test_a_local_desktop_gets_it_and_a_remote_one_does_not(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program(tmp_path, "wl-copy")
    monkeypatch.setenv("WAYLAND_DISPLAY", "wayland-0")
    assert clipboard.copy(PERSIAN) == "the clipboard of the desktop"
    monkeypatch.setenv("SSH_CONNECTION", "1.2.3.4 5 6.7.8.9 22")
    assert clipboard.copy(PERSIAN) is None


def test_a_tool_that_fails_took_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program(tmp_path, "tmux", code=1)
    monkeypatch.setenv("TMUX", "/tmp/tmux,1,0")
    assert clipboard.copy("text") is None


def test_doctor_says_where_a_copy_goes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = doctor_terminal._clipboard()
    assert (found.mark, found.found) == ("ok", clipboard.TERMINAL)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("WAYLAND_DISPLAY", "wayland-0")
    found = doctor_terminal._clipboard()
    assert found.mark == "warn" and "wl-clipboard" in found.advice
    program(tmp_path, "wl-copy")
    assert doctor_terminal._clipboard().found == "the clipboard of the desktop, with wl-copy"
