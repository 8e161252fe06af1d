"""The slash commands of the prompt, as data for completion, the help and `parse`.

A message that begins with a slash is a command. Two slashes at the start of a message stand for one, and a path is not
a command ("/etc/hosts is…").
"""

import re
from dataclasses import dataclass
from typing import Final

from dgtui.diffusion.settings import SAMPLER
from dgtui.errors import UsageError
from dgtui.mistakes import closest


class UnknownCommand(UsageError):
    """The prompt begins with a slash and a word that is not a command."""


@dataclass(frozen=True, slots=True)
class Slash:
    """A command of the prompt."""

    name: str
    """Without the slash."""
    argument_hint: str
    """The argument, in capitals; empty if there is none."""
    help: str
    """One line, without a full stop."""
    choices: str | None = None
    """What completion offers for the argument: "models", "themes", "switch" (on, off), "files", or "folders" for a file
    that is to be created."""


SLASHES: Final[tuple[Slash, ...]] = (
    Slash("model", "NAME", "load another model", "models"),
    Slash("system", "TEXT", "set the system prompt; without a text, show it"),
    Slash("seed", "NUMBER", "set the seed of all replies; without a number, use a new seed for each"),
    *(Slash(spec.command, "NUMBER", spec.help) for spec in SAMPLER),
    Slash("think", "on|off", "let the model think before it answers", "switch"),
    Slash("image", "FILE", "send an image with the next message; - removes it", "files"),
    Slash("continue", "", "let the model continue a reply that was cut"),
    Slash("template", "START ... END", "pin text in the next reply, with ... for what the model writes"),
    Slash("preview", "", "show the reply rendered, with SVG drawn; again to close"),
    Slash("record", "FILE", "write the last run to a recording", "folders"),
    Slash("export", "FILE", "write the conversation as Markdown or JSON", "folders"),
    Slash("sessions", "", "list the stored conversations"),
    Slash("theme", "NAME", "change the theme, also for the next start", "themes"),
    Slash("settings", "", "show all settings and change them in config.toml"),
    Slash("bench", "", "compare the speed of the model with transformers' generate"),
    Slash("help", "", "list keys and commands"),
    Slash("new", "", "start a new conversation"),
    Slash("rename", "TITLE", "rename this conversation"),
    Slash("delete", "", "delete this conversation"),
    Slash("search", "TEXT", "search all conversations"),
    Slash("quit", "", "quit; conversations are kept"),
)

SWITCH: Final = ("on", "off")
"""The choices of a "switch"."""

_BY_NAME: Final = {slash.name: slash for slash in SLASHES}


def parse(text: str) -> tuple[Slash, str] | None:
    """The command in `text` and its argument, stripped; None if `text` is a message.

    Raises:
        UnknownCommand: It looks like a command but is not one. The hint names the nearest.
    """
    word = command_word(text)
    if word is None:
        return None
    if slash := _BY_NAME.get(word.lower()):
        return slash, text[len(word) + 1 :].strip()
    near = closest(word.lower(), _BY_NAME, cutoff=0.5)
    raise UnknownCommand(
        f"there is no command /{word}" if word else "the name of a command is missing after the slash",
        hint=f"did you mean /{near}? To start a message with a slash, type //" if near else "type /help for a list",
    )


def unescaped(text: str) -> str:
    """The message: two slashes at its start become one."""
    return text[1:] if text.startswith("//") else text


def matching(typed: str) -> list[Slash]:
    """The commands that start with what was typed, else those that contain it."""
    typed = typed.lower()
    begin = [slash for slash in SLASHES if slash.name.startswith(typed)]
    return begin or [slash for slash in SLASHES if typed in slash.name]


def command_word(text: str) -> str | None:
    """The word after the slash of a command, known or not; None if `text` is a message."""
    if not text.startswith("/") or text.startswith("//"):
        return None
    word = re.split(r"\s", text[1:], maxsplit=1)[0]
    return None if "/" in word else word
