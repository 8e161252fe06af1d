"""The steps of a recorded run as styled rows, and their colours outside a terminal: the basis of every export.

Every text of a snapshot is sanitised and no wider than the export.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Final

import numpy as np
from rich.color import Color
from rich.style import Style
from rich.terminal_theme import DEFAULT_TERMINAL_THEME, SVG_EXPORT_THEME

from dgtui.layout import lay_out, shown_tokens
from dgtui.text import cell_width, sanitize, truncate
from dgtui.tui.colour import faded, mix
from dgtui.tui.exports.recorded_run import RecordedRun
from dgtui.tui.legend import legend
from dgtui.tui.theme import Theme
from dgtui.tui.widgets.brush import Brush, Ink

MOST_BARS: Final = 400
LEAST_FULL_NATS: Final = 1.0
"""Nats for a bar of full height, unless a step of the run was less certain."""
ASKED: Final = "› "
"""Precedes the prompt."""
LAST_SECONDS: Final = 4.0
"""Seconds that a moving picture shows the last step before it starts again."""


def step_seconds(count: int) -> float:
    """Seconds that a moving picture of `count` steps shows each step: long enough to read, and about twelve seconds in
    all. The time that the model took does not matter."""
    return max(0.1, min(0.4, 12 / count))


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The text of the reply after a step."""

    at: int
    rows: tuple[Ink, ...]


@dataclass(frozen=True, slots=True)
class Paint:
    """A style as "#rrggbb" colours and attributes."""

    color: str
    ground: str | None
    bold: bool
    italic: bool
    underline: bool
    strike: bool


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar of the timeline: one or several steps up to `last`, with the mean entropy of the least certain one."""

    last: int
    nats: float
    height: float
    """From 0 to 1."""


class Exporter:
    """Draws the steps of a recorded run in one theme and width."""

    def __init__(self, recorded: RecordedRun, theme: Theme, width: int) -> None:
        """`width` is in cells."""
        self.recorded, self.theme, self.width = recorded, theme, width
        self.look = theme.look()
        self._brush = Brush(self.look, Style())
        self.prompt = truncate(" ".join(sanitize(recorded.prompt, tabs="replace").split()), width - len(ASKED))
        self.model = truncate(sanitize(recorded.recording.model, newlines=False, tabs="replace"), 80)
        self.title = f"dgtui: {self.model}, seed {recorded.recording.log.job.seed}"
        self.ground, self.text = self.rgb(theme.ground, ground=True), self.rgb(theme.palette["foreground"])
        self.muted = faded(self.text, self.ground, [self.ground])
        """The colour of status and meters."""
        self.border = mix(self.ground, self.text, 0.28)
        self.accent = self.rgb(theme.palette["accent"])
        """The colour of controls, the prompt and the playhead."""

    def snapshot(self, at: int) -> Snapshot:
        """The reply after a step: earlier blocks, then the canvas."""
        view, earlier = self.recorded.view(at), self.recorded.earlier(at)
        held, end = np.zeros(len(earlier)), view.end
        settled = np.concatenate([np.ones(len(earlier), np.bool_), view.settled[:end]])
        tokens = shown_tokens((*earlier, *view.pieces[:end]), settled.tolist())
        styles = self._brush.styles(
            np.concatenate([held, view.entropy[:end]]).astype(np.float32),
            np.concatenate([held, view.flags[:end]]).astype(np.uint8),
            settled,
            None if view.glow is None else np.concatenate([held, view.glow[:end]]).astype(np.uint8),
        )
        return Snapshot(at, tuple(self._brush.rows(lay_out(tokens, self.width), styles, None, None)))

    @property
    def legend(self) -> Ink:
        """A legend of the colours, as far as the width allows."""
        row: list[tuple[str, Style]] = []
        for word, style in legend(self.look):
            if sum(cell_width(text) for text, _ in row) + len(word) + 2 <= self.width:
                row += [(word, style), ("  ", Style())]
        return tuple(row)

    def bars(self, most: int = MOST_BARS) -> list[Bar]:
        """The timeline of the whole run. With more steps than `most`, each bar stands for several."""
        values = self.recorded.entropies
        full = max([LEAST_FULL_NATS, *(value for value in values if math.isfinite(value))])
        edges = np.linspace(0, len(values), min(len(values), most) + 1).round().astype(int).tolist()
        return [_bar(values[first:end], end - 1, full) for first, end in pairwise(edges)]

    def rgb(self, name: str, *, ground: bool = False) -> str:
        """A colour as "#rrggbb"; a terminal colour as most terminals show it."""
        return _rgb(name, ground, self.theme.dark)

    def paint(self, style: Style) -> Paint:
        """A style with reverse and dim resolved into colours."""
        color = self.rgb(style.color.name) if style.color else self.text
        ground = self.rgb(style.bgcolor.name, ground=True) if style.bgcolor else None
        if style.reverse:
            color, ground = ground or self.ground, color
        if style.dim:
            color = faded(color, ground or self.ground, [ground or self.ground])
        attributes = (bool(is_set) for is_set in (style.bold, style.italic, style.underline, style.strike))
        return Paint(color, None if ground == self.ground else ground, *attributes)


def _bar(values: Sequence[float], last: int, full: float) -> Bar:
    nats = max((value if value == value else full for value in values), default=0.0)  # NaN counts as undecided
    return Bar(last, nats, min(1.0, max(0.0, nats / full)))


@cache
def _rgb(name: str, ground: bool, dark: bool) -> str:
    if name.startswith("#"):
        return name
    theme = SVG_EXPORT_THEME if dark else DEFAULT_TERMINAL_THEME
    return Color.parse(name).get_truecolor(theme, foreground=not ground).hex
