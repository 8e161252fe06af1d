"""Several programs and one history: nothing is lost, whoever writes, deletes or dies."""

import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest

from dgtui.session.store import Store, Turn

WRITERS, EACH = 20, 8

# Each prints "ready", waits for a line, and then writes for its life.
WRITER = """
import sys
from pathlib import Path
from dgtui.session.store import Store, Turn
path, name, shared, each = Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
print("ready", flush=True)
sys.stdin.readline()
store = Store(path)
own = store.create(name)
for i in range(each):
    store.append(shared, Turn("user", f"shared {name} {i}"))
    turn = store.append(own, Turn("model", f"draft {name} {i}", finished=False))
    store.update(turn, Turn("model", f"done {name} {i} " + "long " * 200, token_ids=tuple(range(300))))
store.close()
"""

# Prints the number of every turn after it is stored, for ever.
ENDLESS = """
import sys
from pathlib import Path
from dgtui.session.store import Store, Turn
store = Store(Path(sys.argv[1]))
conversation, first = sys.argv[2], int(sys.argv[3])
for i in range(first, 10**9):
    turn = store.append(conversation, Turn("user", f"number {i} " + "word " * 400))
    store.update(turn, Turn("user", f"number {i} " + "other " * 400))
    print(i, flush=True)
"""

# Deletes every conversation it sees, until it is told to end.
DELETER = """
import sys, threading
from pathlib import Path
from dgtui.session.store import Store
store = Store(Path(sys.argv[1]))
told = threading.Event()
threading.Thread(target=lambda: (sys.stdin.readline(), told.set()), daemon=True).start()
print("ready", flush=True)
deleted = 0
while not told.wait(0.002):
    for conversation in store.conversations():
        store.delete(conversation.id)
        deleted += 1
store.close()
print(deleted)
"""


def rewind(store: Store, conversation: str, position: int) -> None:
    """Supersedes the turns from a position on."""
    store.supersede(conversation, [turn.id for turn in store.turns(conversation)[position:]])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "history.db"


@contextmanager
def program(code: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """A program with pipes, which is no more at the end."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def tell(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def check_file(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        for index in ("title_words", "turn_words"):
            connection.execute(f"INSERT INTO {index} ({index}, rank) VALUES ('integrity-check', 1)")


@pytest.mark.slow
def test_twenty_programs_write_to_a_new_file_at_once_and_nothing_is_lost(path: Path) -> None:
    with ExitStack() as stack:
        writers = [stack.enter_context(program(WRITER, path, f"w{i}", "shared", EACH)) for i in range(WRITERS)]
        assert [line(writer) for writer in writers] == ["ready"] * WRITERS
        assert not path.exists()
        for writer in writers:
            tell(writer)
        assert [writer.wait(timeout=300) for writer in writers] == [0] * WRITERS
    with closing(Store(path)) as store:
        together = store.turns("shared")
        assert [stored.position for stored in together] == list(range(WRITERS * EACH))
        for i in range(WRITERS):
            mine = [stored.turn.text for stored in together if f" w{i} " in stored.turn.text]
            assert mine == [f"shared w{i} {k}" for k in range(EACH)]
        for conversation in store.conversations():
            if conversation.id != "shared":
                said = [stored.turn for stored in store.turns(conversation.id)]
                assert [turn.text[:12].split()[:3] for turn in said] == [
                    ["done", conversation.model, str(k)] for k in range(EACH)
                ]
                assert all(turn.finished and turn.token_ids == tuple(range(300)) for turn in said)
        assert len(store.conversations()) == WRITERS + 1
        assert len(store.search("done long", limit=1000)) == WRITERS * EACH
    check_file(path)


@pytest.mark.slow
def test_a_program_that_is_killed_while_it_writes_loses_nothing_that_was_stored(path: Path) -> None:
    chance = random.Random(0)
    with closing(Store(path)) as store:
        conversation = store.create("m")
        stored = 0
        for _ in range(6):
            with program(ENDLESS, path, conversation, stored) as process:
                last = int(line(process))
                time.sleep(chance.uniform(0, 0.05))
                process.send_signal(signal.SIGKILL)
                assert process.stdout is not None
                last = int(([last, *process.stdout.read().split("\n")[:-1]])[-1])
            numbers = [int(turn.turn.text.split()[1]) for turn in store.turns(conversation)]
            assert numbers[: last + 1] == list(range(last + 1))
            assert len(numbers) - (last + 1) in (0, 1)  # one more may have been stored and not yet told
            assert all(turn.turn.text.endswith("other ") for turn in store.turns(conversation)[: last + 1])
            rewind(store, conversation, last + 1)
            stored = last + 1
    check_file(path)


def test_the_last_program_may_be_killed_and_the_next_finds_all(path: Path) -> None:
    with closing(Store(path)) as store:
        conversation = store.create("m")
    with program(ENDLESS, path, conversation, 0) as process:
        told = [line(process) for _ in range(5)]
        process.send_signal(signal.SIGKILL)
    assert path.with_name("history.db-wal").exists()  # what was not yet written into the file itself
    with closing(Store(path)) as store:
        assert [turn.turn.text.split()[1] for turn in store.turns(conversation)][:5] == told
    check_file(path)


def test_deleting_elsewhere_all_the_time_loses_no_turn_of_an_open_conversation(path: Path) -> None:
    with closing(Store(path)) as store, program(DELETER, path) as deleter:
        assert line(deleter) == "ready"
        conversation = store.create("m")
        for i in range(40):
            turn = store.append(conversation, Turn("model", f"draft {i}", finished=False))
            time.sleep(0.003)
            store.update(turn, Turn("model", f"done {i}"))
        tell(deleter)
        assert int(line(deleter)) > 1
        store.update(turn, Turn("model", "done at last"))
        said = [stored.turn.text for stored in store.turns(conversation)]
        assert said == [*(f"done {i}" for i in range(39)), "done at last"]
    check_file(path)
