"""Saving: all or nothing, nothing for nothing, and everything that belongs to the file stays with it."""

import dataclasses
import fcntl
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dgtui.document import journal, source
from dgtui.document import save as saving
from dgtui.document.save import Conflict, save
from dgtui.errors import RunFailed

OLD, NEW = b"old\r\ntext\n", "\ufeffnew\ntext, without an end".encode()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file.txt"
    path.write_bytes(OLD)
    return path


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that everybody may write to, where only owners remove, such as /tmp; and no rights of root here."""
    folder = Path(tempfile.mkdtemp(prefix="dgtui-test-"))
    folder.chmod(0o1777)
    monkeypatch.setenv("XDG_STATE_HOME", str(folder / "state"))
    try:
        yield folder
    finally:
        for inside in folder.iterdir():
            if inside.is_dir():
                inside.chmod(0o700)
        shutil.rmtree(folder)


@pytest.fixture
def nobody(shared: Path) -> Iterator[int]:
    """Without the rights of root, where the tests have them. Returns the user's number."""
    if os.geteuid() != 0:
        yield os.geteuid()
        return
    groups = os.getgroups()
    os.setgroups([])
    os.setegid(65534)
    os.seteuid(65534)
    try:
        yield 65534
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)


class as_root:
    """For a moment, the rights that `nobody` dropped; the test is skipped where there never were any."""

    def __enter__(self) -> None:
        if os.getuid() != 0:
            pytest.skip("only root makes files of others")
        self.before = os.geteuid()
        os.seteuid(0)

    def __exit__(self, *_: object) -> None:
        os.seteuid(self.before)


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir() if file.name not in ("home", "state"))


def attribute(path: Path, name: str, value: bytes) -> None:
    try:
        os.setxattr(path, name, value)
    except (AttributeError, OSError):
        pytest.skip("no extended attributes here")


# -- What is written ---------------------------------------------------------------------------------------------------


def test_open_save_without_an_edit_leaves_inode_time_and_bytes(path: Path) -> None:
    os.utime(path, ns=(1, 1_000_000_001))
    before = path.stat()
    found = source.read(path)
    assert save(found.data, path, found) == found.identity
    after = path.stat()
    assert (after.st_ino, after.st_mtime_ns, after.st_ctime_ns) == (
        before.st_ino,
        before.st_mtime_ns,
        before.st_ctime_ns,
    )
    assert path.read_bytes() == OLD


def test_a_save_puts_a_new_file_in_the_place_of_the_old_one(path: Path) -> None:
    found = source.read(path)
    with path.open("rb") as reader:
        identity = save(NEW, path, found)
        assert reader.read() == OLD  # whoever reads meanwhile reads one of the two, whole
    assert path.read_bytes() == NEW
    assert identity == source.read(path).identity != found.identity
    assert names(path.parent) == ["file.txt"]


def test_one_save_after_another(path: Path) -> None:
    found = source.read(path)
    for data in (NEW, b"", OLD, NEW * 1000):
        found = dataclasses.replace(found, data=data, identity=save(data, path, found))
        assert path.read_bytes() == data


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(old=st.binary(max_size=300), new=st.binary(max_size=300), linked=st.booleans())
def test_any_bytes_are_saved_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: bytes, new: bytes, linked: bool
) -> None:
    monkeypatch.setattr(os, "fsync", os.fstat)
    path, second = tmp_path / "any", tmp_path / "second"
    path.unlink(missing_ok=True)
    second.unlink(missing_ok=True)
    path.write_bytes(old)
    if linked:
        second.hardlink_to(path)
    expected = source.Source(path, old, "latin-1", source.Identity.of(path.stat()))
    save(new, path, expected)
    assert path.read_bytes() == new
    if linked:
        assert second.read_bytes() == new


def test_a_new_file_has_the_mode_that_new_files_have(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        save(NEW, tmp_path / "new.txt", None)
    finally:
        os.umask(before)
    assert (tmp_path / "new.txt").read_bytes() == NEW
    assert stat.S_IMODE((tmp_path / "new.txt").stat().st_mode) == 0o640


# -- What stays --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o664, 0o755, 0o4711])
def test_the_mode_stays(path: Path, mode: int) -> None:
    path.chmod(mode)
    save(NEW, path, source.read(path))
    assert (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) == (NEW, mode)


def test_extended_attributes_stay(path: Path) -> None:
    attribute(path, "user.author", b"someone")
    attribute(path, "user.empty", b"")
    save(NEW, path, source.read(path))
    assert {name: os.getxattr(path, name) for name in os.listxattr(path) if name.startswith("user.")} == {
        "user.author": b"someone",
        "user.empty": b"",
    }


def test_where_an_attribute_cannot_be_given_to_a_new_file_the_old_one_is_written_in_place(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attribute(path, "user.author", b"someone")

    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "setxattr", refuse)
    before = path.stat()
    save(NEW, path, source.read(path))
    assert (path.read_bytes(), path.stat().st_ino) == (NEW, before.st_ino)
    assert os.getxattr(path, "user.author") == b"someone"
    assert names(path.parent) == ["file.txt"]


def test_a_symbolic_link_stays_and_its_target_is_saved(path: Path, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    first, second = tmp_path / "first", tmp_path / "sub" / "second"
    second.symlink_to("../file.txt")
    first.symlink_to("sub/second")
    save(NEW, first, source.read(first))
    assert first.is_symlink() and second.is_symlink()
    assert path.read_bytes() == NEW
    assert names(tmp_path / "sub") == ["second"]


def test_a_dangling_link_becomes_a_new_file_where_it_leads(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("target")
    save(NEW, tmp_path / "link", None)
    assert (tmp_path / "link").is_symlink() and (tmp_path / "target").read_bytes() == NEW


def test_hard_links_stay_one_file(path: Path, tmp_path: Path) -> None:
    (tmp_path / "second").hardlink_to(path)
    for data in (NEW, b"short", NEW * 50, b""):
        save(data, path, source.read(path))
        assert (tmp_path / "second").read_bytes() == data and path.samefile(tmp_path / "second")
    assert journal.find(path) is None
    assert names(tmp_path) == ["file.txt", "second"]


def test_the_owner_stays(path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root gives files away")
    os.chown(path, 12345, 54321)
    save(NEW, path, source.read(path))
    status = path.stat()
    assert (path.read_bytes(), status.st_uid, status.st_gid) == (NEW, 12345, 54321)


def test_a_file_of_another_person_is_written_in_place(shared: Path, nobody: int) -> None:
    path = shared / "theirs.txt"
    with as_root():
        path.write_bytes(OLD)
        path.chmod(0o666)
    before = path.stat()
    save(NEW, path, source.read(path))
    after = path.stat()
    assert (path.read_bytes(), after.st_ino, after.st_uid, after.st_mode) == (NEW, before.st_ino, 0, before.st_mode)
    assert names(shared) == ["theirs.txt"]
    assert journal.find(path) is None


def test_in_a_read_only_folder_a_file_is_written_in_place(shared: Path, nobody: int) -> None:
    folder = shared / "folder"
    folder.mkdir()
    path = folder / "file.txt"
    path.write_bytes(OLD)
    folder.chmod(0o555)
    inode = path.stat().st_ino
    save(NEW, path, source.read(path))
    assert (path.read_bytes(), path.stat().st_ino, names(folder)) == (NEW, inode, ["file.txt"])
    with pytest.raises(RunFailed, match="could not be saved: Permission denied"):
        save(NEW, folder / "new.txt", None)


def test_without_a_place_for_the_recovery_copy_nothing_is_written_in_place(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "second").hardlink_to(path)
    (tmp_path / "blocked").write_text("in the way")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "blocked"))
    with pytest.raises(RunFailed):
        save(NEW, path, source.read(path))
    assert path.read_bytes() == OLD


def test_a_read_only_file_is_refused(shared: Path, nobody: int) -> None:
    path = shared / "file.txt"
    path.write_bytes(OLD)
    path.chmod(0o444)
    found = source.read(path)
    with pytest.raises(RunFailed, match="read-only"):
        save(NEW, path, found, force=True)
    assert path.read_bytes() == OLD
    assert save(OLD, path, found) == found.identity


# -- A second writer ---------------------------------------------------------------------------------------------------


def test_a_file_that_changed_since_it_was_read_is_not_overwritten(path: Path) -> None:
    found = source.read(path)
    path.write_bytes(b"by another program")
    with pytest.raises(Conflict, match=r"file\.txt has changed on disk") as raised:
        save(NEW, path, found)
    assert raised.value.exit_code == 1 and "reload" in raised.value.hint
    assert path.read_bytes() == b"by another program"
    save(NEW, path, found, force=True)
    assert path.read_bytes() == NEW


def test_a_change_that_keeps_size_and_times_is_seen(path: Path) -> None:
    found, before = source.read(path), path.stat()
    with path.open("r+b") as file:
        file.write(b"OLD")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert source.Identity.of(path.stat()) == found.identity
    with pytest.raises(Conflict):
        save(NEW, path, found)


def test_a_file_that_was_only_touched_or_written_again_is_no_conflict(path: Path) -> None:
    found = source.read(path)
    path.unlink()
    path.write_bytes(OLD)
    os.utime(path, ns=(5, 5))
    save(NEW, path, found)
    assert path.read_bytes() == NEW


def test_when_another_program_wrote_the_very_same_bytes_there_is_nothing_to_do(path: Path) -> None:
    found = source.read(path)
    path.write_bytes(NEW)
    inode = path.stat().st_ino
    assert save(NEW, path, found) == source.read(path).identity
    assert path.stat().st_ino == inode


def test_a_file_that_is_gone_or_appeared_is_a_conflict(path: Path, tmp_path: Path) -> None:
    found = source.read(path)
    path.unlink()
    with pytest.raises(Conflict, match="no longer exists"):
        save(NEW, path, found)
    assert names(tmp_path) == []
    path.write_bytes(b"another")
    with pytest.raises(Conflict, match="appeared"):
        save(NEW, path, None)
    with pytest.raises(Conflict, match="appeared"):
        save(NEW, path, source.of_bytes(b"", path=path))
    assert path.read_bytes() == b"another"


def test_a_folder_that_another_program_keeps_locked_holds_no_save_up(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saving, "PATIENCE", 0.1)
    before = source.read(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        save(NEW, path, before)
    finally:
        os.close(folder)
    assert path.read_bytes() == NEW


@pytest.mark.parametrize("linked", [False, True])
def test_a_write_while_the_save_is_under_way_is_seen(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, linked: bool
) -> None:
    """The other program writes as soon as the file was compared for the first time."""
    if linked:
        (tmp_path / "second").hardlink_to(path)
    found = source.read(path)
    access = os.access

    def write_then(*arguments: object, **options: object) -> bool:
        path.write_bytes(b"by another program")
        return access(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "access", write_then)
    monkeypatch.setattr(os, "supports_effective_ids", {*os.supports_effective_ids, write_then})
    with pytest.raises(Conflict):
        save(NEW, path, found)
    assert path.read_bytes() == b"by another program"
    assert names(tmp_path) == ["file.txt"] + ["second"] * linked
    assert journal.find(path) is None


# -- Planted links, and what is no file --------------------------------------------------------------------------------


def test_a_link_in_the_place_of_the_temporary_file_is_not_followed(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    monkeypatch.setattr(secrets, "token_hex", lambda _: "guessed")
    (tmp_path / ".dgtui-guessed").symlink_to(victim)
    with pytest.raises(RunFailed, match="File exists"):
        save(NEW, path, source.read(path))
    assert victim.read_bytes() == b"precious" and path.read_bytes() == OLD
    assert (tmp_path / ".dgtui-guessed").is_symlink()  # not ours to remove


def test_a_link_put_in_the_place_of_the_file_is_no_way_to_another_file(path: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    found = source.read(path)
    path.unlink()
    path.symlink_to(victim)
    with pytest.raises(Conflict, match=r"a link to .*victim"):
        save(NEW, path, found)
    assert victim.read_bytes() == b"precious"


@pytest.mark.parametrize("linked", [False, True])
def test_a_link_put_there_while_the_save_is_under_way_is_not_followed(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, linked: bool
) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(OLD)
    if linked:
        (tmp_path / "second").hardlink_to(path)
    found = source.read(path)
    access = os.access

    def plant_then(*arguments: object, **options: object) -> bool:
        allowed = access(*arguments, **options)  # type: ignore[arg-type]
        path.unlink()
        path.symlink_to(victim)
        return allowed

    monkeypatch.setattr(os, "access", plant_then)
    monkeypatch.setattr(os, "supports_effective_ids", {*os.supports_effective_ids, plant_then})
    with pytest.raises(RunFailed):
        save(NEW, path, found)
    assert victim.read_bytes() == OLD


def test_in_a_shared_folder_a_link_of_another_person_leads_nowhere(shared: Path, nobody: int) -> None:
    (shared / "private").mkdir(mode=0o700)
    victim = shared / "private" / "file.txt"
    victim.write_bytes(OLD)
    with as_root():
        (shared / "planted").symlink_to(victim)
        os.chown(shared / "planted", 12345, 12345, follow_symlinks=False)
    with pytest.raises(RunFailed, match=r"could not be saved: Permission denied|a link to .*file\.txt"):
        save(NEW, shared / "planted", None)
    if Path("/proc/sys/fs/protected_symlinks").read_text().strip() == "1":
        with pytest.raises(RunFailed, match="Permission denied"):
            save(NEW, shared / "planted", None, force=True)
    assert victim.read_bytes() == OLD


def test_what_is_no_file_is_refused_and_never_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    for name in ("fifo", "folder", "loop", "missing/file.txt", "with\0nul", "x" * 300, "fifo/under"):
        with pytest.raises(RunFailed, match="could not be saved"):
            save(NEW, tmp_path / name, None, force=True)
    assert names(tmp_path) == ["fifo", "folder", "loop"]
