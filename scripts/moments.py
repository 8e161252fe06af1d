"""Takes pictures of eight moments of the screens, in several sizes and themes, with the real program, for review.

PYTHONPATH=. python scripts/moments.py FOLDER [--size 80x24]
"""

import argparse
import asyncio
import os
from contextlib import closing
from pathlib import Path

from export_screenshots import ASK, SEED, SPAN, TALE, Camera

from dgtui.cli.backend import WorkerBackend
from dgtui.config import Settings
from dgtui.document.open_file import OpenFile
from dgtui.session.store import Store
from dgtui.tui.conversation_controller import Opening
from dgtui.tui.screens.chat import ChatApp
from dgtui.tui.screens.edit import EditApp, EditOpening
from dgtui.tui.theme_file import theme_folders

SIZES = ((80, 24), (100, 30), (160, 50))
THEMES = ("midnight", "paper", "contrast")


class Album(Camera):
    """Takes each picture in every theme."""

    folder = Path()
    size = ""

    async def moment(self, name: str) -> None:
        for theme in THEMES:
            self.app.theme = theme
            await self.shoot(f"{name}-{self.size}-{theme}", self.folder)
        self.app.theme = THEMES[0]
        await self.pilot.pause(0.1)


async def chat(backend: WorkerBackend, size: tuple[int, int], folder: Path) -> None:
    app = ChatApp(backend, Store(None), Settings(), Opening("embedded", seed=SEED), theme_folders=theme_folders())
    async with app.run_test(size=size) as pilot:
        album = Album(app, backend, pilot)
        album.folder, album.size = folder, f"{size[0]}x{size[1]}"
        await album.until(lambda: backend.facts is not None)
        await album.moment("1-start")
        panel = album.chat.panel
        with album.held() as runs:
            album.chat.send(ASK)
        await album.press()
        await album.steps(runs[0], 1)
        await album.moment("2-noise")
        await album.steps(runs[0], 3)
        await album.moment("3-half")
        runs[0].control.resume()
        await album.until(lambda: not panel.steering.running)
        album.chat.prompt.focus()
        await album.moment("4-settled")
        await pilot.press("shift+tab")
        panel.canvas.select(14, 30)
        with album.held() as runs:
            await album.press("r")
        await album.steps(runs[0], 2)
        await album.moment("5-re-diffusion")
        runs[0].control.resume()
        await album.until(lambda: not panel.steering.running)
        await album.press("u", "X")
        await album.moment("6-x-ray")
        album.chat.command("/new")
        await pilot.pause(0.1)
        with album.held() as runs:
            await pilot.press("f3")
            await album.until(lambda: runs)
        await album.press()
        await album.steps(runs[0], 3)
        await album.moment("7-write-between")
        runs[0].control.resume()
        await album.until(lambda: not panel.steering.running)


async def edit(backend: WorkerBackend, size: tuple[int, int], folder: Path) -> None:
    path = Path("tale.md")
    path.write_text(TALE, encoding="utf-8")
    app = EditApp(
        backend, OpenFile(path), Settings(), EditOpening("embedded", seed=SEED), theme_folders=theme_folders()
    )
    async with app.run_test(size=size) as pilot:
        album = Album(app, backend, pilot)
        album.folder, album.size = folder, f"{size[0]}x{size[1]}"
        await album.until(lambda: backend.facts is not None)
        start = TALE.index(SPAN)
        app.edit.editor.select(start, start + len(SPAN))
        await pilot.press("ctrl+r")
        await album.until(lambda: app.edit.proposals.position)
        await album.moment("8-review")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", action="append", help="COLUMNSxROWS; without it three sizes")
    asked = parser.parse_args()
    sizes = [tuple(map(int, size.split("x"))) for size in asked.size or ()] or SIZES
    folder = asked.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["XDG_STATE_HOME"] = str(folder)
    os.chdir(folder)
    with closing(WorkerBackend(Settings())) as backend:
        for columns, rows in sizes:
            asyncio.run(chat(backend, (columns, rows), folder))
            asyncio.run(edit(backend, (columns, rows), folder))


if __name__ == "__main__":
    main()
