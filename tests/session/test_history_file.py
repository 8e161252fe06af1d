"""The history file: private, never overwritten when it is not ours, migrated all or not at all."""

import os
import shutil
import signal
import sqlite3
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dgtui import paths
from dgtui.errors import DgtuiError, RunFailed
from dgtui.session import database
from dgtui.session.database import Database, HistoryRefused
from dgtui.session.export import to_markdown
from dgtui.session.migrations import APPLICATION_ID, STEPS
from dgtui.session.store import Attachment, Store, TextFile, Turn, default_path

# What version 1 wrote, never to be edited: the files of today must open tomorrow.
VERSION_1 = """
PRAGMA journal_mode = WAL;
BEGIN;
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
);
CREATE INDEX conversations_by_update ON conversations (updated);
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
);
CREATE INDEX turns_by_conversation ON turns (conversation);
CREATE UNIQUE INDEX turns_listed ON turns (conversation, position) WHERE superseded IS NULL;
CREATE VIRTUAL TABLE title_words USING fts5 (
    title, content = 'conversations', content_rowid = 'number', tokenize = "unicode61 remove_diacritics 2"
);
CREATE VIRTUAL TABLE turn_words USING fts5 (
    text, content = 'turns', content_rowid = 'id', tokenize = "unicode61 remove_diacritics 2"
);
CREATE TRIGGER conversations_inserted AFTER INSERT ON conversations BEGIN
    INSERT INTO title_words (rowid, title) VALUES (new.number, new.title);
END;
CREATE TRIGGER conversations_deleted AFTER DELETE ON conversations BEGIN
    INSERT INTO title_words (title_words, rowid, title) VALUES ('delete', old.number, old.title);
END;
CREATE TRIGGER conversations_updated AFTER UPDATE OF title ON conversations WHEN old.title <> new.title BEGIN
    INSERT INTO title_words (title_words, rowid, title) VALUES ('delete', old.number, old.title);
    INSERT INTO title_words (rowid, title) VALUES (new.number, new.title);
END;
CREATE TRIGGER turns_inserted AFTER INSERT ON turns BEGIN
    INSERT INTO turn_words (rowid, text) VALUES (new.id, new.text);
END;
CREATE TRIGGER turns_deleted AFTER DELETE ON turns BEGIN
    INSERT INTO turn_words (turn_words, rowid, text) VALUES ('delete', old.id, old.text);
END;
CREATE TRIGGER turns_updated AFTER UPDATE OF text ON turns WHEN old.text <> new.text BEGIN
    INSERT INTO turn_words (turn_words, rowid, text) VALUES ('delete', old.id, old.text);
    INSERT INTO turn_words (rowid, text) VALUES (new.id, new.text);
END;
PRAGMA application_id = 1684501621;
PRAGMA user_version = 1;
INSERT INTO conversations VALUES
    (1, 'bcd234', 'river notes', 1, 1767225600.0, 1767225700.5, 'nano', 'Be brief.', '{"max_steps": 48}'),
    (2, 'fgh567', 'Lakes', 0, 1767225800.0, 1767225900.0, 'nano', '', '{}');
INSERT INTO turns VALUES
    (11, 'bcd234', 0, 1767225650.0, NULL, 'user', 'Why do rivers meander?', x'', '', NULL, 0, '', 0.0, 1, '["a.png"]'),
    (12, 'bcd234', 1, 1767225660.0, 1767225670.0, 'model', 'Chance.', x'05000000', '', 7, 9, 'eos', 0.5, 1, '[]'),
    (13, 'bcd234', 1, 1767225680.0, NULL, 'model', 'Water.', x'0600000007000000', 'hm', 8, 14, 'eos', 1.5, 1, '[]'),
    (14, 'fgh567', 0, 1767225850.0, NULL, 'user', 'Lakes', x'', '', NULL, 0, '', 0.0, 1, '[]');
COMMIT;
"""

# What version 2 made of it.
VERSION_2 = """
ALTER TABLE turns ADD COLUMN image_digests TEXT NOT NULL DEFAULT '[]';
PRAGMA user_version = 2;
"""

# What version 3 made of it.
VERSION_3 = """
CREATE TABLE timelines (
    turn INTEGER PRIMARY KEY REFERENCES turns (id) ON DELETE CASCADE,
    steps BLOB NOT NULL
);
PRAGMA user_version = 3;
"""

# What version 4 made of it.
VERSION_4 = """
ALTER TABLE turns ADD COLUMN files TEXT NOT NULL DEFAULT '[]';
CREATE TABLE texts (digest TEXT PRIMARY KEY, text TEXT NOT NULL);
PRAGMA user_version = 4;
"""

NEXT = (
    *STEPS,
    ("ALTER TABLE turns ADD COLUMN mood TEXT NOT NULL DEFAULT 'calm'", "UPDATE turns SET steps = steps + 1"),
)
"""A shape that a later version may have."""


def rewind(store: Store, conversation: str, position: int) -> None:
    """Supersedes the turns from a position on."""
    store.supersede(conversation, [turn.id for turn in store.turns(conversation)[position:]])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "files" / "history.db"


def make_version_1(path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(VERSION_1)


def schema(path: Path) -> list[tuple[str, str]]:
    with closing(sqlite3.connect(path)) as connection:
        found = connection.execute("SELECT name, sql FROM sqlite_master WHERE sql NOT NULL ORDER BY name").fetchall()
    return [(name, " ".join(sql.split()).replace("( ", "(").replace(" )", ")")) for name, sql in found]


def version(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])


def modes(folder: Path) -> dict[str, int]:
    return {file.name: stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()}


def everything(folder: Path) -> dict[str, bytes | None]:
    return {str(file): file.read_bytes() if file.is_file() else None for file in folder.rglob("*")}


# -- private ----------------------------------------------------------------------------------------------------------


@pytest.fixture(params=[0, 0o022, 0o077])
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


@pytest.mark.usefixtures("umask")
def test_the_file_and_its_companions_are_the_owners_alone(path: Path) -> None:
    with closing(Store(path)) as store:
        store.append(store.create("m"), Turn("user", "x"))
        assert modes(path.parent) == dict.fromkeys(("history.db", "history.db-wal", "history.db-shm"), 0o600)
    assert modes(path.parent) == {"history.db": 0o600}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_no_umask_makes_the_file_unreadable(path: Path) -> None:
    path.parent.mkdir()
    before = os.umask(0o777)
    try:
        with closing(Store(path)) as store:
            store.create("m")
            assert set(modes(path.parent).values()) == {0o600}
    finally:
        os.umask(before)


def test_a_link_leads_to_a_private_file(path: Path, tmp_path: Path) -> None:
    path.parent.mkdir()
    path.symlink_to(tmp_path / "elsewhere" / "real.db")
    with closing(Store(path)) as store:
        store.create("m")
        assert set(modes(tmp_path / "elsewhere")) == {"real.db", "real.db-wal", "real.db-shm"}
        assert set(modes(tmp_path / "elsewhere").values()) == {0o600}
    assert path.is_symlink()


def test_without_history_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setenv("SQLITE_TMPDIR", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    before = everything(tmp_path)
    with closing(Store(None)) as store:
        conversation = store.create("m")
        for i in range(300):
            store.append(conversation, Turn("user", f"nothing {i} of this " * 50))
        rewind(store, conversation, 200)
        assert len(store.search("nothing", limit=1000)) == 201
        assert everything(tmp_path) == before
        store.delete(conversation)
    assert everything(tmp_path) == before


def test_the_file_lies_in_the_data_folder_unless_it_is_set(tmp_path: Path, own_folders: Path) -> None:
    assert default_path(tmp_path / "mine.db") == tmp_path / "mine.db"
    assert not (own_folders / ".local").exists()
    assert default_path(None) == paths.data_dir() / "history.db"


@pytest.mark.parametrize("name", ["file:x?mode=memory", ":memory:", "a b%20?#.db", "naïve\udcff.db", "'\";--.db"])
def test_a_name_is_a_name_and_no_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    with closing(Store(Path(name))) as store:
        store.create("m")
    assert (tmp_path / name).stat().st_size > 0


# -- refused and failed -----------------------------------------------------------------------------------------------


def garbage(path: Path) -> None:
    path.write_bytes(b"this is no database\n" * 300)


def short_garbage(path: Path) -> None:
    path.write_bytes(b"no")


def truncated(path: Path) -> None:
    make_version_1(path)
    path.write_bytes(path.read_bytes()[:-8192])


def broken_schema(path: Path) -> None:
    make_version_1(path)
    data = path.read_bytes()
    path.write_bytes(data[:100] + b"\xff" * 900 + data[1000:])


def of_another_program(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript("CREATE TABLE bookmarks (url); INSERT INTO bookmarks VALUES ('x');")


def of_a_newer_version(path: Path) -> None:
    Database(path, NEXT).close()


@pytest.mark.parametrize(
    ("make", "says", "advises"),
    [
        (garbage, "damaged", "elsewhere"),
        (short_garbage, "damaged", "elsewhere"),
        (truncated, "damaged", "elsewhere"),
        (broken_schema, "damaged", "elsewhere"),
        (of_another_program, "another program", "another file"),
        (of_a_newer_version, f"version {len(NEXT)}, not {len(STEPS)}", "update dgtui"),
    ],
)
def test_what_is_not_ours_to_write_is_refused_and_left_as_it_is(
    path: Path, make: Callable[[Path], None], says: str, advises: str
) -> None:
    path.parent.mkdir()
    make(path)
    before, time = everything(path.parent), path.stat().st_mtime_ns
    with pytest.raises(HistoryRefused, match=says) as refusal:
        Store(path)
    assert str(path) in str(refusal.value) and advises in refusal.value.hint
    assert everything(path.parent) == before and path.stat().st_mtime_ns == time


def test_an_empty_file_is_a_new_history(path: Path) -> None:
    path.parent.mkdir()
    path.touch()
    with closing(Store(path)) as store:
        assert store.conversations() == []


def exercise(store: Store) -> None:
    for conversation in store.conversations():
        store.turns(conversation.id)
        store.append(conversation.id, Turn("user", "one more river"))
        store.rename(conversation.id, "river")
        rewind(store, conversation.id, 1)
    store.search("river")
    store.search("%")
    store.latest()
    store.delete(store.create("m"))


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(st.integers(0, 10**6), st.binary(min_size=1, max_size=40)), min_size=1, max_size=6))
def test_damage_anywhere_is_a_typed_error_or_none(
    tmp_path_factory: pytest.TempPathFactory, damage: list[tuple[int, bytes]]
) -> None:
    path = tmp_path_factory.mktemp("damage") / "history.db"
    make_version_1(path)
    data = bytearray(path.read_bytes())
    for at, what in damage:
        at %= len(data)
        data[at : at + len(what)] = what
    path.write_bytes(data)
    try:
        with closing(Store(path)) as store:
            exercise(store)
    except DgtuiError as error:
        assert "history" in str(error) or "conversation" in str(error)


@pytest.mark.parametrize("bad", ["settings = '[1]'", "settings = '{'", "title = x'ff'", "created = 'yesterday'"])
def test_a_row_that_cannot_be_is_damage(path: Path, bad: str) -> None:
    make_version_1(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(f"DROP TRIGGER conversations_updated; UPDATE conversations SET {bad}")
    with closing(Store(path)) as store, pytest.raises(HistoryRefused, match="damaged"):
        store.conversations()


@pytest.mark.parametrize("value", ["x'ff'", "CAST (x'ff' AS TEXT)", '\'[["a", "b"]]\'', "-9e99", "'river'"])
@pytest.mark.parametrize("table", ["conversations", "turns", "texts"])
def test_any_value_in_any_column_is_damage_or_harmless(path: Path, table: str, value: str) -> None:
    with closing(Store(path)) as store:
        store.append(store.create("m"), Turn("user", "a river", files=(TextFile("b.txt", "words"),)))
        store._database.empty_log()
    whole = path.read_bytes()
    with closing(sqlite3.connect(path)) as connection:
        columns = [row[1] for row in connection.execute(f"PRAGMA table_info ({table})")]
    for column in columns:
        path.write_bytes(whole)
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.create_function("fold", 1, str)
            connection.execute("PRAGMA ignore_check_constraints = ON")
            with suppress(sqlite3.Error):  # the key of a table has one type
                connection.execute(f"UPDATE {table} SET {column} = {value}")
        with suppress(HistoryRefused), closing(Store(path)) as store:
            for found in store.conversations():
                to_markdown(found, store.turns(found.id))
            exercise(store)


def test_a_text_that_is_too_long_for_sqlite_is_said_and_the_file_goes_on(path: Path) -> None:
    with closing(Store(path)) as store:
        name = store.create("m")
        store._database._connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 10_000)
        with pytest.raises(RunFailed, match="too long to be stored"):
            store.append(name, Turn("user", "river " * 5000))
        store.append(name, Turn("user", "river"))
        assert [stored.turn.text for stored in store.turns(name)] == ["river"]


@pytest.mark.parametrize("name", ["settings", "named", "text", "position", "digest"])
def test_a_column_whose_name_is_damaged_is_damage_or_harmless(path: Path, name: str) -> None:
    with closing(Store(path)) as store:
        store.append(store.create("m"), Turn("user", "a river"))
    whole = path.read_bytes()
    for other in (name.title(), f"x{name[1:]}"):
        path.write_bytes(whole.replace(f" {name} ".encode(), f" {other} ".encode()))
        with suppress(HistoryRefused), closing(Store(path)) as store:
            exercise(store)


def test_a_folder_or_a_loop_in_the_way_is_a_failure(path: Path, tmp_path: Path) -> None:
    path.mkdir(parents=True)
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "file").touch()
    for place in (
        path,
        tmp_path / "loop",
        tmp_path / "file" / "history.db",
        tmp_path / "nul\0",
        tmp_path / ("n" * 300),
    ):
        with pytest.raises(RunFailed) as failure:
            Store(place)
        assert failure.value.hint


def in_a_process(action: Callable[[], None], *, user: int | None = None) -> int:
    """Runs something in a copy of this process, perhaps as another user; its exit status, or minus the signal."""
    child = os.fork()
    if child == 0:
        try:
            if user is not None:
                os.setuid(user)
            action()
        except BaseException:
            sys.excepthook(*sys.exc_info())
            sys.stderr.flush()
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.fixture
def locked() -> Iterator[Path]:
    """A folder with a history in it, of a user that is not root, without permission to write."""
    folder = Path(tempfile.mkdtemp())
    make_version_1(folder / "history.db")
    (folder / "history.db").chmod(0o600)
    if os.geteuid() == 0:
        for place in (folder, folder / "history.db"):
            os.chown(place, 65534, 65534)
    folder.chmod(0o500)
    yield folder
    folder.chmod(0o700)
    shutil.rmtree(folder)


@pytest.mark.parametrize("name", ["history.db", "new.db", "new/history.db"])
def test_a_folder_that_cannot_be_written_is_a_failure(locked: Path, name: str) -> None:
    def action() -> None:
        with pytest.raises(RunFailed) as failure:
            Store(locked / name)
        assert str(locked) in str(failure.value) and "[history] path" in failure.value.hint

    assert in_a_process(action, user=65534 if os.geteuid() == 0 else None) == 0
    assert set(modes(locked)) == {"history.db"}


def test_a_file_that_cannot_be_written_is_a_failure(locked: Path) -> None:
    locked.chmod(0o700)
    (locked / "history.db").chmod(0o400)

    def action() -> None:
        with pytest.raises(RunFailed, match="cannot be read and written"):
            Store(locked / "history.db")

    assert in_a_process(action, user=65534 if os.geteuid() == 0 else None) == 0


def test_a_disk_that_takes_no_more_is_a_failure_and_loses_nothing(path: Path) -> None:
    resource = pytest.importorskip("resource")
    with closing(Store(path)) as store:
        conversation = store.create("m")
        store.append(conversation, Turn("user", "kept"))

        def action() -> None:
            _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
            with closing(Store(path)) as mine:
                mine.turns(conversation)
                resource.setrlimit(resource.RLIMIT_FSIZE, (2**18, hard))
                with pytest.raises(RunFailed) as failure:
                    for _ in range(20):
                        mine.append(conversation, Turn("user", "much " * 20_000))
                assert str(path) in str(failure.value)
                resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
                mine.append(conversation, Turn("user", "room again"))

        assert in_a_process(action) == 0
        said = [stored.turn.text for stored in store.turns(conversation)]
        assert (said[0], said[-1]) == ("kept", "room again")


def test_a_full_database_is_a_failure_and_loses_nothing(path: Path) -> None:
    def fill(small: Database) -> None:
        with small.writing() as connection:
            connection.execute("PRAGMA max_page_count = 40").fetchall()
            row = (1, "abc", "", 0, 0, 0, "m", "", "{}")
            connection.execute("INSERT INTO conversations VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
            connection.execute("UPDATE conversations SET system = ?", ("x" * 10**6,))

    with closing(Database(path)) as small, pytest.raises(RunFailed, match="full") as failure:
        fill(small)
    assert "space" in failure.value.hint
    with closing(Store(path)) as store:
        assert store.conversations() == []


def test_a_file_held_by_another_program_is_a_failure(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.05)
    with closing(Store(path)) as store, closing(sqlite3.connect(path, isolation_level=None)) as other:
        conversation = store.create("m")
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(RunFailed, match="in use") as failure:
            store.append(conversation, Turn("user", "x"))
        assert failure.value.hint
        assert store.turns(conversation) == []  # reading goes on
        other.execute("ROLLBACK")
        store.append(conversation, Turn("user", "x"))


# -- migrations -------------------------------------------------------------------------------------------------------


def test_a_new_file_has_the_shape_of_version_4(path: Path, tmp_path: Path) -> None:
    Store(path).close()
    make_version_1(tmp_path / "1.db")
    with closing(sqlite3.connect(tmp_path / "1.db")) as connection:
        connection.executescript(VERSION_2 + VERSION_3 + VERSION_4)
    assert schema(path) == schema(tmp_path / "1.db")
    assert version(path) == len(STEPS) == 4
    assert APPLICATION_ID == 1684501621


def test_the_first_step_makes_the_shape_of_version_1(path: Path, tmp_path: Path) -> None:
    Database(path, STEPS[:1]).close()
    make_version_1(tmp_path / "1.db")
    assert schema(path) == schema(tmp_path / "1.db")


def check_version_1_contents(path: Path) -> None:
    with closing(Store(path)) as store:
        newest, older = store.conversations()
        assert (older.id, older.title, older.settings, older.system) == (
            "bcd234",
            "river notes",
            {"max_steps": 48},
            "Be brief.",
        )
        assert older.created.isoformat() == "2026-01-01T00:00:00+00:00"
        question, reply = store.turns("bcd234")
        assert question.turn == Turn("user", "Why do rivers meander?", images=(Attachment("a.png"),))
        assert reply.turn == Turn("model", "Water.", (6, 7), "hm", 8, 14, "eos", 1.5)
        assert [hit.turn_id for hit in store.search("meander")] == [11]
        assert store.search("Chance") == []
        store.append(newest.id, Turn("model", "are still"))
        assert [stored.position for stored in store.turns("fgh567")] == [0, 1]


def test_a_file_of_version_1_is_read(path: Path) -> None:
    make_version_1(path)
    check_version_1_contents(path)


def test_a_file_of_version_3_takes_attached_files(path: Path) -> None:
    make_version_1(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(VERSION_2 + VERSION_3)
    check_version_1_contents(path)
    turn = Turn("user", "see @a.txt", files=(TextFile("a.txt", "words"),))
    with closing(Store(path)) as store:
        store.append("fgh567", turn)
    with closing(Store(path)) as store:
        assert store.turns("fgh567")[-1].turn == turn


@pytest.mark.parametrize(
    "damage", ["DELETE FROM texts", "UPDATE turns SET files = '[[1, 2]]'", "UPDATE turns SET files = '[['"]
)
def test_an_attached_file_without_its_text_is_damage(path: Path, damage: str) -> None:
    with closing(Store(path)) as store:
        conversation = store.create("m")
        store.append(conversation, Turn("user", "see", files=(TextFile("a.txt", "words"),)))
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute(damage)
        with pytest.raises(HistoryRefused, match="damaged"):
            store.turns(conversation)


def test_an_older_file_is_migrated_with_all_that_is_in_it(path: Path) -> None:
    make_version_1(path)
    with closing(Database(path, NEXT)) as newer, newer.reading() as connection:
        found = connection.execute("SELECT text, steps, mood FROM turns WHERE id = 13").fetchone()
        assert tuple(found) == ("Water.", 15, "calm")
        assert connection.execute("SELECT count(*) FROM turns").fetchone()[0] == 4
    assert version(path) == len(NEXT)
    Database(path, NEXT).close()
    with closing(sqlite3.connect(path)) as connection:  # the step is not taken twice
        assert connection.execute("SELECT steps FROM turns WHERE id = 13").fetchone() == (15,)


def test_a_new_file_takes_all_steps(path: Path) -> None:
    Database(path, NEXT).close()
    assert version(path) == len(NEXT)


def test_a_step_that_fails_leaves_the_older_file(path: Path) -> None:
    make_version_1(path)
    failing = (*NEXT, ("DELETE FROM turns", "INSERT INTO nowhere VALUES (1)"))
    with pytest.raises(DgtuiError):
        Database(path, failing)
    assert version(path) == 1
    check_version_1_contents(path)


def test_a_program_killed_in_a_migration_leaves_the_older_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_version_1(path)

    class Deadly(tuple[str, ...]):
        def __iter__(self) -> Iterator[str]:
            yield from ("DELETE FROM turns", "DROP TABLE turn_words")
            os.kill(os.getpid(), signal.SIGKILL)

    assert in_a_process(lambda: Database(path, (*NEXT, Deadly())).close()) == -signal.SIGKILL
    assert version(path) == 1
    check_version_1_contents(path)


def test_a_program_does_not_write_to_a_file_that_a_newer_one_migrated_meanwhile(path: Path) -> None:
    with closing(Store(path)) as store:
        conversation = store.create("m")
        Database(path, NEXT).close()
        with pytest.raises(HistoryRefused, match="newer") as refusal:
            store.append(conversation, Turn("user", "x"))
        assert "update" in refusal.value.hint
