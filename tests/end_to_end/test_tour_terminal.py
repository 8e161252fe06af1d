"""From the start card to the timeline of a stored reply, in a real terminal, by keyboard alone."""

import re
from pathlib import Path

import pytest
from PIL import Image
from pty_terminal import Terminal
from test_chat_terminal import READY, WAIT, box, chat, settle, words

pytestmark = [pytest.mark.terminal, pytest.mark.slow]


def step(terminal: Terminal) -> int:
    """The step in the status of the canvas; 0 before the first."""
    found = re.search(r"step (\d+)/", " ".join(box(terminal)[:1]))
    return int(found[1]) if found else 0


def test_a_tale_is_watched_steered_shared_and_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    # All 48 steps are taken, however soon the text is stable: a fast run would end before the keys that pause it
    with chat("--seed", "7", "--stability", "-1") as terminal:
        terminal.wait_for("Watch a reply resolve", WAIT)
        terminal.wait_for(READY, WAIT)
        terminal.keys("f2")
        terminal.wait_for("Tell me a short story about Mira", WAIT)
        terminal.keys("Nina")  # the name is selected
        terminal.wait_for("about Nina the fox", WAIT)
        terminal.keys("enter", "shift+tab", "space")  # in one burst
        terminal.wait_for(lambda t: bool(box(t)) and "paused" in box(t)[0], WAIT)
        for _ in range(2):  # paused before the first step or after it; the one in progress may still come
            before = step(terminal)
            terminal.keys(".")
            terminal.wait_for(lambda t, before=before: step(t) > before, WAIT)
        terminal.keys("{")
        terminal.wait_for(lambda t: "looking back" in t.text() and step(t) == 1, WAIT)
        terminal.keys("}", "home", "p")
        terminal.wait_for("1 token pinned", WAIT)
        terminal.keys("space")
        terminal.wait_for(lambda t: bool(box(t)) and "end of reply" in box(t)[-1], WAIT)
        assert "Nina" in " ".join(words(terminal))
        seed = box(terminal)[0]
        terminal.keys("home", *["ctrl+right"] * 9, ">", ">", ">", "r")
        terminal.wait_for(lambda t: bool(box(t)) and box(t)[0] != seed, WAIT)
        settle(terminal, "re-diffuse")
        terminal.keys("a")
        terminal.wait_for("─ alternatives ─", WAIT)  # not its key
        terminal.keys("down", "enter")
        settle(terminal, "pick")
        final = words(terminal)
        terminal.keys("s")
        terminal.wait_for(re.compile(r"shared as dgtui-\d+"), WAIT)
        terminal.keys("enter")  # accepts
        terminal.wait_for(lambda t: not box(t) and "end of reply" in t.text(), WAIT)
        terminal.keys("ctrl+q")
        assert terminal.wait_exit(WAIT).code == 0
    (film,) = tmp_path.glob("*.gif")
    with Image.open(film) as opened:
        assert opened.n_frames > 1 and film.with_suffix(".svg").exists()
    with chat("--continue") as terminal:
        terminal.wait_for(READY, WAIT)
        terminal.wait_for("end of reply", WAIT)
        terminal.keys("shift+tab", "e")
        terminal.wait_for(lambda t: bool(box(t)) and "step" in box(t)[0] and words(t) == final, WAIT)
        terminal.keys("{")
        terminal.wait_for("looking back", WAIT)
        terminal.keys("ctrl+q")
        assert terminal.wait_exit(WAIT).code == 0
