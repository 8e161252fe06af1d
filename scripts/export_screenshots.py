"""Makes the pictures in `screenshots/`: the real program, the embedded model, fixed seeds.

PYTHONPATH=. python scripts/export_screenshots.py
"""

import asyncio
import os
import re
from collections.abc import Callable
from pathlib import Path

os.environ["TEXTUAL_COLOR_SYSTEM"] = "truecolor"  # read when textual is imported

from textual.pilot import Pilot

from dgtui.cli.backend import WorkerBackend
from dgtui.config import Settings
from dgtui.session.store import Store
from dgtui.tui.app import DgtuiApp
from dgtui.tui.screens.chat import ChatScreen, Opening
from dgtui.tui.theme_file import theme_folders

OUT = Path(__file__).resolve().parent.parent / "screenshots"
ASK = "Tell me a short story about Mira the fox and Ben."
SEED = 7


class Camera:
    """The running app, driven by its keys."""

    def __init__(self, app: DgtuiApp, pilot: Pilot[None]) -> None:
        self.app, self.pilot = app, pilot

    @property
    def chat(self) -> ChatScreen:
        return next(s for s in self.app.screen_stack if isinstance(s, ChatScreen))

    async def until(self, holds: Callable[[], object]) -> None:
        while not holds():
            await self.pilot.pause(0.02)
        await self.pilot.pause(0.1)

    async def press(self, *keys: str) -> None:
        self.chat.panel.canvas.focus()
        await self.pilot.pause()
        await self.pilot.press(*keys)
        await self.pilot.pause(0.1)

    async def shoot(self, name: str) -> None:
        self.app.clear_notifications()
        await self.pilot.pause(0.3)
        svg = self.app.export_screenshot(title="dgtui")
        # No web fonts: the picture loads nothing
        svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
        (OUT / f"{name}.svg").write_text(re.sub(r"[ \t]+\n", "\n", svg), encoding="utf-8")

    async def say(self, text: str, hold: bool = False) -> None:
        """Sends a message; `hold` pauses its run before the first step."""
        panel = self.chat.panel
        submit = panel.backend.submit

        def held(job: object, sink: object) -> object:
            run = submit(job, sink)  # type: ignore[arg-type]
            run.control.pause()
            return run

        panel.backend.submit = held if hold else submit  # type: ignore[method-assign,assignment]
        self.chat.send(text)
        panel.backend.submit = submit  # type: ignore[method-assign]
        await self.pilot.pause()

    async def steps(self, count: int) -> None:
        """Lets a held run take steps."""
        version = self.chat.panel.version
        assert version is not None
        for _ in range(count):
            before = len(version.frames())
            if not version.running:
                break
            version.run.control.step()
            await self.until(lambda before=before: len(version.frames()) > before or not version.running)


async def photograph() -> None:
    backend = WorkerBackend(Settings())
    app = DgtuiApp(backend, Store(None), Settings(), Opening("embedded", seed=SEED), theme_folders=theme_folders())
    async with app.run_test(size=(100, 30)) as pilot:
        camera = Camera(app, pilot)
        await camera.until(lambda: backend.facts is not None)
        panel = camera.chat.panel

        await camera.say("Turn this sentence into JSON: Olga bought 12 green kites.")
        await camera.until(lambda: panel.version and not panel.running)
        await camera.say(ASK, hold=True)
        await camera.press()
        await camera.steps(36)
        await camera.shoot("canvas")
        for theme in sorted(app._themes):
            app.theme = theme
            await camera.shoot(f"theme-{theme}")
        app.theme = "midnight"
        panel.version.run.control.resume()
        await camera.until(lambda: not panel.running)

        words = panel.canvas.cursor
        panel.canvas.select(words + 14, words + 30)
        submit = backend.submit

        def held(job: object, sink: object) -> object:
            run = submit(job, sink)  # type: ignore[arg-type]
            run.control.pause()
            return run

        backend.submit = held  # type: ignore[method-assign,assignment]
        await camera.press("r")
        backend.submit = submit  # type: ignore[method-assign]
        await camera.steps(2)
        await camera.shoot("re-diffuse")
        panel.version.run.control.resume()
        await camera.until(lambda: not panel.running)

        panel.canvas.select(20, 21)
        await camera.press("a")
        await camera.shoot("alternatives")
        await pilot.press("escape")
        await camera.press("u", "left_curly_bracket", "right_square_bracket", "right_square_bracket")
        await camera.shoot("timeline")
    backend.close()


def main() -> None:
    OUT.mkdir(exist_ok=True)
    asyncio.run(photograph())


if __name__ == "__main__":
    main()
