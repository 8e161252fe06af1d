"""The command line: one file per command. Only this package connects the worker to the screens.

Nothing heavy is imported at the top of these files, because `--help` and completion must answer at once. Typed errors
are reported here: message and hint on stderr, and the exit code of their class.
"""

import io
import os
import re
import signal
import sys
from importlib import import_module
from typing import Annotated, Any, Final

import typer

from dgtui import __version__
from dgtui.cli.terminal import drop_output, note, put
from dgtui.errors import DgtuiError, OutOfMemory, out_of_memory
from dgtui.text import sanitize

# UsageError of click, or of typer's own copy of it since 0.26. No public name works with both.
_WrongUsage: Final[Any] = typer.BadParameter.__base__

_COMMANDS: Final = (
    "chat",
    "demo",
    "edit",
    "generate",
    "infill",
    "replay",
    "train",
    "bench",
    "doctor",
    "keys",
    "themes",
)
_GROUPS: Final = ("model", "config")
_OWN_OPTIONS: Final = ("-h", "--help", "--version", "--install-completion", "--show-completion")


_NO_OPTION: Final = re.compile(r"-(\d|\S*\s)")
"""An argument such as "-5 plus 3", which the parser takes for an option."""


def program(only: str = "") -> typer.Typer:
    """Returns the program with all commands, or with only the one named `only`, because each takes time to import."""
    app = typer.Typer(
        name="dgtui",
        help="Text diffusion you can watch and steer. Runs DiffusionGemma; a small model of the same kind is built in."
        "\n\nWithout a command, `dgtui` opens the chat; options of `dgtui chat` can follow.",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    @app.callback(invoke_without_command=True)
    def alone(
        context: typer.Context,
        version: Annotated[
            bool, typer.Option("--version", is_eager=True, callback=_version, help="Print the version.")
        ] = False,
    ) -> int:
        if context.invoked_subcommand:
            return 0
        code: int = import_module("dgtui.cli.chat").command()
        return code

    wanted = {only} if only in _COMMANDS + _GROUPS else {*_COMMANDS, *_GROUPS}
    for name in _COMMANDS:
        if name in wanted:
            app.command(name)(import_module(f"dgtui.cli.{name}").command)
    for name in _GROUPS:
        if name in wanted:
            app.add_typer(import_module(f"dgtui.cli.{name}").app, name=name)
    return app


def _version(wanted: bool) -> None:
    if wanted:
        put(f"dgtui {__version__}\n")
        raise typer.Exit


def main(args: list[str] | None = None) -> int:
    """Runs the program and returns its exit code. Raises only for bugs."""
    given = sys.argv[1:] if args is None else args
    if given and given[0].startswith("-") and given[0] not in _OWN_OPTIONS:
        given = ["chat", *given]  # the chat is the default, with its options
    only = given[0] if given else "" if "_DGTUI_COMPLETE" in os.environ else "chat"
    try:
        code = program(only)(args=given, prog_name="dgtui", standalone_mode=False)
    except _WrongUsage as error:
        said = io.StringIO()
        error.show(said)
        if sys.stderr is not None:
            print(sanitize(said.getvalue()), end="", file=sys.stderr)
        if hasattr(error, "option_name") and any(map(_NO_OPTION.match, given)):
            note('put a text that starts with a dash last, after --: dgtui generate --json -- "-5 plus 3"')
        return 2
    except (typer.Abort, KeyboardInterrupt):
        return 130
    except DgtuiError as error:
        note(f"dgtui: {error.message}")
        if error.hint:
            note(f"       {error.hint}")
        return error.exit_code
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        note("dgtui: out of memory")
        note("       close other programs, or use less memory: a smaller --context, or --device cpu")
        return OutOfMemory.exit_code
    except BrokenPipeError:  # the reader of the output has closed the pipe: end quietly, as `head` expects
        drop_output()
        return 1
    except SystemExit as end:  # raised by typer in the same case
        drop_output()
        return end.code if isinstance(end.code, int) else 1
    return code if isinstance(code, int) else 0


if hasattr(signal, "SIGPIPE"):
    # Python's default, made explicit: a closed pipe is an error to handle, not a signal that kills the program
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)

__all__ = ["main", "program"]
