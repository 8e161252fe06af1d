"""The history file: private, changed in transactions, shared between processes.

Every SQLite failure is raised as a typed error with the file's name and a hint. A file that is damaged, belongs to
another program or to a newer dgtui is rejected before anything is written. Committed data survives the death of the
program at any moment. A power cut may lose the last seconds, but never damages the file.
"""

import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from dgtui.errors import DgtuiError, InputRefused, RunFailed, reason
from dgtui.paths import private_dir
from dgtui.session.migrations import APPLICATION_ID, STEPS, Step, migrate, version_of
from dgtui.session.records import Malformed
from dgtui.text import fold

BUSY_SECONDS: Final = 5.0
"""Longest wait of a writer for other writers, in seconds."""

_WITHOUT: Final = "check its folder, set [history] path to another file, or use --no-history"


class HistoryRefused(InputRefused):
    """The file is not a history that this program can read. It is left unchanged."""


class Database:
    """One connection, for one thread at a time.

    Args:
        path: The file, created with its folder if missing; None: in memory, nothing is written to disk.
        steps: The schema of the file (see `migrations`).

    Raises:
        HistoryRefused: The file at `path` is not a history that this program may write.
        RunFailed: The file cannot be created, opened or written, or is in use for longer than `BUSY_SECONDS`.
    """

    def __init__(self, path: Path | None, steps: Sequence[Step] = STEPS) -> None:
        self._steps = steps
        with _typed(path):
            self._path = None if path is None else _made(path)
            self._connection = self._opened()

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Reads one consistent state of the file, even if others write meanwhile."""
        with _typed(self._path), _transaction(self._connection, "BEGIN") as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Writes in a transaction, committed at the end of the block or rolled back. Other processes wait."""
        with _typed(self._path):
            self._follow()
            with _transaction(self._connection, "BEGIN IMMEDIATE") as connection:
                self._check_version(version_of(connection))  # another process may have migrated it meanwhile
                yield connection

    def empty_log(self) -> None:
        """Moves the write-ahead log into the file and empties it, because it may hold deleted text."""
        with _typed(self._path):
            self._connection.execute("PRAGMA wal_checkpoint (TRUNCATE)").fetchall()

    def close(self) -> None:
        """Closes the file. No other call may follow."""
        self._connection.close()

    def _opened(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._path or ":memory:", timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        connection.row_factory = sqlite3.Row
        connection.create_function("fold", 1, fold, deterministic=True)
        try:
            self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        self._identity = self._path and _identity(self._path)
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        with _transaction(connection, "BEGIN"):
            application = connection.execute("PRAGMA application_id").fetchone()[0]
            tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            version = version_of(connection)
        if application != APPLICATION_ID and (application or version or tables):
            raise HistoryRefused(
                f"{self._path} is a database of another program", hint="set [history] path to another file"
            )
        self._check_version(version)
        _use_wal(connection)
        for pragma in (
            "synchronous = NORMAL",
            "secure_delete = ON",  # overwrites deleted data
            "temp_store = MEMORY",
            "cell_size_check = ON",  # finds damage sooner
        ):
            connection.execute(f"PRAGMA {pragma}")
        migrate(connection, self._steps)
        connection.execute("PRAGMA foreign_keys = ON")

    def _check_version(self, version: int) -> None:
        if version > len(self._steps):
            raise HistoryRefused(
                f"{self._path} was written by a newer dgtui (version {version}, not {len(self._steps)})",
                hint="update dgtui, or set [history] path to another file",
            )

    def _follow(self) -> None:
        """Reopens the file if it was removed or replaced. SQLite would keep writing to the old, nameless file."""
        if self._path is not None and _identity(self._path) != self._identity:
            old = self._connection
            _made(self._path)
            self._connection = self._opened()
            old.close()


@contextmanager
def _transaction(connection: sqlite3.Connection, begin: str) -> Iterator[sqlite3.Connection]:
    try:
        connection.execute(begin)
        yield connection
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # a full disk makes SQLite roll back by itself
            connection.execute("ROLLBACK")
        raise


@contextmanager
def _typed(path: Path | None) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        if explained := _explained(error, path):
            raise explained from error
        raise
    except (Malformed, UnicodeDecodeError) as error:  # UnicodeDecodeError: a damaged name in SQLite's own message
        raise _damaged(path, error) from error


def _made(path: Path) -> Path:
    """Returns the resolved path of the file, created if missing. Only the owner can read it and SQLite's additional
    files.

    Raises:
        RunFailed: The file cannot be created or opened.
    """
    try:
        path = path.resolve()  # SQLite would create the target of a dangling link with the default mode
        try:
            private_dir(path.parent)
        except RunFailed as error:
            raise RunFailed(error.message, hint=_WITHOUT) from error
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            if not path.is_file():
                raise RunFailed(f"{path} is not a regular file", hint="set [history] path to a file") from None
            if not os.access(path, os.R_OK | os.W_OK):
                raise RunFailed(f"{path} cannot be read and written", hint=_WITHOUT) from None
        else:
            os.fchmod(descriptor, 0o600)  # whatever the umask
            os.close(descriptor)
    except (OSError, RuntimeError, ValueError) as error:  # e.g. a loop of links, or a NUL in the name
        raise RunFailed(f"{path} cannot be created: {reason(error)}", hint=_WITHOUT) from error
    return path


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _use_wal(connection: sqlite3.Connection) -> None:
    """Turns on write-ahead logging, so readers and a writer do not wait for each other.

    A file system that does not support it keeps another journal mode. SQLite does not wait for locks at this switch, so
    this does.
    """
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL").fetchall()
            return
        except sqlite3.OperationalError as error:
            if _code(error) != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
        time.sleep(0.01)


def _code(error: sqlite3.Error) -> int | None:
    """Returns SQLite's primary result code, or None if Python itself raised."""
    extended: int | None = getattr(error, "sqlite_errorcode", None)
    return None if extended is None else extended & 0xFF


def _explained(error: sqlite3.Error, path: Path | None) -> DgtuiError | None:
    """Returns the typed error for a failure of SQLite, or None if it is a bug in dgtui."""
    if isinstance(error, sqlite3.InterfaceError | sqlite3.ProgrammingError):
        return None
    file = path or "the history in memory"
    match _code(error):
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED | sqlite3.SQLITE_PROTOCOL:
            return RunFailed(f"{file} is in use by another program", hint="try again after that program has finished")
        case sqlite3.SQLITE_TOOBIG if "malformed" not in str(error):
            return RunFailed("the text is too long to be stored", hint="shorten it, or use --no-history")
        case sqlite3.SQLITE_FULL:
            return RunFailed(f"{file} could not be written: the disk is full", hint="free some space and try again")
        case (
            sqlite3.SQLITE_READONLY
            | sqlite3.SQLITE_CANTOPEN
            | sqlite3.SQLITE_PERM
            | sqlite3.SQLITE_IOERR
            | sqlite3.SQLITE_NOLFS
        ):
            return RunFailed(f"{file} could not be read or written: {error}", hint=_WITHOUT)
        case sqlite3.SQLITE_ERROR if "no such module" in str(error):
            return RunFailed("this Python's SQLite has no full-text search (FTS5)", hint="use another build of Python")
        case _:
            return _damaged(path, error)


def _damaged(path: Path | None, error: Exception) -> HistoryRefused:
    return HistoryRefused(
        f"{path or 'the history in memory'} is damaged, or not a history of conversations: {error}",
        hint="it was left unchanged. To start a new history, move it and its -wal and -shm files elsewhere; "
        "use sqlite3 FILE .recover to rescue readable data",
    )
