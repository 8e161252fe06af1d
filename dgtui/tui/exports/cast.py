"""A recorded run as an asciinema cast (version 2), which a terminal or a web page plays at a readable pace.

All escape sequences are written here: styles, cursor positions, one clear at the start. Only rows that changed are
painted. https://docs.asciinema.org/manual/asciicast/v2/
"""

import json
from collections.abc import Iterator, Sequence
from typing import Any, Final

from rich.color import ColorSystem
from rich.style import Style

from dgtui.text import cell_width, truncate
from dgtui.tui.exports.exporter import ASKED, LAST_SECONDS, Exporter, Snapshot, step_seconds
from dgtui.tui.exports.recorded_run import IDLE
from dgtui.tui.exports.svg import playhead
from dgtui.tui.widgets.brush import Ink
from dgtui.tui.widgets.timeline import BARS

MOST_ROWS: Final = 200
"""Longer texts are cut."""
_AROUND: Final = 8
"""Rows in addition to the text: prompt, status, timeline, meters, legend, and blank rows between them."""


def document(exporter: Exporter, steps: Sequence[int]) -> str:
    """The steps (counted from 0) as a file: a header, then one JSON line per event."""
    snapshots = [exporter.snapshot(at) for at in steps]
    text_rows = min(MOST_ROWS, max(len(snapshot.rows) for snapshot in snapshots))
    lines = [json.dumps(_header(exporter, text_rows + _AROUND))]
    events = _events(exporter, snapshots, text_rows)
    lines += [json.dumps([round(time, 6), "o", data], ensure_ascii=False) for time, data in events]
    return "\n".join(lines) + "\n"


def _header(exporter: Exporter, height: int) -> dict[str, Any]:
    header: dict[str, Any] = {
        "version": 2,
        "width": exporter.width + 2,
        "height": height,
        "idle_time_limit": IDLE,
        "title": exporter.title,
    }
    if not exporter.theme.ansi:
        header["theme"] = {"fg": exporter.text, "bg": exporter.ground, "palette": ":".join(_palette(exporter))}
    return header


def _palette(exporter: Exporter) -> Iterator[str]:
    """The sixteen colours that the format requires; the cast itself names all of its colours."""
    colors = exporter.theme.palette
    named = [colors[name] for name in ("error", "success", "warning", "primary", "accent", "secondary")]
    yield from (colors["panel"], *named, exporter.text, exporter.muted, *named, exporter.text)


def _events(exporter: Exporter, snapshots: Sequence[Snapshot], text_rows: int) -> Iterator[tuple[float, str]]:
    paint = _Painter(exporter)
    screen = [paint.row(())] * (text_rows + _AROUND)
    screen[1] = paint.row(((ASKED + exporter.prompt, paint.accent),))
    yield 0.0, "\x1b[?25l\x1b[2J" + "".join(_put(row, text) for row, text in enumerate(screen))
    time = 0.0
    for number, snapshot in enumerate(snapshots):
        shown = _screen(exporter, snapshot, text_rows, paint, screen[1])
        changed = [_put(row, text) for row, (text, old) in enumerate(zip(shown, screen, strict=True)) if text != old]
        screen, time = shown, number * step_seconds(len(snapshots))
        if changed:
            yield time, "".join(changed)
    yield time + LAST_SECONDS, f"\x1b[{len(screen)};1H\x1b[0m\x1b[?25h"


def _put(row: int, text: str) -> str:
    return f"\x1b[{row + 1};1H{text}"


def _screen(exporter: Exporter, snapshot: Snapshot, text_rows: int, paint: "_Painter", prompt: str) -> list[str]:
    recorded = exporter.recorded
    rows: list[Ink] = list(snapshot.rows[:text_rows])
    rows += [()] * (text_rows - len(rows))
    return [
        paint.row(()),
        prompt,
        paint.row(((truncate(recorded.status(snapshot.at), exporter.width), paint.muted),)),
        *map(paint.row, rows),
        paint.row(()),
        paint.row(_timeline(exporter, snapshot.at, paint)),
        paint.row(((recorded.meters(snapshot.at, exporter.width), paint.muted),)),
        paint.row(exporter.legend),
        paint.row(()),
    ]


def _timeline(exporter: Exporter, at: int, paint: "_Painter") -> Ink:
    bars = exporter.bars(exporter.width)
    here = playhead(bars, at)
    done = [
        (
            BARS[min(len(BARS) - 1, int(bar.height * len(BARS)))],
            Style(color=exporter.look.ramp(bar.nats), bold=n == here),
        )
        for n, bar in enumerate(bars[: here + 1])
    ]
    return (*done, ("·" * (len(bars) - here - 1), paint.muted))


class _Painter:
    """Renders rows for a terminal: padded to the full width, and styled from the first cell to the last."""

    def __init__(self, exporter: Exporter) -> None:
        ansi = exporter.theme.ansi
        self.width = exporter.width + 2
        self._base = Style() if ansi else Style(color=exporter.text, bgcolor=exporter.ground)
        self.muted = Style(dim=True) if ansi else Style(color=exporter.muted)
        self.accent = Style(color=exporter.theme.palette["accent"])

    def row(self, ink: Ink) -> str:
        """A row, with one blank before it."""
        cells = 1 + sum(cell_width(text) for text, _ in ink)
        parts = [(" ", Style()), *ink, (" " * (self.width - cells), Style())]
        return "".join(
            (self._base + style).render(text, color_system=ColorSystem.TRUECOLOR) for text, style in parts if text
        )
