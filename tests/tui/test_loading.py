"""The load of a model as it is told: what is known, ticking where nothing is, and errors that stay."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from drawn import HOSTILE, is_safe, rows, text, until
from textual.app import App, ComposeResult
from textual.pilot import Pilot

from dgtui.tui.widgets.loading import Loading


class Screen(App[None]):
    def __init__(self) -> None:
        super().__init__()
        self.now = 100.0

    def compose(self) -> ComposeResult:
        yield Loading(clock=lambda: self.now)

    @property
    def loading(self) -> Loading:
        return self.query_one(Loading)


@asynccontextmanager
async def screen(width: int = 80) -> AsyncIterator[tuple[Screen, Pilot[None]]]:
    app = Screen()
    async with app.run_test(size=(width, 10)) as pilot:
        yield app, pilot


async def test_nothing_is_shown_while_nothing_loads() -> None:
    async with screen() as (app, pilot):
        assert text(app).strip() == ""
        app.loading.start("embedded")
        app.loading.finish()
        await pilot.pause()
        assert text(app).strip() == ""


async def test_seconds_tick_where_no_bytes_are_known() -> None:
    async with screen() as (app, _pilot):
        app.loading.start("embedded")
        app.loading.progress("importing torch", 0, 0)
        app.now += 2.1
        await until(lambda: "Loading embedded   importing torch · 2.1 s" in text(app))
        app.now += 100
        await until(lambda: "1 min 42 s" in text(app))


async def test_bytes_rate_and_time_left_are_told() -> None:
    async with screen() as (app, pilot):
        app.loading.start("diffusiongemma-26B-A4B-it")
        for second in range(6):
            app.loading.progress("reading", int((20 + 2 * second) * 1e9), int(51.6e9))
            app.now += 1 if second < 5 else 0
        await pilot.pause()
        assert "28.9" not in text(app)
        assert "30.0 of 51.6 GB · 2.0 GB/s · 11 s left" in text(app)
        assert "▓" in text(app) and "░" in text(app)


async def test_no_rate_is_told_before_it_is_known_and_none_is_left_at_the_end() -> None:
    async with screen() as (app, pilot):
        app.loading.start("m")
        app.loading.progress("reading", 0, 10_000_000)
        await pilot.pause()
        assert "0 of 10 MB" in text(app) and "/s" not in text(app)
        app.now += 2
        app.loading.progress("reading", 10_000_000, 10_000_000)
        await pilot.pause()
        assert "10 of 10 MB" in text(app) and "left" not in text(app)


async def test_another_stage_begins_a_rate_of_its_own() -> None:
    async with screen() as (app, pilot):
        app.loading.start("m")
        app.loading.progress("reading", 0, 10**9)
        app.now += 2
        app.loading.progress("reading", 10**9, 10**9)
        app.loading.progress("moving", 0, 10**9)
        await pilot.pause()
        assert "/s" not in text(app)


async def test_an_error_stays_with_its_hint_until_the_next_load() -> None:
    async with screen() as (app, pilot):
        app.loading.start("m")
        app.loading.fail("the file is cut short", "fetch it again")
        app.now += 60
        await pilot.pause()
        assert "✗ m was not loaded: the file is cut short" in text(app)
        assert "fetch it again" in text(app)
        app.loading.start("other")
        await pilot.pause()
        assert "cut short" not in text(app)


@pytest.mark.parametrize("width", [40, 60, 80, 200])
async def test_it_takes_two_lines_at_any_width_and_any_text(width: int) -> None:
    async with screen(width) as (app, pilot):
        app.loading.start("name " * 30 + HOSTILE)
        for _ in range(3):
            app.loading.progress(HOSTILE * 3, 30 * 10**9, 51 * 10**9)
            app.now += 1
        await pilot.pause()
        assert app.loading.size.height == 2
        assert is_safe(app)
        assert "3.0 s" in rows(app)[0]
        app.loading.fail(HOSTILE, HOSTILE)
        await pilot.pause()
        assert is_safe(app)
