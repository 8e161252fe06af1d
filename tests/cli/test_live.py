"""The canvas as a headless command draws it."""

import io
from collections.abc import Sequence
from concurrent.futures import Future
from types import SimpleNamespace

import numpy as np
import pytest
from recorded import run as made
from rich.console import Console

from dgtui.cli import live
from dgtui.cli.live import canvas_text
from dgtui.diffusion.events import Flag
from dgtui.diffusion.log import RunLog
from dgtui.tui.frames import View
from dgtui.tui.theme_file import load_themes, theme_folders

LOOK = load_themes(theme_folders())[0]["terminal"].look()


def view(pieces: list[bytes], flag: Flag, *, settled: bool = True, entropy: float = 0.0) -> View:
    n = len(pieces)
    return View(
        tuple(pieces), np.full(n, entropy, np.float32), np.full(n, flag, np.uint8), np.full(n, settled, np.bool_), n
    )


def test_noise_that_is_blank_is_one_sign_and_breaks_no_line() -> None:
    pieces = [b"a", b"\n    ", b" ", b"b\nc"]
    assert canvas_text(view(pieces, Flag.RENOISED, settled=False), LOOK).plain == "a··b⏎c"
    assert canvas_text(view(pieces, Flag.ACCEPTED), LOOK).plain == "a\n     b\nc"


def test_a_character_split_over_tokens_is_shown_whole() -> None:
    assert canvas_text(view([b"\xe2", b"\x82", b"\xac"], Flag.ACCEPTED), LOOK).plain == "€"


def test_bytes_that_are_no_text_are_shown_and_none_is_an_escape() -> None:
    hostile = [b"\x1b]52;c;aGk=\x07", b"\xff\xfe\xff\xff", b"\x1b[2J", b"\xc2\x9b31m", "\u202e".encode()]
    out = io.StringIO()
    Console(file=out, color_system=None, width=200).print(canvas_text(view(hostile, Flag.ACCEPTED), LOOK))
    assert not set(out.getvalue()) & {"\x1b", "\x07", "\x9b", "\u202e"}


def test_the_state_of_a_token_is_readable_without_colour() -> None:
    def style(flag: Flag) -> object:
        return canvas_text(view([b"x"], flag, settled=False, entropy=3.0), LOOK.theme.look(color=False)).spans[0].style

    new, noise, pinned = style(Flag.ACCEPTED | Flag.CHANGED), style(Flag.RENOISED), style(Flag.PINNED)
    assert (new.bold, new.dim, new.reverse) == (True, None, None)  # type: ignore[attr-defined]
    assert (noise.bold, noise.dim, noise.reverse) == (None, True, None)  # type: ignore[attr-defined]
    assert (pinned.bold, pinned.dim, pinned.reverse) == (None, None, True)  # type: ignore[attr-defined]


def test_what_follows_the_end_of_the_reply_is_not_shown() -> None:
    whole = view([b"a", b"b", b"c"], Flag.ACCEPTED)
    assert canvas_text(View(whole.pieces, whole.entropy, whole.flags, whole.settled, 2), LOOK).plain == "ab"


def test_a_terminal_that_became_smaller_shows_the_end_of_the_canvas(monkeypatch: pytest.MonkeyPatch) -> None:
    console = Console(file=io.StringIO(), force_terminal=True, color_system=None, width=40, height=40)
    monkeypatch.setattr(live, "stderr_console", lambda: console)
    ended: Future[None] = Future()
    whole = made()
    log = RunLog(whole.job, list(whole)[:2])
    run = SimpleNamespace(log=log, ended=ended, job=whole.job)
    drawn: list[int] = []

    def pieces(ids: Sequence[int]) -> list[bytes]:
        drawn.append(console.file.tell())  # where the drawing of this frame begins
        if len(drawn) == 1:
            console.height = 8
            log.append(whole[2])
        else:
            ended.set_result(None)
        return [f"row{number}|\nmore|\n".encode() for number in range(len(ids))]

    live.watch(run, pieces, frozenset())  # type: ignore[arg-type]  # as much of a run as is looked at
    last = console.file.getvalue()[drawn[1] :]  # type: ignore[attr-defined]  # it is a StringIO
    assert "row11|" in last and "row1|" not in last
    assert "block 1 · step 2/8 · " in last
