"""Creates the pictures in `screenshots/` with the real program, the embedded model and fixed seeds.

PYTHONPATH=. python scripts/export_screenshots.py
"""

import asyncio
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

os.environ["TEXTUAL_COLOR_SYSTEM"] = "truecolor"  # read when textual is imported

from textual.pilot import Pilot

from dgtui.backend import RunHandle
from dgtui.cli import main as dgtui
from dgtui.cli.backend import WorkerBackend
from dgtui.config import Settings
from dgtui.diffusion.job import Job
from dgtui.document.open_file import OpenFile
from dgtui.session.store import Store
from dgtui.tui.app import BaseApp
from dgtui.tui.opening import Opening
from dgtui.tui.screens.chat import ChatApp, ChatScreen
from dgtui.tui.screens.edit import EditApp, EditOpening
from dgtui.tui.theme_file import theme_folders

OUT = Path(__file__).resolve().parent.parent / "screenshots"
ASK = "Tell me a short story about Mira the fox and Ben."
SEED = 7
STEPS = 4
"""Number of steps after which words still change."""
TALE = """# Clara and Tom

*Written while the kettle boiled.*

Clara and Tom found a kite at the edge of the road, and nobody came to claim it.
"I saw it first," said Clara, and "I touched it first," said Tom. Then it
rained, and they both ran out to carry the kite under a roof. On Sundays they
had it together.

- [ ] draw the kite
- [x] ask `dgtui` for another ending
"""
SPAN = "Then it\nrained, and they both ran out to carry the kite under a roof."


class Camera:
    """Drives the running app with keys and takes pictures."""

    def __init__(self, app: BaseApp, backend: WorkerBackend, pilot: Pilot[None]) -> None:
        self.app, self.backend, self.pilot = app, backend, pilot

    @property
    def chat(self) -> ChatScreen:
        return next(s for s in self.app.screen_stack if isinstance(s, ChatScreen))

    async def until(self, holds: Callable[[], object]) -> None:
        while not holds():
            await self.pilot.pause(0.02)
        await self.pilot.pause(0.1)

    async def press(self, *keys: str) -> None:
        self.chat.panel.open()
        await self.pilot.pause()
        await self.pilot.press(*keys)
        await self.pilot.pause(0.1)

    async def shoot(self, name: str, folder: Path = OUT) -> None:
        self.app.clear_notifications()
        await self.pilot.pause(0.3)
        svg = self.app.export_screenshot(title="dgtui")
        # No web fonts: the picture loads nothing
        svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
        (folder / f"{name}.svg").write_text(re.sub(r"[ \t]+\n", "\n", svg), encoding="utf-8")

    @contextmanager
    def held(self) -> Iterator[list[RunHandle]]:
        """Pauses runs that are submitted inside the block before their first step, and lists them."""
        submit, runs = self.backend.submit, []

        def held(job: Job, sink: Callable[[RunHandle, int], None]) -> RunHandle:
            runs.append(submit(job, sink))
            runs[-1].control.pause()
            return runs[-1]

        self.backend.submit = held  # type: ignore[method-assign,assignment]
        yield runs
        self.backend.submit = submit  # type: ignore[method-assign]

    async def steps(self, run: RunHandle, count: int) -> None:
        """Lets a paused run take `count` steps."""
        for _ in range(count):
            before = len(run.log)
            run.control.step()
            await self.until(lambda before=before: len(run.log) > before or run.ended.done())


async def photograph_chat(backend: WorkerBackend) -> None:
    app = ChatApp(backend, Store(None), Settings(), Opening("embedded", seed=SEED), theme_folders=theme_folders())
    async with app.run_test(size=(100, 30)) as pilot:
        camera = Camera(app, backend, pilot)
        await camera.until(lambda: backend.facts is not None)
        panel = camera.chat.panel

        camera.chat.send("Turn this sentence into JSON: Olga bought 12 green kites.")
        await camera.until(lambda: panel.steering.version and not panel.steering.running)
        with camera.held() as runs:
            camera.chat.send(ASK)
        await camera.press()
        await camera.steps(runs[0], STEPS)
        await camera.shoot("canvas")
        unsure = int(runs[0].log.frames()[-1].entropy.argmax())
        panel.canvas.select(unsure, unsure + 1)
        await camera.press("a")
        await camera.shoot("alternatives")
        await pilot.press("escape")
        for theme in sorted(app._themes):
            app.theme = theme
            await camera.shoot(f"theme-{theme}")
        app.theme = "midnight"
        runs[0].control.resume()
        await camera.until(lambda: not panel.steering.running)

        words = panel.canvas.cursor
        panel.canvas.select(words + 14, words + 30)
        with camera.held() as runs:
            await camera.press("r")
        await camera.steps(runs[0], 2)
        await camera.shoot("re-diffuse")
        runs[0].control.resume()
        await camera.until(lambda: not panel.steering.running)

        await camera.press("u", "left_curly_bracket", "right_square_bracket", "right_square_bracket")
        await camera.shoot("timeline")


async def photograph_edit(backend: WorkerBackend, folder: Path) -> None:
    path = folder / "tale.md"
    path.write_text(TALE, encoding="utf-8")
    app = EditApp(
        backend, OpenFile(path), Settings(), EditOpening("embedded", seed=SEED), theme_folders=theme_folders()
    )
    async with app.run_test(size=(100, 24)) as pilot:
        camera = Camera(app, backend, pilot)
        await camera.until(lambda: backend.facts is not None)
        start = TALE.index(SPAN)
        app.edit.editor.select(start, start + len(SPAN))
        with camera.held() as runs:
            await pilot.press("ctrl+r")
            await camera.until(lambda: runs)
            runs[0].control.resume()  # tries the lengths
            await camera.until(lambda: len(runs) > 1)
        await camera.steps(runs[1], 3)
        await camera.shoot("edit")
        runs[1].control.resume()
        await camera.until(lambda: app.edit.proposals.position)
        await camera.shoot("review")


def animate_story(folder: Path) -> None:
    """The animation of README.md."""
    recording, picture = folder / "story.dgtui", OUT / "story.svg"
    commands = [
        ["generate", ASK, "--seed", str(SEED), "--record", recording],
        ["replay", recording, "--export", picture, "--animate", "--width", "84", "--force"],
    ]
    for command in commands:
        if code := dgtui([str(argument) for argument in command]):
            raise SystemExit(code)


def main() -> None:
    OUT.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name, closing(WorkerBackend(Settings())) as backend:
        os.environ["XDG_STATE_HOME"] = name
        os.chdir(name)
        asyncio.run(photograph_chat(backend))
        asyncio.run(photograph_edit(backend, Path()))
        animate_story(Path())


if __name__ == "__main__":
    main()
