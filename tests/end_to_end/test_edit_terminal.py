"""`dgtui edit` in a real terminal, on the embedded model: what a person sees, and what is on the disk afterwards."""

import os
import re
import signal
import sys
import time
from pathlib import Path

import pytest
from pty_terminal import HOSTILE, TEXTUAL, Terminal, audit

from dgtui.tui.screens.ask import QUIET

pytestmark = [pytest.mark.terminal, pytest.mark.slow]

WAIT = 240.0
"""Seconds within which something has to be seen, on a machine that has other things to do."""
PROPOSAL = re.compile(r"proposal (\d+) of (\d+)")
README = Path(__file__).parents[2] / "README.md"
READY = re.compile(r"embedded · \d+:\d+")
RESOLVING = re.compile(r"step \d+/\d+")
TALE = (
    "Mira was a brave fox who lived by the river and had a blue kite. One night the wind came in and carried off the "
    "kite. Then Tom the otter came along, and together they found the kite.\n"
)


def edit(path: Path, *arguments: str, columns: int = 100, rows: int = 30) -> Terminal:
    variables = {"OMP_NUM_THREADS": "1", "COLORTERM": "truecolor"}
    command = [sys.executable, "-m", "dgtui", "edit", str(path), "--seed", "5", *arguments]
    return Terminal(command, columns=columns, rows=rows, env=variables)


def sentence_of(text: str) -> str:
    """One that stands in one line, and once in the text."""
    found = re.findall(r"(?<=[.:] )[A-Z][a-z][^.:`*\[\]|<>\n]{20,60}\.(?= |$)", text, re.MULTILINE)
    return next(sentence for sentence in found if text.count(sentence) == 1)


def select(terminal: Terminal, text: str) -> None:
    """Finds a text, which selects it, and goes back to it."""
    before = place(terminal)
    terminal.keys("ctrl+f", text, "enter")
    terminal.wait_for(lambda t: place(t) != before, WAIT)
    terminal.keys("esc")
    terminal.wait_for(lambda t: text[:20] not in t.text().splitlines()[-2], WAIT)


def answer(terminal: Terminal, key: str) -> None:
    """Answers a question, after the moment in which keys do not count yet."""
    time.sleep(2 * QUIET)
    terminal.keys(key)


def top(terminal: Terminal) -> str:
    return terminal.text().splitlines()[0]


def place(terminal: Terminal) -> str:
    return top(terminal).split()[-1]


def count(terminal: Terminal) -> tuple[int, int]:
    found = PROPOSAL.search(terminal.text())
    assert found is not None
    return int(found[1]), int(found[2])


def rewrite(path: Path, old: str) -> None:
    """Selects a text, has it written anew, takes the second alternative, undoes, redoes, saves; checks the disk."""
    before = path.read_bytes()
    head, tail = before.split(old.encode())
    with edit(path) as terminal:
        terminal.wait_for(READY, WAIT)
        select(terminal, old)
        terminal.keys("ctrl+r")
        seen: set[str] = set()

        def watched(t: Terminal) -> bool:
            if RESOLVING.search(t.text()):
                seen.add(t.text())
            return PROPOSAL.search(t.text()) is not None

        terminal.wait_for(watched, WAIT)
        assert len(seen) >= 3, "it was seen to resolve"
        for _ in range(3):
            if count(terminal)[1] > 1:
                break
            terminal.keys("g")
            terminal.wait_for(RESOLVING, WAIT)
            terminal.wait_for(PROPOSAL, WAIT)
        at, of = count(terminal)
        terminal.keys("n")
        terminal.wait_for(f"proposal {at % of + 1} of {of}", WAIT)
        assert path.read_bytes() == before
        terminal.keys("A")
        terminal.wait_for(lambda t: "●" in top(t) and not PROPOSAL.search(t.text()), WAIT)
        terminal.keys("ctrl+z")
        terminal.wait_for(lambda t: "●" not in top(t), WAIT)
        terminal.keys("ctrl+y")
        terminal.wait_for(lambda t: "●" in top(t), WAIT)
        assert path.read_bytes() == before
        terminal.keys("ctrl+s")
        terminal.wait_for(lambda t: "●" not in top(t), WAIT)
        terminal.keys("ctrl+q")
        assert terminal.wait_exit(WAIT).code == 0
        assert audit(terminal.raw, TEXTUAL) == []
    after = path.read_bytes()
    assert after != before
    assert after.startswith(head) and after.endswith(tail)


def test_a_span_is_written_anew_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    path.write_bytes(README.read_bytes())
    rewrite(path, sentence_of(README.read_text()))


def test_an_instruction_rewrites_a_span_of_the_model_s_own_world(tmp_path: Path) -> None:
    path = tmp_path / "tale.txt"
    path.write_text(TALE)
    with edit(path, "--instruction", "Tell a story about Mira the fox and Tom.", columns=80, rows=24) as terminal:
        terminal.wait_for(READY, WAIT)
        select(terminal, " brave fox who lived")
        terminal.keys("ctrl+r")
        terminal.wait_for(PROPOSAL, WAIT)
        terminal.keys("esc", "ctrl+q")
        assert terminal.wait_exit(WAIT).code == 0
    assert path.read_text() == TALE


def test_what_was_typed_before_kill_9_is_offered_at_the_next_open(tmp_path: Path) -> None:
    path = tmp_path / "tale.txt"
    path.write_text(TALE)
    with edit(path) as terminal:
        terminal.wait_for("Mira was", WAIT)
        terminal.keys("Once ")
        terminal.wait_for("Once Mira", WAIT)
        os.kill(terminal.pid, signal.SIGKILL)
        terminal.wait_exit(WAIT)
    assert path.read_text() == TALE
    with edit(path) as terminal:
        terminal.wait_for("recover: apply", WAIT)  # the line before it may break anywhere, the path is long
        answer(terminal, "r")
        terminal.wait_for("Once Mira", WAIT)
        terminal.keys("ctrl+s")
        terminal.wait_for("saved", WAIT)
        terminal.keys("ctrl+q")
        assert terminal.wait_exit(WAIT).code == 0
    assert path.read_text() == f"Once {TALE}"


def test_sigterm_gives_the_terminal_back_and_leaves_the_journal(tmp_path: Path) -> None:
    path = tmp_path / "tale.txt"
    path.write_text(TALE)
    with edit(path) as terminal:
        terminal.wait_for("Mira was", WAIT)
        terminal.keys("Once ")
        terminal.wait_for("Once Mira", WAIT)
        os.kill(terminal.pid, signal.SIGTERM)
        assert terminal.wait_exit(WAIT).code == 130
        assert terminal.modes.isdisjoint({1000, 1003, 1006, 1049, 2004})
    assert path.read_text() == TALE
    with edit(path) as terminal:
        terminal.wait_for("recover: apply", WAIT)  # the line before it may break anywhere, the path is long
        terminal.keys("ctrl+q")


def test_what_a_file_holds_reaches_the_terminal_as_text_alone(tmp_path: Path) -> None:
    path = tmp_path / "evil\x1b]0;name\x07.txt"
    path.write_text("fox " + " ".join(HOSTILE).replace("\x00", "") + " end\n")
    with edit(path) as terminal:
        terminal.wait_for("fox", WAIT)
        terminal.keys("x")
        terminal.wait_for("xfox", WAIT)
        terminal.keys("ctrl+q")
        terminal.wait_for("changes", WAIT)
        answer(terminal, "l")
        assert terminal.wait_exit(WAIT).code == 0
        assert audit(terminal.raw, TEXTUAL) == []


def test_a_file_that_is_refused_is_refused_before_the_screen(tmp_path: Path) -> None:
    path = tmp_path / "binary"
    path.write_bytes(b"a\0b")
    with edit(path) as terminal:
        assert terminal.wait_exit(WAIT).code == 4
        assert b"\x1b[?1049h" not in terminal.raw
    assert path.read_bytes() == b"a\0b"
