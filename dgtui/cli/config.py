"""`dgtui config`: where settings are kept."""

import os
import sys

import typer

from dgtui import paths
from dgtui.cli.terminal import is_terminal, note, put
from dgtui.text import sanitize

app = typer.Typer(help="Where settings are kept.", no_args_is_help=True)


@app.callback()
def config() -> None:
    """Where settings are kept."""


@app.command("path")
def path() -> int:
    """Print the path of config.toml, for an editor: $EDITOR "$(dgtui config path)"."""
    file = paths.config_file()
    if is_terminal(sys.stdout):
        put(sanitize(str(file), newlines=False, tabs="replace") + "\n")
    else:  # another program gets the path as it is
        put(os.fsencode(file) + b"\n")
    if not file.exists():
        note("it does not exist yet: every setting has its default")
    return 0
