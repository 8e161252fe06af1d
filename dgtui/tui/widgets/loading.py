"""Loads a model and shows the progress: stage and seconds; if sizes are known, also a bar, the rate and the time left.

A failed load shows its error until the next one starts.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from textual import on
from textual.content import Content
from textual.message import Message
from textual.timer import Timer
from textual.widget import Widget

from dgtui.backend import Backend, Facts, Stage
from dgtui.errors import DgtuiError
from dgtui.text import cell_width, gigabytes, sanitize, truncate
from dgtui.tui.messages import explain
from dgtui.tui.widgets.page import MUTED

TICK: Final = 0.2
"seconds between repaints without a report"
REPORTS: Final = 0.1
"least seconds between two reports of a stage"
WINDOW: Final = 4.0
"seconds over which the rate is measured"
LEAST: Final = 0.5
"seconds of reports before a rate is shown"
LONGEST_BAR: Final = 36
PAINTED: Final = 1.0
"seconds that the model's thread waits until a new stage is on the screen, at most"


class Loading(Widget):
    """One or two lines while a model is loaded, else none. `clock` counts seconds."""

    DEFAULT_CSS = """
    Loading { display: none; height: auto; padding: 0 1; }
    Loading.any { display: block; }
    """

    class Progress(Message):
        """The progress of the load. Newer ones replace older ones. `painted` is set once it is on the screen."""

        def __init__(self, stage: Stage, painted: threading.Event) -> None:
            super().__init__()
            self.stage, self.painted = stage, painted

        def can_replace(self, message: Message) -> bool:
            return isinstance(message, Loading.Progress)

    class Ended(Message):
        """The load has ended: `facts` of the model, or `error`."""

        def __init__(self, facts: Facts | None, error: BaseException | None) -> None:
            super().__init__()
            self.facts, self.error = facts, error

    def __init__(self, *, clock: Callable[[], float] = time.monotonic, id: str | None = None) -> None:
        super().__init__(id=id)
        self._clock = clock
        self._model = ""
        self._what = ""
        self._done = self._total = 0
        self._since = 0.0
        self._reports: deque[tuple[float, int]] = deque()
        self._error: tuple[str, str] | None = None
        self._backend: Backend | None = None
        self._ticker: Timer | None = None

    def on_mount(self) -> None:
        self._ticker = self.set_interval(TICK, self.refresh, pause=not self.has_class("any"))

    @property
    def error(self) -> str:
        """Why the model failed to load; empty if it did not fail."""
        return self._error[0] if self._error else ""

    def load(self, backend: Backend, name: str | None, called: str) -> None:
        """Unloads the current model and loads another. `Ended` follows; `called` is its name for display."""
        self._backend = backend
        self.start(called)
        last = ("", 0.0)

        def progress(stage: Stage) -> None:  # on the model's thread
            nonlocal last
            now = time.monotonic()
            new = stage.what != last[0]
            if self.is_attached and (new or now - last[1] > REPORTS):
                last = stage.what, now
                painted = threading.Event()
                self.post_message(self.Progress(stage, painted))
                if new and not stage.total:  # such a stage may hold the interpreter's lock, and nothing is painted then
                    painted.wait(PAINTED)

        future = backend.load(name, progress)
        future.add_done_callback(
            lambda f: self.post_message(self.Ended(None if f.exception() else f.result(), f.exception()))
        )

    @on(Progress)
    def _progress(self, message: Progress) -> None:
        message.stop()
        self.progress(message.stage.what, message.stage.done, message.stage.total)
        self.call_after_refresh(message.painted.set)

    @on(Ended)
    def _ended(self, message: Ended) -> None:
        error = message.error
        if error is None or (self._backend and self._backend.facts):
            self.finish()
        elif isinstance(error, DgtuiError):
            self.fail(error.message, error.hint)
        else:
            self.fail(explain(error))
        if error is not None and not self._error:  # the previous model is still loaded
            self.notify(explain(error), severity="warning")
        for note in message.facts.notes if message.facts else ():
            self.notify(note)

    def start(self, name: str) -> None:
        """Shows the start of a load."""
        self._model, self._error = name, None
        self._since = self._clock()
        self.progress("starting", 0, 0)
        self._show(True)

    def progress(self, what: str, done: int, total: int) -> None:
        """Shows the progress in bytes; `total` is 0 if unknown."""
        now = self._clock()
        if what != self._what or done < self._done:
            self._reports.clear()
        second_line = bool(self._total)
        self._what, self._done, self._total = what, done, max(0, total)
        self._reports.append((now, done))
        while len(self._reports) > 2 and self._reports[1][0] < now - WINDOW:
            self._reports.popleft()
        self.refresh(layout=second_line != bool(self._total))

    def fail(self, message: str, hint: str = "") -> None:
        """Shows a failure. Message and hint stay visible."""
        self._error = message, hint
        self._show(True)

    def finish(self) -> None:
        """Shows that the model is loaded."""
        self._error = None
        self._show(False)

    def _show(self, shown: bool) -> None:
        self.set_class(shown, "any")
        if self._ticker is not None:
            (self._ticker.resume if shown and self._error is None else self._ticker.pause)()
        self.refresh(layout=True)

    def render(self) -> Content:
        name, what = (sanitize(text, newlines=False, tabs="replace") for text in (self._model, self._what))
        width = self.content_size.width or self.app.size.width - 2
        if self._error is not None:
            message, hint = (sanitize(text, tabs="expand") for text in self._error)
            failed = Content.assemble((f"✗ {truncate(name, width // 2)} was not loaded: ", "bold $text-error"), message)
            return failed + Content.styled(f"\n{hint}", MUTED) if hint else failed
        state, elapsed = f"   {truncate(what, width // 3)}", f" · {_seconds(self._clock() - self._since)}"
        name = truncate(name, max(4, width - len("Loading ") - cell_width(state) - len(elapsed)))
        first = Content.assemble("Loading ", (name, "bold"), state, (elapsed, MUTED))
        first = first.truncate(width, ellipsis=True)
        return first + "\n" + self._bar(width) if self._total else first

    def _bar(self, width: int) -> Content:
        share = min(1.0, self._done / self._total)
        amount = _amount(self._done, self._total)
        rate = self._rate()
        parts = [amount]
        if rate and self._done < self._total:
            parts += [f"{gigabytes(rate)}/s", f"{_seconds((self._total - self._done) / rate, whole=True)} left"]
        while len(parts) > 1 and len(" · ".join(parts)) + 12 > width:
            parts.pop(-2 if len(parts) > 2 else -1)
        text = "  " + " · ".join(parts)
        cells = max(0, min(LONGEST_BAR, width - len(text)))
        full = int(share * cells)
        return Content.assemble(("▓" * full, "$primary"), ("░" * (cells - full), "$foreground-muted"), text)

    def _rate(self) -> float | None:
        """Recent bytes per second; None if too little was reported."""
        if len(self._reports) < 2:
            return None
        (first, before), (_, now) = self._reports[0], self._reports[-1]
        seconds = self._clock() - first
        return (now - before) / seconds if seconds >= LEAST and now > before else None


def _amount(done: int, total: int) -> str:
    if total >= 1e9:
        return f"{done / 1e9:.1f} of {total / 1e9:.1f} GB"
    return f"{done / 1e6:.0f} of {total / 1e6:.0f} MB" if total >= 1e6 else f"{done / 1e3:.0f} of {total / 1e3:.0f} kB"


def _seconds(seconds: float, *, whole: bool = False) -> str:
    if seconds >= 90:
        return f"{int(seconds // 60)} min {int(seconds % 60):02d} s"
    return f"{seconds:.0f} s" if whole or seconds >= 10 else f"{seconds:.1f} s"
