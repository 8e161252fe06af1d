"""Crash recovery: the edits of an open file, on disk, for the next start after a crash.

A journal holds the file as it was read and every edit since. The text can be recovered even if the file itself has
changed or is gone. Every edit is written to the system at once, which survives the death of the program, and synced to
the disk within `SYNC_SECONDS`, which limits the loss in a power cut. The checksum of each frame covers all frames
before it. Damaged journals, and those that another program has open, are reported but never used and never deleted.
"""

import errno
import fcntl
import hashlib
import json
import os
import secrets
import stat
import struct
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, Literal

from dgtui.atomic import opened, sync_names, write_at
from dgtui.document.source import Source
from dgtui.document.undo import Edit
from dgtui.errors import RunFailed, reason
from dgtui.paths import private_dir, state_dir

SYNC_SECONDS: Final = 5.0
"""Longest time in seconds before an edit is synced to the disk."""

_MAGIC: Final = b"dgtui journal 1\n"
_FRAME: Final = struct.Struct(">QQQI")
"""Start and end of the replaced bytes, length of the new bytes, and a checksum of this and all earlier frames.

The first frame holds JSON (`path`, `pid`). The second inserts the file as it was read. The rest are edits.
"""

State = Literal["whole", "torn", "unreadable", "in use"]
"""All checks passed; the checks passed up to some edit; nothing can be recovered; its program is still running."""

_ORDER: Final[tuple[State, ...]] = ("whole", "torn", "in use", "unreadable")


@dataclass(frozen=True, slots=True)
class Recovery:
    """The contents of a journal. If it could not be read, only `file`, `state` and `when` are set."""

    file: Path
    """The journal itself."""
    state: State
    when: datetime
    """Local time of the last edit."""
    before: bytes = b""
    """The file as it was read."""
    text: bytes = b""
    """The file with all edits that passed the checks."""
    edits: int = 0
    owner: int | None = None
    """Id of the process that wrote it."""

    def data(self, source: Source) -> bytes | None:
        """Returns the text with its edits if they apply to the file as it is now.

        Returns None if the file has changed since or the journal is incomplete. `text` can then still be offered as a
        copy. If `text` equals the file, it was saved and there is nothing to recover.
        """
        return self.text if self.state == "whole" and self.before == source.data else None

    def discard(self) -> None:
        """Removes the journal, after the user has declined it or its text is stored elsewhere.

        A complete journal is deleted. A damaged one is only renamed, and one in use is left alone.

        Raises:
            RunFailed: The journal cannot be deleted or renamed.
        """
        with _explained("the journal {} cannot be removed", self.file), suppress(FileNotFoundError):
            if self.state == "whole":
                self.file.unlink()
            elif self.state != "in use":
                self.file.rename(self.file.with_suffix(".damaged"))


class Journal:
    """Records the edits of one buffer. No file exists before the first edit.

    Call `flush()` before a save and `saved()` after it. Not thread-safe.

    Args:
        path: The edited file. It need not exist.
        data: The bytes that the first edit applies to.
    """

    def __init__(self, path: Path, data: bytes) -> None:
        self._path = path
        self._lock = threading.Lock()  # guards `_descriptor`, which a background thread syncs
        self._failure: OSError | None = None
        self._sync_is_due = False
        self._begin(data)

    def _begin(self, data: bytes) -> None:
        self.file: Path | None = None
        "None before the first edit"
        self._descriptor: int | None = None
        self._size = self._checksum = 0
        self._pending = [Edit(0, b"", data)]

    def record(self, *edits: Edit) -> None:
        """Adds edits in order. Undo and redo count as edits too.

        Raises:
            RunFailed: The edits could not be written, or earlier ones could not be synced. They are kept and written
                with the next edit.
        """
        self._pending += edits
        with _explained("the edits of {} cannot be written to its journal", self._path):
            self._write()
            if not self._sync_is_due:
                self._sync_is_due = True
                timer = threading.Timer(SYNC_SECONDS, self._sync_in_background)
                timer.daemon = True
                timer.start()
            if self._failure:
                failure, self._failure = self._failure, None
                raise failure

    def flush(self) -> None:
        """Syncs everything to the disk. Raises `RunFailed` if that fails."""
        with _explained("the edits of {} cannot be written to its journal", self._path):
            if self._descriptor is not None or len(self._pending) > 1:
                self._write()
                self._sync()

    def saved(self, data: bytes) -> None:
        """Removes the recorded edits, because the file now holds `data`. Later edits apply to `data`.

        Raises:
            RunFailed: The journal cannot be removed. Later edits are recorded nevertheless.
        """
        try:
            self.close()
        finally:
            self._begin(data)

    def close(self) -> None:
        """Removes the journal, when its edits are saved or not wanted. Raises `RunFailed` if that fails."""
        with _explained("the journal of {} cannot be removed", self._path), suppress(FileNotFoundError):
            try:
                if self.file is not None:
                    self.file.unlink()
            finally:
                self.leave()

    def leave(self) -> None:
        """Closes the journal and keeps its file for the next `find`. No other call may follow."""
        with self._lock:
            if self._descriptor is not None:
                os.close(self._descriptor)  # also releases the lock on the file
            self._descriptor = None

    def _write(self) -> None:
        if self._descriptor is None:
            self._create()
        assert self._descriptor is not None
        frames, checksum = [_MAGIC] if self._size == 0 else [], self._checksum
        for edit in self._pending:
            checksum = _chain(edit.start, edit.end, edit.new, checksum)
            frames += [_FRAME.pack(edit.start, edit.end, len(edit.new), checksum), edit.new]
        data = b"".join(frames)
        write_at(self._descriptor, data, self._size)  # overwrites the rest of a failed write
        self._size, self._checksum, self._pending = self._size + len(data), checksum, []

    def _create(self) -> None:
        self.file = _folder() / f"{_key(self._path)}-{secrets.token_hex(4)}.journal"
        self._descriptor = os.open(self.file, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with suppress(OSError):  # a file system without locks
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)  # others hold it only for the moment in which they test it
        header = {"path": str(self._path.resolve()), "pid": os.getpid()}
        self._pending.insert(0, Edit(0, b"", json.dumps(header).encode()))

    def _sync(self) -> None:
        self._sync_is_due = False  # set before the sync: a later edit may miss it
        with self._lock:
            if self._descriptor is None:
                return
            descriptor, file = os.dup(self._descriptor), self.file
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if file is not None:
            with opened(file.parent, os.O_RDONLY | os.O_DIRECTORY) as folder:
                sync_names(folder)

    def _sync_in_background(self) -> None:
        try:
            self._sync()
        except OSError as error:
            self._failure = error


def find(path: Path, besides: Path | None = None) -> Recovery | None:
    """Returns the most useful journal left for a file: the newest readable one, else one in use.

    Args:
        path: The edited file.
        besides: A journal to ignore.

    Raises:
        RunFailed: The folder of journals cannot be read.
    """
    with _explained("the journals of {} cannot be read", path):
        files = (file for file in _folder().glob(f"{_key(path)}-*.journal") if file != besides)
        found = [recovery for file in files if (recovery := _read(file, path))]
    return min(found, key=lambda one: (_ORDER.index(one.state), -one.when.timestamp()), default=None)


def content(descriptor: int) -> bytes:
    """Returns all bytes of an open file."""
    pieces, size = [], 0
    while piece := os.pread(descriptor, 1 << 24, size):
        pieces.append(piece)
        size += len(piece)
    return b"".join(pieces)


def _read(file: Path, path: Path) -> Recovery | None:
    """Returns None if the journal has been removed meanwhile."""
    try:
        with opened(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK) as journal:
            status = os.fstat(journal)
            if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
                raise PermissionError(errno.EPERM, "the file belongs to someone else")
            in_use = _is_locked(journal)
            if os.fstat(journal).st_nlink == 0:
                return None
            data = content(journal)
    except FileNotFoundError:
        return None
    except OSError:
        return Recovery(file, "unreadable", datetime.now().astimezone())
    when = datetime.fromtimestamp(status.st_mtime).astimezone()
    frames = list(_frames(data))
    try:
        header = json.loads(frames[0][2])
        owner = int(header["pid"])
        belongs = header["path"] == str(path.resolve())
    except (ValueError, LookupError, TypeError, OverflowError, RecursionError):
        owner, belongs = None, False
    if in_use:
        return Recovery(file, "in use", when, owner=owner)
    if not belongs or len(frames) < 2:
        return Recovery(file, "unreadable", when, owner=owner)
    text = bytearray(before := frames[1][2])
    for start, end, new in frames[2:]:
        text[start:end] = new
    end = len(_MAGIC) + sum(_FRAME.size + len(new) for _, _, new in frames)
    state: State = "whole" if end == len(data) else "torn"
    return Recovery(file, state, when, before, bytes(text), len(frames) - 2, owner)


def _is_locked(journal: int) -> bool:
    try:
        fcntl.flock(journal, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # a file system without locks
        pass
    return False


def _frames(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yields the frames up to the first whose checksum does not match."""
    if not data.startswith(_MAGIC):
        return
    at, before = len(_MAGIC), 0
    while at + _FRAME.size <= len(data):
        start, end, length, checksum = _FRAME.unpack_from(data, at)
        new = data[at + _FRAME.size : at + _FRAME.size + length]
        if len(new) < length or checksum != _chain(start, end, new, before):
            return
        yield start, end, new
        at, before = at + _FRAME.size + length, checksum


def _chain(start: int, end: int, new: bytes, before: int) -> int:
    return zlib.crc32(new, zlib.crc32(_FRAME.pack(start, end, len(new), before)))


def _folder() -> Path:
    return private_dir(state_dir() / "journals")


def _key(path: Path) -> str:
    return hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:24]


@contextmanager
def _explained(failure: str, path: Path) -> Iterator[None]:
    """Raises `RunFailed` for an error of the block. `failure` is the message, with {} for the path."""
    try:
        yield
    except (OSError, RuntimeError, ValueError) as error:  # e.g. a loop of links, or a NUL in the name
        raise RunFailed(
            f"{failure.format(path)}: {reason(error)}", hint="save now, and check the journal folder"
        ) from error
