"""What the commands with a screen share: a terminal that can show one, the settings, and the run of the app."""

import os
import selectors
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

from dgtui import paths
from dgtui.cli.terminal import is_terminal
from dgtui.errors import NotATerminal

if TYPE_CHECKING:
    from dgtui.config import Settings
    from dgtui.tui.app import BaseApp


_LOOK: Final = 0.03
# Seconds until it is looked whether something has followed what was typed: a little more than ESCDELAY.


def need_terminal(hint: str) -> None:
    """Raises `NotATerminal` where a screen could not be drawn or typed at. To be called before Textual is imported."""
    if not (is_terminal(sys.stdin) and is_terminal(sys.stdout)):
        raise NotATerminal("this needs a terminal to draw on and to type at", hint=hint)
    if os.environ.get("TERM", "dumb") in ("dumb", ""):
        raise NotATerminal("this terminal can show lines only (TERM is dumb or not set)", hint=hint)
    os.environ.setdefault("ESCDELAY", "25")  # milliseconds until a lone Esc counts; Textual reads it when imported


def load_settings(flags: Mapping[str, object]) -> tuple["Settings", list[str]]:
    """The settings, and what is wrong with them, to be said on the screen."""
    from dgtui import config
    from dgtui.tui import keymap

    settings, problems = config.load(flags=flags, binding_ids=keymap.ids())
    return settings, [str(problem) for problem in problems]


def show(make: "Callable[[], BaseApp]", settings: "Settings") -> int:
    """Runs an app until the person leaves it; the exit code."""
    import asyncio

    with _own_terminal():
        look_soon()
        read_pastes_safely()
        sys.setswitchinterval(0.0005)  # the default, 5 ms, costs the model thread more than the drawing does
        app = make()

        async def run() -> None:
            # What is on the screen is stored as it comes: the app may leave at once
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, app.exit, None, 130)
            await app.run_async(mouse=settings.screen.mouse)

        asyncio.run(run())
    return app.return_code or 0


class _SoonSelector(selectors.SelectSelector):
    """Waits for input as long as it is told to, but only shortly where some has just come."""

    _looks = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        events = super().select(_LOOK if self._looks and timeout else timeout)
        self._looks = 2 if events else max(0, self._looks - 1)
        return events


def look_soon() -> None:
    """Makes a lone Esc count soon, where the terminal has not the kitty protocol: it does when nothing has followed it,
    and Textual looks for that every 0.1 s, which is long for a key that stops a run. There is no setting for it."""
    from textual.drivers import linux_driver

    own: Any = linux_driver
    own.selectors = SimpleNamespace(SelectSelector=_SoonSelector, EVENT_READ=selectors.EVENT_READ)


def read_pastes_safely() -> None:
    """Keeps what is pasted from being taken for keys. There is no setting for it."""
    from textual.drivers import linux_driver

    from dgtui.tui.pasted_input import PasteSafeParser

    own: Any = linux_driver
    own.XTermParser = PasteSafeParser


@contextmanager
def _own_terminal() -> Iterator[None]:
    """Lets the screen draw on a descriptor of its own while descriptor 2 leads to a log file.

    What C code writes to standard error (drivers, tokenizers) must not tear the screen.
    """
    log = paths.state_dir() / "dgtui.log"
    screen, before = os.fdopen(os.dup(1), "w", encoding="utf-8"), os.dup(2)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.dup2(descriptor, 2)
    os.close(descriptor)
    kept = sys.__stderr__
    sys.__stderr__ = screen  # type: ignore[misc]  # what Textual draws on
    try:
        yield
    finally:
        sys.__stderr__ = kept  # type: ignore[misc]
        screen.close()
        os.dup2(before, 2)
        os.close(before)
