"""One bar per denoising step: how many tokens it changed, in the colour of the mean entropy of the canvas."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, Final

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.message import Message
from textual.reactive import reactive
from textual.strip import Strip
from textual.widget import Widget

from dgtui.diffusion.events import Flag, Frame
from dgtui.tui.theme import Look

BARS: Final = "▁▂▃▄▅▆▇█"


@dataclass(frozen=True, slots=True)
class Bar:
    """A denoising step."""

    changed: int
    "number of tokens that differ from the previous step; in the first step of a block, all free ones"
    nats: float
    "mean entropy of the canvas"
    is_first: bool = False
    "whether it is the first step of its block"
    is_amended: bool = False
    "whether the user changed something before it"


def bars_of(frames: Sequence[Frame], amended: Collection[tuple[int, int]] = ()) -> list[Bar]:
    """The bars of frames. `amended` are (block, step) after which the user changed something."""
    bars = []
    for frame in frames:
        first = frame.step == 1
        flags = ~frame.flags & Flag.PINNED if first else frame.flags & Flag.CHANGED
        is_amended = (frame.block, frame.step - 1) in amended
        bars.append(Bar(int((flags != 0).sum()), frame.mean_entropy, first, is_amended))
    return bars


class Timeline(Widget):
    """A row of bars. The one under the playhead is reversed, amended ones are underlined, and a dot stands for each
    step that may follow. Bars are scaled to the step that changed most, not counting the first step of a block.
    """

    ALLOW_SELECT = False
    COMPONENT_CLASSES: ClassVar[set[str]] = {"timeline--ahead"}
    DEFAULT_CSS = """
    Timeline { height: 1; }
    Timeline > .timeline--ahead { color: $text-muted; }
    """

    class Picked(Message):
        """A bar was clicked. `step` is its index in the values."""

        def __init__(self, step: int) -> None:
            super().__init__()
            self.step = step

    look: reactive[Look | None] = reactive(None, init=False)
    "the colours of the bars"

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._bars: tuple[Bar, ...] = ()
        self._playhead: int | None = None
        self._ahead = 0
        self._first = 0  # index of the leftmost bar

    def show(self, bars: Sequence[Bar], playhead: int | None, ahead: int = 0) -> None:
        """Draws steps. `playhead` is an index, None for no step; `ahead` is the number of steps that may follow."""
        now = (tuple(bars), playhead, ahead)
        if now != (self._bars, self._playhead, self._ahead):
            self._bars, self._playhead, self._ahead = now
            self.refresh()

    def render_line(self, y: int) -> Strip:
        """The row of bars."""
        base, width = self.rich_style, self.size.width
        if y or not width:
            return Strip.blank(width, base)
        self._scroll(width)
        full = max((bar.changed for bar in self._bars if not bar.is_first), default=0)
        bars = []
        for index, bar in enumerate(self._bars[self._first : self._first + width], start=self._first):
            height = height_of(bar.changed, full)
            style = _colored(self.look.ramp(bar.nats)) if self.look else Style()
            if bar.is_amended:
                style += Style(underline=True)
            if index == self._playhead:
                height = min(height, len(BARS) - 2)  # a reversed full bar would be blank
                style += Style(reverse=True)
            bars.append(Segment(BARS[height], base + style))
        if (dots := min(self._ahead, width - len(bars))) > 0:
            ahead = self.get_component_rich_style("timeline--ahead", partial=True)
            bars.append(Segment("·" * dots, base + ahead))
        return Strip(bars).adjust_cell_length(width, base)

    def _scroll(self, width: int) -> None:
        """Scrolls as little as possible to show the playhead, or without one the newest step."""
        at = len(self._bars) - 1 if self._playhead is None else self._playhead
        first = min(max(self._first, at - width + 1), at)
        self._first = max(0, min(first, len(self._bars) - width))

    def on_click(self, event: events.Click) -> None:
        """Picks a step."""
        step = self._first + event.x - self.gutter.left
        if self._first <= step < len(self._bars):
            self.post_message(self.Picked(step))


def height_of(changed: int, full: int) -> int:
    """Index into `BARS`: the lowest for no change, the highest from `full` up."""
    if not changed:
        return 0
    return len(BARS) - 1 if changed >= full else max(1, int(changed / full * len(BARS)))


@lru_cache(256)
def _colored(color: str) -> Style:
    return Style(color=color)
