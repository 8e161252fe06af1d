"""A drawing on a terminal: each cell is two pixels, one above the other."""

import asyncio
import importlib.util
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from textual.color import Color
from textual.content import Content
from textual.style import Style

from dgtui import svg
from dgtui.errors import DgtuiError, reason
from dgtui.tui.widgets.page import Fragment, PageRow

SECONDS: Final = 20.0
"""The most time of a drawing. Its process may take 2 seconds of it; on a busy machine it waits for the rest."""
SHADES: Final = "█▓▒░ "
"""From black to white, for terminals without colours."""
INSTALL: Final = "pip install 'dgtui[svg]'"


class Undrawable(DgtuiError):
    """An SVG cannot be drawn, or not yet."""


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """A drawing as a block of a page."""

    width: int
    "pixels"
    height: int
    "pixels"
    rgb: bytes
    "three bytes per pixel, row by row"
    color: bool = True
    "the terminal has colours"

    @property
    def lines(self) -> Sequence[str]:
        return ("",)

    def rows(self, width: int) -> list[PageRow]:
        return [PageRow((Fragment(self._row(y, min(width, self.width))),)) for y in range(0, self.height, 2)]

    def _row(self, y: int, width: int) -> Content:
        """A row of cells for the rows of pixels from `y` on."""
        above, below = (self._pixels(row, width) for row in (y, y + 1))
        runs = [(cell, len([*same])) for cell, same in groupby(zip(above, below, strict=True))]
        return Content.assemble(*(self._cells(*cell, count) for cell, count in runs))

    def _pixels(self, y: int, width: int) -> list[tuple[int, int, int] | None]:
        if y >= self.height:
            return [None] * width
        row = self.rgb[3 * y * self.width : 3 * (y + 1) * self.width]
        return [(row[at], row[at + 1], row[at + 2]) for at in range(0, 3 * width, 3)]

    def _cells(
        self, above: tuple[int, int, int] | None, below: tuple[int, int, int] | None, count: int
    ) -> tuple[str, Style]:
        ground = None if below is None else Color(*below)
        if self.color:
            return "▀" * count, Style(foreground=None if above is None else Color(*above), background=ground)
        light = [sum(pixel) / 765 for pixel in (above, below) if pixel is not None]
        return SHADES[round(sum(light) / len(light) * (len(SHADES) - 1))] * count, Style()


def can_draw() -> bool:
    """Whether the library that draws is installed."""
    return importlib.util.find_spec("resvg_py") is not None


async def draw(source: str, columns: int, rows: int, *, color: bool = True) -> Picture:
    """Draws an SVG to fit into some cells.

    Raises:
        Undrawable: It is not an SVG, or takes too much time or memory.
    """
    if len(source) > svg.LONGEST:
        raise Undrawable("this SVG is too long to be drawn")
    size = columns, 2 * rows
    env = {name: os.environ[name] for name in ("HOME", "LD_LIBRARY_PATH") if name in os.environ}
    started: list[subprocess.Popen[bytes]] = []

    def output() -> bytes:
        command = sys.executable, "-I", "-m", "dgtui.svg", *map(str, size)
        with subprocess.Popen(
            command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as process:
            started.append(process)
            try:
                return process.communicate(source.encode("utf-8", "replace"), timeout=SECONDS)[0]
            finally:
                process.kill()

    try:  # in a thread: a cancelled asyncio subprocess leaves its pipes open
        pixels = await asyncio.to_thread(output)
    except subprocess.TimeoutExpired:
        raise Undrawable("this SVG takes too long to draw") from None
    except OSError as error:
        raise Undrawable(f"this SVG cannot be drawn now: {reason(error)}") from error
    finally:
        for process in started:
            process.kill()
    returncode = started[0].returncode
    if returncode == 1:
        raise Undrawable("this SVG cannot be drawn")
    if returncode:
        raise Undrawable("this SVG takes too much time or memory to draw")
    head, _, rgb = pixels.partition(b"\n")
    width, height = map(int, head.split())
    if width > size[0] or height > size[1] or len(rgb) != 3 * width * height:
        raise Undrawable("this SVG cannot be drawn")
    return Picture(width, height, rgb, color)
