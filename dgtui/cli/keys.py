"""`dgtui keys`: lists the key bindings, including the user's own, and problems with those."""

import json
from typing import Annotated, Final

import typer

from dgtui.cli.terminal import columns, note, put
from dgtui.tui import keymap
from dgtui.tui.key_commands import Command
from dgtui.tui.key_names import plain, shown

_TITLES: Final = {
    "app": "everywhere",
    "chat": "everywhere in chat and replay",
    "talk": "everywhere in the chat",
    "canvas": "canvas: move and select",
    "steering": "canvas: steer",
    "transcript": "transcript",
    "prompt": "prompt",
    "alternatives": "alternatives of a token",
    "sessions": "conversations",
    "editor": "editor: write and move",
    "edit": "editor",
    "review": "editor: review of a proposal",
}


def command(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> int:
    """List the key bindings. Your own, from the keys section of config.toml, are marked with *."""
    from dgtui import config

    settings, problems = config.load(binding_ids=keymap.ids())
    taken, refused = keymap.check(settings.keys.bindings)
    wrong = [*map(str, problems), *(f"[keys] {problem}" for problem in refused)]
    if as_json:
        bindings = [
            _described(context, command, taken) for context, commands in keymap.COMMANDS.items() for command in commands
        ]
        put(json.dumps({"bindings": bindings, "problems": wrong}, indent=2) + "\n")
        return 0
    for number, (context, commands) in enumerate(keymap.COMMANDS.items()):
        put(("\n" if number else "") + _TITLES.get(context, context) + "\n")
        for line in columns([_row(command, taken) for command in commands]):
            put(f"{line}\n")
    for problem in wrong:
        note(problem)
    return 0


def _row(command: Command, taken: dict[str, str]) -> list[str]:
    keys = " ".join(_shown(key) for key in keymap.keys_of(command, taken))
    before = f" (was {' '.join(map(shown, command.keys))})" if command.id in taken else ""
    return ["*" if before else " ", keys, command.id, command.help + before]


def _shown(key: str) -> str:
    """A key; in brackets if the terminal needs the Kitty keyboard protocol to send it."""
    return shown(key) if plain(key) else f"({shown(key)})"


def _described(context: str, command: Command, taken: dict[str, str]) -> dict[str, object]:
    return {
        "id": command.id,
        "context": context,
        "keys": list(keymap.keys_of(command, taken)),
        "default_keys": list(command.keys),
        "changed": command.id in taken,
        "label": command.label,
        "help": command.help,
    }
