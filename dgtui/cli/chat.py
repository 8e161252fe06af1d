"""`dgtui chat`: the screen. The one place where it and the worker are put together."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from dgtui import paths
from dgtui.cli import options
from dgtui.cli.terminal import is_terminal
from dgtui.errors import NotATerminal, UsageError


def command(
    go_on: Annotated[bool, typer.Option("--continue", help="Go on with the last conversation.")] = False,
    session: Annotated[str | None, typer.Option(metavar="ID", help="Go on with a stored conversation.")] = None,
    system: Annotated[str, typer.Option(metavar="TEXT", help="The system prompt.")] = "",
    no_history: Annotated[bool, typer.Option("--no-history", help="Store nothing.")] = False,
    record: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the last run to a recording.")] = None,
    theme: Annotated[str | None, typer.Option(metavar="NAME", help="One of `dgtui themes`.")] = None,
    seed: options.Seed = None,
    model: options.Model = None,
    device: options.Device = None,
    context: options.Context = None,
    steps: options.Steps = None,
    t_min: options.TMin = None,
    t_max: options.TMax = None,
    entropy_bound: options.EntropyBound = None,
    confidence: options.Confidence = None,
    stability: options.Stability = None,
    think: options.Think = None,
) -> int:
    """Talk to the model, watch its canvas resolve, and steer it."""
    if go_on and session:
        raise UsageError("--continue and --session exclude each other", hint="give one of them")
    if record is not None and not record.absolute().parent.is_dir():
        raise UsageError(f"there is no folder {record.parent} to record to")
    need_terminal()
    flags = {
        "model.name": model, "model.device": device, "model.context": context, "screen.theme": theme,
        "sampler.max_steps": steps, "sampler.t_min": t_min, "sampler.t_max": t_max,
        "sampler.entropy_bound": entropy_bound, "sampler.confidence": confidence, "sampler.stability": stability,
        "sampler.think": think, "history.enabled": False if no_history else None,
    }  # fmt: skip

    from dgtui import config
    from dgtui.tui import keymap

    settings, problems = config.load(flags=flags, binding_ids=keymap.ids())

    from dgtui.session.store import Store, default_path

    store = Store(default_path(settings.history.path) if settings.history.enabled else None)
    try:
        conversation = store.get(session).id if session else None
        if go_on:
            latest = store.latest()
            conversation = latest.id if latest else None
        with own_terminal():
            from dgtui.cli.backend import WorkerBackend
            from dgtui.tui.app import DgtuiApp
            from dgtui.tui.screens.chat import Opening
            from dgtui.tui.theme_file import theme_folders

            sys.setswitchinterval(0.0005)  # the default, 5 ms, costs the model thread more than the drawing does
            backend = WorkerBackend(settings)
            opening = Opening(model, conversation, system, seed, bool(settings.sampler.think), record)
            app = DgtuiApp(
                backend, store, settings, opening, theme_folders=theme_folders(), problems=[str(p) for p in problems]
            )
            try:
                app.run(mouse=settings.screen.mouse)
            finally:
                backend.close()
        return app.return_code or 0
    finally:
        store.close()


def need_terminal() -> None:
    """Raises `NotATerminal` where a screen could not be drawn or typed at."""
    hint = "use `dgtui generate` in scripts and pipes"
    if not (is_terminal(sys.stdin) and is_terminal(sys.stdout)):
        raise NotATerminal("this needs a terminal to draw on and to type at", hint=hint)
    if os.environ.get("TERM", "dumb") in ("dumb", ""):
        raise NotATerminal("this terminal can show lines only (TERM is dumb or not set)", hint=hint)


@contextmanager
def own_terminal() -> Iterator[None]:
    """Lets the screen draw on a descriptor of its own while descriptor 2 leads to a log file.

    What C code writes to standard error (drivers, tokenizers) must not tear the screen.
    """
    os.environ.setdefault("ESCDELAY", "25")  # milliseconds until a lone Esc counts
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
