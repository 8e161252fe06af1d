"""Measures the speed of the loaded model, compared with transformers' own `generate`."""

import threading
from typing import Any, ClassVar

from rich.table import Table
from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.message import Message
from textual.screen import ModalScreen
from textual.widgets import Static

from dgtui.backend import Backend, Rows
from dgtui.text import sanitize
from dgtui.tui.messages import explain


class Closed(Exception):
    """The screen was closed, so the measurement ends."""


class Measuring(Message):
    """The progress of the measurement."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self.what = what


class Measured(Message):
    """The measurement has ended: `rows`, or `error`."""

    def __init__(self, rows: Rows, error: BaseException | None) -> None:
        super().__init__()
        self.rows, self.error = rows, error


class Speed(ModalScreen[None]):
    """Starts measuring when it opens. Closing it ends the measurement after the current run."""

    DEFAULT_CSS = """
    Speed { align: center middle; }
    Speed Static { width: 90%; max-width: 76; height: auto; border: round $accent; background: $surface;
        padding: 0 1; }
    """
    BINDINGS: ClassVar[list[Any]] = [Binding("escape,q", "dismiss(None)", "close", key_display="esc")]

    def __init__(self, backend: Backend) -> None:
        super().__init__()
        self._backend = backend
        self._gone = threading.Event()

    def compose(self) -> ComposeResult:
        shown = Static("", markup=False)
        shown.border_title, shown.border_subtitle = "speed of the loaded model", "esc closes"
        yield shown

    def on_mount(self) -> None:
        def progress(what: str) -> None:
            if self._gone.is_set():
                raise Closed
            self.post_message(Measuring(what))

        self._say("waiting for the model")
        future = self._backend.bench(progress)
        future.add_done_callback(
            lambda f: self.post_message(Measured(() if f.exception() else f.result(), f.exception()))
        )

    def on_unmount(self) -> None:
        self._gone.set()

    def _say(self, text: str) -> None:
        self.query_one(Static).update(Text(sanitize(text)))

    @on(Measuring)
    def _measuring(self, message: Measuring) -> None:
        self._say(f"measuring … {message.what}")

    @on(Measured)
    def _measured(self, message: Measured) -> None:
        if message.error is not None:
            self._say(explain(message.error))
            return
        table = Table.grid(padding=(0, 2), expand=True)
        table.add_column(ratio=1)
        table.add_column(justify="right")
        for name, value in message.rows:
            table.add_row(Text(sanitize(name)), Text(sanitize(value), style="bold"))
        self.query_one(Static).update(table)
