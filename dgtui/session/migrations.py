"""The schema of the history file, as migration steps from an empty file.

A file's `user_version` is the number of steps it has taken. A released step is never edited: a schema change is a new
step at the end. All missing steps are one transaction, so a file has either the old schema or the new one.
"""

import sqlite3
from collections.abc import Sequence
from typing import Final

APPLICATION_ID: Final = 0x64677475
""""dgtu", in the header of every history file. It distinguishes it from databases of other programs."""

Step = Sequence[str]
"""SQL statements, one per string. Foreign keys are not enforced while they run."""

# Turn ids grow with time and are never used twice, so turns can be restored and sorted. A superseded turn keeps its old
# position. The listed turns of a conversation have positions 0, 1, 2 …
_FIRST: Final = (
    """
    CREATE TABLE conversations (
        number INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        title TEXT NOT NULL,
        named INTEGER NOT NULL,
        created REAL NOT NULL,
        updated REAL NOT NULL,
        model TEXT NOT NULL,
        system TEXT NOT NULL,
        settings TEXT NOT NULL
    )
    """,
    "CREATE INDEX conversations_by_update ON conversations (updated)",
    """
    CREATE TABLE turns (
        id INTEGER PRIMARY KEY,
        conversation TEXT NOT NULL REFERENCES conversations (id) ON DELETE CASCADE,
        position INTEGER NOT NULL,
        created REAL NOT NULL,
        superseded REAL,
        role TEXT NOT NULL CHECK (role IN ('system', 'user', 'model')),
        text TEXT NOT NULL,
        token_ids BLOB NOT NULL CHECK (length(token_ids) % 4 = 0),
        thought TEXT NOT NULL,
        seed INTEGER,
        steps INTEGER NOT NULL,
        stop_reason TEXT NOT NULL,
        seconds REAL NOT NULL,
        finished INTEGER NOT NULL,
        images TEXT NOT NULL
    )
    """,
    "CREATE INDEX turns_by_conversation ON turns (conversation)",
    "CREATE UNIQUE INDEX turns_listed ON turns (conversation, position) WHERE superseded IS NULL",
    """
    CREATE VIRTUAL TABLE title_words USING fts5 (
        title, content = 'conversations', content_rowid = 'number', tokenize = "unicode61 remove_diacritics 2"
    )
    """,
    """
    CREATE VIRTUAL TABLE turn_words USING fts5 (
        text, content = 'turns', content_rowid = 'id', tokenize = "unicode61 remove_diacritics 2"
    )
    """,
    """
    CREATE TRIGGER conversations_inserted AFTER INSERT ON conversations BEGIN
        INSERT INTO title_words (rowid, title) VALUES (new.number, new.title);
    END
    """,
    """
    CREATE TRIGGER conversations_deleted AFTER DELETE ON conversations BEGIN
        INSERT INTO title_words (title_words, rowid, title) VALUES ('delete', old.number, old.title);
    END
    """,
    """
    CREATE TRIGGER conversations_updated AFTER UPDATE OF title ON conversations WHEN old.title <> new.title BEGIN
        INSERT INTO title_words (title_words, rowid, title) VALUES ('delete', old.number, old.title);
        INSERT INTO title_words (rowid, title) VALUES (new.number, new.title);
    END
    """,
    """
    CREATE TRIGGER turns_inserted AFTER INSERT ON turns BEGIN
        INSERT INTO turn_words (rowid, text) VALUES (new.id, new.text);
    END
    """,
    """
    CREATE TRIGGER turns_deleted AFTER DELETE ON turns BEGIN
        INSERT INTO turn_words (turn_words, rowid, text) VALUES ('delete', old.id, old.text);
    END
    """,
    """
    CREATE TRIGGER turns_updated AFTER UPDATE OF text ON turns WHEN old.text <> new.text BEGIN
        INSERT INTO turn_words (turn_words, rowid, text) VALUES ('delete', old.id, old.text);
        INSERT INTO turn_words (rowid, text) VALUES (new.id, new.text);
    END
    """,
)

# Digests of the files in `images`, in the same order.
_IMAGES: Final = ("ALTER TABLE turns ADD COLUMN image_digests TEXT NOT NULL DEFAULT '[]'",)

# The steps of a reply's run, as `timeline` packs them. Apart from the turns, which are read much more often.
_TIMELINES: Final = (
    """
    CREATE TABLE timelines (
        turn INTEGER PRIMARY KEY REFERENCES turns (id) ON DELETE CASCADE,
        steps BLOB NOT NULL
    )
    """,
)

# The text files that were sent with a turn: a list of path and digest in `files`, and each text once.
_FILES: Final = (
    "ALTER TABLE turns ADD COLUMN files TEXT NOT NULL DEFAULT '[]'",
    "CREATE TABLE texts (digest TEXT PRIMARY KEY, text TEXT NOT NULL)",
)

STEPS: Final[Sequence[Step]] = (_FIRST, _IMAGES, _TIMELINES, _FILES)
"""All steps from an empty file to the schema of this program."""


def version_of(connection: sqlite3.Connection) -> int:
    """Returns the number of steps that the file has taken."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def migrate(connection: sqlite3.Connection, steps: Sequence[Step] = STEPS) -> None:
    """Takes all missing steps in one transaction. Another process may do the same at the same time.

    Args:
        connection: In autocommit mode, to an empty file or a history file with at most these steps.
        steps: All steps from an empty file.
    """
    if version_of(connection) == len(steps):
        return
    try:
        connection.execute("BEGIN IMMEDIATE")
        for step in steps[version_of(connection) :]:
            for statement in step:
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {len(steps)}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
