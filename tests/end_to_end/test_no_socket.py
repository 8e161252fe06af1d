"""With a local model no socket of the internet is opened: not while starting, not while running, not while ending.

Every program runs in a network namespace of its own, and its system calls are written down.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from pty_terminal import Terminal

SANDBOX = ["unshare", "-rn"]
NO_SANDBOX = shutil.which("strace") is None or subprocess.run([*SANDBOX, "true"], capture_output=True).returncode != 0

pytestmark = [
    pytest.mark.terminal,
    pytest.mark.slow,
    pytest.mark.skipif(NO_SANDBOX, reason="needs strace and network namespaces"),
]

WAIT = 240.0
TALE = "Mira was a brave fox who lived by the river.\n"


def traced(log: Path, *arguments: str | Path) -> list[str | Path]:
    trace = ["strace", "-f", "--seccomp-bpf", "-q", "-e", "trace=network", "-o", log]
    return [*SANDBOX, *trace, sys.executable, "-m", "dgtui", *arguments]


def opened(log: Path) -> list[str]:
    """The calls that concern another kind of socket than a local one."""
    calls = log.read_text().splitlines()
    assert any("exited with" in call for call in calls), "the trace is whole"
    return [call for call in calls if "AF_" in call and "AF_UNIX" not in call]


def test_generate_infill_and_replay_open_no_socket(tmp_path: Path) -> None:
    run, tale = tmp_path / "run.dgtui", tmp_path / "tale.txt"
    tale.write_text(TALE)
    for number, command in enumerate((
        ("generate", "hello", "--seed", "1", "--steps", "3", "--record", run),
        ("infill", tale, "--span", "1:12-1:21", "--seed", "1", "--length", "3", "--candidates", "1"),
        ("replay", run, "--export", tmp_path / "run.svg"),
    )):  # fmt: skip
        log = tmp_path / f"{number}.log"
        subprocess.run(traced(log, *command), check=True, stdout=subprocess.DEVNULL, timeout=WAIT)
        assert opened(log) == []


def test_chat_and_edit_open_no_socket(tmp_path: Path) -> None:
    log = tmp_path / "chat.log"
    with Terminal(traced(log, "chat", "--seed", "1", "--steps", "3"), env={"OMP_NUM_THREADS": "1"}) as terminal:
        terminal.wait_for("float32 · cpu", WAIT)
        terminal.keys("hello", "enter")
        terminal.wait_for("end of reply", WAIT)
        terminal.keys("ctrl+q")
        assert terminal.wait_exit(WAIT).code == 0
    assert opened(log) == []
    log, tale = tmp_path / "edit.log", tmp_path / "tale.txt"
    tale.write_text(TALE)
    with Terminal(traced(log, "edit", tale, "--seed", "1"), env={"OMP_NUM_THREADS": "1"}) as terminal:
        terminal.wait_for("embedded", WAIT)
        terminal.keys("ctrl+g")
        terminal.wait_for("accept", WAIT)
        terminal.keys("esc", "ctrl+q")
        terminal.wait_for(lambda t: "has changes" in t.text() or t._exit is not None, WAIT)
        if terminal._exit is None:
            terminal.keys("l")
        terminal.wait_exit(WAIT)
    assert opened(log) == []
