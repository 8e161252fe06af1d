"""The command line: one file a command; the only place where worker and screen are put together.

Nothing heavy is imported at the top of these files, so that `--help` and completion answer at once. Errors that a
person can act on end here: message and advice on stderr, the class's exit code.
"""

import os
import signal
import sys

import click
import typer

from dgtui.cli import bench, config, doctor, generate, model
from dgtui.cli.terminal import note
from dgtui.errors import DgtuiError

app = typer.Typer(
    name="dgtui",
    help="Text diffusion you can watch and steer. Runs DiffusionGemma; a small one of the same kind is built in.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("generate")(generate.command)
app.command("bench")(bench.command)
app.command("doctor")(doctor.command)
app.add_typer(model.app, name="model")
app.add_typer(config.app, name="config")


def main(args: list[str] | None = None) -> int:
    """Runs the program; the exit code. Never raises for what a person did or may do."""
    try:
        code = app(args=args, standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return 2
    except (click.Abort, KeyboardInterrupt):
        return 130
    except DgtuiError as error:
        note(f"dgtui: {error.message}")
        if error.hint:
            note(f"       {error.hint}")
        return error.exit_code
    except BrokenPipeError:
        return _closed_stdout()
    return code if isinstance(code, int) else 0


def _closed_stdout() -> int:
    """Whoever read our output has gone: end quietly, as `head` expects, and keep the interpreter from complaining."""
    sink = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            os.dup2(sink, stream.fileno())
    return 1


if hasattr(signal, "SIGPIPE"):
    # Python's default, stated: a closed pipe is an error we handle, not a signal that kills us between two writes
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)

__all__ = ["app", "main"]
