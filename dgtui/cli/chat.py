"""`dgtui chat`: connects the chat screen, the history and the worker."""

import gc
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from dgtui.cli import options, runs
from dgtui.cli.screen import load_settings, need_terminal, show
from dgtui.errors import UsageError

if TYPE_CHECKING:
    from dgtui.config import Settings
    from dgtui.session.store import Store


@options.with_settings
def command(
    go_on: Annotated[bool, typer.Option("--continue", help="Continue the last conversation.")] = False,
    session: Annotated[str | None, typer.Option(metavar="ID", help="Continue a stored conversation.")] = None,
    system: Annotated[str, typer.Option(metavar="TEXT", help="System prompt.")] = "",
    no_history: Annotated[bool, typer.Option("--no-history", help="Do not store the conversation.")] = False,
    image: options.Image = None,
    record: options.Record = None,
    theme: Annotated[str | None, typer.Option(metavar="NAME", help="One of `dgtui themes`.")] = None,
    seed: options.Seed = None,
    *,
    flags: dict[str, object],
) -> int:
    """Chat with the model, watch its canvas resolve, and steer it."""
    if go_on and session:
        raise UsageError("--continue and --session cannot be combined", hint="use one of them")
    runs.check_record(record)
    need_terminal("use dgtui generate in scripts and pipes")
    runs.pictures(image)
    settings, problems = load_settings(
        options.with_vision(flags, image) | {"screen.theme": theme, "history.enabled": False if no_history else None}
    )
    gc.disable()  # imports create no garbage; `Worker.load` turns it on again after the last import
    with ThreadPoolExecutor(1) as beside:  # in parallel, because opening the history waits for the disk
        opened = beside.submit(_open_store, settings)
        from dgtui.cli.backend import WorkerBackend
        from dgtui.tui.opening import MOST_TOKENS, Opening
        from dgtui.tui.screens.chat import ChatApp
        from dgtui.tui.theme_file import theme_folders
    with closing(opened.result()) as store:
        chosen = store.get(session) if session else store.latest() if go_on else None
        conversation = chosen.id if chosen else None
        opening = Opening(
            settings.model.name,
            conversation,
            system,
            seed,
            bool(settings.sampler.think),
            record,
            tuple(image or ()),
            settings.sampler.max_tokens or MOST_TOKENS,
        )
        with closing(WorkerBackend(settings, text=True)) as backend:
            return show(
                lambda: ChatApp(backend, store, settings, opening, theme_folders=theme_folders(), problems=problems),
                settings,
            )


def _open_store(settings: "Settings") -> "Store":
    from dgtui.session.store import Store, default_path

    return Store(default_path(settings.history.path) if settings.history.enabled else None)
