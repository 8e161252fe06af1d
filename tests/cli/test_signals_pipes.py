"""What every command does with a signal, and with a reader of its output that has gone."""

import os
import signal
import sys

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
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        assert main(command.split()) == 1
    assert capfd.readouterr().err == ""
