"""The slash commands of the prompt, as data: what completion offers, the help lists and `parse` understands.

A message that begins with a slash is a command; two slashes say one, and a path is no command ("/etc/hosts is…").
"""

import re
from dataclasses import dataclass
from typing import Final

from dgtui.diffusion.settings import SAMPLER
from dgtui.errors import UsageError
from dgtui.mistakes import closest


class UnknownCommand(UsageError):
    """The prompt begins with a slash and a word that is no command."""


@dataclass(frozen=True, slots=True)
class Slash:
    """A command of the prompt."""

    name: str
    """Without the slash."""
    argument_hint: str
    """What may follow, in capitals, or an empty string."""
    help: str
    """One line, without a full stop."""
    choices: str | None = None
    """What the argument is chosen from, for completion: "models", "themes", "switch" (on, off), "files", or "folders"
    for a file that is to be made."""


SLASHES: Final[tuple[Slash, ...]] = (
    Slash("model", "NAME", "load another model", "models"),
    Slash("system", "TEXT", "set the system prompt; alone, show it"),
    Slash("seed", "NUMBER", "seed of the replies to come; alone, a new one each"),
    *(Slash(spec.command, "NUMBER", spec.help) for spec in SAMPLER),
    Slash("think", "on|off", "let the model think before it answers", "switch"),
    Slash("image", "FILE", "send an image with the next message; - drops it", "files"),
    Slash("frame", "", "write pinned text on the canvas before a run"),
    Slash("record", "FILE", "write the last run to a recording", "folders"),
    Slash("export", "FILE", "write the conversation as Markdown or JSON", "folders"),
    Slash("sessions", "", "list the stored conversations"),
    Slash("theme", "NAME", "change the looks", "themes"),
    Slash("bench", "", "measure the loaded model beside transformers' generate"),
    Slash("help", "", "list keys and commands"),
    Slash("new", "", "begin a new conversation"),
    Slash("rename", "TITLE", "rename this conversation"),
    Slash("delete", "", "delete this conversation"),
    Slash("search", "TEXT", "search all conversations"),
    Slash("quit", "", "leave; conversations are kept"),
)

SWITCH: Final = ("on", "off")
"""The choices of a "switch"."""

_BY_NAME: Final = {slash.name: slash for slash in SLASHES}


def parse(text: str) -> tuple[Slash, str] | None:
    """The command that `text` is and what follows it, stripped; None if `text` is a message.

    Raises:
        UnknownCommand: If it looks like a command and is none; the hint names the nearest.
    """
    word = _word(text)
    if word is None:
        return None
    if slash := _BY_NAME.get(word.lower()):
        return slash, text[len(word) + 1 :].strip()
    near = closest(word.lower(), _BY_NAME, cutoff=0.5)
    raise UnknownCommand(
        f"there is no command /{word}" if word else "a command's name is missing after the slash",
        hint=f"did you mean /{near}? // at the start says a slash" if near else "/help lists the commands",
    )


def said(text: str) -> str:
    """A message as it was meant: of two slashes at its start one is left."""
    return text[1:] if text.startswith("//") else text


def matching(typed: str) -> list[Slash]:
    """The commands that a name typed so far may become: those that begin with it, else those that contain it."""
    typed = typed.lower()
    begin = [slash for slash in SLASHES if slash.name.startswith(typed)]
    return begin or [slash for slash in SLASHES if typed in slash.name]


def _word(text: str) -> str | None:
    if not text.startswith("/") or text.startswith("//"):
        return None
    word = re.split(r"\s", text[1:], maxsplit=1)[0]
    return None if "/" in word else word
