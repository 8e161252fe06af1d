"""A paste is text, whatever bytes are in it and however they arrive; keys are what they were."""

import itertools

import pytest
from drawn import until
from textual import events, timer
from textual.app import App

from dgtui.tui.textual_patches import PasteSafeParser, patch_timers

PASTE = "\x1b[200~one \x1b[31mred\rtwo \x1b[20 \x1b\x1b[A\x1b[201~"


def told(*chunks: str) -> list[str]:
    """What the app hears: keys by name, pastes as they are."""
    parser = PasteSafeParser()
    tokens = [token for chunk in (*chunks, "") for token in parser.feed(chunk)]
    return [
        t.text if isinstance(t, events.Paste) else t.key for t in tokens if isinstance(t, events.Paste | events.Key)
    ]


def test_escape_bytes_in_a_paste_are_text() -> None:
    pasted = "one \u241b[31mred\rtwo \u241b[20 \u241b\u241b[A"
    assert told("a" + PASTE + "\x1b[A" + "b") == ["a", pasted, "up", "b"]
    assert told(PASTE + PASTE) == [pasted, pasted]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7])
def test_a_paste_may_arrive_in_pieces(size: int) -> None:
    rest = PASTE.removeprefix("\x1b[200~") + "\x1b[Bx"
    chunks = [rest[at : at + size] for at in range(0, len(rest), size)]
    assert told("\x1b[200~", *chunks) == ["one \u241b[31mred\rtwo \u241b[20 \u241b\u241b[A", "down", "x"]


def test_keys_pass_as_they_are() -> None:
    assert told("\x1b[A", "\x1b[1;5C", "\r", "é") == ["up", "ctrl+right", "enter", "é"]


@pytest.mark.parametrize(
    "chunks",
    [
        ("one\rtwo\r",),
        ("one\rtwo", "\r"),
        ("one\r", "\x1b[A", "two\rthree\r"),
        ("x" * 5000, "\r"),
        ("hello\r",),
    ],
)
def test_an_enter_that_arrives_with_other_text_is_pasted(chunks: tuple[str, ...]) -> None:
    assert "enter" not in told(*chunks)


def test_what_is_typed_ahead_is_sent_where_the_terminal_marks_its_pastes() -> None:
    assert told("\x1b[?2026;2$y", "hello\r") == [*"hello", "enter"]
    assert told("\x1b[?2026;2$y", "one\rtwo\r") == ["one\rtwo\r"]


def test_held_and_fast_keys_stay_keys() -> None:
    assert told("jjjj", "\r\r", "\t", "k") == [*"jjjj", "enter", "enter", "tab", "k"]


async def test_a_timer_that_starts_late_fires(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second passes whenever it looks at the clock: its delay is over before it begins to wait."""
    patch_timers()
    fired: list[bool] = []
    async with App[None]().run_test() as pilot:
        clock = itertools.count(1)
        monkeypatch.setattr(timer._time, "get_time", lambda: float(next(clock)))
        pilot.app.set_timer(0.001, lambda: fired.append(True))
        await until(lambda: bool(fired))
    assert fired == [True]
