"""A canvas in a border, with the timeline and the meters of its run."""

from collections.abc import Sequence
from typing import Any

from textual import getters
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widgets import Static

from dgtui.text import sanitize
from dgtui.tui.theme import Look
from dgtui.tui.widgets.canvas_view import CanvasView
from dgtui.tui.widgets.timeline import Bar, Timeline


class CanvasBox(Vertical):
    """The widgets that show a run. The owner of the run draws them."""

    DEFAULT_CSS = """
    CanvasBox { height: auto; max-height: 60%; border: round $primary; padding: 0 1; }
    CanvasBox:focus-within { border: round $accent; }
    CanvasBox CanvasView { height: auto; max-height: 100%; }
    CanvasBox #below { dock: bottom; height: auto; }
    CanvasBox #meters { height: 1; color: $text-muted; }
    """

    canvas = getters.query_one(CanvasView)
    timeline = getters.query_one(Timeline)

    def __init__(self, *, show_timeline: bool, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._show_timeline = show_timeline

    def compose(self) -> ComposeResult:
        yield CanvasView(id="canvas")
        with Vertical(id="below"):  # docked: it stays visible below a canvas of any length
            timeline = Timeline(id="timeline")
            timeline.display = self._show_timeline
            yield timeline
            yield Static(id="meters", markup=False)
            yield from self.compose_below()

    def compose_below(self) -> ComposeResult:
        """The widgets below the meters."""
        yield from ()

    def set_look(self, look: Look) -> None:
        """Sets the style of tokens and bars."""
        self.canvas.look = self.timeline.look = look

    def show_numbers(self, title: str, meters: str, bars: Sequence[Bar], playhead: int | None, ahead: int = 0) -> None:
        """Shows the state of the run: see `Timeline.show` for the last three."""
        self.border_title = sanitize(title, newlines=False).replace("[", "\\[")
        self.query_one("#meters", Static).update(meters, layout=False)
        self.timeline.show(bars, playhead, ahead)
