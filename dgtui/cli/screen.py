"""Shared by the screen commands: checking the terminal, reading the settings, running the app."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from dgtui import paths
from dgtui.cli.terminal import is_terminal
from dgtui.errors import DgtuiError, NotATerminal

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

    from dgtui.config import Settings
    from dgtui.tui.app import BaseApp

SECONDS_TO_END = 1.8
"""Seconds after a signal until the process is ended by force."""


def need_terminal(hint: str) -> None:
    """Raises `NotATerminal` unless the terminal can show a screen and read keys. Call it before importing Textual."""
    if not (is_terminal(sys.stdin) and is_terminal(sys.stdout)):
        raise NotATerminal("this command needs a terminal for its screen and keyboard", hint=hint)
    if os.environ.get("TERM", "dumb") in ("dumb", ""):
        raise NotATerminal("this terminal cannot show a screen (TERM is dumb or not set)", hint=hint)
    os.environ.setdefault("ESCDELAY", "25")  # milliseconds until a lone Esc counts; Textual reads it when imported


def load_settings(flags: Mapping[str, object]) -> tuple["Settings", list[str]]:
    """Returns the settings and a list of the mistakes in them, to be shown on the screen."""
    from dgtui import config
    from dgtui.tui import keymap

    settings, problems = config.load(flags=flags, binding_ids=keymap.ids())
    return settings, [str(problem) for problem in problems]


def show(make: "Callable[[], BaseApp]", settings: "Settings") -> int:
    """Runs an app until the user quits, a signal ends it or the terminal is gone. Returns the exit code."""
    import asyncio

    from dgtui.tui.textual_patches import patch_driver

    with _own_terminal():
        patch_driver()
        sys.setswitchinterval(0.0005)  # the default of 5 ms costs the model thread more than drawing does
        app = make()

        async def run() -> None:
            _end_on_signals(app, asyncio.get_running_loop())
            await app.run_async(mouse=settings.screen.mouse)

        asyncio.run(run())
    return app.return_code or 0


def _end_on_signals(app: "BaseApp", loop: "AbstractEventLoop") -> None:
    """Lets SIGTERM and SIGHUP end the app, even while a terminal that takes no output blocks it.

    A SIGHUP that the caller ignores stays ignored. A closed terminal is noticed anyway.
    """
    from dgtui.tui.textual_patches import ending

    def end(number: int, _: object) -> None:
        if not ending.is_set():
            ending.set()
            last = threading.Timer(SECONDS_TO_END, os._exit, (130,))
            last.daemon = True
            last.start()
        loop.call_soon_threadsafe(app.call_later, app.exit, None, 130)

    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, end)


@contextmanager
def _own_terminal() -> Iterator[None]:
    """Lets the screen draw on its own descriptor and redirects descriptor 2 to a log file.

    Messages of C code on standard error (drivers, tokenizers) must not corrupt the screen. If no log can be written,
    they are dropped.
    """
    screen, before = os.fdopen(os.dup(1), "w", encoding="utf-8"), os.dup(2)
    try:
        descriptor = os.open(paths.state_dir() / "dgtui.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    except (OSError, DgtuiError):
        descriptor = os.open(os.devnull, os.O_WRONLY)
    os.dup2(descriptor, 2)
    os.close(descriptor)
    kept = sys.__stderr__
    sys.__stderr__ = screen  # type: ignore[misc]  # what Textual draws on
    try:
        yield
    finally:
        sys.__stderr__ = kept  # type: ignore[misc]
        with suppress(OSError):  # the terminal is gone
            screen.close()
        os.dup2(before, 2)
        os.close(before)
