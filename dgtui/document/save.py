"""Saving a file all or nothing.

Whenever the program dies while `save` runs, the file holds the old bytes or the new ones; where it can only be written
in place, a journal holds both meanwhile, and `journal.find` offers it. A file that changed since it was read is not
overwritten unless that is asked for. Links, mode, owner, access lists and extended attributes stay as they are.
"""

import errno
import fcntl
import os
import secrets
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dgtui.document.journal import Journal, content, opened, sync_names, write_at
from dgtui.document.source import Identity, Source
from dgtui.document.undo import Edit
from dgtui.errors import RunFailed, reason

_IN_PLACE: Final = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.EBUSY, errno.ENOTSUP})
"""What keeps a file from being replaced by a new one (no right to the folder, to give the new one its owner or its
attributes, a mount point), but need not keep it from being written to."""

_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


PATIENCE: Final = 3.0
"""Seconds to wait for the lock of a folder. Two saves hold it for a moment each, another program perhaps for hours."""


class Conflict(RunFailed):
    """The file on disk is not the one that was read, or saved last. It is left as it is."""


def save(data: bytes, path: Path, expected: Source | None, *, force: bool = False) -> Identity:
    """Makes `path` hold `data`.

    A file that holds them already is not touched. Else a new file is written beside it and takes its place, or, where
    that would lose a second link, the owner or the attributes, or is not allowed, the file is written in place.

    Args:
        data: The whole file.
        path: A symbolic link is followed, and stays.
        expected: What the file should still hold: as it was read, or as it was saved last. None: no file.
        force: Write whatever the file holds by now.

    Returns:
        The identity of the file with `data` in it.

    Raises:
        Conflict: The file does not hold what is expected, and there is no `force`.
        RunFailed: It could not be saved. The file holds what it did, or the message says otherwise.
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
            raise PermissionError(errno.EACCES, "it is read-only")
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
    happened = "is no longer there" if found is None else "has changed on disk, or appeared there"
    return Conflict(f"{name} {happened}", hint="reload it, look at the difference, or save under another name")


def _resolved(path: Path) -> Path:
    """Where the links lead.

    Raises:
        OSError: The system does not follow them, such as those that another person planted in a shared folder; to look
            them up one by one, as `Path.resolve` does, would pass by that protection.
    """
    with suppress(FileNotFoundError):
        path.stat()
    return path.resolve()


def _look(target: Path) -> _Found | None:
    try:
        with opened(target, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK) as file:
            status = os.fstat(file)
            if not stat.S_ISREG(status.st_mode):
                raise OSError(errno.EINVAL, "it is not a file")
            return _Found(content(file), status, _attributes(file))
    except FileNotFoundError:
        return None


def _replace(data: bytes, path: Path, target: Path, found: _Found | None) -> Identity:
    """What is written stays in the folder that is opened first, even if it is moved or another takes its name."""
    with opened(target.parent, os.O_RDONLY | os.O_DIRECTORY) as folder:
        name = f".dgtui-{secrets.token_hex(8)}"
        mode = 0o666 if found is None else 0o600  # the former less the umask
        with opened(Path(name), os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode, folder) as new:
            try:
                write_at(new, data, 0)
                if found is not None:
                    _keep(found, new)
                os.fsync(new)
                _lock(folder)  # or of two that look now, the later would win unseen
                now = _look(target)
                if (now and now.data) != (found and found.data):
                    raise _conflict(path, target, now)
                os.replace(name, target.name, src_dir_fd=folder, dst_dir_fd=folder)
            except BaseException:
                with suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=folder)
                raise
            sync_names(folder)
            return Identity.of(os.fstat(new))


def _lock(folder: int) -> None:
    """Locks a folder until it is closed, where its file system can do that and no other program keeps it locked."""
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
    """Gives a new file what belongs to the old. Raises `OSError` if it cannot be given all of it."""
    os.fchown(new, found.status.st_uid, found.status.st_gid)
    os.fchmod(new, stat.S_IMODE(found.status.st_mode))
    given = _attributes(new)  # a folder may give its own, and a file system labels
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
                    f"{path} could not be saved, and is damaged: {error}",
                    hint=f"dgtui edit {path} offers what was to be saved",
                ) from error
            journal.close()
            raise
        journal.close()
        return Identity.of(os.fstat(file))


def _put(data: bytes, file: int) -> None:
    """The end first: if there is no room for it, nothing has been overwritten."""
    size = os.fstat(file).st_size
    write_at(file, data[size:], size)
    write_at(file, data[:size], 0)
    os.ftruncate(file, len(data))
    os.fsync(file)


def _attributes(file: int) -> dict[str, bytes]:
    """Extended attributes, access lists and labels among them; none where the system or Python has none."""
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
        hint = "make room and save again" if full else "save under another name"
        raise RunFailed(f"{path} could not be saved: {reason(error)}", hint=hint) from error
