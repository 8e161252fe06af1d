"""`dgtui chat` over a server of text in a real terminal: drafts, a reply, a break in the middle, the next reply."""

import sys
import threading

import pytest
from chat_server import Part, frame, serving, words
from pty_terminal import TEXTUAL, Terminal, audit

WAIT = 240.0
"""Seconds within which something has to be seen, on a machine that has other things to do."""


@pytest.fixture
def no_network() -> None:
    """The server is a thread of this process."""


@pytest.mark.terminal
@pytest.mark.slow
def test_a_server_of_text_is_chatted_with_in_a_terminal() -> None:
    drafted, broken = threading.Event(), threading.Event()
    replies: list[list[Part]] = [
        [frame("Onxe thxre", 1), lambda: drafted.wait(WAIT), *words("Once there was a fox.")],
        [*words("And then ")[:1], lambda: broken.wait(WAIT), {"error": {"message": "CUDA out of memory"}}],
        words("All is well."),
    ]
    with serving(*replies) as server:
        command = [sys.executable, "-m", "dgtui", "chat", "--server", server.url, "--server-mode", "chat"]
        with Terminal(command, columns=100, rows=30, env={"COLORTERM": "truecolor"}) as terminal:
            terminal.wait_for("text only", WAIT)
            terminal.keys("tell me", "enter")
            terminal.wait_for("Onxe thxre", WAIT)
            drafted.set()
            terminal.wait_for("Once there was a fox.", WAIT)
            terminal.wait_for("end of reply", WAIT)
            terminal.keys("more", "enter")
            terminal.wait_for("And then", WAIT)
            broken.set()
            terminal.wait_for("CUDA out of memory", WAIT)
            assert "And then" in terminal.text()
            terminal.keys("again", "enter")
            terminal.wait_for("All is well.", WAIT)
            terminal.keys("ctrl+q")
            assert terminal.wait_exit(WAIT).code == 0
            assert audit(terminal.raw, TEXTUAL) == []
    said = [[message["content"] for message in asked["messages"]] for asked in server.asked]
    assert said[0] == ["tell me"] and said[1] == ["tell me", "Once there was a fox.", "more"]
    assert said[2][-1] == "again"
