"""`dgtui chat` in a real terminal, on real models: what a person sees on the screen after each key."""

import os
import re
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from checkpoints import tiny_checkpoint
from pty_terminal import HOSTILE, TEXTUAL, Terminal, audit
from safetensors.torch import load_file, save_file

from dgtui.session.store import Store

pytestmark = [pytest.mark.terminal, pytest.mark.slow]

WAIT = 240.0
"""Seconds within which something has to be seen, on a machine that has other things to do."""
READY = re.compile(r"float32 · cpu")
SETTLED = re.compile(r"end of reply|no room left|out of room|stopped")
STATUS = re.compile(r"block \d+ · step|seed \d+")
ASK = "Tell me a story about Mia the fox and Ben."


def chat(*arguments: str, columns: int = 100, rows: int = 30, env: Mapping[str, str | None] | None = None) -> Terminal:
    variables = {"OMP_NUM_THREADS": "1", "COLORTERM": "truecolor", **(env or {})}
    return Terminal([sys.executable, "-m", "dgtui", "chat", *arguments], columns=columns, rows=rows, env=variables)


def box(terminal: Terminal) -> list[str]:
    """The lines of the canvas in its message: its status, then its text, its timeline and its meters."""
    lines = terminal.text().splitlines()
    status = max((i for i, line in enumerate(lines) if line.startswith("▌") and STATUS.search(line)), default=None)
    if status is None:
        return []
    top = status
    while lines[top - 1].startswith("▌"):
        top -= 1
    text = [line.strip("▌▐▁▂▃▄▅▆▇█ ").removeprefix("Model").strip() for line in lines[top:status]]
    return [lines[status], *text, *(line.strip("▌ ") for line in lines[status + 1 : status + 3])]


def words(terminal: Terminal) -> list[str]:
    """The words on the canvas, timeline and meters left out."""
    return " ".join(line for line in box(terminal)[1:-2]).split()


def to_canvas(terminal: Terminal) -> None:
    """From the prompt to the canvas, whose keys the footer shows then."""
    terminal.keys("shift+tab")
    terminal.wait_for("p pin", WAIT)


def settle(terminal: Terminal, title: str) -> None:
    """Waits for a run of that kind to end, and for the keys of a finished reply."""

    def settled(t: Terminal) -> bool:
        lines = box(t)
        shown = bool(lines) and title in lines[0] and "catching up" not in lines[0]
        return shown and bool(SETTLED.search(lines[-1])) and " pause" not in t.text()

    terminal.wait_for(settled, WAIT)


@pytest.mark.parametrize(("columns", "rows"), [(100, 30), (80, 24)])
def test_a_canvas_is_watched_steered_and_left(columns: int, rows: int) -> None:
    paced = {"DGTUI_SCREEN_PACE": "100"}  # however fast the model is, each step is on the screen
    with chat("--seed", "7", columns=columns, rows=rows, env=paced) as terminal:
        terminal.wait_for("Write a message", WAIT)
        seen: set[str] = set()
        terminal.on_frame = lambda t: seen.add(" ".join(words(t)))
        terminal.keys(ASK, "enter")  # while the model loads
        terminal.wait_for(lambda t: not box(t) and bool(SETTLED.search(t.text())), WAIT)
        terminal.on_frame = None
        assert len(seen) >= 4, f"the canvas changed over several frames: {seen}"
        assert "tok/s wall" in terminal.text()

        to_canvas(terminal)
        before, seed, start = words(terminal), box(terminal)[0], 12
        terminal.keys("ctrl+home", *["ctrl+right"] * start, ">", ">", ">", "e")  # other words than these
        terminal.wait_for(lambda t: bool(box(t)) and box(t)[0] != seed, WAIT)
        settle(terminal, "re-diffuse")
        after, behind = words(terminal), before[start + 8 : start + 28]
        assert after != before
        assert after[:start] == before[:start] and len(behind) == 20 and " ".join(behind) in " ".join(after), (
            "only the selection changes"
        )

        terminal.keys(*["up"] * 9, "home", "p")  # the first token
        terminal.wait_for("1 token pinned", WAIT)
        pinned = words(terminal)[0]
        for _ in range(2):
            seed = box(terminal)[0]
            terminal.keys("home", ">", ">", ">", "r")
            terminal.wait_for(lambda t, seed=seed: bool(box(t)) and box(t)[0] != seed, WAIT)
            settle(terminal, "re-diffuse")
            assert words(terminal)[0].startswith(pinned[:2])

        terminal.keys("{")
        terminal.wait_for("looking back", WAIT)
        assert "step 1/48" in box(terminal)[0]
        terminal.keys("f")
        settle(terminal, "fork")
        terminal.keys("ctrl+q")
        assert terminal.wait_exit(WAIT).code == 0


def test_model_prompt_and_title_reach_the_terminal_as_text_alone(tmp_path: Path) -> None:
    # A random model writes any bytes: control characters, halves of characters, and whatever they make together
    checkpoint = tiny_checkpoint(tmp_path / "tiny\x1b]0;name\x07")
    with chat("--model", str(checkpoint), "--seed", "1", "--steps", "6", "--context", "600") as terminal:
        terminal.wait_for("float32", WAIT)
        terminal.paste(f"{ASK} {' '.join(HOSTILE)}")
        terminal.keys("enter")
        terminal.wait_for(re.compile("out of room|no room left|end of reply"), WAIT)
        terminal.keys("/rename a ")
        terminal.paste(HOSTILE[0])
        terminal.wait_for(re.compile(r"/rename a \S"), WAIT)
        terminal.keys("enter")
        terminal.wait_for("Write a message", WAIT)
        terminal.keys("/sessions")
        terminal.wait_for("/sessions", WAIT)
        terminal.keys("enter")
        terminal.wait_for("conversations", WAIT)
        terminal.keys("esc")
        to_canvas(terminal)
        terminal.keys("a")
        terminal.wait_for("─ alternatives", WAIT)  # not its key
        terminal.keys("esc", "ctrl+q")
        terminal.wait_exit(WAIT)
        assert audit(terminal.raw, TEXTUAL) == []


def endless(checkpoint: Path) -> Path:
    """The checkpoint without a chance to end a reply: the logits of its stop ids are 0, never the largest."""
    file = checkpoint / "model.safetensors"
    tensors = load_file(file)
    tensors["model.decoder.embed_tokens.weight"][[1, 6]] = 0.0
    save_file(tensors, file, metadata={"format": "pt"})
    return checkpoint


def test_what_was_finished_before_kill_9_is_there_again(tmp_path: Path) -> None:
    checkpoint = endless(tiny_checkpoint(tmp_path / "tiny"))
    with chat("--model", str(checkpoint), "--seed", "5", "--steps", "100", "--context", "900") as terminal:
        terminal.wait_for(READY, WAIT)
        terminal.keys("hello", "enter")
        terminal.wait_for(re.compile(r"block [3-9]"), WAIT)
        os.kill(terminal.pid, signal.SIGKILL)
        terminal.wait_exit(WAIT)
    store = Store(Path(os.environ["XDG_DATA_HOME"]) / "dgtui" / "history.db")
    latest = store.latest()
    assert latest is not None
    question, reply = (stored.turn for stored in store.turns(latest.id))
    assert question.text == "hello"
    assert reply.steps >= 200, "two blocks"  # how much of them is text depends on the processor's rounding
    assert reply.text and reply.token_ids
    store.close()
    with chat("--continue", "--model", str(checkpoint)) as terminal:
        terminal.wait_for("unfinished", WAIT)
        assert "hello" in terminal.text()
        terminal.keys("ctrl+q")
        terminal.wait_exit(WAIT)


def test_nothing_is_drawn_where_there_is_no_terminal(tmp_path: Path) -> None:
    with chat(env={"TERM": "dumb"}) as terminal:
        assert terminal.wait_exit(WAIT).code == 6
        assert b"\x1b" not in terminal.raw
        assert "dgtui generate" in terminal.text()
    out = tmp_path / "out"
    with Terminal([sys.executable, "-m", "dgtui", "chat"], stdout=out) as terminal:
        assert terminal.wait_exit(WAIT).code == 6
        assert out.read_bytes() == b""


def test_a_terminal_without_colour_tells_states_by_attributes() -> None:
    with chat("--seed", "7", env={"NO_COLOR": "1", "COLORTERM": None}) as terminal:
        terminal.wait_for("Write a message", WAIT)
        terminal.keys(ASK, "enter")
        terminal.wait_for(SETTLED, WAIT)
        to_canvas(terminal)
        terminal.keys("p")
        terminal.wait_for("1 token pinned", WAIT)
        lines = terminal.text().splitlines()
        row = next(i for i, line in enumerate(lines) if line.startswith("▌ Model"))
        terminal.keys("end")
        terminal.wait_for(lambda t: t.cell(9, row).reverse, WAIT)
        colours = set(re.findall(rb"\x1b\[[0-9;]*?38;2;(\d+);(\d+);(\d+)", terminal.raw))
        assert all(r == g == b for r, g, b in colours), "greys only"
        terminal.keys("ctrl+q")
        terminal.wait_exit(WAIT)


def test_sixteen_colours_are_enough() -> None:
    with chat("--seed", "7", env={"TERM": "xterm-16color", "COLORTERM": None}) as terminal:
        terminal.wait_for(READY, WAIT)
        assert b"38;2;" not in terminal.raw
        assert b"48;2;" not in terminal.raw
        terminal.keys("ctrl+q")
        assert terminal.wait_exit(WAIT).code == 0


def test_a_terminal_that_is_too_small_is_asked_to_grow() -> None:
    with chat(columns=40, rows=10) as terminal:
        terminal.wait_for("60 columns and 16 rows", WAIT)
        terminal.resize(80, 24)
        terminal.wait_for("Write a message", WAIT)
        terminal.keys("ctrl+q")
        assert terminal.wait_exit(WAIT).code == 0


def test_a_paste_without_brackets_sends_nothing() -> None:
    with chat("--seed", "7") as terminal:
        terminal.wait_for("Write a message", WAIT)
        terminal.keys("first line\rsecond line\rthird line\r")
        terminal.wait_for("third line", WAIT)
        terminal.keys("ctrl+q")
        assert terminal.wait_exit(WAIT).code == 0
        assert "sent as soon as" not in terminal.raw.decode()
    store = Store(Path(os.environ["XDG_DATA_HOME"]) / "dgtui" / "history.db")
    assert store.latest() is None
    store.close()
