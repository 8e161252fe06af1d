"""`dgtui chat`: the screen. The one place where it and the worker are put together."""

import gc
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dgtui import paths
from dgtui.cli import options, runs
from dgtui.cli.terminal import is_terminal
from dgtui.errors import NotATerminal, UsageError

if TYPE_CHECKING:
    from dgtui.config import Settings
    from dgtui.session.store import Store


@options.with_settings
def command(
    go_on: Annotated[bool, typer.Option("--continue", help="Go on with the last conversation.")] = False,
    session: Annotated[str | None, typer.Option(metavar="ID", help="Go on with a stored conversation.")] = None,
    system: Annotated[str, typer.Option(metavar="TEXT", help="The system prompt.")] = "",
    no_history: Annotated[bool, typer.Option("--no-history", help="Store nothing.")] = False,
    record: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the last run to a recording.")] = None,
    theme: Annotated[str | None, typer.Option(metavar="NAME", help="One of `dgtui themes`.")] = None,
    seed: options.Seed = None,
    *,
    flags: dict[str, object],
) -> int:
    """Talk to the model, watch its canvas resolve, and steer it."""
    if go_on and session:
        raise UsageError("--continue and --session exclude each other", hint="give one of them")
    runs.check_record(record)
    need_terminal()
    flags = flags | {"screen.theme": theme, "history.enabled": False if no_history else None}

    from dgtui import config
    from dgtui.tui import keymap

    settings, problems = config.load(flags=flags, binding_ids=keymap.ids())
    gc.disable()  # imports make no garbage; `Worker.load`, which makes the last of them, enables it again
    with ThreadPoolExecutor(1) as beside:  # opening a file waits for the disk
        opened = beside.submit(_open_store, settings)
        from dgtui.cli.backend import WorkerBackend
        from dgtui.tui.app import DgtuiApp
        from dgtui.tui.screens.chat import Opening
        from dgtui.tui.theme_file import theme_folders
    with closing(opened.result()) as store:
        chosen = store.get(session) if session else store.latest() if go_on else None
        conversation = chosen.id if chosen else None
        opening = Opening(settings.model.name, conversation, system, seed, bool(settings.sampler.think), record)
        said = [str(problem) for problem in problems]
        with own_terminal(), closing(WorkerBackend(settings)) as backend:
            sys.setswitchinterval(0.0005)  # the default, 5 ms, costs the model thread more than the drawing does
            app = DgtuiApp(backend, store, settings, opening, theme_folders=theme_folders(), problems=said)
            app.run(mouse=settings.screen.mouse)
        return app.return_code or 0


def _open_store(settings: "Settings") -> "Store":
    from dgtui.session.store import Store, default_path

    return Store(default_path(settings.history.path) if settings.history.enabled else None)


def need_terminal() -> None:
    """Raises `NotATerminal` where a screen could not be drawn or typed at."""
    hint = "use `dgtui generate` in scripts and pipes"
    if not (is_terminal(sys.stdin) and is_terminal(sys.stdout)):
        raise NotATerminal("this needs a terminal to draw on and to type at", hint=hint)
    if os.environ.get("TERM", "dumb") in ("dumb", ""):
        raise NotATerminal("this terminal can show lines only (TERM is dumb or not set)", hint=hint)
    os.environ.setdefault("ESCDELAY", "25")  # milliseconds until a lone Esc counts; Textual reads it when imported


@contextmanager
def own_terminal() -> Iterator[None]:
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
