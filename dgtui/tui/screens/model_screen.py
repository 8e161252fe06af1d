"""What the screens that use a model share: loading it, seeds, notices, and a terminal that is too small."""

import secrets
import time
from collections.abc import Callable
from random import Random
from typing import Any, ClassVar, Final

from textual import on
from textual.app import ComposeResult
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import Static

from dgtui.backend import Backend, Facts, Stage
from dgtui.config import Settings
from dgtui.diffusion.job import BadJob
from dgtui.errors import DgtuiError
from dgtui.layout import MIN_SCREEN
from dgtui.text import sanitize
from dgtui.tui.messages import Loaded, LoadProgress, explain
from dgtui.tui.theme import Look
from dgtui.tui.widgets.loading import Loading

LOADING_SAID_EVERY: Final = 0.1
"seconds"


class ModelScreen(Screen[None]):
    """A screen with a line on top, a model, and `Loading` somewhere in it.

    Args:
        seed: Of the seeds that are drawn; None: other ones every time.
    """

    DEFAULT_CSS = """
    ModelScreen { layout: vertical; }
    ModelScreen #top { height: 1; background: $panel; color: $foreground; }
    ModelScreen #too-small { display: none; width: 100%; height: 100%; content-align: center middle; }
    ModelScreen.small > * { display: none !important; }
    ModelScreen.small > #too-small { display: block !important; }
    """

    CONTEXTS: ClassVar[tuple[str, ...]]
    "of the keymap: what F1 explains"

    def __init__(self, backend: Backend, settings: Settings, look: Look, seed: int | None) -> None:
        super().__init__()
        self.backend, self.settings, self._look = backend, settings, look
        self.load_error = ""
        "why there is no model, if loading one has failed"
        self._random = Random(seed) if seed is not None else None
        self._had_focus: Widget | None = None

    def compose_too_small(self) -> ComposeResult:
        """What is shown in place of all else; to be the last part of a screen."""
        columns, rows = MIN_SCREEN
        text = f"dgtui needs {columns} columns and {rows} rows.\nMake the terminal larger; nothing is lost."
        yield Static(text, id="too-small")

    def draw_top(self) -> None:
        """Shows the line on top as things are now."""
        raise NotImplementedError

    def model_is_there(self, facts: Facts) -> None:
        """A model was loaded."""
        raise NotImplementedError

    def on_resize(self) -> None:
        small = self.size.width < MIN_SCREEN[0] or self.size.height < MIN_SCREEN[1]
        if small and not self.has_class("small"):
            self._had_focus = self.focused  # what is hidden loses it
        self.set_class(small, "small")
        if not small and self.focused is None and self._had_focus is not None:
            self.call_after_refresh(self.set_focus, self._had_focus)
        self.draw_top()

    def new_seed(self) -> int:
        """A seed a person can read out; with `--seed`, the same ones in every run of the program."""
        return self._random.randrange(1_000_000) if self._random else secrets.randbelow(1_000_000)

    def say(self, text: str, severity: Any = "information") -> None:
        """A notice that goes away by itself."""
        self.app.notify(sanitize(text, newlines=False), severity=severity, markup=False)

    def guarded(self, work: Callable[[], None]) -> bool:
        """Does something that may be refused; a refusal is a notice."""
        try:
            work()
        except (DgtuiError, BadJob) as refused:
            self.say(explain(refused), "warning")
            return False
        return True

    def load(self, name: str | None) -> None:
        """Loads a model; the present one is unloaded first. The person can type meanwhile."""
        self.load_error = ""
        self.query_one(Loading).start(name or self.settings.model.name or "the default model")
        said = ("", 0.0)

        def progress(stage: Stage) -> None:
            nonlocal said
            now = time.monotonic()
            if self.is_attached and (stage.what != said[0] or now - said[1] > LOADING_SAID_EVERY):
                said = stage.what, now
                self.post_message(LoadProgress(stage))

        future = self.backend.load(name, progress)
        future.add_done_callback(
            lambda f: self.post_message(Loaded(name, None if f.exception() else f.result(), f.exception()))
        )
        self.draw_top()

    @on(LoadProgress)
    def _load_progress(self, message: LoadProgress) -> None:
        stage = message.stage
        self.query_one(Loading).progress(stage.what, stage.done, stage.total)

    @on(Loaded)
    def _loaded(self, message: Loaded) -> None:
        loading, error = self.query_one(Loading), message.error
        if error is not None and self.backend.facts is not None:  # the model before still is there
            loading.finish()
            self.say(explain(error), "warning")
            self.draw_top()
            return
        if error is not None:
            hint = error.hint if isinstance(error, DgtuiError) else ""
            self.load_error = error.message if isinstance(error, DgtuiError) else explain(error)
            loading.fail(self.load_error, hint)
            return
        assert message.facts is not None
        loading.finish()
        self.model_is_there(message.facts)
        for note in message.facts.notes:
            self.say(note)
        self.draw_top()
