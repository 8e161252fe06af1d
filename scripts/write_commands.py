"""Writes `docs/commands.md` from the commands' own help.

PYTHONPATH=. python scripts/write_commands.py
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from dgtui.cli import program

FILE = Path(__file__).resolve().parent.parent / "docs" / "commands.md"
HEAD = """# Commands

Written by `scripts/write_commands.py` from the same source as `--help`. Do not edit it by hand.
"""


def document() -> str:
    """Returns the whole page: every command with its arguments and options."""
    return "\n".join([HEAD, *_sections("dgtui", typer.main.get_command(program()))]).rstrip() + "\n"


def _sections(name: str, command: Any) -> Iterator[str]:
    yield f"## `{' '.join([name, *_usage(command)])}`\n"
    yield f"{_clean(command.help)}\n"
    rows = [row for param in command.params if (row := _row(param))]
    if rows:
        yield "| | |\n|---|---|\n" + "\n".join(rows) + "\n"
    for sub, inner in getattr(command, "commands", {}).items():
        yield from _sections(f"{name} {sub}", inner)


def _usage(command: Any) -> Iterator[str]:
    if hasattr(command, "commands"):
        yield "COMMAND"
    for param in command.params:
        if param.param_type_name == "argument":
            word = param.metavar or param.name.upper()
            yield word if param.required else f"[{word}]"


def _row(param: Any) -> str:
    """Returns a row of the table. Empty for the options that every program made with typer has."""
    if "completion" in param.name:
        return ""
    if param.param_type_name == "argument":
        name = param.metavar or param.name.upper()
    else:
        name = ", ".join([*param.opts, *param.secondary_opts])
        name += f" {param.metavar}" if param.metavar else ""
    default = param.default if type(param.default) in (int, float, str) and param.default != "" else None
    text = _clean(param.help) + (f" Default: {default}." if default is not None else "")
    return f"| `{_clean(name)}` | {text} |"


def _clean(text: str | None) -> str:
    return " ".join((text or "").replace("|", "\\|").split())


if __name__ == "__main__":
    FILE.write_text(document(), encoding="utf-8")
