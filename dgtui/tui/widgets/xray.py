"""The x-ray of a block: a map of its positions (from left to right) and its denoising steps (from top to bottom).

A cell shows the entropy of a token after a step, or the step from which on the token was decided. A mark below the map
points to the column of the token under the cursor, and a mark on the left to the row of the shown step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Literal

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.geometry import Size
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from dgtui.diffusion.events import Flag, Frame
from dgtui.text import sanitize, truncate
from dgtui.tui.frames import UNKNOWN_NATS
from dgtui.tui.theme import Look

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Mode = Literal["entropy", "decided"]
MODES: Final[tuple[Mode, ...]] = ("entropy", "decided")
SHADES: Final = " ░▒▓█"
"""From certain to undecided, for terminals without colours."""
_GUTTER: Final = 2
_MOST_ROWS: Final = 12


class XRay(Widget):
    """Hidden until it has a mode."""

    ALLOW_SELECT = False
    DEFAULT_CSS = """
    XRay { height: auto; display: none; }
    XRay.open { display: block; }
    """

    class Picked(Message):
        """A cell was clicked: a position of the canvas, and the index of a frame of its block."""

        def __init__(self, place: int, step: int) -> None:
            super().__init__()
            self.place, self.step = place, step

    def __init__(self, **kwargs: object) -> None:
        super().__init__(**kwargs)  # type: ignore[arg-type]
        self.mode: Mode | None = None
        self.look: Look | None = None
        self._nats: npt.NDArray[np.float32] | None = None
        self._steps: list[int] = []
        "the step numbers"
        self._decided: list[int] = []
        self._cursor = self._first = 0
        self._playhead = -1
        self._word = ""

    def next_mode(self) -> Mode | None:
        """Shows the next map; None: hides it."""
        at = 0 if self.mode is None else MODES.index(self.mode) + 1
        self.mode = MODES[at] if at < len(MODES) else None
        self.set_class(self.mode is not None, "open")
        return self.mode

    def show(self, frames: Sequence[Frame], playhead: int, cursor: int, word: bytes) -> None:
        """Draws the frames of a block.

        Args:
            frames: The frames of one candidate, in order.
            playhead: The index of the shown frame; -1: none.
            cursor: The position under the cursor.
            word: The bytes of its token.
        """
        import numpy as np

        rows = self._rows
        self._cursor, self._playhead = cursor, playhead
        self._word = sanitize(word.decode("utf-8", "replace"), newlines=False, tabs="replace").strip()
        self._steps = [frame.step for frame in frames]
        if not frames:
            self._nats, self._decided = None, []
        else:
            kept = np.stack([frame.flags & (Flag.ACCEPTED | Flag.PINNED) for frame in frames]) != 0
            open_after = np.where(~kept, np.arange(1, len(frames) + 1)[:, None], 0).max(axis=0)
            self._decided = open_after.tolist()
            if self.mode == "decided":
                since = np.arange(len(frames))[:, None] >= open_after
                when = open_after / max(1, len(frames)) * UNKNOWN_NATS
                self._nats = np.where(since, when, np.nan).astype(np.float32)
            else:
                self._nats = np.nan_to_num(np.stack([frame.entropy for frame in frames]), nan=UNKNOWN_NATS)
        self.refresh(layout=self._rows != rows)

    @property
    def _halves(self) -> int:
        """Steps per row: two if half blocks in colours can show them."""
        return 2 if self.look is None or self.look.color else 1

    @property
    def _rows(self) -> int:
        most = max(2, min(_MOST_ROWS, self.app.size.height // 4))
        return min(most, -(-len(self._steps) // self._halves))

    def _step_at(self, line: int) -> int | None:
        """The index of the frame in a line of `_halves` lines per row. Long runs show evenly spaced steps."""
        lines, count = self._rows * self._halves, len(self._steps)
        if count <= lines:
            return line if line < count else None
        return round(line * (count - 1) / (lines - 1))

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """The rows of the map and the caption."""
        return self._rows + 1

    def render_line(self, y: int) -> Strip:
        """A row of the map, or the caption below it."""
        base, width = self.rich_style, self.size.width
        if self._nats is None:
            return Strip([Segment("x-ray: no step yet", base)]).adjust_cell_length(width, base)
        room = max(1, width - _GUTTER)
        places = self._nats.shape[1]
        self._first = max(0, min(max(self._first, self._cursor - room + 1), self._cursor, places - 1))
        if y == self._rows:
            return self._caption(base, width)
        lines = [self._step_at(y * self._halves + half) for half in range(self._halves)]
        mark = "▸ " if self._playhead in [at for at in lines if at is not None] else "  "
        columns = range(self._first, min(places, self._first + room))
        cells = [self._cell([None if at is None else float(self._nats[at, place]) for at in lines], base)
                 for place in columns]  # fmt: skip
        return Strip([Segment(mark, base), *cells]).simplify().adjust_cell_length(width, base)

    def _cell(self, nats: list[float | None], base: Style) -> Segment:
        if self._halves == 1 or self.look is None:
            value = nats[0]
            share = 0.0 if value is None or value != value else min(1.0, value / UNKNOWN_NATS)
            return Segment(SHADES[round(share * (len(SHADES) - 1))], base)
        color = self.look.ramp if self.mode == "decided" else self.look.heat
        above, below = (None if value is None or value != value else color(value) for value in nats)
        if above is None and below is None:
            return Segment(" ", base)
        if above is None:
            return Segment("▄", base + Style(color=below))
        return Segment("▀", base + Style(color=above, bgcolor=below or base.bgcolor))

    def _caption(self, base: Style, width: int) -> Strip:
        at, cursor = self._cursor - self._first + _GUTTER, self._cursor
        decided = self._decided[cursor] if cursor < len(self._decided) else len(self._steps)
        when = f"decided at step {self._steps[decided]}" if decided < len(self._steps) else "undecided"
        what = "entropy of each step" if self.mode == "entropy" else "when each token was decided"
        text = f" {self._word or 'token'} ({cursor}) · {when} · x-ray: {what}"
        if at + 1 + len(text) <= width:
            line = " " * at + "▲" + text
        else:
            text = f"{truncate(text.strip(), max(0, at - 1))} "
            line = text.ljust(at) + "▲"
        return Strip([Segment(line, base)]).adjust_cell_length(width, base)

    def on_click(self, event: events.Click) -> None:
        """Picks a cell."""
        place, y = self._first + event.x - _GUTTER, event.y
        step = self._step_at(y * self._halves) if y < self._rows else None
        if self._nats is not None and event.x >= _GUTTER and place < self._nats.shape[1] and step is not None:
            self.post_message(self.Picked(place, step))
