"""The chat screen over a server of text: watched, stopped and stored as ever; what cannot be steered says why."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
from chat_server import serving, words

from dgtui.cli.backend import WorkerBackend
from dgtui.config import load as load_settings
from dgtui.session.store import Store
from dgtui.tui.conversation_controller import Opening
from dgtui.tui.screens.chat import ChatApp
from dgtui.tui.theme_file import theme_folders
from dgtui.tui.widgets.key_line import FooterKey


@pytest.fixture
def no_network() -> None:
    """The servers of these tests are threads of this process."""


async def test_keys_that_steer_are_dimmed_and_say_why() -> None:
    rest = threading.Event()
    with serving([*words("Once there ")[:1], lambda: rest.wait(60), *words("was a fox.")]) as server:
        settings, _ = load_settings(flags={"model.server": server.url, "model.server_mode": "chat"})
        backend, store = WorkerBackend(settings, text=True), Store(None)
        app = ChatApp(backend, store, settings, Opening(), theme_folders=theme_folders())
        async with app.run_test(size=(120, 30)) as pilot:
            screen: Any = app.chat

            async def until(holds: Callable[[], Any]) -> None:
                for _ in range(3000):
                    if holds():
                        return
                    await pilot.pause(0.01)
                raise AssertionError("it never came to pass")

            def noticed(text: str) -> bool:
                return any(text in notice.message for notice in app._notifications)

            await until(lambda: backend.facts)
            await pilot.press("f3")  # a try that pins tokens
            await until(lambda: noticed("text only"))
            assert not server.asked
            screen.prompt.load_text("tell me")
            await pilot.press("enter")
            await until(lambda: "Once there" in screen.panel.steering.selected_text())
            screen.panel.canvas.focus()
            await until(lambda: [key for key in app.screen.query(FooterKey) if key.action == "pin"])
            dimmed = {key.action: key.has_class("-disabled") for key in app.screen.query(FooterKey)}
            assert dimmed["pin"] and dimmed["rediffuse"] and not dimmed["pause"] and not dimmed["stop"]
            app.clear_notifications()
            for key in ("p", "r", "i", "t", "f", "a"):
                await pilot.press(key)
                await until(lambda: noticed("text only"))
                app.clear_notifications()
                await pilot.pause()
            assert screen.panel.steering.running and "text only" in str(screen.panel.steering.states())
            rest.set()
            await until(lambda: screen.conversation.chat.turns[-1].text == "Once there was a fox.")
            assert len(server.asked) == 1
        backend.close()
