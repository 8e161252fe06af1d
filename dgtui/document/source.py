"""Reading a file whose text can be edited without changing any other byte.

That is possible for strict UTF-8, with or without a byte order mark, and for stateless encodings in which only LF and
CR have the bytes of LF and CR. Everything else is rejected: binary files, files that do not decode, and files that
would not be saved as the bytes that were read.
"""

import codecs
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dgtui.errors import DocumentRefused, RunFailed, reason
from dgtui.text import byte_size

LIMIT: Final = 64 * 2**20
"""Size of the largest accepted file, in bytes."""

_WIDE: Final = frozenset("utf-8 big5 cp932 cp949 cp950 euc_jp euc_kr gb18030 gb2312 gbk johab shift_jis".split())
"""Multi-byte encodings that keep no state between characters."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Identifies a file and its last modification."""

    device: int
    inode: int
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> "Identity":
        """Returns the identity of the file with that status."""
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


@dataclass(frozen=True, slots=True)
class Source:
    """A file that was read and checked. `read` and `of_bytes` create it."""

    path: Path | None
    """Where it is saved. None for standard input."""
    data: bytes
    """All bytes of the file."""
    encoding: str
    """Python's name of the encoding."""
    identity: Identity | None
    """The identity of the file when reading began. None if there is no file yet."""


def read(path: Path, encoding: str | None = None, limit: int = LIMIT) -> Source:
    """Reads a file.

    Args:
        path: A regular file, or a link to one.
        encoding: A name that Python knows. None means UTF-8.
        limit: Size of the largest accepted file, in bytes.

    Raises:
        DocumentRefused: The file is missing, is not text in that encoding, is larger than `limit`, or is not a regular
            file.
        RunFailed: The file cannot be read.
    """
    try:
        with open(
            path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)
        ) as file:  # pipes must not block
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise DocumentRefused(f"{path} is not a regular file", hint="pipe it into dgtui infill -")
            data = file.read(limit + 1)
    except IsADirectoryError as error:
        raise DocumentRefused(f"{path} is a folder", hint="give a file inside it") from error
    except FileNotFoundError as error:
        raise DocumentRefused(f"there is no file {path}") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise RunFailed(f"{path} cannot be read: {reason(error)}") from error
    return _checked(path, data, encoding, Identity.of(status), limit)


def of_bytes(data: bytes, encoding: str | None = None, path: Path | None = None) -> Source:
    """Checks text that is not in a file yet: from standard input, or for a new file at `path`.

    Raises:
        DocumentRefused: The data is not text in that encoding, or is larger than `LIMIT`.
    """
    return _checked(path, data, encoding, None)


def plain(data: bytes, encoding: str) -> str:
    """The text of a file for display: without a byte order mark, with LF for line breaks."""
    return data.decode(encoding, "replace").removeprefix("\ufeff").replace("\r\n", "\n")


def _checked(
    path: Path | None, data: bytes, encoding: str | None, identity: Identity | None, limit: int = LIMIT
) -> Source:
    shown = path or "standard input"
    name = _stateless(encoding or "utf-8")
    if len(data) > limit:
        raise DocumentRefused(f"{shown} is larger than {byte_size(limit)}", hint="split the file first")
    if (nul := data.find(b"\0")) >= 0:
        wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        raise DocumentRefused(
            f"{shown} is a binary file: byte {nul} is NUL",
            hint="this looks like UTF-16: convert it to UTF-8 first" if wide else "",
        )
    try:
        back = data.decode(name).encode(name, "replace")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DocumentRefused(
            f"{shown} is not valid {name}: byte {error.start} in line {line} does not decode",
            hint="give its encoding, for example --encoding cp1252",
        ) from error
    if back != data:
        line = next(n for n, (a, b) in enumerate(zip(data.split(b"\n"), back.split(b"\n"), strict=False), 1) if a != b)
        raise DocumentRefused(
            f"{shown} cannot be edited safely in {name}: line {line} would change when saved",
            hint="convert it to UTF-8 first",
        )
    return Source(path, data, name, identity)


def _stateless(encoding: str) -> str:
    """Returns Python's name of an encoding.

    Raises:
        DocumentRefused: There is no such encoding, or its text cannot be edited in place.
    """
    try:
        name = codecs.lookup(encoding).name.replace("utf-8-sig", "utf-8")
        stateless = name in _WIDE or _is_single_byte(name)
    except (LookupError, ValueError) as error:  # some codecs do not encode text
        raise DocumentRefused(
            f"{encoding} is not a text encoding", hint="use utf-8, cp1252 or gbk, for example"
        ) from error
    if not stateless:
        raise DocumentRefused(
            f"{name} text cannot be edited in place: the bytes of a character depend on the text before it",
            hint="convert the file to UTF-8 first",
        )
    return name


def _is_single_byte(name: str) -> bool:
    if "\r\n".encode(name, "ignore") != b"\r\n" or len("あ".encode(name, "ignore")) > 1:
        return False
    table = ((byte, byte.decode(name, "ignore")) for byte in map(bytes, zip(range(256))))
    return all(len(character) < 2 and character.encode(name) in (byte, b"") for byte, character in table)
