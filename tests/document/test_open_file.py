"""The file behind the edit screen, where something goes wrong: another program, a disk, a crash."""

import os
import stat
from pathlib import Path

import pytest

from dgtui.document.journal import Journal
from dgtui.document.open_file import OpenFile
from dgtui.document.save import Conflict
from dgtui.document.undo import Edit
from dgtui.errors import DgtuiError, DocumentRefused, RunFailed
from dgtui.paths import state_dir, typed_path

MARK = b"\xef\xbb\xbf"


def opened(path: Path, data: bytes, encoding: str | None = None) -> OpenFile:
    path.write_bytes(data)
    return OpenFile(path, encoding)


def left_by_a_crash(path: Path, data: bytes, *edits: Edit) -> None:
    """A journal, as of a program that was killed."""
    journal = Journal(path, data)
    journal.record(*edits)
    journal.leave()


def test_a_reload_that_is_refused_leaves_the_conflict_as_it_was(tmp_path: Path) -> None:
    file = opened(tmp_path / "a.md", MARK + b"ours")
    file.buffer.replace(3, 3, b"x")
    (tmp_path / "a.md").write_bytes(b"theirs")
    for _ in range(2):
        with pytest.raises(Conflict):
            file.save()
        with pytest.raises(RunFailed, match="byte order mark"):
            file.reload()
    assert (tmp_path / "a.md").read_bytes() == b"theirs"


def test_a_journal_that_cannot_be_written_keeps_nobody_from_saving(tmp_path: Path) -> None:
    file = opened(tmp_path / "a.md", b"old")
    (state_dir() / "journals").write_text("in the way")
    file.buffer.replace(0, 3, b"new")
    with pytest.raises(RunFailed, match="journal"):
        file.record()
    file.save()
    assert (tmp_path / "a.md").read_bytes() == b"new"


def test_what_was_saved_when_the_program_died_is_a_copy_if_the_file_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "a.md"
    path.write_bytes("é".encode()[:1])
    left_by_a_crash(path, "é".encode(), Edit(0, "é".encode(), "né".encode()))
    with pytest.raises(DocumentRefused, match="not valid utf-8") as refused:
        OpenFile(path)
    copy = tmp_path / "a.md.recovered"
    assert str(copy) in refused.value.hint
    assert copy.read_bytes() == "né".encode()
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600


def test_older_work_is_offered_behind_a_journal_of_what_was_saved(tmp_path: Path) -> None:
    path = tmp_path / "a.md"
    path.write_bytes(b"saved")
    left_by_a_crash(path, b"saved", Edit(0, b"", b"lost "))
    left_by_a_crash(path, b"old", Edit(0, b"old", b"saved"))
    found = OpenFile(path).left_behind()
    assert found is not None and found.text == b"lost saved"


def test_the_own_journal_is_not_another_program(tmp_path: Path) -> None:
    file = opened(tmp_path / "a.md", b"text")
    file.buffer.replace(0, 0, b"typed ahead ")
    file.record()
    assert file.left_behind() is None
    found = OpenFile(tmp_path / "a.md").left_behind()
    assert found is not None and found.state == "in use"


def test_what_another_encoding_wrote_says_so(tmp_path: Path) -> None:
    path = tmp_path / "a.md"
    path.write_bytes(b"cafe")
    left_by_a_crash(path, b"cafe", Edit(3, b"e", b"\xe9"))
    file = OpenFile(path)
    found = file.left_behind()
    assert found is not None
    with pytest.raises(RunFailed) as refused:
        file.recover(found)
    assert "--encoding" in refused.value.hint
    assert found.file.exists()


@pytest.mark.parametrize("name", ["x" * 300, "loop", "loop/in", "no/such/folder", "."])
def test_names_that_lead_nowhere_are_refused_in_words(tmp_path: Path, name: str) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(DgtuiError):
        OpenFile(tmp_path / name)
    file = opened(tmp_path / "a.md", b"text")
    with pytest.raises(DgtuiError):
        file.save_as(tmp_path / name)


def test_a_link_to_nothing_is_a_new_file(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "target")
    file = OpenFile(tmp_path / "link")
    assert file.is_new
    file.buffer.replace(0, 0, b"text")
    file.save()
    assert (tmp_path / "target").read_bytes() == b"text" and (tmp_path / "link").is_symlink()


def test_a_home_that_nobody_has_is_a_name_like_any_other() -> None:
    assert typed_path("~nosuchperson/x") == Path("~nosuchperson/x")
    assert typed_path("~/x") == Path(os.environ["HOME"], "x")
