"""The journal: what was accepted comes back, nothing damaged is trusted, and nothing is lost by looking."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dgtui import paths
from dgtui.document import journal, source
from dgtui.document.journal import Journal, find
from dgtui.document.undo import Edit
from dgtui.errors import RunFailed

OLD = b"one\ntwo\nthree\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file.txt"
    path.write_bytes(OLD)
    return path


def edit(start: int, end: int, new: bytes) -> Edit:
    return Edit(start, bytes(end - start), new)


def left(path: Path, *edits: tuple[int, int, bytes]) -> Path:
    """A journal as a program leaves it that is killed, and where it is."""
    before = set(folder().glob("*"))
    log = Journal(path, path.read_bytes())
    log.record(*(edit(*one) for one in edits))
    log.leave()
    (file,) = set(folder().iterdir()) - before
    return file


def folder() -> Path:
    return paths.state_dir() / "journals"


# -- What comes back ---------------------------------------------------------------------------------------------------


def test_the_edits_of_a_program_that_died_come_back(path: Path) -> None:
    file = left(path, (4, 7, b"2"), (0, 0, b"\xef\xbb\xbf"), (9, 14, b"3"))
    recovery = find(path)
    assert recovery is not None
    assert (recovery.state, recovery.edits, recovery.file, recovery.owner) == ("whole", 3, file, os.getpid())
    assert recovery.text == b"\xef\xbb\xbfone\n2\n3\n" and recovery.before == OLD
    assert recovery.data(source.read(path)) == recovery.text
    assert abs(recovery.when.timestamp() - time.time()) < 60


def test_looking_changes_nothing_and_discarding_ends_the_offer(path: Path) -> None:
    file = left(path, (0, 3, b"1"))
    before = file.read_bytes()
    assert find(path) == find(path)
    assert file.read_bytes() == before
    recovery = find(path)
    assert recovery is not None
    recovery.discard()
    recovery.discard()
    assert find(path) is None and not list(folder().iterdir())


def test_a_file_that_is_another_one_by_now_still_gets_its_text_as_a_copy(path: Path) -> None:
    left(path, (0, 3, b"1"))
    path.write_bytes(b"something else")
    recovery = find(path)
    assert recovery is not None
    assert recovery.data(source.read(path)) is None
    assert recovery.text == b"1\ntwo\nthree\n"
    path.unlink()
    assert find(path) == recovery


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    old=st.binary(max_size=40),
    edits=st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60), st.binary(max_size=20)), min_size=1, max_size=12),
    cut=st.floats(0, 1),
)
def test_any_edits_come_back_and_any_cut_leaves_a_beginning_of_them(
    tmp_path: Path, old: bytes, edits: list[tuple[int, int, bytes]], cut: float
) -> None:
    path = tmp_path / "any.txt"
    path.write_bytes(old)
    log, text, stages = Journal(path, old), old, [old]
    for start, end, new in edits:
        start, end = sorted((min(start, len(text)), min(end, len(text))))
        log.record(edit(start, end, new))
        text = text[:start] + new + text[end:]
        stages.append(text)
    log.leave()
    recovery = find(path)
    assert recovery is not None and (recovery.state, recovery.text, recovery.before) == ("whole", text, old)
    data = recovery.file.read_bytes()
    recovery.file.write_bytes(data[: int(cut * len(data))])
    torn = find(path)
    assert torn is not None
    if torn.state == "unreadable":
        assert torn.text == b""
    else:
        assert torn.text == stages[torn.edits]
    recovery.file.unlink()


def test_a_new_file_has_a_journal_before_it_is_there(tmp_path: Path) -> None:
    log = Journal(tmp_path / "new.txt", b"")
    log.record(edit(0, 0, b"first words"))
    log.leave()
    recovery = find(tmp_path / "new.txt")
    assert recovery is not None and recovery.data(source.of_bytes(b"")) == b"first words"


def test_a_file_is_found_by_whatever_name_leads_to_it(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "link").symlink_to(path)
    left(tmp_path / "link", (0, 3, b"1"))
    monkeypatch.chdir(tmp_path)
    assert find(path) == find(Path("file.txt")) == find(tmp_path / "link") is not None
    assert find(tmp_path / "other.txt") is None


def test_a_name_that_is_no_text_is_a_name(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/na\xffme\n\x1b"))
    path.write_bytes(OLD)
    left(path, (0, 3, b"1"))
    recovery = find(path)
    assert recovery is not None and recovery.state == "whole"


# -- When it is there, and for whom ------------------------------------------------------------------------------------


def test_there_is_no_journal_before_the_first_edit_and_after_the_last_save(path: Path) -> None:
    log = Journal(path, OLD)
    log.flush()
    assert not folder().exists() and find(path) is None
    log.record(edit(0, 3, b"1"))
    log.flush()
    assert len(list(folder().iterdir())) == 1
    log.saved(b"1\ntwo\nthree\n")
    log.flush()
    assert not list(folder().iterdir())
    log.record(edit(0, 1, b"I"))
    path.write_bytes(b"1\ntwo\nthree\n")
    log.leave()
    recovery = find(path)
    assert recovery is not None and recovery.data(source.read(path)) == b"I\ntwo\nthree\n"


def test_edits_after_a_save_come_back_even_if_the_journal_before_it_could_not_be_removed(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise PermissionError(1, "no")

    log = Journal(path, OLD)
    log.record(edit(0, 3, b"1"))
    path.write_bytes(b"1" + OLD[3:])
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", fail)
        with pytest.raises(RunFailed, match=r"journal of .* cannot be removed"):
            log.saved(path.read_bytes())
    time.sleep(0.01)  # for the newer of two
    log.record(edit(0, 1, b"first"))
    log.leave()
    recovery = find(path)
    assert recovery is not None and recovery.data(source.read(path)) == b"first" + OLD[3:]


def test_a_clean_close_leaves_nothing(path: Path) -> None:
    log = Journal(path, OLD)
    log.record(edit(0, 3, b"1"))
    log.close()
    assert find(path) is None and not list(folder().iterdir())
    Journal(path, OLD).close()


def test_journals_are_their_owners_alone(path: Path) -> None:
    before = os.umask(0)
    try:
        file = left(path, (0, 3, b"1"))
    finally:
        os.umask(before)
    assert [entry.stat().st_mode & 0o777 for entry in (file, file.parent, file.parent.parent)] == [0o600, 0o700, 0o700]
    assert "file" not in file.name  # the name tells nobody what was edited


WRITER = """
import sys, time
from pathlib import Path
from dgtui.document.journal import Journal
from dgtui.document.undo import Edit
path = Path(sys.argv[1])
log = Journal(path, path.read_bytes())
for i in range(100_000):
    log.record(Edit(0, b"", b"%d\\n" % i))
    if i % 50 == 0:
        print(i, flush=True)
"""


def test_a_second_program_on_the_file_is_told_of_and_its_journal_left_alone(path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True) as writer:
        try:
            assert writer.stdout and writer.stdout.readline() == "0\n"
            recovery = find(path)
            assert recovery is not None and (recovery.state, recovery.owner) == ("in use", writer.pid)
            assert recovery.data(source.read(path)) is None and recovery.text == b""
            recovery.discard()
            assert recovery.file.exists()
            own = left(path, (0, 3, b"mine"))  # and ours is another
            mine = find(path)
            assert mine is not None and (mine.file, mine.state) == (own, "whole")
            mine.discard()
        finally:
            writer.send_signal(signal.SIGKILL)
        told = int(([0, *writer.stdout.read().split("\n")[:-1]])[-1])
    recovery = find(path)
    assert recovery is not None and recovery.state in ("whole", "torn")
    assert recovery.edits > told
    assert recovery.text.endswith(b"\n0\n" + OLD) or recovery.edits == 1


# -- The disk ----------------------------------------------------------------------------------------------------------


def test_an_edit_is_forced_to_the_disk_within_ten_seconds_and_once_for_many(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert journal.SYNC_SECONDS <= 9
    monkeypatch.setattr(journal, "SYNC_SECONDS", 0.3)
    synced: list[int] = []  # sizes of what was forced
    fsync = os.fsync

    def watch(descriptor: int) -> None:
        synced.append(os.fstat(descriptor).st_size)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", watch)
    log = Journal(path, OLD)
    for i in range(100):
        log.record(edit(0, 0, b"%d" % i))
    file = next(folder().iterdir())
    deadline = time.monotonic() + 20
    while file.stat().st_size not in synced and time.monotonic() < deadline:
        time.sleep(0.02)
    assert file.stat().st_size in synced
    count = len(synced)
    assert count <= 6  # the file and its folder, and perhaps again where the machine was slow
    log.record(edit(0, 0, b"one more"))
    while file.stat().st_size not in synced and time.monotonic() < deadline:
        time.sleep(0.02)
    assert file.stat().st_size in synced
    log.close()


def test_flush_forces_everything_at_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_size))
    log = Journal(path, OLD)
    log.record(edit(0, 0, b"x"))
    log.flush()
    assert next(folder().iterdir()).stat().st_size in synced
    log.close()


def test_while_the_disk_is_full_edits_are_kept_and_written_when_there_is_room(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pwrite = os.pwrite

    def half(descriptor: int, data: memoryview, offset: int) -> int:
        pwrite(descriptor, bytes(data)[: len(data) // 2], offset)
        raise OSError(28, "No space left on device")

    log = Journal(path, OLD)
    log.record(edit(0, 0, b"a"))
    for new in (b"b", b"c"):
        with monkeypatch.context() as full:
            full.setattr(os, "pwrite", half)
            with pytest.raises(RunFailed, match="No space left on device"):
                log.record(edit(0, 0, new))
    log.record(edit(0, 0, b"d"))
    log.leave()
    recovery = find(path)
    assert recovery is not None and (recovery.state, recovery.text) == ("whole", b"dcba" + OLD)


def test_a_disk_that_fails_in_the_background_is_told_of_with_the_next_edit(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: int) -> None:
        raise OSError(5, "Input/output error")

    log = Journal(path, OLD)
    log.record(edit(0, 0, b"a"))
    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", fail)
        log._sync_in_background()  # what the timer runs
    with pytest.raises(RunFailed, match="Input/output error"):
        log.record(edit(0, 0, b"b"))
    log.record(edit(0, 0, b"c"))
    log.leave()
    recovery = find(path)
    assert recovery is not None and recovery.text == b"cba" + OLD


# -- Damage ------------------------------------------------------------------------------------------------------------


def test_a_torn_journal_is_reported_not_applied_and_kept(path: Path) -> None:
    file = left(path, (0, 3, b"1"), (2, 5, b"2"))
    data = file.read_bytes()
    file.write_bytes(data[:-1])
    recovery = find(path)
    assert recovery is not None and (recovery.state, recovery.edits) == ("torn", 1)
    assert recovery.text == b"1\ntwo\nthree\n" and recovery.data(source.read(path)) is None
    recovery.discard()
    assert find(path) is None
    assert [kept.read_bytes() for kept in folder().iterdir()] == [data[:-1]]


@pytest.mark.parametrize("where", range(0, 400, 7))
def test_a_flipped_byte_is_found_wherever_it_is(path: Path, where: int) -> None:
    file = left(path, (0, 3, b"1"), (2, 5, b"2"), (4, 4, b"!"))
    data = bytearray(file.read_bytes())
    where %= len(data)
    data[where] ^= 0x10
    file.write_bytes(data)
    recovery = find(path)
    assert recovery is not None and recovery.state in ("torn", "unreadable")
    assert recovery.data(source.read(path)) is None


def test_frames_that_were_swapped_or_left_out_are_found(path: Path) -> None:
    file = left(path, (0, 3, b"1"), (0, 1, b"2"), (0, 1, b"3"))
    data, size = file.read_bytes(), journal._FRAME.size + 1
    for damaged in (data[: -2 * size] + data[-size:] + data[-2 * size : -size], data[: -2 * size] + data[-size:]):
        file.write_bytes(damaged)
        recovery = find(path)
        assert recovery is not None and (recovery.state, recovery.edits) == ("torn", 1)


@pytest.mark.parametrize("data", [b"", b"dgtui journal 2\n" + bytes(100), os.urandom(500), b"dgtui journal 1\n"])
def test_a_foreign_file_is_reported_and_kept(path: Path, data: bytes) -> None:
    file = left(path, (0, 3, b"1"))
    file.write_bytes(data)
    recovery = find(path)
    assert recovery is not None and (recovery.state, recovery.text) == ("unreadable", b"")
    recovery.discard()
    assert find(path) is None and next(folder().iterdir()).read_bytes() == data


def test_the_journal_of_another_file_under_this_name_is_not_trusted(path: Path, tmp_path: Path) -> None:
    (tmp_path / "other.txt").write_bytes(OLD)
    other = left(tmp_path / "other.txt", (0, 3, b"evil"))
    own = left(path, (0, 3, b"1"))
    other.replace(own)
    recovery = find(path)
    assert recovery is not None and recovery.state == "unreadable"


def test_links_fifos_and_files_of_others_are_not_read(path: Path, tmp_path: Path) -> None:
    file = left(path, (0, 3, b"1"))
    file.rename(tmp_path / "elsewhere")
    file.symlink_to(tmp_path / "elsewhere")
    link = find(path)
    file.unlink()
    os.mkfifo(file)
    fifo = find(path)
    file.unlink()
    assert link is not None and fifo is not None and link.state == fifo.state == "unreadable"
    if os.geteuid() == 0:
        (tmp_path / "elsewhere").rename(file)
        os.chown(file, 12345, 12345)
        foreign = find(path)
        assert foreign is not None and foreign.state == "unreadable"


def test_a_readable_journal_comes_before_one_that_is_not_and_the_newest_first(path: Path) -> None:
    broken, older, newer = (left(path, (0, 3, text)) for text in (b"x", b"older", b"newer"))
    broken.write_bytes(b"")
    os.utime(older, (1, 1))
    for expected in (newer, older, broken):
        recovery = find(path)
        assert recovery is not None and recovery.file == expected
        recovery.discard()
    assert find(path) is None


def test_the_first_frame_is_plain_json_that_says_whose_it_is(path: Path) -> None:
    data = left(path, (0, 3, b"1")).read_bytes()
    frame = data[data.index(b'{"') :]  # before it are a length and a checksum, which may hold any byte
    assert json.loads(frame[: frame.index(b"}") + 1]) == {"path": str(path), "pid": os.getpid()}
