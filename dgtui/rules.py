"""How the value of one setting is read: from a TOML value or an option, and from an environment variable's text.

A rule either returns the value in the type that `dgtui.config` promises, or raises `ValueError`; the message for the
person is made from `expects` by whoever knows where the value was written.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final


@dataclass(frozen=True, slots=True)
class Rule:
    """How a setting's value is read. Both functions raise `ValueError` for what they do not take."""

    expects: str
    """Completes the sentence "it must be …"."""
    read: Callable[[Any], object]
    """From a TOML value, or from an option."""
    from_text: Callable[[str], object] = str
    """From an environment variable, to what `read` takes."""


def whole(low: int, high: int | None = None) -> Rule:
    """A whole number between two bounds, both included."""

    def read(value: Any) -> int:
        # `type`, because True is an int to isinstance.
        if type(value) is not int or value < low or (high is not None and value > high):
            raise ValueError
        return value

    expects = f"a whole number from {low} to {high}" if high is not None else f"a whole number, {low} or more"
    return Rule(expects, read, int)


def parse_size(text: object) -> int:
    """Bytes from "12GB" (powers of ten) or "11.5GiB" (powers of two). The B may be missing, the unit may not.

    Raises:
        ValueError: If it is neither, or not above 0.
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


def _read_path(value: Any) -> Path:
    if not isinstance(value, str | Path) or not str(value).strip():
        raise ValueError
    try:
        return Path(value).expanduser()
    except RuntimeError as error:  # "~name" of nobody
        raise ValueError from error


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
PATH: Final = Rule("a path in quotes", _read_path)
SIZE: Final = Rule('a size such as "12GB" or "11.5GiB"', parse_size)
KEYS: Final = Rule('a key such as "r", or a list of keys', _read_keys, _keys_from_text)
