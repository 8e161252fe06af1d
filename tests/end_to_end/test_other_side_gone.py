"""The terminal is closed, or a signal ends the program: everything is kept and the process ends soon."""

import os
import re
import signal
import sys
from pathlib import Path

import pytest
from checkpoints import tiny_checkpoint
from pty_terminal import Terminal

from dgtui.session import recording
from dgtui.session.store import Store

pytestmark = [pytest.mark.terminal, pytest.mark.slow]

WAIT = 100.0
SLACK = float(os.environ.get("DGTUI_TEST_SLACK", "4"))
"""How many times longer a machine with other things to do may take."""


def program(*arguments: str | Path) -> list[str | Path]:
    return [sys.executable, "-m", "dgtui", *arguments]


def ignoring_hangup(*arguments: str | Path) -> list[str | Path]:
    return ["sh", "-c", 'trap \'\' HUP; exec "$0" "$@"', *program(*arguments)]


def running_reply(tmp_path: Path) -> tuple[str | Path, ...]:
    """Options of a chat whose replies take long, which writes a recording."""
    checkpoint = tiny_checkpoint(tmp_path / "tiny")
    return ("chat", "--model", checkpoint, "--seed", "5", "--steps", "400", "--context", "900",
            "--record", tmp_path / "run.dgtui")  # fmt: skip


def ask(terminal: Terminal) -> None:
    terminal.wait_for(re.compile(r"float32 · cpu"), WAIT)
    terminal.keys("hello", "enter")
    terminal.wait_for(re.compile(r"step [3-9]"), WAIT)


def is_kept(tmp_path: Path) -> bool:
    store = Store(Path(os.environ["XDG_DATA_HOME"]) / "dgtui" / "history.db")
    try:
        latest = store.latest()
        assert latest is not None
        question, reply = (stored.turn for stored in store.turns(latest.id))
    finally:
        store.close()
    assert question.text == "hello"
    assert len(recording.load(tmp_path / "run.dgtui").log.frames()) > 0
    return reply.stop_reason == "cancelled" and reply.steps > 0


@pytest.mark.parametrize("command", [program, ignoring_hangup])
def test_a_closed_terminal_ends_a_chat_and_keeps_it(tmp_path: Path, command) -> None:
    with Terminal(command(*running_reply(tmp_path)), env={"OMP_NUM_THREADS": "1"}) as terminal:
        ask(terminal)
        terminal.hang_up()
        terminal.wait_exit(1.0 * SLACK)
    assert is_kept(tmp_path)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_chat_and_keeps_it(tmp_path: Path, number: signal.Signals) -> None:
    with Terminal(program(*running_reply(tmp_path)), env={"OMP_NUM_THREADS": "1"}) as terminal:
        ask(terminal)
        os.kill(terminal.pid, number)
        assert terminal.wait_exit(2.0 * SLACK).code == 130
        assert 1049 not in terminal.modes, "the terminal is as it was"
    assert is_kept(tmp_path)
