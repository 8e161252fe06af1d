"""Typing in place: an input without a line of its own. The canvas shows its text."""

from collections.abc import Callable
from typing import Any, ClassVar

from textual import events

from dgtui.diffusion.settings import BadJob
from dgtui.errors import DgtuiError
from dgtui.text import sanitize
from dgtui.tui import keymap
from dgtui.tui.messages import explain
from dgtui.tui.typed import Typed
from dgtui.tui.widgets.canvas_view import CanvasView
from dgtui.tui.widgets.question import CleanInput

LONGEST = 2_000
"""Characters that can be typed at once: more than fits a canvas."""


class Typing(CleanInput):
    """Takes the keys while text is typed. Enter keeps it, Esc or another part of the screen gives it up.

    Args:
        closed: Called after the end, with whether the keys go back to the canvas.
    """

    DEFAULT_CSS = """
    Typing { display: none; height: 0 !important; border: none; padding: 0; }
    Typing.open { display: block; }
    """
    BINDINGS: ClassVar[list[Any]] = keymap.bindings("typing")

    def __init__(self, closed: Callable[[bool], object], **kwargs: Any) -> None:
        super().__init__(compact=True, max_length=LONGEST, select_on_focus=False, **kwargs)
        self._when_closed = closed
        self._canvas: CanvasView | None = None
        self._typed: Typed | None = None

    @property
    def is_open(self) -> bool:
        """Whether text is being typed."""
        return self._typed is not None

    @property
    def status(self) -> str:
        """What the keys do now, in words."""
        waits = "the run waits · " if self._typed and self._typed.waiting else ""
        return f"typing · {waits}enter pins the text · esc leaves the canvas as it was"

    def begin(self, typed: Typed, canvas: CanvasView) -> None:
        """Takes the keys and shows the text on the canvas."""
        self.value = ""
        self._typed, self._canvas = typed, canvas
        self.add_class("open")
        self.display = True  # at once: the next key is meant for the text
        self.screen.set_focus(self, scroll_visible=False)
        canvas.pointing = True
        self._draw()

    def validate_value(self, value: str) -> str:
        """The displayable part of a value; lines and tabs are kept."""
        return sanitize(value)

    def watch_value(self) -> None:
        """Shows the text on the canvas."""
        self._draw()

    def watch_selection(self) -> None:
        """Shows the cursor in the text."""
        self._draw()

    def _draw(self) -> None:
        typed, canvas = self._typed, self._canvas
        if typed is not None and canvas is not None:
            canvas.show(typed.drawn(self.value, self.cursor_position))
            canvas.cursor = typed.at + 1
            self.app.cursor_position = canvas.cursor_cell  # where a terminal shows what an input method composes

    def action_keep(self) -> None:
        """Holds the text on the canvas. A text that is refused stays."""
        if self._typed is None:
            return
        try:
            notice = self._typed.keep(self.value) if self.value.strip() else None
        except (DgtuiError, BadJob) as refused:
            self.notify(explain(refused), severity="warning")
            return
        if notice:
            self.notify(notice)
        self.close()

    def action_newline(self) -> None:
        """Breaks the line."""
        self.insert_text_at_cursor("\n")

    def close(self) -> None:
        """Ends typing. Text that was not kept is gone."""
        typed, canvas = self._typed, self._canvas
        if typed is not None and canvas is not None:
            self._typed = self._canvas = None
            typed.leave()
            canvas.pointing, canvas.cursor = False, typed.at
            had_focus = self.screen.focused is self
            self.remove_class("open")
            self.display = False
            self._when_closed(had_focus)

    def action_close(self) -> None:
        """Gives the text up."""
        self.close()

    def on_paste(self, event: events.Paste) -> None:
        """Inserts all lines of a paste."""
        self.replace("\n".join(event.text.splitlines()), *self.selection)
        event.stop()
        event.prevent_default()

    def on_focus(self) -> None:
        """Puts the terminal's cursor at the text again: the input itself has no cell."""
        self._draw()

    def on_blur(self) -> None:
        """Ends typing when another part of the screen has the keys, but not when another window has them."""
        if self.app.app_focus and self.screen.focused is not self:
            self.close()
