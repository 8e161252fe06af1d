"""The statements of `Store`: each function is a part of a transaction that is open on the given connection."""

import secrets
import sqlite3
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from dgtui.session.records import Conversation, Row, conversation_of, text_in
from dgtui.session.search import excerpt, one_line

TITLE_LENGTH: Final = 60
"""Most characters of a title made from the first messages."""

TITLED_BY: Final = 5
"""So many messages are looked at for a title."""

GREETING: Final = 2
"""A message of no more words does not say what a conversation is about, if another one does."""

LISTED: Final = "conversation = :conversation AND superseded IS NULL"
"""The condition for the turns that a conversation shows."""

_DIGESTS: Final = "SELECT json_extract(value, '$[1]') FROM turns, json_each(turns.files)"

_HEAD: Final = ("id", "title", "named", "created", "updated", "model", "system", "settings")

_LETTERS: Final = "23456789bcdfghjkmnpqrstvwxz"  # no look-alikes, and no vowels that could form words
_NAME_LENGTH: Final = 6

Found = tuple[str, str, int | None]
"""Conversation, snippet, turn or None for the title."""


@dataclass(slots=True)
class Known:
    """A conversation as this program last saw it."""

    head: Row
    turns: dict[int, Row] = field(default_factory=dict)
    "by id, in order"
    texts: dict[str, str] = field(default_factory=dict)
    "of attached files, by digest"


def head_of(connection: sqlite3.Connection, name: str) -> Row | None:
    """The row of a conversation, without its number."""
    row = connection.execute(f"SELECT {', '.join(_HEAD)} FROM conversations WHERE id = ?", (name,)).fetchone()
    return None if row is None else dict(zip(_HEAD, row, strict=True))


def new_head(name: str, model: str, system: str, settings: str) -> Row:
    """Returns the row of a new conversation."""
    now = time.time()
    values: Row = {"id": name, "title": "", "named": 0, "created": now, "updated": now}
    return values | {"model": model, "system": system, "settings": settings}


def new_name(connection: sqlite3.Connection) -> str:
    """Returns an unused id for a conversation."""
    while True:
        name = "".join(secrets.choice(_LETTERS) for _ in range(_NAME_LENGTH))
        if head_of(connection, name) is None:
            return name


def new_turn(connection: sqlite3.Connection, columns: Row) -> Row:
    """Returns a new turn. Its id is above all others, with a random part: ids of deleted turns are not used again."""
    now, some = time.time(), secrets.randbits(20)
    last = connection.execute("SELECT max(id) FROM turns").fetchone()[0] or 0
    return {"id": max(int(now * 1000) << 20, last + 1) + some, "created": now} | columns


def insert(connection: sqlite3.Connection, table: str, row: Row) -> None:
    """Inserts a row."""
    columns = ", ".join(row)
    values = ", ".join(f":{column}" for column in row)
    connection.execute(f"INSERT INTO {table} ({columns}) VALUES ({values})", row)


def add_turn(connection: sqlite3.Connection, name: str, row: Row) -> None:
    """Inserts a turn at the end of a conversation."""
    last = connection.execute(f"SELECT max(position) FROM turns WHERE {LISTED}", {"conversation": name}).fetchone()[0]
    insert(connection, "turns", row | {"conversation": name, "position": 0 if last is None else last + 1})


def keep_texts(connection: sqlite3.Connection, texts: Mapping[str, str]) -> None:
    """Stores the texts of attached files, each once."""
    connection.executemany("INSERT OR IGNORE INTO texts (digest, text) VALUES (?, ?)", texts.items())


def texts_in(connection: sqlite3.Connection, name: str) -> dict[str, str]:
    """The texts of the files of a conversation, by digest."""
    rows = connection.execute(
        f"SELECT digest, text FROM texts WHERE digest IN ({_DIGESTS} WHERE conversation = ?)", (name,)
    )
    return dict(rows.fetchall())


def drop_texts(connection: sqlite3.Connection) -> None:
    """Deletes the texts of files that no turn has."""
    connection.execute(f"DELETE FROM texts WHERE digest NOT IN ({_DIGESTS})")


def listed(connection: sqlite3.Connection, name: str) -> list[int]:
    """The ids of the turns that a conversation shows, in order."""
    rows = connection.execute(f"SELECT id FROM turns WHERE {LISTED} ORDER BY position", {"conversation": name})
    return [row[0] for row in rows]


def close_gaps(connection: sqlite3.Connection, name: str) -> int:
    """Numbers the turns that a conversation shows 0, 1, 2 …; returns their number."""
    ids = listed(connection, name)
    connection.executemany("UPDATE turns SET position = ? WHERE id = ? AND position <> ?1", enumerate(ids))
    return len(ids)


def restore(connection: sqlite3.Connection, known: Known) -> None:
    """Restores the parts of a conversation that are missing. Turns are added at the end."""
    keep_texts(connection, known.texts)
    if head_of(connection, known.head["id"]) is None:
        insert(connection, "conversations", known.head)
    for turn_id, row in known.turns.items():
        if connection.execute("SELECT 1 FROM turns WHERE id = ?", (turn_id,)).fetchone() is None:
            add_turn(connection, known.head["id"], row)
    drop_texts(connection)


def touch(connection: sqlite3.Connection, name: str) -> None:
    """Updates the time and the title of a changed conversation."""
    connection.execute("UPDATE conversations SET updated = ? WHERE id = ?", (time.time(), name))
    make_title(connection, name)


def make_title(connection: sqlite3.Connection, name: str) -> None:
    """Sets the title from the first messages, unless the user gave one or there is no message."""
    rows = connection.execute(
        f"SELECT text FROM turns WHERE {LISTED} AND role = 'user' ORDER BY position LIMIT {TITLED_BY}",
        {"conversation": name},
    ).fetchall()
    if rows:
        title = title_of([text_in(row[0]) for row in rows])
        connection.execute("UPDATE conversations SET title = ? WHERE id = ? AND NOT named", (title, name))


def title_of(messages: Sequence[str]) -> str:
    """A title from the first messages: the first one that says something, which a greeting does not."""
    telling = (text for text in messages if len(text.split()) > GREETING)
    return one_line(next(telling, max(messages, key=lambda text: len(text.split()))), TITLE_LENGTH)


def select(
    connection: sqlite3.Connection, limit: int, where: str = "", values: Mapping[str, Any] | None = None
) -> list[Conversation]:
    """Returns conversations, the last changed one first. Raises `Malformed`."""
    rows = connection.execute(
        "SELECT id, title, created, updated, model, system, settings,"
        " (SELECT count(*) FROM turns WHERE conversation = c.id AND superseded IS NULL) AS turns"
        f" FROM conversations AS c {where} ORDER BY updated DESC, number DESC LIMIT :limit",
        {**(values or {}), "limit": limit},
    )
    return [conversation_of(dict(row)) for row in rows]


def search_words(connection: sqlite3.Connection, expression: str, limit: int) -> list[Found]:
    """Returns the matches of an FTS5 expression: titles, then turns, the newest first."""
    titles = connection.execute(
        "SELECT c.id, c.title FROM title_words JOIN conversations AS c ON c.number = title_words.rowid"
        " WHERE title_words MATCH ? ORDER BY c.updated DESC LIMIT ?",
        (expression, limit),
    ).fetchall()
    turns = connection.execute(
        "SELECT c.id, snippet(turn_words, 0, '', '', '…', 16), turns.id FROM turn_words"
        " JOIN turns ON turns.id = turn_words.rowid JOIN conversations AS c ON c.id = turns.conversation"
        " WHERE turn_words MATCH ? AND turns.superseded IS NULL ORDER BY turn_words.rowid DESC LIMIT ?",
        (expression, limit - len(titles)),
    ).fetchall()
    return [(name, one_line(text_in(title)), None) for name, title in titles] + [
        (name, one_line(text_in(snippet)), turn_id) for name, snippet, turn_id in turns
    ]


def search_text(connection: sqlite3.Connection, wanted: str, limit: int) -> list[Found]:
    """Returns the places that contain a text in any case: titles, then turns, the newest first."""
    titles = connection.execute(
        "SELECT id, title FROM conversations WHERE instr(fold(title), fold(?)) ORDER BY updated DESC LIMIT ?",
        (wanted, limit),
    ).fetchall()
    turns = connection.execute(
        "SELECT c.id, turns.text, turns.id FROM turns JOIN conversations AS c ON c.id = turns.conversation"
        " WHERE turns.superseded IS NULL AND instr(fold(turns.text), fold(?)) ORDER BY turns.id DESC LIMIT ?",
        (wanted, limit - len(titles)),
    ).fetchall()
    return [(name, one_line(text_in(title)), None) for name, title in titles] + [
        (name, excerpt(text_in(text), wanted), turn_id) for name, text, turn_id in turns
    ]
