"""Eight moments of the screens, read from a real terminal in three sizes. `scripts/moments.py` takes their pictures."""

import re
from pathlib import Path

import pytest
from pty_terminal import Terminal
from test_chat_terminal import READY, WAIT, box, chat, words
from test_edit_terminal import PROPOSAL, TALE, edit, select
from test_edit_terminal import READY as EDITOR_READY

from dgtui.tui import keymap

pytestmark = [pytest.mark.terminal, pytest.mark.slow]

SIZES = ((160, 50), (100, 30), (80, 24))
NOT_TEXT = re.compile("[\ufffd\x00-\x08\x0b-\x1f]|<unused")
PALETTE = "^p commands"
LABELS = {"resume", "scrub", "discard"}.union(c.label for commands in keymap.COMMANDS.values() for c in commands)


def is_drawn(terminal: Terminal, columns: int) -> bool:
    """Whether the last line is as wide as the terminal and cuts no word, and no control character is on the screen."""
    last = terminal.text().splitlines()[-1].rstrip()
    keys = re.split(r"\s{2,}", last.partition("▏")[0].strip())
    whole = all(key.partition(" ")[2] in LABELS for key in keys)
    return last.endswith(PALETTE) and len(last) > columns - 4 and whole and not NOT_TEXT.search(terminal.text())


def reads(terminal: Terminal, *texts: str | re.Pattern[str]) -> None:
    """Waits in every size for a complete screen, and for all of these texts."""
    for columns, rows in SIZES:
        terminal.resize(columns, rows)
        terminal.wait_for(lambda t, columns=columns: is_drawn(t, columns), WAIT)
        for text in texts:
            terminal.wait_for(text, WAIT)


def test_seven_moments_of_a_chat_are_read_in_three_sizes() -> None:
    # Hot for half of its steps: there is noise to see, and a half-resolved canvas, however late the keys arrive
    with chat("--seed", "7", "--stability", "-1", "--t-max", "2.5", "--proofread", "0") as terminal:
        terminal.wait_for(READY, WAIT)
        reads(terminal, "Watch a reply resolve", re.compile(r"f3 +write between"), re.compile(r"undecided .*pinned"))

        terminal.keys("Tell me a story about Mia the fox and Ben.")
        terminal.wait_for("and Ben.", WAIT)
        terminal.keys("enter", "shift+tab", "space")
        reads(terminal, re.compile(r"paused .*seed 7|paused · block 1 · step \d+/48 · [0-2]% "), "space resume")
        noise = words(terminal)

        for _ in range(40):
            before = box(terminal)[0]
            terminal.keys(".")
            terminal.wait_for(lambda t, before=before: bool(box(t)) and box(t)[0] != before, WAIT)
            if re.search(r" [3-7]\d% settled", box(terminal)[0]):
                break
        reads(terminal, re.compile(r"paused · block 1 · step \d+/48 · [3-7]\d% settled"), "ms/step", "██")
        assert words(terminal) != noise

        terminal.keys("space")
        reads(terminal, re.compile(r"step 48/48 · (9\d|100)% settled"), "end of reply", "r re-diffuse")

        terminal.keys("home", ">", ">", ">", "r", "space")
        reads(terminal, re.compile(r"paused · re-diffuse"), "space resume")
        terminal.keys("esc")
        terminal.wait_for("stopped", WAIT)

        terminal.keys("u", "X")
        reads(terminal, re.compile(r"▲ .* · decided at step \d+ · x-ray"), "▀")
        terminal.keys("X", "X", "enter")
        terminal.wait_for(lambda t: not box(t), WAIT)

        terminal.keys("/new", "enter")
        terminal.wait_for("Watch a reply resolve", WAIT)
        terminal.keys("f3")
        terminal.wait_for(lambda t: bool(box(t)) and "step" in box(t)[0], WAIT)
        terminal.keys("shift+tab", "space")
        held = re.compile(r"Otto[\s\S]*visitor[\s\S]*That[\s\S]*breakfast")
        reads(terminal, held, re.compile(r"step \d+/\d+"))
        terminal.keys("ctrl+q")
        assert terminal.wait_exit(WAIT).code == 0


def test_a_review_is_read_in_three_sizes(tmp_path: Path) -> None:
    path = tmp_path / "tale.md"
    path.write_text(TALE, encoding="utf-8")
    with edit(path) as terminal:
        terminal.wait_for(EDITOR_READY, WAIT)
        select(terminal, "Then Tom the otter came along")
        terminal.keys("ctrl+r")
        terminal.wait_for(PROPOSAL, WAIT)
        reads(terminal, PROPOSAL, "Mira was a brave fox", "they found the kite.")
        terminal.keys("ctrl+q")
