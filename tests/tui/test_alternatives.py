"""Alternatives of a token: what is shown of them, where, and how one is picked."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
from drawn import HOSTILE, is_safe, rows, text
from textual.app import App, ComposeResult
from textual.geometry import Offset
from textual.pilot import Pilot
from textual.widgets import Static

from dgtui.tui.widgets.alternatives import Alternatives, AlternativesList, visible

CHOICES = [(5, b" cuts into", 0.712), (6, b" eats", 0.149), (7, b"\n\n", 0.06), (106, b"", 0.01), (9, b"  ", 0.0001)]


class Screen(App[None]):
    def compose(self) -> ComposeResult:
        yield Static("below " * 400)


@asynccontextmanager
async def opened(
    choices: Sequence[tuple[int, bytes, float]] = CHOICES,
    at: Offset | None = None,
    size: tuple[int, int] = (80, 24),
    held: int | None = None,
) -> AsyncIterator[tuple[Screen, Pilot[None], list[tuple[int, int] | None]]]:
    app = Screen()
    answers: list[tuple[int, int] | None] = []
    async with app.run_test(size=size) as pilot:
        app.push_screen(Alternatives(12, choices, at, names={106: "<turn|>"}, current=held), answers.append)
        await pilot.pause()
        await pilot.pause()
        yield app, pilot, answers


def test_what_cannot_be_seen_is_shown() -> None:
    assert visible(b" cuts into", 1) == "␣cuts into"
    assert visible(b"\n\n", 1) == "⏎⏎"
    assert visible(b"   ", 1) == "␣␣␣"
    assert visible(b"a ", 1) == "a␣"
    assert visible(b"\t", 1) == "␉"
    assert visible(b"", 106) == "token 106"
    assert visible(b"", 106, "<turn|>") == "<turn|>"
    assert visible(b"\xe2\x82", 1) == "�"
    assert visible(b"\x1b[2J", 1) == "␛[2J"


async def test_rows_show_token_probability_and_bar() -> None:
    async with opened() as (app, _pilot, _):
        assert "▸1 ␣cuts into   71.2% ███████" in text(app)
        assert " 2 ␣eats        14.9% █▌" in text(app)
        assert "<turn|>" in text(app) and "<0.1%" in text(app)


@pytest.mark.parametrize(
    ("keys", "token"),
    [(["enter"], 5), (["down", "enter"], 6), (["up", "enter"], 9), (["3"], 7), (["9", "enter"], 5)],
)
async def test_enter_picks_what_up_and_down_marked_and_a_digit_picks_at_once(keys: list[str], token: int) -> None:
    async with opened() as (_app, pilot, answers):
        await pilot.press(*keys)
        assert answers == [(12, token)]


async def test_escape_leaves_the_token() -> None:
    async with opened() as (_app, pilot, answers):
        await pilot.press("down", "escape")
        assert answers == [None]


async def test_the_token_that_is_there_is_marked_first() -> None:
    async with opened(held=6) as (_app, pilot, answers):
        await pilot.press("enter")
        assert answers == [(12, 6)]


async def test_a_click_picks_a_row_and_a_click_beside_it_closes() -> None:
    async with opened(at=Offset(10, 5)) as (_, pilot, answers):
        await pilot.click(AlternativesList, offset=(6, 2))
        assert answers == [(12, 6)]
    async with opened(at=Offset(10, 5)) as (_app, pilot, answers):
        await pilot.click(offset=(70, 20))
        assert answers == [None]


@pytest.mark.parametrize("size", [(80, 24), (100, 30), (60, 16)])
async def test_it_opens_at_the_cursor_and_stays_on_the_screen(size: tuple[int, int]) -> None:
    width, height = size
    for at in (Offset(10, 3), Offset(width - 2, 3), Offset(10, height - 2), Offset(0, 0), Offset(width, height)):
        async with opened(at=at, size=size) as (app, _pilot, _):
            region = app.screen.query_one(AlternativesList).region
            assert app.screen.region.contains_region(region), at
            assert at.y < region.y or at.y >= region.bottom, "it hides the token"
            if at == Offset(10, 3):
                assert (region.x, region.y) == (10, 4)


async def test_more_rows_than_fit_scroll() -> None:
    many = [(number, f" word{number}".encode(), 0.01) for number in range(60)]
    async with opened(many, size=(60, 16)) as (app, pilot, answers):
        await pilot.press(*["down"] * 30)
        await pilot.pause()
        assert "▸  ␣word30" in text(app)
        await pilot.press("enter")
        assert answers == [(12, 30)]


async def test_hostile_and_long_tokens_are_harmless() -> None:
    async with opened([(1, HOSTILE.encode("utf-8", "replace"), 0.5), (2, b"x" * 500, 0.5)]) as (app, _pilot, _):
        assert is_safe(app)
        assert all(len(row) <= 80 for row in rows(app))


async def test_without_choices_it_says_so() -> None:
    async with opened([]) as (app, pilot, answers):
        assert "no alternatives" in text(app)
        await pilot.press("down", "enter", "escape")
        assert answers == [None]
