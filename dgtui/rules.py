"""How a setting's value is read: from a TOML value, an option, or the text of an environment variable.

A rule returns the value in the type that `dgtui.config` documents, or raises `ValueError`. The caller, which knows the
source of the value, builds the message for the user from `expects`.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from dgtui.paths import typed_path


@dataclass(frozen=True, slots=True)
class Rule:
    """How the value of a setting is read. Both functions raise `ValueError` for invalid values."""

    expects: str
    """Completes the sentence "it must be …"."""
    read: Callable[[Any], object]
    """From a TOML value or an option."""
    from_text: Callable[[str], object] = str
    """Turns the text of an environment variable into a value for `read`."""


def whole(low: int, high: int | None = None) -> Rule:
    """A whole number within two bounds, both included."""

    def read(value: Any) -> int:
        # `type`, because True is an int to isinstance.
        if type(value) is not int or value < low or (high is not None and value > high):
            raise ValueError
        return value

    expects = f"a whole number from {low} to {high}" if high is not None else f"a whole number, {low} or more"
    return Rule(expects, read, int)


def parse_size(text: object) -> int:
    """Bytes from "12GB" (powers of ten) or "11.5GiB" (powers of two). The B is optional, the unit is not.

    Raises:
        ValueError: The text is not such a size, or is 0.
    """
    match = re.fullmatch(r"(\d{1,15}(?:\.\d{1,15})?)\s*([KMGT])(I?)B?", str(text).strip().upper(), re.ASCII)
    if match is None or float(match[1]) == 0:
        raise ValueError(f"not a size: {text!r}")
    return int(float(match[1]) * (1024 if match[3] else 1000) ** ("KMGT".index(match[2]) + 1))


def _read_switch(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError
    return value


def _switch_from_text(text: str) -> bool:
    if text.lower() in {"1", "true", "yes", "on"}:
        return True
    if text.lower() in {"0", "false", "no", "off"}:
        return False
    raise ValueError


def _read_name(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError
    return value


def _read_device(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", value, re.ASCII):
        raise ValueError
    return value


def one_of(*names: str) -> Rule:
    """One of some names."""

    def read(value: Any) -> str:
        if value not in names:
            raise ValueError
        found: str = value
        return found

    quoted = [f'"{name}"' for name in names]
    return Rule(f"{', '.join(quoted[:-1])} or {quoted[-1]}", read)


def _read_path(value: Any) -> Path:
    if not isinstance(value, str | Path) or not str(value).strip():
        raise ValueError
    path = typed_path(str(value))
    if str(path).startswith("~"):  # the user is unknown
        raise ValueError
    return path


def _read_keys(value: Any) -> tuple[str, ...]:
    keys = [value] if isinstance(value, str) else value
    if not isinstance(keys, list) or not keys or not all(isinstance(key, str) and key.strip() for key in keys):
        raise ValueError
    return tuple(keys)


def _keys_from_text(text: str) -> list[str]:
    return [key.strip() for key in text.split(",")]


SWITCH: Final = Rule("true or false", _read_switch, _switch_from_text)
NAME: Final = Rule("a name in quotes", _read_name)
DEVICE: Final = Rule('"auto", "cpu", "mps", "cuda" or "cuda:N"', _read_device)
SERVER_MODE: Final = one_of("auto", "steps", "blocks", "chat")
PATH: Final = Rule("a path in quotes", _read_path)
SIZE: Final = Rule('a size such as "12GB" or "11.5GiB"', parse_size)
KEYS: Final = Rule('a key such as "r", or a list of keys', _read_keys, _keys_from_text)
