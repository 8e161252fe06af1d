"""`dgtui edit`: a file on the screen, and the model to rewrite spans of it."""

import gc
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from dgtui.cli import options, runs
from dgtui.cli.screen import load_settings, need_terminal, show


@options.with_settings
def command(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A text file; one that is not there yet is made.")],
    encoding: Annotated[str | None, typer.Option(metavar="NAME", help="Of the file, if it is not UTF-8.")] = None,
    instruction: Annotated[
        str | None, typer.Option("--instruction", "-i", metavar="TEXT", help="How to rewrite, unless told otherwise.")
    ] = None,
    record: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the last run to a recording.")] = None,
    theme: Annotated[str | None, typer.Option(metavar="NAME", help="One of `dgtui themes`.")] = None,
    seed: options.Seed = None,
    *,
    flags: dict[str, object],
) -> int:
    """Edit a file; select a span and let the model write it anew, every other byte kept."""
    runs.check_record(record, file)
    need_terminal("use `dgtui infill` in scripts and pipes")
    settings, problems = load_settings(flags | {"screen.theme": theme})

    from dgtui.tui.screens.edit_file import OpenFile

    opened = OpenFile(file, encoding)  # refused, if it is, before anything is drawn
    gc.disable()  # imports make no garbage; `Worker.load`, which makes the last of them, enables it again
    from dgtui.cli.backend import WorkerBackend
    from dgtui.tui.screens.edit import EditApp, EditOpening
    from dgtui.tui.theme_file import theme_folders

    opening = EditOpening(settings.model.name, instruction or None, seed, record)
    with closing(WorkerBackend(settings)) as backend:
        return show(
            lambda: EditApp(backend, opened, settings, opening, theme_folders=theme_folders(), problems=problems),
            settings,
        )
