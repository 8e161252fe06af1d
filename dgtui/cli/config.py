"""`dgtui config`: where settings are kept."""

import typer

from dgtui import paths
from dgtui.cli.terminal import note, put
from dgtui.text import sanitize

app = typer.Typer(help="Where settings are kept.", no_args_is_help=True)


@app.callback()
def config() -> None:
    """Where settings are kept."""


@app.command("path")
def path() -> int:
    """Print the path of config.toml, for an editor: $EDITOR "$(dgtui config path)"."""
    file = paths.config_file()
    put(sanitize(str(file), newlines=False, tabs="replace") + "\n")
    if not file.exists():
        note("it does not exist yet: every setting has its default")
    return 0
