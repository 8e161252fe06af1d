"""Settings that are changed on the screen are in the settings file, with its comments."""

import drawn
from test_chat_screen import chat

from dgtui.config import load
from dgtui.paths import config_file
from dgtui.tui.screens.preferences import Preferences


async def test_a_theme_that_is_chosen_is_the_one_of_the_next_start() -> None:
    config_file().parent.mkdir(parents=True)
    config_file().write_text("[screen]\nmax_fps = 20  # slow line\n")
    async with chat(notifications=True) as seen:
        await seen.say("/theme paper")
        await seen.until(lambda: "kept in" in seen.notices(), "the notice")
        assert load(env={})[0].screen.theme == "paper"
        assert "# slow line" in config_file().read_text()


async def test_a_theme_that_cannot_be_kept_says_so_and_is_used() -> None:
    config_file().parent.mkdir(parents=True)
    config_file().write_text("[screen\n")
    async with chat(notifications=True) as seen:
        await seen.say("/theme paper")
        await seen.until(lambda: "not kept" in seen.notices(), "the notice")
        assert seen.app.theme == "paper" and config_file().read_text() == "[screen\n"


async def test_a_start_writes_no_settings() -> None:
    async with chat() as seen:
        await seen.reply()
        assert not config_file().exists()


async def test_settings_are_shown_changed_and_restored() -> None:
    async with chat(notifications=True) as seen:
        await seen.say("/settings")
        await seen.until(lambda: isinstance(seen.app.screen, Preferences), "the settings")
        screen = seen.app.screen
        assert isinstance(screen, Preferences)
        screen.choices.highlighted = screen.choices.get_option_index("screen.max_fps")
        await seen.pilot.press("enter", *"25", "enter")
        await seen.until(lambda: load(env={})[0].screen.max_fps == 25, "the file")
        await seen.until(lambda: any("max_fps" in row and "25" in row for row in drawn.rows(seen.app)), "the value")
        await seen.pilot.press("enter", *"999", "enter")
        await seen.until(lambda: "from 1 to 120" in seen.notices(), "the refusal")
        await seen.until(lambda: screen.question.has_focus and screen.question.value == "999", "the refused answer")
        await seen.pilot.press("escape", "delete")
        await seen.until(lambda: load(env={})[0].screen.max_fps == 30, "the default")
        await seen.pilot.press("escape")
        assert not isinstance(seen.app.screen, Preferences)
