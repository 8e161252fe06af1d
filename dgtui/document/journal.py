"""Crash recovery: the edits of an open file, on disk for the next program should this one die.

A journal holds the file as it was read and every edit since, so that the text comes back even where the file itself has
changed or is gone. An edit is handed to the system at once, which the death of the program cannot undo, and forced to
the disk within `SYNC_SECONDS`, which bounds what a power cut takes. Every frame is checked against all before it. What
does not pass, and what another program has open, is reported: never trusted, never deleted.
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

from dgtui.document.source import Source
from dgtui.document.undo import Edit
from dgtui.errors import RunFailed, reason
from dgtui.paths import private_dir, state_dir

SYNC_SECONDS: Final = 5.0
"""How long an edit may wait until it is forced to the disk."""

_MAGIC: Final = b"dgtui journal 1\n"
_FRAME: Final = struct.Struct(">QQQI")
"""Start and end of what was replaced, the length of what replaced it, and a checksum over this and all frames before.

The first frame holds JSON (`path`, `pid`), the second puts the file as it was read into nothing, the rest are edits.
"""

State = Literal["whole", "torn", "unreadable", "in use"]
"""A journal that passed all checks; one that passed up to some edit; one that holds nothing to go by; one whose
program still runs."""

_ORDER: Final[tuple[State, ...]] = ("whole", "torn", "in use", "unreadable")


@dataclass(frozen=True, slots=True)
class Recovery:
    """What a journal holds. Everything but `file`, `state` and `when` is empty where it could not be read."""

    file: Path
    """The journal itself."""
    state: State
    when: datetime
    """The last edit, in local time."""
    before: bytes = b""
    """The file as it was read."""
    text: bytes = b""
    """The file with the edits, as far as they passed the checks."""
    edits: int = 0
    owner: int | None = None
    """The process that wrote it."""

    def data(self, source: Source) -> bytes | None:
        """The text with its edits, if they apply to the file as it is now.

        None: the file is another one by now, or the journal is not whole. What was recovered is still in `text`, to be
        offered as a copy. Where `text` is what the file holds, it was saved, and there is nothing to recover.
        """
        return self.text if self.state == "whole" and self.before == source.data else None

    def discard(self) -> None:
        """Ends the offer, once it is declined or what it held is safe elsewhere.

        Deletes a whole journal. One that is damaged only gets another name, one in use is left alone.

        Raises:
            RunFailed: It cannot be deleted or renamed.
        """
        with _explained(self.file, "removed"), suppress(FileNotFoundError):
            if self.state == "whole":
                self.file.unlink()
            elif self.state != "in use":
                self.file.rename(self.file.with_suffix(".damaged"))


class Journal:
    """Records the edits of one buffer. Nothing is on disk before the first.

    Around a save: `flush()`, save, `saved()`. For one thread at a time.

    Args:
        path: The file that is edited. It need not be there.
        data: The bytes that the first edit applies to.
    """

    def __init__(self, path: Path, data: bytes) -> None:
        self._path = path
        self._lock = threading.Lock()  # over `_descriptor`, which a background thread forces to the disk
        self._failure: OSError | None = None
        self._sync_is_due = False
        self._begin(data)

    def _begin(self, data: bytes) -> None:
        self.file: Path | None = None
        "none before the first edit"
        self._descriptor: int | None = None
        self._size = self._checksum = 0
        self._pending = [Edit(0, b"", data)]

    def record(self, *edits: Edit) -> None:
        """Adds edits in their order. What undo and redo do are edits like any other.

        Raises:
            RunFailed: They could not be written, or earlier ones could not be forced to the disk. They are kept and
                written with the next.
        """
        self._pending += edits
        with _explained(self._path, "protected against a crash"):
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
        """Forces everything to the disk now. Raises `RunFailed` if that fails."""
        with _explained(self._path, "protected against a crash"):
            if self._descriptor is not None or len(self._pending) > 1:
                self._write()
                self._sync()

    def saved(self, data: bytes) -> None:
        """The file holds `data` safely: what was recorded is removed, and the next edits apply to `data`.

        Raises:
            RunFailed: It cannot be removed. The next edits are recorded all the same.
        """
        try:
            self.close()
        finally:
            self._begin(data)

    def close(self) -> None:
        """Removes the journal: the buffer is saved, or its edits are not wanted. Raises `RunFailed` if that fails."""
        with _explained(self._path, "cleared of its journal"), suppress(FileNotFoundError):
            try:
                if self.file is not None:
                    self.file.unlink()
            finally:
                self.leave()

    def leave(self) -> None:
        """Leaves the journal where it is, for the next `find`. No other call may follow."""
        with self._lock:
            if self._descriptor is not None:
                os.close(self._descriptor)  # with it goes the lock on the file
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
        write_at(self._descriptor, data, self._size)  # over what a write that failed may have left
        self._size, self._checksum, self._pending = self._size + len(data), checksum, []

    def _create(self) -> None:
        self.file = _folder() / f"{_key(self._path)}-{secrets.token_hex(4)}.journal"
        self._descriptor = os.open(self.file, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with suppress(OSError):  # a file system without locks
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)  # at most a moment: somebody looks whether it is locked
        header = {"path": str(self._path.resolve()), "pid": os.getpid()}
        self._pending.insert(0, Edit(0, b"", json.dumps(header).encode()))

    def _sync(self) -> None:
        self._sync_is_due = False  # before: an edit from here on may come too late for this time
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
    """The journal that matters most of those left for the file: the newest that can be read, else one in use.

    Args:
        path: The file.
        besides: A journal that does not count.

    Raises:
        RunFailed: There is no looking for it.
    """
    with _explained(path, "looked up in the journals"):
        files = (file for file in _folder().glob(f"{_key(path)}-*.journal") if file != besides)
        found = [recovery for file in files if (recovery := _read(file, path))]
    return min(found, key=lambda one: (_ORDER.index(one.state), -one.when.timestamp()), default=None)


def write_at(descriptor: int, data: bytes, offset: int) -> None:
    """Writes all of `data` at `offset`; `os.pwrite` may write less."""
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written


def content(descriptor: int) -> bytes:
    """All that the file holds."""
    pieces, size = [], 0
    while piece := os.pread(descriptor, 1 << 24, size):
        pieces.append(piece)
        size += len(piece)
    return b"".join(pieces)


@contextmanager
def opened(path: Path, flags: int, mode: int = 0o600, folder: int | None = None) -> Iterator[int]:
    """A descriptor, closed at the end; `path` is relative to the folder of that descriptor."""
    descriptor = os.open(path, flags | os.O_CLOEXEC, mode, dir_fd=folder)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def sync_names(folder: int) -> None:
    """Forces to the disk which names an open folder holds, where its file system can do that for folders."""
    try:
        os.fsync(folder)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise


def _read(file: Path, path: Path) -> Recovery | None:
    """None: it was removed meanwhile."""
    try:
        with opened(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK) as journal:
            status = os.fstat(journal)
            if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
                raise PermissionError(errno.EPERM, "not our own file")
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
    except (ValueError, LookupError, TypeError):
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
    """The frames up to the first that does not pass its check."""
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
def _explained(path: Path, what: str) -> Iterator[None]:
    try:
        yield
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links, a NUL in the name
        raise RunFailed(
            f"{path} cannot be {what}: {reason(error)}", hint="see to the folder of journals, and save"
        ) from error
