"""Conversations in a SQLite file: stored turn by turn, searchable, shared by several running programs.

A `Store` is for one thread. Every method is one short transaction: if it returns, its change survives the program; if
it raises, nothing has changed. If another process deletes a conversation that is open here, the next write restores it.
"""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from sqlite3 import Connection
from types import MappingProxyType

from dgtui.errors import UsageError
from dgtui.paths import data_dir
from dgtui.session import tables
from dgtui.session.database import Database, HistoryRefused
from dgtui.session.records import (
    TURN_COLUMNS,
    Attachment,
    Conversation,
    Hit,
    Stored,
    TextFile,
    Turn,
    settings_text,
    storable,
    texts_of,
    turn_of,
    turn_row,
)
from dgtui.session.search import match_expression, one_line
from dgtui.session.tables import LISTED, Known

__all__ = [
    "Attachment", "Conversation", "ConversationNotFound", "HistoryRefused", "Hit", "Store", "Stored", "TextFile",
    "Turn", "default_path",
]  # fmt: skip


class ConversationNotFound(UsageError):
    """No stored conversation matches, or more than one."""


def default_path(settings_path: Path | None) -> Path:
    """Returns the configured history file, else the one in the data folder.

    Raises:
        RunFailed: The data folder cannot be created.
    """
    return settings_path or data_dir() / "history.db"


class Store:
    """The history.

    Args:
        path: Its file, created with its folder if missing. None: in memory, without a file.

    Raises:
        HistoryRefused: The file is damaged, or belongs to another program or a newer dgtui. It is left unchanged. Other
            methods raise this too if they find damage.
        RunFailed: The file cannot be created, read or written, or another program holds it. Other methods raise this
            too.
    """

    def __init__(self, path: Path | None) -> None:
        self._database = Database(path)
        self._known: dict[str, Known] = {}

    def close(self) -> None:
        """Closes the file. No other call may follow."""
        self._database.close()

    # -- writing ----------------------------------------------------------------------------------------------------

    def create(self, model: str, system: str = "", settings: Mapping[str, object] = MappingProxyType({})) -> str:
        """Creates a conversation without turns and returns its id. `settings` must be JSON values."""
        with self._database.writing() as connection:
            name = tables.new_name(connection)
            head = tables.new_head(name, storable(model), storable(system), settings_text(settings))
            tables.insert(connection, "conversations", head)
        self._known[name] = Known(head)
        return name

    def append(self, conversation: str, turn: Turn) -> int:
        """Adds a turn at the end and returns its id. A missing conversation is created again: nothing typed is lost."""
        with self._database.writing() as connection:
            known = self._ensure(connection, conversation, Known(tables.new_head(conversation, "", "", "{}")))
            row = tables.new_turn(connection, turn_row(turn))
            tables.keep_texts(connection, texts_of(turn))
            tables.add_turn(connection, conversation, row)
            tables.touch(connection, conversation)
        known.turns[row["id"]] = row
        known.texts |= texts_of(turn)
        return int(row["id"])

    def update(self, turn_id: int, turn: Turn) -> None:
        """Replaces the contents of a turn, during and after its run.

        Raises:
            ConversationNotFound: There is no such turn, and this program has not seen it before.
        """
        row = turn_row(turn)
        with self._database.writing() as connection:
            found = connection.execute("SELECT conversation FROM turns WHERE id = ?", (turn_id,)).fetchone()
            conversation = found[0] if found else self._owner(turn_id)
            known = self._ensure(connection, conversation)
            if not found:
                tables.restore(connection, known)
            tables.keep_texts(connection, texts_of(turn))
            changes = ", ".join(f"{column} = :{column}" for column in row)
            connection.execute(f"UPDATE turns SET {changes} WHERE id = :id", row | {"id": turn_id})
            tables.touch(connection, conversation)
        if turn_id in known.turns:
            known.turns[turn_id] |= row
            known.texts |= texts_of(turn)

    def keep_timeline(self, turn_id: int, steps: bytes) -> None:
        """Stores the packed steps of a turn's run; empty bytes remove them. Does nothing if the turn is gone."""
        with self._database.writing() as connection:
            if steps:
                connection.execute(
                    "INSERT OR REPLACE INTO timelines (turn, steps) SELECT id, ? FROM turns WHERE id = ?",
                    (steps, turn_id),
                )
            else:
                connection.execute("DELETE FROM timelines WHERE turn = ?", (turn_id,))

    def supersede(self, conversation: str, turn_ids: Sequence[int]) -> bool:
        """Supersedes these turns and no others: they stay in the file but are no longer listed.

        If no turn is left, the conversation is deleted, unless it was renamed. Returns whether it still exists.
        """
        with self._database.writing() as connection:
            known = self._ensure(connection, conversation)
            now = time.time()
            connection.executemany("UPDATE turns SET superseded = ? WHERE id = ?", [(now, i) for i in turn_ids])
            left = tables.close_gaps(connection, conversation)
            is_empty = bool(turn_ids) and not left and not known.head["named"]
            tables.touch(connection, conversation)
        for turn_id in turn_ids:
            known.turns.pop(turn_id, None)
        if is_empty:
            self.delete(conversation)
        return not is_empty

    def rename(self, conversation: str, title: str) -> None:
        """Sets a title. A blank one restores the title made from the first message."""
        title = one_line(storable(title))
        self._set(conversation, title=title, named=int(bool(title)))

    def set_system(self, conversation: str, system: str) -> None:
        """Sets the system prompt."""
        self._set(conversation, system=storable(system))

    def set_settings(self, conversation: str, settings: Mapping[str, object]) -> None:
        """Replaces the settings."""
        self._set(conversation, settings=settings_text(settings))

    def delete(self, conversation: str) -> None:
        """Deletes a conversation with all its turns, including superseded ones, and overwrites their data.

        With thousands of turns in the history this takes some tenths of a second.
        """
        with self._database.writing() as connection:
            connection.execute("DELETE FROM conversations WHERE id = ?", (conversation,))
            tables.drop_texts(connection)
            for index in ("title_words", "turn_words"):  # an index keeps deleted words until it is rewritten
                connection.execute(f"INSERT INTO {index} ({index}) VALUES ('optimize')")
        self._known.pop(conversation, None)
        self._database.empty_log()

    # -- reading ----------------------------------------------------------------------------------------------------

    def turns(self, conversation: str) -> list[Stored]:
        """Returns the turns in order. Raises `ConversationNotFound`."""
        columns = f"id, position, created, {TURN_COLUMNS}"
        with self._database.reading() as connection:
            head = tables.head_of(connection, conversation)
            if head is None:
                raise _not_found(conversation)
            rows = connection.execute(
                f"SELECT {columns} FROM turns WHERE {LISTED} ORDER BY position", {"conversation": conversation}
            ).fetchall()
            texts = tables.texts_in(connection, conversation)
            turns = [turn_of(dict(row), texts) for row in rows]
        self._known[conversation] = Known(head, {row["id"]: dict(row) for row in rows}, texts)
        return turns

    def timeline(self, turn_id: int) -> bytes:
        """Returns the packed steps of a turn's run; empty if none are stored."""
        with self._database.reading() as connection:
            found = connection.execute("SELECT steps FROM timelines WHERE turn = ?", (turn_id,)).fetchone()
        return bytes(found[0]) if found and isinstance(found[0], bytes) else b""

    def turn_ids(self, conversation: str) -> list[int]:
        """Returns the ids of the listed turns, in order. Empty for a conversation that does not exist."""
        with self._database.reading() as connection:
            return tables.listed(connection, conversation)

    def conversations(self, limit: int = 100) -> list[Conversation]:
        """Returns the newest conversations, the last changed one first."""
        with self._database.reading() as connection:
            return tables.select(connection, limit)

    def latest(self) -> Conversation | None:
        """Returns the last changed conversation with turns, to be continued."""
        with self._database.reading() as connection:
            return next(iter(tables.select(connection, 1, "WHERE turns > 0")), None)

    def get(self, prefix: str) -> Conversation:
        """Returns the conversation with this id, or the only one whose id begins with it.

        Raises:
            ConversationNotFound: There is none, or more than one.
        """
        prefix = storable(prefix).strip().lower()
        begins = "WHERE :prefix <> '' AND substr(id, 1, length(:prefix)) = :prefix"
        with self._database.reading() as connection:
            values = {"prefix": prefix}
            found = tables.select(connection, 1, "WHERE id = :prefix", values)
            found = found or tables.select(connection, 6, begins, values)
        if len(found) != 1:
            raise _not_found(prefix, found)
        return found[0]

    def search(self, text: str, limit: int = 50) -> list[Hit]:
        """Returns where all words occur (the last may be incomplete): in titles, then in turns, the newest first.

        Without such matches it returns the places that contain `text` itself, in any case. That finds symbols,
        parts of words, and words of languages without spaces.
        """
        text = storable(text).replace("\0", " ").strip()
        if not text:
            return []
        with self._database.reading() as connection:
            found = tables.search_words(connection, match_expression(text), limit)
            found = found or tables.search_text(connection, text, limit)
            names = dict.fromkeys(name for name, _, _ in found)
            heads = {name: tables.select(connection, 1, "WHERE id = :id", {"id": name})[0] for name in names}
        return [Hit(heads[name], snippet, turn_id) for name, snippet, turn_id in found]

    # -- what is open here ------------------------------------------------------------------------------------------

    def _ensure(self, connection: Connection, conversation: str, new: Known | None = None) -> Known:
        """Returns the known state of a conversation, and ensures that it is stored: unchanged, restored, or `new`."""
        head = tables.head_of(connection, conversation)
        known = self._known.get(conversation) or (Known(head) if head else new)
        if known is None:
            raise _not_found(conversation)
        if head is None:
            tables.restore(connection, known)
        else:
            known.head = head
        self._known[conversation] = known
        return known

    def _owner(self, turn_id: int) -> str:
        for conversation, known in self._known.items():
            if turn_id in known.turns:
                return conversation
        raise ConversationNotFound("this turn is no longer stored", hint="its conversation was deleted")

    def _set(self, conversation: str, **columns: str | int) -> None:
        changes = ", ".join(f"{column} = :{column}" for column in columns)
        with self._database.writing() as connection:
            known = self._ensure(connection, conversation)
            values = columns | {"id": conversation}
            connection.execute(f"UPDATE conversations SET {changes} WHERE id = :id", values)
            tables.make_title(connection, conversation)
            head = tables.head_of(connection, conversation)
        known.head = head or known.head


def _not_found(prefix: str, found: Sequence[Conversation] = ()) -> ConversationNotFound:
    if found:
        several = ", ".join(c.id for c in found[:5]) + (" …" if len(found) > 5 else "")
        return ConversationNotFound(f"{prefix} matches several conversations: {several}", hint="type more of the id")
    return ConversationNotFound(f"there is no conversation {prefix}", hint="use /sessions to list the stored ones")
