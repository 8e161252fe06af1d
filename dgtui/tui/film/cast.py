"""A recorded run as an asciinema recording (v2), to be played in a terminal or a web page at its own speed.

All that drives the terminal is written here: styles, cursor positions, one clear at the start. Only rows that changed
are painted. https://docs.asciinema.org/manual/asciicast/v2/
"""

import json
from collections.abc import Iterator, Sequence
from typing import Any, Final

from rich.color import ColorSystem
from rich.style import Style

from dgtui.text import cell_width, sanitize, truncate
from dgtui.tui.film.course import IDLE
from dgtui.tui.film.still import ASKED, Still, Studio
from dgtui.tui.film.svg import playhead
from dgtui.tui.widgets.brush import Ink
from dgtui.tui.widgets.timeline import BARS

MOST_ROWS: Final = 200
"""A page of more is cut."""
_HOLD: Final = 1.5
"""Seconds that the end is shown before a player starts anew."""
_AROUND: Final = 7
"""Rows beside those of the text: prompt, status, timeline, meters, and the blank ones between them."""


def film(studio: Studio, steps: Sequence[int]) -> str:
    """The steps (from 0) as a file of a header and one line an event."""
    stills = [studio.still(at) for at in steps]
    text_rows = min(MOST_ROWS, max(len(still.rows) for still in stills))
    lines = [json.dumps(_header(studio, text_rows + _AROUND))]
    events = _events(studio, stills, text_rows)
    lines += [json.dumps([round(time, 6), "o", data], ensure_ascii=False) for time, data in events]
    return "\n".join(lines) + "\n"


def _header(studio: Studio, height: int) -> dict[str, Any]:
    title = truncate(sanitize(studio.course.recording.model, newlines=False, tabs="replace"), 80)
    header: dict[str, Any] = {
        "version": 2,
        "width": studio.width + 2,
        "height": height,
        "idle_time_limit": IDLE,
        "title": f"dgtui: {title}, seed {studio.course.recording.log.job.seed}",
    }
    if not studio.theme.ansi:
        header["theme"] = {"fg": studio.text, "bg": studio.ground, "palette": ":".join(_palette(studio))}
    return header


def _palette(studio: Studio) -> Iterator[str]:
    """Sixteen colours, as players want them; the film itself names all of its colours."""
    colors = studio.theme.palette
    named = [colors[name] for name in ("error", "success", "warning", "primary", "accent", "secondary")]
    yield from (colors["panel"], *named, studio.text, studio.muted, *named, studio.text)


def _events(studio: Studio, stills: Sequence[Still], text_rows: int) -> Iterator[tuple[float, str]]:
    paint = _Painter(studio)
    screen = [paint.row(())] * (text_rows + _AROUND)
    screen[1] = paint.row(((ASKED + studio.prompt, paint.accent),))
    yield 0.0, "\x1b[?25l\x1b[2J" + "".join(_put(row, text) for row, text in enumerate(screen))
    time = 0.0
    for still in stills:
        shown = _screen(studio, still, text_rows, paint, screen[1])
        changed = [_put(row, text) for row, (text, old) in enumerate(zip(shown, screen, strict=True)) if text != old]
        screen, time = shown, studio.course.seconds[still.at]
        if changed:
            yield time, "".join(changed)
    yield time + _HOLD, f"\x1b[{len(screen)};1H\x1b[0m\x1b[?25h"


def _put(row: int, text: str) -> str:
    return f"\x1b[{row + 1};1H{text}"


def _screen(studio: Studio, still: Still, text_rows: int, paint: "_Painter", prompt: str) -> list[str]:
    course = studio.course
    rows: list[Ink] = list(still.rows[:text_rows])
    rows += [()] * (text_rows - len(rows))
    return [
        paint.row(()),
        prompt,
        paint.row(((truncate(course.status(still.at), studio.width), paint.muted),)),
        *map(paint.row, rows),
        paint.row(()),
        paint.row(_timeline(studio, still.at, paint)),
        paint.row(((course.meters(still.at, studio.width), paint.muted),)),
        paint.row(()),
    ]


def _timeline(studio: Studio, at: int, paint: "_Painter") -> Ink:
    bars = studio.bars(studio.width)
    here = playhead(bars, at)
    done = [
        (BARS[min(len(BARS) - 1, int(bar.height * len(BARS)))], Style(color=studio.look.ramp(bar.nats), bold=n == here))
        for n, bar in enumerate(bars[: here + 1])
    ]
    return (*done, ("·" * (len(bars) - here - 1), paint.muted))


class _Painter:
    """Rows as what a terminal is sent: filled up to the film's width, and styled from the first cell to the last."""

    def __init__(self, studio: Studio) -> None:
        ansi = studio.theme.ansi
        self.width = studio.width + 2
        self._base = Style() if ansi else Style(color=studio.text, bgcolor=studio.ground)
        self.muted = Style(dim=True) if ansi else Style(color=studio.muted)
        self.accent = Style(color=studio.theme.palette["accent"])

    def row(self, ink: Ink) -> str:
        """A row, a blank before it."""
        cells = 1 + sum(cell_width(text) for text, _ in ink)
        parts = [(" ", Style()), *ink, (" " * (self.width - cells), Style())]
        return "".join(
            (self._base + style).render(text, color_system=ColorSystem.TRUECOLOR) for text, style in parts if text
        )
