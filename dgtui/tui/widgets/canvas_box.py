"""A canvas with the status, the timeline and the meters of its run, drawn as the text of a message."""

from collections.abc import Sequence
from typing import Any, Final

from textual import getters
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widgets import Static

from dgtui.text import sanitize, truncate
from dgtui.tui.theme import Look
from dgtui.tui.widgets.canvas_view import CanvasView
from dgtui.tui.widgets.timeline import Bar, Timeline

TEXT_WIDTH: Final = 100
"""Most columns of text: longer lines are hard to read."""


class CanvasBox(Vertical):
    """The widgets that show a run. The owner of the run draws them. The text is aligned with that of a message."""

    DEFAULT_CSS = f"""
    CanvasBox {{ height: auto; max-height: 60%; border-left: outer $primary; padding: 0 0 0 1; }}
    CanvasBox:focus-within {{ border-left: outer $accent; }}
    CanvasBox CanvasView {{ height: auto; max-height: 100%; max-width: {TEXT_WIDTH + 2}; }}
    CanvasBox #who {{ dock: left; width: 7; height: 1; color: $text-primary; text-style: bold; }}
    CanvasBox #below {{ dock: bottom; height: auto; padding: 0 0 0 7; }}
    CanvasBox #status, CanvasBox #meters {{ height: 1; color: $text-muted; text-wrap: nowrap; }}
    """

    canvas = getters.query_one(CanvasView)
    timeline = getters.query_one(Timeline)

    def __init__(self, *, show_timeline: bool, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._show_timeline = show_timeline
        self.status = ""
        "the line below the text: the step, and remarks about it"

    def compose(self) -> ComposeResult:
        yield Static("Model", id="who", markup=False)
        yield CanvasView(id="canvas")
        with Vertical(id="below"):  # docked: it stays visible below a canvas of any length
            yield Static(id="status", markup=False)
            timeline = Timeline(id="timeline")
            timeline.display = self._show_timeline
            yield timeline
            yield Static(id="meters", markup=False)
            yield from self.compose_below()

    def compose_below(self) -> ComposeResult:
        """The widgets below the meters."""
        yield from ()

    @property
    def line_width(self) -> int:
        """Cells of a line below the canvas."""
        return max(20, (self.size.width or self.app.size.width) - 9)

    def set_look(self, look: Look) -> None:
        """Sets the style of tokens and bars."""
        self.canvas.look = self.timeline.look = look

    def show_status(self, status: str) -> None:
        """Shows the line below the text."""
        self.status = sanitize(status, newlines=False)
        self.query_one("#status", Static).update(truncate(self.status, self.line_width), layout=False)

    def show_numbers(self, status: str, meters: str, bars: Sequence[Bar], playhead: int | None, ahead: int = 0) -> None:
        """Shows the state of the run: see `Timeline.show` for the last three."""
        self.show_status(status)
        self.query_one("#meters", Static).update(meters, layout=False)
        self.timeline.show(bars, playhead, ahead)
