"""What every command does with a signal, and with a reader of its output that has gone."""

import os
import signal
import sys
from pathlib import Path

import pytest

from dgtui import __main__ as program
from dgtui.cli import main

KILLS = (signal.SIGTERM, signal.SIGHUP)


@pytest.mark.parametrize("number", KILLS)
def test_a_kill_and_a_hang_up_are_a_ctrl_c(
    number: signal.Signals, own_signals: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program, "main", lambda: signal.raise_signal(number))
    with pytest.raises(KeyboardInterrupt):
        program.run()


def test_a_hang_up_that_is_ignored_stays_ignored(own_signals: None, monkeypatch: pytest.MonkeyPatch) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    monkeypatch.setattr(program, "main", lambda: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(KeyboardInterrupt):
        program.run()
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


def without_reader(command: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    """The exit code of a command whose standard output is a pipe that nobody reads."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        return main(command)


@pytest.mark.parametrize(
    "command",
    [
        "--version", "--help", "keys", "keys --json", "themes", "themes --json", "config path", "config --help",
        "model list", "model list --json", "model info embedded", "model info embedded --json", "doctor",
        "doctor --json", "bench --help", "replay --help", "train --help", "infill --help",
    ],
)  # fmt: skip
def test_a_reader_that_has_gone_ends_every_command_quietly_with_1(
    command: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert without_reader(command.split(), monkeypatch) == 1
    assert capfd.readouterr().err == ""


@pytest.mark.slow
def test_a_reader_that_has_gone_ends_infill_and_bench_quietly_with_1(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "tale.md"
    file.write_text("One day the fox sat by the river.")
    span = ["infill", str(file), "--span", "1:9-1:12", "--length", "1", "--candidates", "1", "--model", str(tiny)]
    assert without_reader(span, monkeypatch) == 1
    assert without_reader(["bench", "--pairs", "1", "--steps", "2", "--model", str(tiny)], monkeypatch) == 1
    assert "Traceback" not in capfd.readouterr().err
    assert file.read_text() == "One day the fox sat by the river."
