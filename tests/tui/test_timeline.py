"""Bars scaled to the run, and the playhead always in sight."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from runs import frame
from textual.app import App, ComposeResult
from textual.pilot import Pilot

from dgtui.diffusion.events import Flag
from dgtui.tui.theme import Theme
from dgtui.tui.widgets.timeline import BARS, Bar, Timeline, bars_of, height_of

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


def bars(*changed: int, nats: float = 1.0) -> list[Bar]:
    return [Bar(count, nats) for count in changed]


@pytest.mark.parametrize(
    ("changed", "full", "bar"),
    [(0, 8, "▁"), (1, 80, "▂"), (4, 8, "▅"), (7, 8, "█"), (8, 8, "█"), (9, 8, "█"), (0, 0, "▁")],
)
def test_a_bar_is_as_high_as_the_number_of_changed_tokens(changed: int, full: int, bar: str) -> None:
    assert BARS[height_of(changed, full)] == bar


async def test_bars_are_scaled_to_the_run_and_the_first_step_does_not_flatten_them() -> None:
    async with screen() as (app, _):
        app.timeline.show([Bar(256, 1.0, is_first=True), *bars(20, 10, 0)], None)
        assert app.text() == "██▅▁      "


async def test_a_dot_stands_for_each_step_that_may_follow() -> None:
    async with screen() as (app, _):
        app.timeline.show(bars(8), None, 3)
        assert app.text() == "█···      "
        app.timeline.show(bars(8), None, 30)
        assert app.text() == "█·········"
        app.timeline.show(bars(8), None)
        assert app.text() == "█         "


async def test_the_bar_under_the_playhead_is_reversed_and_no_hole() -> None:
    async with screen() as (app, _):
        app.timeline.show(bars(8, 6, 0), 0)
        assert app.text() == "▇▇▁       "
        assert app.reversed() == [0]
        app.timeline.show(bars(8, 6, 0), 2)
        assert app.reversed() == [2]
        app.timeline.show(bars(8, 6, 0), None)
        assert app.reversed() == []


async def test_bars_have_the_colours_of_the_ramp_and_amended_ones_are_underlined() -> None:
    async with screen() as (app, _):
        app.timeline.show([Bar(8, 3.0), Bar(8, 0.0, is_amended=True)], None)
        drawn = [segment.style for segment in app.timeline.render_line(0) if segment.style][:2]
        assert [style.color.name for style in drawn if style.color] == [LOOK.ramp(3.0), LOOK.ramp(0.0)]
        assert [bool(style.underline) for style in drawn] == [False, True]


async def test_more_steps_than_cells_scroll_with_the_playhead() -> None:
    async with screen() as (app, _):
        values = bars(*[8] * 20, *[0] * 5)
        app.timeline.show(values, None, 5)
        assert app.text() == "█████▁▁▁▁▁"
        for playhead, cell in ((15, 0), (14, 0), (20, 6), (24, 9), (0, 0), (9, 9)):
            app.timeline.show(values, playhead)
            app.text()
            assert app.reversed() == [cell], playhead


async def test_a_click_picks_a_step_and_beside_the_bars_none() -> None:
    async with screen() as (app, pilot):
        app.timeline.show(bars(8, 8, 8), None)
        await pilot.click(Timeline, offset=(1, 0))
        await pilot.click(Timeline, offset=(5, 0))
        app.timeline.show(bars(*[8] * 25), 24)
        await pilot.pause()
        await pilot.click(Timeline, offset=(0, 0))
        assert app.picked == [1, 15]


async def test_without_values_there_are_no_bars() -> None:
    async with screen() as (app, _):
        app.timeline.show([], None)
        assert app.text() == " " * 10


def test_bars_count_what_each_step_changed() -> None:
    changed, accepted, pinned = Flag.CHANGED, Flag.ACCEPTED, Flag.PINNED
    frames = [
        frame(0.1, 1, [1, 2, 3, 4], [accepted, accepted, pinned, accepted]),
        frame(0.2, 2, [5, 2, 3, 4], [changed | accepted, 0, pinned, 0]),
    ]
    assert bars_of(frames, {(0, 1)}) == [Bar(3, 0.4, is_first=True), Bar(1, 0.4, is_amended=True)]
