"""A canvas box with a draft, in the place of its reply in the conversation. It is shown during a run, and later while
it has the focus. When a finished reply loses the focus, it is drawn as a message again.
"""

from __future__ import annotations

from collections.abc import Sequence

from textual import getters, on
from textual.app import ComposeResult
from textual.message import Message
from textual.timer import Timer

from dgtui.backend import Backend, RunHandle
from dgtui.diffusion.events import Frame
from dgtui.errors import DgtuiError
from dgtui.steering.drafts import Refused
from dgtui.tui.app import BaseApp
from dgtui.tui.draft_controller import DraftController
from dgtui.tui.messages import explain
from dgtui.tui.player import Player
from dgtui.tui.share import recorded, share
from dgtui.tui.template import Template
from dgtui.tui.theme import Look
from dgtui.tui.widgets.canvas_box import CanvasBox
from dgtui.tui.widgets.canvas_view import CanvasView
from dgtui.tui.widgets.question import Question
from dgtui.tui.widgets.typing import Typing
from dgtui.tui.widgets.xray import XRay


class PlacedBox(CanvasBox):
    """Hidden while it is empty."""

    DEFAULT_CSS = """
    PlacedBox { max-height: 100%; margin: 0 0 1 0; }
    """

    class Placed(Message):
        """The box was opened or closed, or shows another block."""

    app = getters.app(BaseApp)
    backend: Backend
    steering: DraftController
    player: Player
    template: Template
    question = getters.query_one(Question)
    typing = getters.query_one(Typing)
    xray = getters.query_one(XRay)
    _played: RunHandle | None = None
    "the run that the player plays; others are shown without it"
    _due: Timer | None = None
    _place: tuple[bool, int] = False, 0
    "the last reported state: whether the box was open, and its block"

    def compose_below(self) -> ComposeResult:
        yield XRay(id="xray")
        yield Question(self._question_closed, self._question_opened, id="question")
        yield Typing(self._typing_closed, id="typing")

    def _question_opened(self) -> None:
        self.canvas.pointing = True

    def _question_closed(self, had_focus: bool) -> None:
        self.canvas.pointing = False
        if had_focus:
            self.canvas.focus()

    def _typing_closed(self, had_focus: bool) -> None:
        if had_focus:
            self.screen.set_focus(self.canvas, scroll_visible=False)
        self.repaint()

    def type_here(self) -> None:
        """Lets text be typed in place at the cursor. Raises `Refused`."""
        if self.steering.draft is None:
            typed = self.template.typing(self.canvas.cursor)
        elif (view := self.canvas.view) is None:
            raise Refused("there is no text on the canvas yet")
        else:
            typed = self.steering.typing(view, self.block)
        self.typing.begin(typed, self.canvas)

    def close_questions(self) -> None:
        """Closes what takes the keys: a question, or typing in place. The canvas stays as it was."""
        self.question.action_close()
        self.typing.close()

    def _next(self, frames: Sequence[Frame]) -> tuple[int, int | None]:
        """The block and the step to draw now. The player goes on only here: no step is skipped."""
        version = self.steering.version
        if version is not None and version.run is self._played:
            self.player.advance(len(frames))
        return self._looked_at(frames)

    def repaint(self) -> None:
        """Draws the content of the canvas."""

    def on_resize(self) -> None:
        """Cuts the lines below the canvas to the new width."""
        self.repaint()

    def set_look(self, look: Look) -> None:
        """Sets the style of tokens, bars and cells."""
        super().set_look(look)
        self.xray.look = look
        self.repaint()

    @on(CanvasView.Moved)
    def show_xray(self) -> None:
        """Draws the x-ray of the shown block, if it is open."""
        version, frame = self.steering.version, self.steering.frame
        if self.xray.mode is None or version is None:
            return
        frames = [f for f in version.frames() if f.block == self.block]
        at = next((index for index, f in enumerate(frames) if f is frame), -1)
        cursor = self.canvas.cursor
        self.xray.show(frames, at, cursor, self.canvas.piece(cursor))

    @on(XRay.Picked)
    def _cell_picked(self, message: XRay.Picked) -> None:
        """Goes to the token and the step of a cell."""
        version, block = self.steering.version, self.block
        if version is not None:
            self.canvas.cursor = message.place
            self.steering.scrub_to(sum(frame.block < block for frame in version.frames()) + message.step)
            self.repaint()

    def action_share(self) -> None:
        """Writes the run as an animated SVG and a GIF."""
        version, facts = self.steering.version, self.backend.facts
        if version is None or facts is None or not version.frames():
            self.notify("there is no step to share yet", severity="warning")
            return
        self.notify("drawing the pictures …")
        made, candidate, theme = recorded(version.run, facts, self.backend), version.candidate, self.app.token_theme

        def draw() -> None:
            try:
                picture, film = share(made, candidate, theme)
            except DgtuiError as error:
                self.app.call_from_thread(self.notify, explain(error), severity="error")
            else:
                self.app.call_from_thread(self.notify, f"shared as {picture} and {film}")

        self.run_worker(draw, thread=True, group="share")

    def open(self) -> None:
        """Shows the box and gives it the focus."""
        self.show_box(True)
        self.repaint()
        self.screen.set_focus(self.canvas)

    def show_box(self, shown: bool) -> None:
        """Shows or hides the box at once, not with the next style update, because the next key may be for it."""
        self.set_class(shown, "open")
        self.display = shown

    def close(self) -> None:
        """Hides the box and stops asking the model about its text. The versions are kept."""
        self.close_questions()
        self.steering.inquiry.stop()
        self.show_box(False)
        self._tell_place()

    @property
    def is_open(self) -> bool:
        """Whether the box is shown."""
        return self.has_class("open")

    @property
    def block(self) -> int:
        """The block that is shown; 0 if there is none."""
        version = self.steering.version
        return 0 if version is None else self._looked_at(version.frames())[0]

    def name_reply(self, name: bool) -> None:
        """Shows or hides the name beside the canvas; the message above may already show it."""
        self.query_one("#who").visible = name

    def _looked_at(self, frames: Sequence[Frame]) -> tuple[int, int | None]:
        """The shown block and its step; None: the newest."""
        version, playhead = self.steering.version, self.steering.playhead
        assert version is not None
        if playhead is None and version.run is self._played:
            playhead = self.player.at(len(frames))
        if playhead is not None and playhead < len(frames):
            return frames[playhead].block, frames[playhead].step
        return version.block, None

    def _tell_place(self) -> None:
        if (place := (self.is_open, self.block)) != self._place:
            self._place = place
            self.post_message(self.Placed())

    def on_descendant_blur(self) -> None:
        self.call_after_refresh(self._leave)

    def _leave(self) -> None:
        """Closes the box of a finished reply once another part has the focus; the reply is then drawn as a message."""
        focused = self.screen.focused if self.is_attached else None
        left = focused is not None and self not in focused.ancestors
        if left and self.steering.draft is not None and not self.steering.running and not self.behind:
            self.close()

    @property
    def behind(self) -> int:
        """How many steps of the run remain to be shown at the player's pace."""
        version = self.steering.version
        if version is None or version.run is not self._played or not self.player.pace:
            return 0
        return self.player.behind(len(version.frames()))

    def _play(self) -> None:
        """Shows the next step when it is due."""
        if self._due is None and self.behind:
            self._due = self.set_timer(self.player.wait, self._show_next)

    def _show_next(self) -> None:
        self._due = None
        self.repaint()
        if not self.behind:
            self._leave()
