"""The tour plays by itself."""

import time

import drawn

from dgtui.config import Settings
from dgtui.tui.screens.tour import FOLDER, STOPS, TourApp, TourScreen
from dgtui.tui.theme_file import theme_folders


async def test_every_recording_plays_to_its_end_with_words_about_it() -> None:
    app = TourApp(Settings(), theme_folders=theme_folders())
    async with app.run_test(size=(100, 30)) as pilot:
        screen = app.screen
        assert isinstance(screen, TourScreen)
        now = [time.monotonic()]
        screen._clock = lambda: now[0]
        for number, (_, words) in enumerate(STOPS):
            await drawn.until(lambda words=words: words[:30] in drawn.text(app))
            assert screen.playing and screen.at == 0 and screen.stop == number
            now[0] += 3600
            screen._tick()
            assert screen.at == len(screen.recorded) - 1 and len(screen.recorded) > 1
            await pilot.press("enter")
        assert screen.stop == 0


def test_the_recordings_are_small() -> None:
    assert sum((FOLDER / f"{name}.dgtui").stat().st_size for name, _ in STOPS) < 250_000
