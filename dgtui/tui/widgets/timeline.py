"""One bar per denoising step: the mean entropy of the canvas, on a scale that does not change during the run."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, ClassVar, Final

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.message import Message
from textual.reactive import reactive
from textual.strip import Strip
from textual.widget import Widget

from dgtui.tui.theme import Look

BARS: Final = "▁▂▃▄▅▆▇█"
_FULL_NATS: Final = 3.0


class Timeline(Widget):
    """A row of bars; the one under the playhead is reversed. Dots follow while the run goes on."""

    ALLOW_SELECT = False
    COMPONENT_CLASSES: ClassVar[set[str]] = {"timeline--ahead"}
    DEFAULT_CSS = """
    Timeline { height: 1; }
    Timeline > .timeline--ahead { color: $text-muted; }
    """

    class Picked(Message):
        """A bar was clicked. `step` is its index in the values."""

        def __init__(self, timeline: "Timeline", step: int) -> None:
            super().__init__()
            self.timeline, self.step = timeline, step

        @property
        def control(self) -> "Timeline":
            """Who sent it."""
            return self.timeline

    look: reactive[Look | None] = reactive(None, init=False)
    "how bars are coloured"

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._values: tuple[float, ...] = ()
        self._playhead: int | None = None
        self._running = False
        self._first = 0  # index of the leftmost bar

    def show(self, values: Sequence[float], playhead: int | None, running: bool) -> None:
        """Draws the mean entropy of each step, in nats. `playhead` is an index; None: none of them."""
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
            style = _colored(self.look.ramp(value)) if self.look else Style()
            if index == self._playhead:
                height = min(height, len(BARS) - 2)  # a reversed full bar would be blank
                style += Style(reverse=True)
            bars.append(Segment(BARS[height], base + style))
        if self._running and len(bars) < width:
            ahead = self.get_component_rich_style("timeline--ahead", partial=True)
            bars.append(Segment("·" * (width - len(bars)), base + ahead))
        return Strip(bars).adjust_cell_length(width, base)

    def _scroll(self, width: int) -> None:
        """Scrolls as little as possible to show the playhead, or without one the newest step."""
        at = len(self._values) - 1 if self._playhead is None else self._playhead
        first = min(max(self._first, at - width + 1), at)
        self._first = max(0, min(first, len(self._values) - width))

    def on_click(self, event: events.Click) -> None:
        """Picks a step."""
        step = self._first + event.x - self.gutter.left
        if self._first <= step < len(self._values):
            self.post_message(self.Picked(self, step))


def height_of(nats: float, full: float) -> int:
    """Index into `BARS`: the lowest for 0 nats, the highest from `full` up, and for NaN."""
    if not nats < full:
        return len(BARS) - 1
    return max(0, int(nats / full * len(BARS)))


@lru_cache(256)
def _colored(color: str) -> Style:
    return Style(color=color)
