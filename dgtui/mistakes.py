"""User mistakes: finds the name that was probably meant, and what is wrong with a TOML file, and where."""

import difflib
import re
import stat
import tomllib
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from dgtui.text import sanitize


@dataclass(frozen=True, slots=True)
class Problem:
    """A mistake in a file or an environment variable. `str()` gives the whole message, safe to show."""

    message: str
    """What is wrong, and which value is used instead."""
    source: str
    """The file, or the environment variable."""
    line: int | None = None
    """1-based line in the file, if known."""
    suggestion: str | None = None
    """The closest valid name, if there is one."""

    def __str__(self) -> str:
        position = self.source if self.line is None else f"{self.source}:{self.line}"
        message = f"{position}: {self.message}{in_brackets(did_you_mean(self.suggestion))}"
        return sanitize(message, newlines=False, tabs="replace")


def closest(name: str, names: Iterable[str], *, cutoff: float = 0.6) -> str | None:
    """The valid name most like `name`; None if no similarity (0 … 1, as difflib counts it) reaches `cutoff`."""
    return next(iter(difflib.get_close_matches(name, list(names), n=1, cutoff=cutoff)), None)


def closest_dotted(name: str, names: Collection[str]) -> str | None:
    """The valid "section.key" most like `name`, even if only the section is missing or wrong."""
    key = name.rpartition(".")[2]
    by_key = {known.rpartition(".")[2]: known for known in reversed(list(names))}
    if near := by_key.get(key) or closest(name, names):
        return near
    match = closest(key, by_key, cutoff=0.75)
    return by_key[match] if match else None


def did_you_mean(name: str | None, otherwise: str = "") -> str:
    """A hint that names the closest match; `otherwise` if there is none."""
    return f"did you mean {name}?" if name else otherwise


def in_brackets(hint: str) -> str:
    """A hint in brackets, to append to a message; empty if there is no hint."""
    return f" ({hint})" if hint else ""


class TomlError(Exception):
    """A file cannot be used as TOML. `line` is 1-based, if it is known; `is_missing`: there is no such file."""

    def __init__(self, message: str, line: int | None = None, *, is_missing: bool = False) -> None:
        super().__init__(message)
        self.message, self.line, self.is_missing = message, line, is_missing


def read_toml(path: Path, max_bytes: int) -> tuple[str, dict[str, Any]]:
    """Read a TOML file; returns its text and its table.

    Raises:
        TomlError: It is missing, not a regular file, larger than `max_bytes`, not UTF-8 or not TOML.
    """
    source = _text_of(path, max_bytes)
    try:
        return source, tomllib.loads(source)
    except tomllib.TOMLDecodeError as error:
        reason, _, place = str(error).partition(" (at ")
        line = re.search(r"line (\d+)", place)
        raise TomlError(f"not TOML: {reason}", int(line[1]) if line else source.count("\n") + 1) from error
    except (ValueError, RecursionError) as error:  # a number with thousands of digits, or thousands of nested brackets
        raise TomlError("cannot be read as TOML: a value is too long or too deeply nested") from error


def _text_of(path: Path, max_bytes: int) -> str:
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):  # opening a pipe would block
            raise TomlError("a folder, not a file" if stat.S_ISDIR(mode) else "not a regular file")
        with path.open("rb") as stream:
            data = stream.read(max_bytes + 1)
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        raise TomlError(f"cannot be read: {error.strerror or error}", is_missing=missing) from error
    if len(data) > max_bytes:
        raise TomlError(f"too large: more than {max_bytes // 1024} KiB")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise TomlError("not UTF-8", data[: error.start].count(b"\n") + 1) from error


_HEADER: Final = re.compile(r"\s*\[\[?\s*([^\[\]]+?)\s*\]")
_KEY: Final = re.compile(r"""\s*((?:[\w.-]|\s*\.\s*|"[^"]*"|'[^']*')+?)\s*=""")


def line_of(name: str, source: str, value: str = "") -> int | None:
    """The 1-based line that sets a dotted name, which tomllib does not give.

    A scan for headers and keys is enough: the text is valid TOML, and a wrong guess (inside a multi-line string) only
    misplaces a message. A value in an inline table is placed at the table.

    Args:
        name: "section.key".
        source: Valid TOML.
        value: A string in the value: if it is on a later line of the same section, that line counts.
    """
    section = ""
    best: tuple[int, int] | None = None  # length of the matched name, line
    for number, line in enumerate(source.split("\n"), start=1):
        if header := _HEADER.match(line):
            found = section = _bare(header[1])
        elif key := _KEY.match(line):
            found = f"{section}.{_bare(key[1])}".removeprefix(".")
        else:
            found = ""
        if found and (name == found or name.startswith(f"{found}.")) and (best is None or len(found) > best[0]):
            best = len(found), number
        if best and value and value in line and section == name.rpartition(".")[0]:
            return number
    return best[1] if best else None


def _bare(key: str) -> str:
    """A dotted key without quotes and without blanks around its dots."""
    return re.sub(r"""\s*\.\s*|["']""", lambda match: "." if "." in match[0] else "", key)
