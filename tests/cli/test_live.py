"""The canvas as a headless command draws it."""

import io
from concurrent.futures import Future
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console

from dgtui.cli import live
from dgtui.cli.live import canvas_text, status_line
from dgtui.diffusion.events import Flag, Frame


def frame(flags: list[Flag], entropy: float = 0.0) -> Frame:
    n = len(flags)
    ids = np.arange(n, dtype=np.int32)
    return Frame(
        "job", 0, 0, 9, 48, ids, ids, np.full(n, entropy, np.float32), np.array(flags, np.uint8),
        ids[:, None], np.ones((n, 1), np.float32), entropy, 0.71, 1.0,
    )  # fmt: skip


def test_noise_that_is_blank_is_one_sign_and_breaks_no_line() -> None:
    noisy, settled = frame([Flag.RENOISED] * 4), frame([Flag.ACCEPTED] * 4)
    pieces = [b"a", b"\n    ", b" ", b"b\nc"]
    assert canvas_text(noisy, pieces).plain == "a··b⏎c"
    assert canvas_text(settled, pieces).plain == "a\n     b\nc"


def test_a_character_split_over_tokens_is_shown_whole() -> None:
    assert canvas_text(frame([Flag.ACCEPTED] * 3), [b"\xe2", b"\x82", b"\xac"]).plain == "€"


def test_bytes_that_are_no_text_are_shown_and_none_is_an_escape() -> None:
    hostile = [b"\x1b]52;c;aGk=\x07", b"\xff\xfe\xff\xff", b"\x1b[2J", b"\xc2\x9b31m", "\u202e".encode()]
    out = io.StringIO()
    Console(file=out, color_system=None, width=200).print(canvas_text(frame([Flag.ACCEPTED] * 5), hostile))
    assert not set(out.getvalue()) & {"\x1b", "\x07", "\x9b", "\u202e"}


def test_the_state_of_a_token_is_readable_without_colour() -> None:
    new, noise, pinned = (
        canvas_text(frame([flags], 3.0), [b"x"]).spans[0].style
        for flags in (Flag.ACCEPTED | Flag.CHANGED, Flag.RENOISED, Flag.PINNED)
    )
    assert (new.bold, new.dim, new.reverse) == (True, None, None)
    assert (noise.bold, noise.dim, noise.reverse) == (None, True, None)
    assert (pinned.bold, pinned.dim, pinned.reverse) == (None, None, True)


def test_the_line_above_says_where_the_run_is() -> None:
    line = status_line(frame([Flag.ACCEPTED]), 4711)
    assert line == "block 1 · step 9/48 · 100% settled · mean entropy 0.00 · t 0.71 · seed 4711"


def test_a_terminal_that_became_smaller_shows_the_end_of_the_canvas(monkeypatch: pytest.MonkeyPatch) -> None:
    console = Console(file=io.StringIO(), force_terminal=True, color_system=None, width=40, height=40)
    monkeypatch.setattr(live, "stderr_console", lambda: console)
    ended: Future[None] = Future()
    run = SimpleNamespace(log=[frame([Flag.ACCEPTED] * 20)], ended=ended, job=SimpleNamespace(seed=7))
    drawn: list[int] = []

    def pieces(ids: list[int]) -> list[bytes]:
        drawn.append(console.file.tell())  # where the drawing of this frame begins
        if len(drawn) == 1:
            console.height = 8
            run.log.append(frame([Flag.ACCEPTED] * 20))
        else:
            ended.set_result(None)
        return [f"row{number}\n".encode() for number in ids]

    live.watch(run, pieces)  # type: ignore[arg-type]  # as much of a run as is looked at
    last = console.file.getvalue()[drawn[1] :]  # type: ignore[attr-defined]  # it is a StringIO
    assert "row19" in last and "row5" not in last
