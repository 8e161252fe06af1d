"""The history file: opened privately, changed all or not at all, shared between processes.

Every failure that SQLite reports is raised typed, with the file's name and what to do. A file that is damaged, of
another program or of a newer dgtui is refused before anything is written to it. What is committed survives the death
of the program at any moment; a power cut may take the last seconds, never the file.
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

BUSY_SECONDS: Final = 5.0
"""How long a writer waits for its turn."""

_WITHOUT: Final = "see to its folder, point [history] path elsewhere, or go without: --no-history"


class HistoryRefused(InputRefused):
    """The file is not a history of conversations that this program reads; it is left as it is."""


class Database:
    """One connection, for one thread at a time.

    Args:
        path: The file, made with its folder if missing; None: in memory, nothing is written anywhere.
        steps: The shape that the file gets (see `migrations`).

    Raises:
        HistoryRefused: There is something at `path` that is not to be written to.
        RunFailed: The file cannot be made, opened or written, or is in use for longer than `BUSY_SECONDS`.
    """

    def __init__(self, path: Path | None, steps: Sequence[Step] = STEPS) -> None:
        self._steps = steps
        with _typed(path):
            self._path = None if path is None else _made(path)
            self._connection = self._opened()

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A look at one state of the file, whatever others write meanwhile."""
        with _typed(self._path), _transaction(self._connection, "BEGIN") as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A change: committed at the end of the block, or not made at all. No other process writes meanwhile."""
        with _typed(self._path):
            self._follow()
            with _transaction(self._connection, "BEGIN IMMEDIATE") as connection:
                self._check_version(version_of(connection))  # it may have been migrated while we had it open
                yield connection

    def empty_log(self) -> None:
        """Writes the write-ahead log into the file and empties it: what was deleted is not left there either."""
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
                f"{self._path} is a database of another program", hint="point [history] path at another file"
            )
        self._check_version(version)
        _use_wal(connection)
        for pragma in (
            "synchronous = NORMAL",
            "secure_delete = ON",  # what is deleted is overwritten
            "temp_store = MEMORY",
            "cell_size_check = ON",  # finds damage sooner
        ):
            connection.execute(f"PRAGMA {pragma}")
        migrate(connection, self._steps)
        connection.execute("PRAGMA foreign_keys = ON")

    def _check_version(self, version: int) -> None:
        if version > len(self._steps):
            raise HistoryRefused(
                f"{self._path} was written by a newer dgtui (version {version}; this one knows {len(self._steps)})",
                hint="update dgtui, or point [history] path at another file",
            )

    def _follow(self) -> None:
        """Opens the file anew if it was removed or replaced: SQLite would go on writing to one that has no name."""
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
    except (Malformed, UnicodeDecodeError) as error:  # the latter: a damaged name in SQLite's own message
        raise _damaged(path, error) from error


def _made(path: Path) -> Path:
    """The file that `path` leads to, made if missing; it and what SQLite puts beside it are its owner's alone.

    Raises:
        RunFailed: It cannot be made or opened.
    """
    try:
        path = path.resolve()  # SQLite makes what a dangling link points to, with the default mode
        try:
            private_dir(path.parent)
        except RunFailed as error:
            raise RunFailed(error.message, hint=_WITHOUT) from error
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            if not path.is_file():
                raise RunFailed(f"{path} is not a file", hint="point [history] path at a file") from None
            if not os.access(path, os.R_OK | os.W_OK):
                raise RunFailed(f"{path} cannot be read and written by you", hint=_WITHOUT) from None
        else:
            os.fchmod(descriptor, 0o600)  # whatever the umask
            os.close(descriptor)
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links, a NUL in the name
        raise RunFailed(f"{path} cannot be made: {reason(error)}", hint=_WITHOUT) from error
    return path


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _use_wal(connection: sqlite3.Connection) -> None:
    """Write-ahead logging, so that readers and a writer do not wait for each other.

    A file system without it keeps the journal it can. SQLite does not wait for its turn at the switch, so this does.
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
    """SQLite's primary result code; None where Python itself raised."""
    extended: int | None = getattr(error, "sqlite_errorcode", None)
    return None if extended is None else extended & 0xFF


def _explained(error: sqlite3.Error, path: Path | None) -> DgtuiError | None:
    """The typed error for what SQLite reports, or None if it is a bug of ours."""
    if isinstance(error, sqlite3.InterfaceError | sqlite3.ProgrammingError | sqlite3.InternalError | sqlite3.DataError):
        return None
    file = path or "the history in memory"
    match _code(error):
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED | sqlite3.SQLITE_PROTOCOL:
            return RunFailed(f"{file} is in use by another program", hint="try again when that program is done")
        case sqlite3.SQLITE_FULL:
            return RunFailed(f"{file} could not be written: the disk is full", hint="make room and try again")
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
        f"{path or 'the history in memory'} is damaged, or is no history of conversations: {error}",
        hint="it was left as it is: to begin anew, move it and the -wal and -shm files beside it elsewhere; "
        "sqlite3 FILE .recover rescues what can be read",
    )
