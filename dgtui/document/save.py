"""Atomic saving.

If the program dies during `save`, the file holds the old bytes or the new ones. If it can only be written in place, a
journal holds both meanwhile and `journal.find` offers it. A file that changed since it was read is not overwritten
without `force`. Links, mode, owner, access lists and extended attributes are preserved.
"""

import errno
import fcntl
import os
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dgtui.atomic import opened, replace_file, write_at
from dgtui.document.journal import Journal, content
from dgtui.document.source import Identity, Source
from dgtui.document.undo import Edit
from dgtui.errors import RunFailed, reason

_IN_PLACE: Final = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.EBUSY, errno.ENOTSUP})
"""Errors when replacing a file with a new one (no permission for the folder, owner or attributes; a mount point).
Writing in place may still work."""

_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""Errors of a full disk."""

PATIENCE: Final = 3.0
"""Longest wait in seconds for the lock of a folder. A save holds it briefly, but another program may hold it longer."""


class Conflict(RunFailed):
    """The file on disk is not the one that was last read or saved. It was not changed."""


def save(data: bytes, path: Path, expected: Source | None, *, force: bool = False) -> Identity:
    """Saves `data` as the contents of `path`.

    A file that already has these contents is not touched. Otherwise a new file is written next to it and replaces it.
    If that is not permitted, or would lose a hard link, the owner or attributes, the file is written in place.

    Args:
        data: All bytes of the file.
        path: The file. A symbolic link is followed and kept.
        expected: The file as it was last read or saved. None: there should be no file.
        force: Overwrite the file even if it has changed.

    Returns:
        The identity of the saved file.

    Raises:
        Conflict: The file is not as expected, and `force` is not set.
        RunFailed: The file could not be saved. It is unchanged unless the message says otherwise.
    """
    with _explained(path):
        target = _resolved(path)
        found = _look(target)
        if found is not None and found.data == data:
            return Identity.of(found.status)
        if not force and _differs(found, expected):
            raise _conflict(path, target, found)
        if found is None:
            return _replace(data, path, target, None)
        if not os.access(target, os.W_OK, effective_ids=os.access in os.supports_effective_ids):
            raise PermissionError(errno.EACCES, "the file is read-only")
        if found.status.st_nlink == 1:
            try:
                return _replace(data, path, target, found)
            except OSError as error:
                if error.errno not in _IN_PLACE:
                    raise
        return _overwrite(data, path, target, found)


@dataclass(frozen=True, slots=True)
class _Found:
    """A file on disk."""

    data: bytes
    status: os.stat_result
    attributes: dict[str, bytes]


def _differs(found: _Found | None, expected: Source | None) -> bool:
    before = None if expected is None or expected.identity is None else expected.data
    return before != (None if found is None else found.data)


def _conflict(path: Path, target: Path, found: _Found | None) -> Conflict:
    name = f"{path} (a link to {target})" if path.is_symlink() else f"{path}"
    happened = "no longer exists" if found is None else "has changed on disk, or appeared since"
    return Conflict(f"{name} {happened}", hint="reload it, view the differences, or save under another name")


def _resolved(path: Path) -> Path:
    """Returns the target of a path, with links resolved.

    Raises:
        OSError: The system refuses to follow a link, for example one planted by another user in a shared folder.
            `Path.resolve` alone reads links one by one and would bypass that protection.
    """
    with suppress(FileNotFoundError):
        path.stat()
    return path.resolve()


def _look(target: Path) -> _Found | None:
    try:
        with opened(target, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK) as file:
            status = os.fstat(file)
            if not stat.S_ISREG(status.st_mode):
                raise OSError(errno.EINVAL, "it is not a regular file")
            return _Found(content(file), status, _attributes(file))
    except FileNotFoundError:
        return None


def _replace(data: bytes, path: Path, target: Path, found: _Found | None) -> Identity:
    """Renames a new file over the old one, with its owner, mode and attributes, if the old one is unchanged."""

    def check(folder: int) -> None:
        _lock(folder)  # otherwise two saves could both pass the check, and one would be lost
        now = _look(target)
        if (now and now.data) != (found and found.data):
            raise _conflict(path, target, now)

    if found is None:
        return Identity.of(replace_file(target, data, mode=0o666, check=check))
    return Identity.of(replace_file(target, data, prepare=lambda new: _keep(found, new), check=check))


def _lock(folder: int) -> None:
    """Locks a folder until it is closed. Continues without a lock if there are none or another program keeps it."""
    until = time.monotonic() + PATIENCE
    with suppress(OSError):
        while True:
            try:
                fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() > until:
                    return
                time.sleep(0.01)


def _keep(found: _Found, new: int) -> None:
    """Copies owner, mode and attributes of the old file to the new one. Raises `OSError` if any cannot be copied."""
    os.fchown(new, found.status.st_uid, found.status.st_gid)
    os.fchmod(new, stat.S_IMODE(found.status.st_mode))
    given = _attributes(new)  # a folder may add its own, and a file system adds labels
    for name in given.keys() - found.attributes.keys():
        os.removexattr(new, name)
    for name, value in found.attributes.items():
        if given.get(name) != value:
            os.setxattr(new, name, value)


def _overwrite(data: bytes, path: Path, target: Path, found: _Found) -> Identity:
    with opened(target, os.O_RDWR | os.O_NOFOLLOW) as file:
        if content(file) != found.data:
            raise _conflict(path, target, found)
        journal = Journal(target, found.data)
        try:
            journal.record(Edit(0, found.data, data))
            journal.flush()
            _put(data, file)
        except BaseException as error:
            try:
                if content(file) != found.data:
                    _put(found.data, file)
            except OSError:
                journal.leave()
                raise RunFailed(
                    f"{path} could not be saved and is damaged: {error}",
                    hint=f"run dgtui edit {path} to recover it",
                ) from error
            journal.close()
            raise
        journal.close()
        return Identity.of(os.fstat(file))


def _put(data: bytes, file: int) -> None:
    """Writes the added part at the end first: if the disk is full, nothing has been overwritten yet."""
    size = os.fstat(file).st_size
    write_at(file, data[size:], size)
    write_at(file, data[:size], 0)
    os.ftruncate(file, len(data))
    os.fsync(file)


def _attributes(file: int) -> dict[str, bytes]:
    """Returns extended attributes, including access lists and labels. Empty if the system does not support them."""
    if sys.platform != "linux":
        return {}
    try:
        return {name: os.getxattr(file, name) for name in os.listxattr(file)}
    except OSError as error:
        if error.errno == errno.ENOTSUP:
            return {}
        raise


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links, a NUL in the name
        full = isinstance(error, OSError) and error.errno in _ROOM
        hint = "free some space and save again" if full else "save under another name"
        raise RunFailed(f"{path} could not be saved: {reason(error)}", hint=hint) from error
