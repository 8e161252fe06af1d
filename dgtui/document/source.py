"""A file as it was read, byte for byte, and the promise that its text can be edited without touching the rest.

The promise holds for strict UTF-8, with or without a byte order mark, and for encodings in which every character has
bytes of its own wherever it stands, and only LF and CR have those of LF and CR. Anything else is refused: what is
binary, what does not decode, and what would not come back as the bytes that were read.
"""

import codecs
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dgtui.errors import DocumentRefused, RunFailed, reason

LIMIT: Final = 64 * 2**20
"""The largest file that is read, in bytes."""

_WIDE: Final = frozenset("utf-8 big5 cp932 cp949 cp950 euc_jp euc_kr gb18030 gb2312 gbk johab shift_jis".split())
"""The encodings of several bytes a character that keep no state from one character to the next."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Which file it was, and of when."""

    device: int
    inode: int
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> "Identity":
        """The identity of the file with that status."""
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


@dataclass(frozen=True, slots=True)
class Source:
    """A text that was read. Made by `read` and `of_bytes`, which check it."""

    path: Path | None
    """Where it goes when saved; None: it came from standard input."""
    data: bytes
    """The file, byte for byte."""
    encoding: str
    """Python's name of it."""
    identity: Identity | None
    """The file when it began to be read; None: there is no file yet."""


def read(path: Path, encoding: str | None = None) -> Source:
    """Reads a file.

    Args:
        path: A regular file, or a link to one.
        encoding: A name that Python knows; None: UTF-8.

    Raises:
        DocumentRefused: It is not a text file of that encoding, larger than `LIMIT`, or no regular file.
        RunFailed: It cannot be read.
    """
    try:
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:  # pipes wait
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise DocumentRefused(f"{path} is not a file", hint="pipe it into dgtui infill -")
            data = file.read(LIMIT + 1)
    except IsADirectoryError as error:
        raise DocumentRefused(f"{path} is a folder", hint="name a file in it") from error
    except (OSError, ValueError) as error:  # the latter: a NUL in the name
        raise RunFailed(f"{path} cannot be read: {reason(error)}") from error
    return _checked(path, data, encoding, Identity.of(status))


def of_bytes(data: bytes, encoding: str | None = None, path: Path | None = None) -> Source:
    """A text that is in no file yet: from standard input, or of a file that is still to be made at `path`.

    Raises:
        DocumentRefused: It is not a text of that encoding, or larger than `LIMIT`.
    """
    return _checked(path, data, encoding, None)


def _checked(path: Path | None, data: bytes, encoding: str | None, identity: Identity | None) -> Source:
    shown = path or "standard input"
    name = _stateless(encoding or "utf-8")
    if len(data) > LIMIT:
        raise DocumentRefused(f"{shown} is larger than {LIMIT // 2**20} MiB", hint="split it first")
    if (nul := data.find(b"\0")) >= 0:
        wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        raise DocumentRefused(
            f"{shown} is not a text file: there is a NUL at byte {nul}",
            hint="it may be UTF-16: convert it to UTF-8 first" if wide else "",
        )
    try:
        back = data.decode(name).encode(name, "replace")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DocumentRefused(
            f"{shown} is not {name}: byte {error.start}, in line {line}, does not decode",
            hint="name the encoding that it has: --encoding cp1252, for one",
        ) from error
    if back != data:
        line = next(n for n, (a, b) in enumerate(zip(data.split(b"\n"), back.split(b"\n"), strict=False), 1) if a != b)
        raise DocumentRefused(
            f"{shown} is not plain {name}: line {line} would not be saved as it was read",
            hint="convert it to UTF-8 first",
        )
    return Source(path, data, name, identity)


def _stateless(encoding: str) -> str:
    """Python's name of an encoding that can be edited in place.

    Raises:
        DocumentRefused: There is none of that name, or it cannot.
    """
    try:
        name = codecs.lookup(encoding).name.replace("utf-8-sig", "utf-8")
        stateless = name in _WIDE or _is_single_byte(name)
    except (LookupError, ValueError) as error:  # some codecs are for other things than text
        raise DocumentRefused(f"{encoding} is no encoding of text", hint="for instance utf-8, cp1252, gbk") from error
    if not stateless:
        raise DocumentRefused(
            f"text in {name} cannot be edited in place: its characters do not each have bytes of their own",
            hint="convert the file to UTF-8 first",
        )
    return name


def _is_single_byte(name: str) -> bool:
    if "\r\n".encode(name, "ignore") != b"\r\n" or len("あ".encode(name, "ignore")) > 1:
        return False
    table = ((byte, byte.decode(name, "ignore")) for byte in map(bytes, zip(range(256))))
    return all(len(character) < 2 and character.encode(name) in (byte, b"") for byte, character in table)
