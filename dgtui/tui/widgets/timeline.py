"""One bar a denoising step: how uncertain the canvas was, on a scale that stays the same while steps come in."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, ClassVar, Final

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from dgtui.tui.theme import Look

BARS: Final = "▁▂▃▄▅▆▇█"
_FULL_NATS: Final = 3.0


class Timeline(Widget):
    """A row of bars, the one under the playhead reversed; dots stand for what is to come while a run goes on."""

    ALLOW_SELECT = False
    COMPONENT_CLASSES: ClassVar[set[str]] = {"timeline--ahead"}
    DEFAULT_CSS = """
    Timeline { height: 1; }
    Timeline > .timeline--ahead { color: $text-muted; }
    """

    class Picked(Message):
        """A bar was clicked; `step` is its index in the values that are shown."""

        def __init__(self, timeline: "Timeline", step: int) -> None:
            super().__init__()
            self.timeline, self.step = timeline, step

        @property
        def control(self) -> "Timeline":
            """Who sent it."""
            return self.timeline

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._look: Look | None = None
        self._values: tuple[float, ...] = ()
        self._playhead: int | None = None
        self._running = False
        self._first = 0  # index of the leftmost bar

    @property
    def look(self) -> Look | None:
        """How bars are coloured."""
        return self._look

    @look.setter
    def look(self, look: Look) -> None:
        self._look = look
        self.refresh()

    def show(self, values: Sequence[float], playhead: int | None, running: bool) -> None:
        """Draws the mean entropy of each step, in nats; `playhead` is an index, None: on none of them."""
        now = (tuple(values), playhead, running)
        if now != (self._values, self._playhead, self._running):
            self._values, self._playhead, self._running = now
            self.refresh()

    def render_line(self, y: int) -> Strip:
        """The row of bars."""
        base, width = self.rich_style, self.size.width
        if y or not width:
            return Strip.blank(width, base)
        self._scroll(width)
        full = max([_FULL_NATS, *self._values[:1]])
        bars = []
        for index, value in enumerate(self._values[self._first : self._first + width], start=self._first):
            height = height_of(value, full)
            style = _colored(self._look.ramp(value)) if self._look else Style()
            if index == self._playhead:
                height = min(height, len(BARS) - 2)  # a full one, reversed, would be a hole
                style += Style(reverse=True)
            bars.append(Segment(BARS[height], base + style))
        if self._running and len(bars) < width:
            ahead = self.get_component_rich_style("timeline--ahead", partial=True)
            bars.append(Segment("·" * (width - len(bars)), base + ahead))
        return Strip(bars).adjust_cell_length(width, base)

    def _scroll(self, width: int) -> None:
        """Moves the window as little as brings the playhead into sight, or else the newest step."""
        at = len(self._values) - 1 if self._playhead is None else self._playhead
        first = min(max(self._first, at - width + 1), at)
        self._first = max(0, min(first, len(self._values) - width))

    def on_click(self, event: events.Click) -> None:
        """Picks a step."""
        step = self._first + event.x - self.gutter.left
        if self._first <= step < len(self._values):
            self.post_message(self.Picked(self, step))


def height_of(nats: float, full: float) -> int:
    """Which of `BARS`: the lowest for 0 nats, the highest from `full` on, and for what is no number."""
    if not nats < full:
        return len(BARS) - 1
    return max(0, int(nats / full * len(BARS)))


@lru_cache(256)
def _colored(color: str) -> Style:
    return Style(color=color)
