"""The screen of an app under Pilot, as text."""

import asyncio
import time
from collections.abc import Callable

from textual.app import App

HOSTILE = "\x1b]52;c;aGk=\x07 \x1b[2J\x9b31m \u202eevil\u202c [red]x[/red] [@click=app.bell]y[/] \u200b\ud800 \t end"
"""Escape sequences, bidi overrides, markup, a surrogate, a tab."""


def rows(app: App[object]) -> list[str]:
    """The rows of the screen."""
    return ["".join(segment.text for segment in strip) for strip in app.screen._compositor.render_strips()]


def text(app: App[object]) -> str:
    """All rows, without blanks at their ends."""
    return "\n".join(row.rstrip() for row in rows(app))


def is_safe(app: App[object]) -> bool:
    """Whether the screen has no control or bidi characters."""
    drawn = "".join(rows(app))
    return not any(ord(c) < 0x20 or 0x7F <= ord(c) < 0xA0 or c in "\u202e\u202c\ud800" for c in drawn)


async def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Waits for a condition, without sleeping longer than it takes."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        await asyncio.sleep(0.02)
