"""The speed of the loaded model, measured from the chat."""

from drawn import is_safe, text
from test_chat_screen import chat
from textual.widgets import Static

from dgtui.tui.screens.speed import Closed, Speed


async def test_the_figures_are_shown_when_they_are_there_and_drive_nothing() -> None:
    async with chat() as seen:
        await seen.say("/bench")
        assert isinstance(seen.app.screen, Speed)
        await seen.until(lambda: seen.backend.benches, "the figures")
        await seen.pilot.pause()
        assert "1.00 ms" in text(seen.app) and "dgtui [/]" in text(seen.app) and is_safe(seen.app)


async def test_closing_it_ends_the_measurement() -> None:
    async with chat(hold_steps=True) as seen:
        await seen.say("/bench")
        screen = seen.app.screen
        assert isinstance(screen, Speed)
        await seen.until(lambda: "pair 0" in str(screen.query_one(Static).content), "a first run")
        await seen.pilot.press("escape")
        await seen.until(lambda: not screen.is_attached, "the screen to be gone")
        await seen.pilot.pause()
        seen.backend.step_gate.open()
        await seen.until(lambda: seen.backend.benches, "the end")
        assert isinstance(seen.backend.benches[0].exception(), Closed)
        assert await seen.reply()


async def test_it_waits_for_no_reply_and_no_model() -> None:
    async with chat(hold_steps=True) as seen:
        await seen.say("tell me")
        await seen.until(lambda: seen.steering.running, "a run")
        await seen.say("/bench")
        await seen.pilot.pause()
        assert seen.screen.prompt.text == "/bench", "what was refused stays to be corrected"
        assert not seen.backend.benches
