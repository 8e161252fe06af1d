"""`dgtui config`: the settings file."""

import os
import sys

import typer

from dgtui import paths
from dgtui.cli.terminal import is_terminal, note, put
from dgtui.text import sanitize

app = typer.Typer(help="Show where the settings file is.", no_args_is_help=True)


@app.callback()
def config() -> None:
    """Show where the settings file is."""


@app.command("path")
def path() -> int:
    """Print the path of config.toml. To edit it: $EDITOR "$(dgtui config path)"."""
    file = paths.config_file()
    if is_terminal(sys.stdout):
        put(sanitize(str(file), newlines=False, tabs="replace") + "\n")
    else:  # other programs get the exact bytes of the path
        put(os.fsencode(file) + b"\n")
    if not file.exists():
        note("the file does not exist yet: all settings have their default values")
    return 0
