"""A tour of recorded runs that play by themselves, slowly enough to be watched, each with a few words about it."""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any, ClassVar, Final

from textual.binding import Binding
from textual.content import Content
from textual.screen import Screen

from dgtui.config import Settings
from dgtui.session.recording import load
from dgtui.tui.app import BaseApp
from dgtui.tui.exports.recorded_run import RecordedRun
from dgtui.tui.screens.replay import SPEEDS, ReplayScreen
from dgtui.tui.theme import Look

FOLDER: Final = Path(__file__).parents[2] / "data"

STOPS: Final[Sequence[tuple[str, str]]] = (
    ("tale", "All places are written at once: noise at first, then the tokens that the model is certain of."),
    ("between", "The first and the last sentence are held. The model writes between them, and finds the length."),
    ("sudoku", "The given digits are pinned. Every other cell sees all cells, before and after it."),
)
"""The recordings, and what to say about each."""

STEP_SECONDS: Final = 0.3
"""How long a denoising step is shown, about."""


class TourScreen(ReplayScreen):
    """Plays the recordings one after the other."""

    BINDINGS: ClassVar[list[Any]] = [Binding("enter", "next", "next recording")]

    def __init__(self, settings: Settings, look: Look) -> None:
        self.stop = 0
        super().__init__(self._recording(), settings, look, self._says)
        self.pace = self._slow()

    @property
    def _says(self) -> str:
        return f"tour {self.stop + 1} of {len(STOPS)} · enter: next"

    def _recording(self) -> RecordedRun:
        return RecordedRun(load(FOLDER / f"{STOPS[self.stop][0]}.dgtui"))

    def _slow(self) -> float:
        """The speed at which a step is shown long enough."""
        times = self.recorded.pace
        step = median(b - a for a, b in pairwise(times)) if len(times) > 1 else STEP_SECONDS
        return min(SPEEDS, key=lambda speed: abs(step / speed - STEP_SECONDS))

    def on_mount(self) -> None:
        super().on_mount()
        self.action_play()

    def action_next(self) -> None:
        """Plays the next recording; the first one follows the last."""
        self.stop = (self.stop + 1) % len(STOPS)
        self.recorded, self._file, self.at, self.playing = self._recording(), self._says, 0, False
        self.pace = self._slow()
        self.action_play()

    def before(self) -> Content:
        return Content.assemble((STOPS[self.stop][1], "bold"), "\n\n", super().before())


class TourApp(BaseApp):
    """`dgtui demo`."""

    TITLE = "dgtui demo"

    def __init__(self, settings: Settings, *, theme_folders: Sequence[Path], problems: Iterable[str] = ()) -> None:
        super().__init__(settings, theme_folders=theme_folders, problems=problems)

    def get_default_screen(self) -> Screen[Any]:
        return TourScreen(self.settings, self.look)
