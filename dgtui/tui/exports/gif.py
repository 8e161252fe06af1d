"""Steps of a recorded run as an animated GIF, drawn with Pillow, for programs that cannot show animated SVGs.

It uses the first monospaced font found on this machine, else Pillow's, and places each word on a grid.
"""

import io
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from rich.style import Style

from dgtui.text import cell_width
from dgtui.tui.exports.exporter import ASKED, LAST_SECONDS, Exporter, Snapshot, step_seconds
from dgtui.tui.exports.svg import playhead
from dgtui.tui.widgets.brush import Ink

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont, ImageFont

FONTS: Final = ("DejaVuSansMono", "LiberationMono-Regular", "NotoSansMono-Regular", "Menlo", "consola", "cour")
"""Monospaced fonts of common systems; each may have a bold face."""
_BOLD: Final = {"DejaVuSansMono": "DejaVuSansMono-Bold", "LiberationMono-Regular": "LiberationMono-Bold",
                "NotoSansMono-Regular": "NotoSansMono-Bold", "consola": "consolab", "cour": "courbd"}  # fmt: skip
_SIZE, _CELL, _LINE, _EDGE = 15, 9, 20, 18
_BARS, _WIDEST_BAR = 24, 16
_COLOURS: Final = 96


def animation(exporter: Exporter, steps: Sequence[int]) -> bytes:
    """The steps (counted from 0) one after the other in a loop, as a GIF file."""
    return _Reel(exporter).draw([exporter.snapshot(at) for at in steps])


def _fonts() -> "tuple[FreeTypeFont | ImageFont, FreeTypeFont | ImageFont]":
    """The plain and the bold face."""
    from PIL import ImageFont

    for name in FONTS:
        for ending in (".ttf", ".ttc"):
            try:
                plain = ImageFont.truetype(name + ending, _SIZE)
            except OSError:
                continue
            try:
                return plain, ImageFont.truetype(_BOLD.get(name, name) + ending, _SIZE)
            except OSError:
                return plain, plain
    plain_built_in = ImageFont.load_default(_SIZE)
    return plain_built_in, plain_built_in


class _Reel:
    def __init__(self, exporter: Exporter) -> None:
        self.exporter = exporter
        self._plain, self._bold = _fonts()
        self._width = 2 * _EDGE + exporter.width * _CELL

    def draw(self, snapshots: Sequence[Snapshot]) -> bytes:
        from PIL import Image

        rows = max(1, *(len(snapshot.rows) for snapshot in snapshots))
        pictures = [self._picture(snapshot, rows) for snapshot in snapshots]
        palette = pictures[-1].copy()
        palette.paste(pictures[len(pictures) // 2], (0, palette.height // 2))
        known = palette.quantize(_COLOURS, dither=Image.Dither.NONE)
        first, *others = [picture.quantize(palette=known, dither=Image.Dither.NONE) for picture in pictures]
        times = [round(1000 * step_seconds(len(pictures)))] * len(others) + [round(1000 * LAST_SECONDS)]
        file = io.BytesIO()
        first.save(file, "GIF", save_all=True, append_images=others, duration=times, loop=0, optimize=False)
        return file.getvalue()

    def _picture(self, snapshot: Snapshot, rows: int) -> "Image":
        from PIL import Image, ImageDraw

        exporter, recorded = self.exporter, self.exporter.recorded
        muted, accent = Style(color=exporter.muted), Style(color=exporter.accent)
        asked: list[Ink] = [((ASKED + exporter.prompt, accent),), ()] if exporter.prompt else []
        above: list[Ink] = [*asked, ((recorded.status(snapshot.at)[: exporter.width], muted),)]
        text = [*above, *snapshot.rows, *[()] * (rows - len(snapshot.rows)), ()]
        below: list[Ink] = [((recorded.meters(snapshot.at, exporter.width), muted),), exporter.legend]
        height = 2 * _EDGE + _LINE * (len(text) + len(below)) + _BARS + _LINE // 2
        picture = Image.new("RGB", (self._width, height), exporter.ground)
        page = ImageDraw.Draw(picture)
        for number, row in enumerate(text):
            self._row(page, row, _EDGE + number * _LINE)
        y = _EDGE + len(text) * _LINE
        self._bars(page, snapshot.at, y)
        for number, row in enumerate(below):
            self._row(page, row, y + _BARS + _LINE // 2 + number * _LINE)
        return picture

    def _row(self, page: "ImageDraw", row: Ink, y: int) -> None:
        column = 0
        for text, style in row:
            paint, cells = self.exporter.paint(style), cell_width(text)
            x = _EDGE + column * _CELL
            if paint.ground:
                page.rectangle((x, y, x + cells * _CELL - 1, y + _LINE - 2), fill=paint.ground)
            font = self._bold if paint.bold else self._plain
            for at, word in _words(text):
                page.text((x + at * _CELL, y + 1), word, fill=paint.color, font=font)
            if paint.underline:
                page.line((x, y + _LINE - 3, x + cells * _CELL - 1, y + _LINE - 3), fill=paint.color)
            column += cells

    def _bars(self, page: "ImageDraw", at: int, y: int) -> None:
        exporter = self.exporter
        drawn = exporter.bars()
        step = min(exporter.width * _CELL / len(drawn), _WIDEST_BAR)
        here = playhead(drawn, at)
        for number, bar in enumerate(drawn[: here + 1]):
            left, tall = _EDGE + number * step, max(2.0, bar.height * _BARS)
            right = left + max(step - 2, step * 0.7)
            page.rectangle((left, y + _BARS - tall, right, y + _BARS), fill=exporter.rgb(exporter.look.ramp(bar.nats)))


def _words(text: str) -> Iterator[tuple[int, str]]:
    """The words of a text with their cells. Placed one by one, because the advances of a font drift from the grid."""
    for word in re.finditer(r"\S+", text):
        yield cell_width(text[: word.start()]), word.group()
