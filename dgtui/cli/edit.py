"""`dgtui edit`: an editor in which the model rewrites spans of a file."""

import gc
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from dgtui.cli import options, runs
from dgtui.cli.screen import load_settings, need_terminal, show
from dgtui.paths import typed_path


@options.with_settings
def command(
    file: Annotated[Path, typer.Argument(metavar="FILE", parser=typed_path, help="A text file. Created if missing.")],
    encoding: Annotated[str | None, typer.Option(metavar="NAME", help="Encoding of the file (default: UTF-8).")] = None,
    instruction: Annotated[
        str | None, typer.Option("--instruction", "-i", metavar="TEXT", help="Default instruction for rewriting.")
    ] = None,
    record: options.Record = None,
    theme: Annotated[str | None, typer.Option(metavar="NAME", help="One of `dgtui themes`.")] = None,
    seed: options.Seed = None,
    *,
    flags: dict[str, object],
) -> int:
    """Edit a file. Select a span and the model rewrites it; all other bytes stay as they are."""
    runs.check_record(record, file)
    need_terminal("use dgtui infill in scripts and pipes")
    settings, problems = load_settings(flags | {"screen.theme": theme})

    from dgtui.document.open_file import OpenFile

    opened = OpenFile(file, encoding)  # reject the file before anything is drawn
    gc.disable()  # imports create no garbage; `Worker.load` turns it on again after the last import
    from dgtui.cli.backend import WorkerBackend
    from dgtui.tui.screens.edit import EditApp, EditOpening
    from dgtui.tui.theme_file import theme_folders

    opening = EditOpening(settings.model.name, instruction or None, seed, record)
    with closing(WorkerBackend(settings)) as backend:
        return show(
            lambda: EditApp(backend, opened, settings, opening, theme_folders=theme_folders(), problems=problems),
            settings,
        )
