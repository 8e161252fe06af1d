"""The command line: one file a command; the only place where worker and screen are put together.

Nothing heavy is imported at the top of these files, so that `--help` and completion answer at once. Errors that a
person can act on end here: message and advice on stderr, the class's exit code.
"""

import io
import signal
import sys
from typing import Any, Final

import typer

from dgtui.cli import bench, chat, config, doctor, edit, generate, infill, keys, model, replay, themes
from dgtui.cli.terminal import drop_output, note
from dgtui.errors import DgtuiError
from dgtui.text import sanitize

_WrongUsage: Final[Any] = typer.BadParameter.__base__
# UsageError, of click or of the copy of it that typer has kept since 0.26: it has no public name in both.

app = typer.Typer(
    name="dgtui",
    help="Text diffusion you can watch and steer. Runs DiffusionGemma; a small one of the same kind is built in.",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def _alone(context: typer.Context) -> int:
    """Text diffusion you can watch and steer. Without a command: chat."""
    return 0 if context.invoked_subcommand else chat.command()


app.command("chat")(chat.command)
app.command("edit")(edit.command)
app.command("generate")(generate.command)
app.command("infill")(infill.command)
app.command("replay")(replay.command)
app.command("bench")(bench.command)
app.command("doctor")(doctor.command)
app.command("keys")(keys.command)
app.command("themes")(themes.command)
app.add_typer(model.app, name="model")
app.add_typer(config.app, name="config")


def main(args: list[str] | None = None) -> int:
    """Runs the program; the exit code. Never raises for what a person did or may do."""
    try:
        code = app(args=args, prog_name="dgtui", standalone_mode=False)
    except _WrongUsage as error:
        said = io.StringIO()
        error.show(said)
        if sys.stderr is not None:
            print(sanitize(said.getvalue()), end="", file=sys.stderr)
        return 2
    except (typer.Abort, KeyboardInterrupt):
        return 130
    except DgtuiError as error:
        note(f"dgtui: {error.message}")
        if error.hint:
            note(f"       {error.hint}")
        return error.exit_code
    except BrokenPipeError:  # whoever read our output has gone: end quietly, as `head` expects
        drop_output()
        return 1
    except SystemExit as end:  # typer's own answer to the same
        drop_output()
        return end.code if isinstance(end.code, int) else 1
    return code if isinstance(code, int) else 0


if hasattr(signal, "SIGPIPE"):
    # Python's default, stated: a closed pipe is an error we handle, not a signal that kills us between two writes
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)

__all__ = ["app", "main"]
