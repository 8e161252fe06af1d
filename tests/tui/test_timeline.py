"""Bars of a fixed scale, and the playhead always in sight."""

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from textual.app import App, ComposeResult
from textual.pilot import Pilot

from dgtui.tui.theme import Theme
from dgtui.tui.widgets.timeline import BARS, Timeline, height_of

LOOK = Theme("test", True, {"primary": "#7aa2f7"}, ("#c0caf5", "#f7768e")).look()


class Screen(App[None]):
    def __init__(self) -> None:
        super().__init__()
        self.picked: list[int] = []

    def compose(self) -> ComposeResult:
        yield Timeline()

    @property
    def timeline(self) -> Timeline:
        return self.query_one(Timeline)

    def on_mount(self) -> None:
        self.timeline.look = LOOK

    def on_timeline_picked(self, message: Timeline.Picked) -> None:
        self.picked.append(message.step)

    def text(self) -> str:
        return self.timeline.render_line(0).text

    def reversed(self) -> list[int]:
        """The cells that are drawn reversed."""
        cells, at = [], 0
        for segment in self.timeline.render_line(0):
            cells += [at + i for i in range(len(segment.text)) if segment.style and segment.style.reverse]
            at += len(segment.text)
        return cells


@asynccontextmanager
async def screen(width: int = 10) -> AsyncIterator[tuple[Screen, Pilot[None]]]:
    app = Screen()
    async with app.run_test(size=(width, 3)) as pilot:
        await pilot.pause()
        yield app, pilot


@pytest.mark.parametrize(
    ("nats", "full", "bar"),
    [(0.0, 3, "▁"), (0.3, 3, "▁"), (1.5, 3, "▅"), (2.9, 3, "█"), (3.0, 3, "█"), (9.0, 3, "█"), (-1.0, 3, "▁"),
     (math.nan, 3, "█"), (math.inf, 3, "█"), (3.0, 6, "▅")],
)  # fmt: skip
def test_a_bar_is_as_high_as_the_entropy(nats: float, full: float, bar: str) -> None:
    assert BARS[height_of(nats, full)] == bar


async def test_the_scale_is_that_of_the_first_step_and_does_not_change() -> None:
    async with screen() as (app, _):
        app.timeline.show([6.0, 3.0], None, False)
        assert app.text() == "█▅        "
        app.timeline.show([6.0, 3.0, 0.0], None, False)
        assert app.text() == "█▅▁       "
        app.timeline.show([0.5], None, False)
        assert app.text() == "▂         "


async def test_dots_stand_for_what_is_to_come() -> None:
    async with screen() as (app, _):
        app.timeline.show([], None, True)
        assert app.text() == "·" * 10
        app.timeline.show([3.0], None, True)
        assert app.text() == "█·········"
        app.timeline.show([3.0], None, False)
        assert app.text() == "█         "


async def test_the_bar_under_the_playhead_is_reversed_and_no_hole() -> None:
    async with screen() as (app, _):
        app.timeline.show([3.0, 2.0, 0.1], 0, False)
        assert app.text() == "▇▆▁       "
        assert app.reversed() == [0]
        app.timeline.show([3.0, 2.0, 0.1], 2, False)
        assert app.reversed() == [2]
        app.timeline.show([3.0, 2.0, 0.1], None, False)
        assert app.reversed() == []


async def test_bars_have_the_colours_of_the_ramp() -> None:
    async with screen() as (app, _):
        app.timeline.show([3.0, 0.0], None, False)
        drawn = [segment.style.color for segment in app.timeline.render_line(0) if segment.style]
        assert [color.name for color in drawn[:2] if color] == [LOOK.ramp(3.0), LOOK.ramp(0.0)]


async def test_more_steps_than_cells_scroll_with_the_playhead() -> None:
    async with screen() as (app, _):
        values = [3.0] * 20 + [0.0] * 5
        app.timeline.show(values, None, True)
        assert app.text() == "█████▁▁▁▁▁"
        for playhead, cell in ((15, 0), (14, 0), (20, 6), (24, 9), (0, 0), (9, 9)):
            app.timeline.show(values, playhead, False)
            app.text()
            assert app.reversed() == [cell], playhead


async def test_a_click_picks_a_step_and_beside_the_bars_none() -> None:
    async with screen() as (app, pilot):
        app.timeline.show([3.0] * 3, None, False)
        await pilot.click(Timeline, offset=(1, 0))
        await pilot.click(Timeline, offset=(5, 0))
        app.timeline.show([3.0] * 25, 24, False)
        await pilot.pause()
        await pilot.click(Timeline, offset=(0, 0))
        assert app.picked == [1, 15]


async def test_without_values_there_are_no_bars() -> None:
    async with screen() as (app, _):
        app.timeline.show([], None, False)
        assert app.text() == " " * 10
