"""A recorded run in the canvas of the chat: played at its recorded speed, scrubbed, read and copied, never changed.

No model is needed: tokens, alternatives and times are in the recording.
"""

import time
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final

from textual import on
from textual.containers import VerticalScroll
from textual.content import Content
from textual.screen import Screen
from textual.widgets import Static

from dgtui.config import Settings
from dgtui.layout import shown_tokens
from dgtui.text import sanitize, truncate
from dgtui.tui import keymap
from dgtui.tui.app import BaseApp
from dgtui.tui.exports.recorded_run import RecordedRun
from dgtui.tui.screens.base import BaseScreen
from dgtui.tui.theme import Look
from dgtui.tui.widgets.alternatives import Alternatives
from dgtui.tui.widgets.canvas_box import CanvasBox
from dgtui.tui.widgets.canvas_view import CanvasView
from dgtui.tui.widgets.page import MUTED
from dgtui.tui.widgets.timeline import Timeline

SPEEDS: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)


class ReplayScreen(BaseScreen):
    """Plays a recorded run. `clock` gives seconds."""

    DEFAULT_CSS = """
    ReplayScreen #before { height: auto; max-height: 35%; padding: 1 2; scrollbar-size-vertical: 1; }
    ReplayScreen #before:focus { background: $surface; }
    ReplayScreen #said { height: auto; }
    """
    BINDINGS: ClassVar[list[Any]] = [*keymap.bindings("chat"), *keymap.bindings("replay")]
    CONTEXTS = ("app", "chat", "replay", "canvas", "alternatives")
    AUTO_FOCUS = "CanvasView"

    def __init__(
        self, recorded: RecordedRun, settings: Settings, look: Look, name: str, first: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        super().__init__(settings, look)
        self.recorded = recorded
        self.at = min(first, len(recorded) - 1)
        "the step that is shown, from 0"
        self.playing = False
        self.pace = 1.0
        "times the recorded speed"
        self._file, self._clock = name, clock
        self._played = self._last_tick = 0.0
        self._before = Static(id="said", markup=False)
        self.box = CanvasBox(show_timeline=settings.screen.show_timeline, id="panel")
        self.parts = (VerticalScroll(self._before, id="before"), self.box)

    def on_mount(self) -> None:
        self.canvas.calm = True
        self._timer = self.set_interval(1 / self.settings.screen.max_fps, self._tick, pause=True)
        self.set_look(self.look)

    def on_resize(self) -> None:
        super().on_resize()
        self.call_after_refresh(self.repaint)

    @property
    def canvas(self) -> CanvasView:
        """The view of the tokens."""
        return self.box.canvas

    def set_look(self, look: Look) -> None:
        """How tokens are drawn from now on."""
        self.box.set_look(look)
        self.repaint()

    def repaint(self) -> None:
        """Draws the step that is shown."""
        if not self.is_mounted:
            return
        recorded, at = self.recorded, self.at
        self.canvas.show(recorded.view(at))
        sign = "▶" if self.playing else "‖"
        clock = f"{sign} ×{self.pace:g} · {recorded.seconds[at]:.2f} s of {recorded.seconds[-1]:.2f} s"
        meters = recorded.meters(at, max(1, self.box.line_width - len(clock) - 3))
        self.box.show_numbers(recorded.status(at), f"{clock} · {meters}", recorded.bars, at)
        self.draw_top()
        self._show_before()

    def top_line(self) -> str:
        made = self.recorded.recording
        parts = (self._file, "·", made.model, "·", made.device)
        left = sanitize(f" dgtui  replay  {' '.join(parts)}", newlines=False, tabs="replace")
        return truncate(left, max(0, self.size.width - 1))

    def before(self) -> Content:
        """The prompt, and the blocks of the reply that have ended."""
        recorded = self.recorded
        earlier = recorded.earlier(self.at)
        text = "".join(shown_tokens(earlier, [True] * len(earlier)))
        asked = sanitize(recorded.prompt, tabs="expand")
        return Content.assemble(("› ", "$text-accent"), asked or ("(no text)", MUTED), "\n\n" if text else "", text)

    def _show_before(self) -> None:
        said, shown = self._before, self.before()
        if said.content != shown:
            said.update(shown)
            self.query_one("#before").call_after_refresh(self.query_one("#before").scroll_end, animate=False)

    # -- playing ------------------------------------------------------------------------------------------------------

    def action_play(self) -> None:
        """Plays from the current step, or from the first if the current one is the last; or pauses."""
        if self.playing:
            self._pause()
            return
        if self.at == len(self.recorded) - 1:
            self.at = 0
        self.playing = True
        self._played, self._last_tick = self.recorded.pace[self.at], self._clock()
        self._timer.resume()
        self.repaint()

    def _pause(self) -> None:
        self.playing = False
        self._timer.pause()
        self.repaint()

    def _tick(self) -> None:
        if not self.playing:  # it was already queued when the playback was paused
            return
        now = self._clock()
        self._played += (now - self._last_tick) * self.pace
        self._last_tick = now
        to = bisect_right(self.recorded.pace, self._played) - 1
        if self.settings.screen.reduced_motion:
            to = max((end for end in self.recorded.block_ends if end <= to), default=self.at)
        if to > self.at:
            self.at = to
            self.repaint()
        if self.at == len(self.recorded) - 1:
            self._pause()

    def action_speed(self, by: int) -> None:
        """Plays faster or slower."""
        at = SPEEDS.index(self.pace) + by
        self.pace = SPEEDS[max(0, min(len(SPEEDS) - 1, at))]
        self.repaint()

    def action_scrub(self, by: int) -> None:
        """Moves the playhead, and pauses."""
        self.at = max(0, min(len(self.recorded) - 1, self.at + by))
        self._pause()

    def action_scrub_to(self, end: str) -> None:
        """Moves the playhead to the first or the last step."""
        self.action_scrub(-len(self.recorded) if end == "first" else len(self.recorded))

    @on(Timeline.Picked)
    def _picked(self, message: Timeline.Picked) -> None:
        message.stop()
        self.action_scrub(message.step - self.at)

    # -- looking ------------------------------------------------------------------------------------------------------

    def action_alternatives(self) -> None:
        """Shows the most probable tokens for the position of the cursor."""
        self._pause()
        frame, place = self.recorded.frames[self.at], self.canvas.cursor
        ids = frame.top_ids[place].tolist() if place < len(frame.top_ids) else []
        choices = list(zip(ids, self.recorded.pieces(ids), frame.top_probs[place].tolist(), strict=True)) if ids else []
        names = dict.fromkeys(self.recorded.recording.special_ids, "(markup)") | dict.fromkeys(
            self.recorded.stop_ids, "(end)"
        )
        self.app.push_screen(
            Alternatives(place, choices, self.canvas.cursor_cell, names=names, current=int(frame.ids[place]))
        )

    def action_candidate(self, by: int) -> None:
        """Shows another candidate of a run that had several."""
        count = self.recorded.candidates
        if count < 2:
            self.notify("the run has only one candidate")
            return
        from dgtui.errors import RecordingRefused

        for step in range(1, count):
            try:
                self.recorded = RecordedRun(self.recorded.recording, (self.recorded.candidate + by * step) % count)
            except RecordingRefused:  # it took no step
                continue
            break
        self.at = min(self.at, len(self.recorded) - 1)
        self._pause()

    def action_copy(self) -> None:
        """Copies the selection, or the reply after the current step."""
        text = self.recorded.text(self.at, self.canvas.selection)
        self.app.copy_to_clipboard(text)

    def action_interrupt(self) -> None:
        """Copies a selection, or else leaves."""
        if self.canvas.selection:
            self.action_copy()
        else:
            self.action_leave()

    def action_leave(self) -> None:
        """Ends the program."""
        self.app.exit()


class ReplayApp(BaseApp):
    """`dgtui replay`."""

    TITLE = "dgtui replay"

    def __init__(
        self, recorded: RecordedRun, settings: Settings, name: str, *, theme_folders: Sequence[Path], first: int = 0,
        problems: Iterable[str] = (),
    ) -> None:  # fmt: skip
        super().__init__(settings, theme_folders=theme_folders, problems=problems)
        self._recorded, self._file, self._first = recorded, name, first

    def get_default_screen(self) -> Screen[Any]:
        return ReplayScreen(self._recorded, self.settings, self.look, self._file, self._first)
