"""Writes files atomically: the new file replaces the old one, or nothing changes. All other modules use this."""

import errno
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from dgtui.errors import RunFailed, reason


def replace_file(
    target: Path,
    data: bytes,
    *,
    mode: int = 0o600,
    prepare: Callable[[int], object] = lambda new: None,
    check: Callable[[int], object] = lambda folder: None,
) -> os.stat_result:
    """Writes a new file in the folder of `target`, syncs it to disk and renames it to `target`.

    The folder is opened once, so the file ends up in it even if the folder is moved meanwhile. If anything raises, the
    new file is removed and `target` stays as it is.

    Args:
        target: The file. Links are not followed: pass a resolved path.
        data: The whole content.
        mode: Permissions of the new file, reduced by the umask.
        prepare: Called with a descriptor of the new file once it holds `data`.
        check: Called with a descriptor of the folder just before the rename. If it raises, nothing is renamed.

    Returns:
        The status of the file now at `target`.

    Raises:
        OSError: The file cannot be written. Errors of `prepare` and `check` are passed on.
    """
    with opened(target.parent, os.O_RDONLY | os.O_DIRECTORY) as folder:
        name = f".dgtui-{secrets.token_hex(8)}"
        with opened(Path(name), os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode, folder) as new:
            try:
                write_at(new, data, 0)
                prepare(new)
                os.fsync(new)
                check(folder)
                os.replace(name, target.name, src_dir_fd=folder, dst_dir_fd=folder)
            except BaseException:
                with suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=folder)
                raise
            sync_names(folder)
            return os.fstat(new)


def write_private(path: Path, data: bytes) -> None:
    """Replaces a file with one that only its owner may read. Follows links.

    Raises:
        RunFailed: The file cannot be written. `path` is unchanged.
    """
    try:
        path = path.resolve()
        if path.exists() and not path.is_file():  # root could replace a device this way
            raise RunFailed(f"{path} is not a file", hint="choose another name")
        replace_file(path, data)
    except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: a loop of links; ValueError: a NUL in the name
        raise RunFailed(
            f"{path} could not be written: {reason(error)}", hint="choose another folder or name"
        ) from error


def write_at(descriptor: int, data: bytes, offset: int) -> None:
    """Writes all of `data` at `offset`; a single `os.pwrite` may write less."""
    view: Any = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written


@contextmanager
def opened(path: Path, flags: int, mode: int = 0o600, folder: int | None = None) -> Iterator[int]:
    """Yields a descriptor and closes it. With `folder`, `path` is relative to that open folder."""
    descriptor = os.open(path, flags | os.O_CLOEXEC, mode, dir_fd=folder)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def sync_names(folder: int) -> None:
    """Syncs the entries of an open folder to disk, if the file system supports that."""
    try:
        os.fsync(folder)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
