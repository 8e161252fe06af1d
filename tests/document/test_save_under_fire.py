"""Saving while the program is killed and the system refuses, at every single call: nothing is ever less than it was.

A driver runs each scenario in forked processes. In the n-th of them the n-th call to the system ends the process,
before or after it was made or with half of a write done, or fails as a full or broken disk would. What is on the disk
then is looked at here.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from dgtui.document import journal, source
from dgtui.document.save import save

OLD = b"the old text\n" * 500
NEW = b"the new text, which is longer\n" * 700

DRIVER = f"""
import errno, json, os, signal, sys
from pathlib import Path
from dgtui.document import journal, source
from dgtui.document.save import save
from dgtui.document.undo import Edit
from dgtui.errors import RunFailed

OLD, NEW = {OLD!r}, {NEW!r}
CALLS = (
    "open read pread write pwrite ftruncate fsync close replace rename link symlink unlink remove mkdir rmdir "
    "fchmod chmod fchown chown setxattr removexattr utime dup fstat listxattr getxattr truncate"
).split()


os.fsync = os.fstat  # what a killed process has written stays written; to wait for the disk proves nothing here


def arm(fault, n):
    done = 0

    def armed(name, real):
        def call(*arguments, **options):
            nonlocal done
            done += 1
            if done < n or done > n and not fault.startswith("for good"):
                return real(*arguments, **options)
            if fault == "half":
                file, data, offset = arguments
                real(file, data[: len(data) // 2], offset)
            elif fault == "after":
                try:
                    real(*arguments, **options)
                finally:
                    os.kill(os.getpid(), signal.SIGKILL)
            elif fault != "before":
                number = getattr(errno, fault.split()[-1])
                if done > n and name not in ("write", "pwrite", "fsync", "mkdir", "setxattr"):
                    return real(*arguments, **options)
                raise OSError(number, os.strerror(number))
            os.kill(os.getpid(), signal.SIGKILL)
        return call

    for name in ["pwrite"] if fault == "half" else CALLS:
        setattr(os, name, armed(name, getattr(os, name)))


def beside(path, told):
    save(NEW, path, source.read(path))


def alone(path, told):
    save(NEW, path, None)


def session(path, told):
    before = source.read(path)
    text, log = bytearray(before.data), journal.Journal(path, before.data)
    for i in range(4):
        log.record(Edit(13 * i, bytes(text[13 * i : 13 * i + 4]), b"edit"))
        text[13 * i : 13 * i + 4] = b"edit"
        told(i + 1)
    log.record(Edit(0, bytes(text), NEW))
    told(5)
    log.flush()
    save(NEW, path, before)
    log.saved(NEW)


def prepare(folder, scenario):
    path = folder / "file.txt"
    if scenario != "new":
        path.write_bytes(OLD)
        path.chmod(0o640)
        try:
            os.setxattr(path, "user.note", b"kept")
        except (AttributeError, OSError):
            pass
    if scenario in ("linked", "linked session"):
        (folder / "second.txt").hardlink_to(path)
    return path


def run(folder, scenario, fault, n):
    folder.mkdir(parents=True)
    os.environ["XDG_STATE_HOME"] = str(folder / "state")
    path = prepare(folder, scenario)
    progress = os.open(folder / "progress", os.O_WRONLY | os.O_CREAT)
    write = os.pwrite
    told = lambda n: write(progress, str(n).encode(), 0)
    child = os.fork()
    if not child:
        status = 3
        try:
            arm(fault, n)
            {{"new": alone, "session": session, "linked session": session}}.get(scenario, beside)(path, told)
            status = 0
        except RunFailed:
            status = 1
        except OSError as error:
            status = 2 if scenario.endswith("session") else 3
        finally:
            if status == 3:
                import traceback
                traceback.print_exc()
            os._exit(status)
    os.close(progress)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


base, scenario, fault = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
n, statuses = 0, []
while n < 400:
    n += 1
    statuses.append(run(base / str(n), scenario, fault, n))
    if statuses[-1] == 0 and n >= int(sys.argv[4]):
        break
print(json.dumps(statuses))
"""

LAST = 50
"""More calls than any scenario makes, for faults that may be survived."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one run left behind."""

    folder: Path
    status: int
    content: bytes | None
    recovery: journal.Recovery | None

    @property
    def path(self) -> Path:
        return self.folder / "file.txt"

    @property
    def steps(self) -> int:
        """The edits that had been accepted."""
        return int((self.folder / "progress").read_text() or 0)


def outcomes(folder: Path, scenario: str, fault: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Outcome]:
    at_least = "1" if fault in ("before", "after", "half") else str(LAST)
    driver = [sys.executable, "-c", DRIVER, str(folder), scenario, fault, at_least]
    done = subprocess.run(driver, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    statuses = json.loads(done.stdout)
    assert statuses[-1] == 0, "the last run was not to be disturbed"
    assert len([status for status in statuses if status]) >= (1 if fault == "half" else 8)
    monkeypatch.setattr(os, "fsync", os.fstat)
    for n, status in enumerate(statuses, start=1):
        monkeypatch.setenv("XDG_STATE_HOME", str(folder / str(n) / "state"))
        path = folder / str(n) / "file.txt"
        content = path.read_bytes() if path.exists() else None
        yield Outcome(folder / str(n), status, content, journal.find(path))


def assert_not_less(outcome: Outcome, old: bytes | None) -> None:
    if outcome.status == 0:
        assert outcome.content == NEW
    elif outcome.content not in (old, NEW):
        recovery = outcome.recovery
        assert recovery is not None, f"{outcome.folder} holds neither, and there is no recovery copy"
        assert (recovery.state, recovery.before, recovery.text) == ("whole", old, NEW)
        assert recovery.data(source.of_bytes(outcome.content or b"", "latin-1")) is None


@pytest.mark.parametrize("fault", ["before", "after", "half"])
@pytest.mark.parametrize("scenario", ["plain", "linked", "new"])
def test_killed_at_any_call_a_save_leaves_old_or_new_or_a_recovery_copy(
    scenario: str, fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = None if scenario == "new" else OLD
    seen = set()
    for outcome in outcomes(tmp_path / "runs", scenario, fault, monkeypatch):
        assert outcome.status in (0, -signal.SIGKILL)
        assert_not_less(outcome, old)
        seen.add(outcome.content)
        if scenario == "linked":
            assert outcome.path.samefile(outcome.folder / "second.txt")
        # Nothing is left that would be in the way of the next save.
        now = source.read(outcome.path, "latin-1") if outcome.content is not None else None
        save(b"the next\n", outcome.path, now)
        assert outcome.path.read_bytes() == b"the next\n"
    if scenario != "linked":  # which is written in place
        assert seen == {old, NEW}


@pytest.mark.parametrize("fault", ["ENOSPC", "for good ENOSPC", "EACCES", "EIO", "for good EIO"])
@pytest.mark.parametrize("scenario", ["plain", "linked", "new"])
def test_refused_at_any_call_a_save_leaves_old_or_new_or_a_recovery_copy_and_says_so(
    scenario: str, fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = None if scenario == "new" else OLD
    for outcome in outcomes(tmp_path / "runs", scenario, fault, monkeypatch):
        assert outcome.status in (0, 1)
        assert_not_less(outcome, old)
        assert not list(outcome.folder.glob(".dgtui-*")) or fault.endswith(("EACCES", "EIO")), "rubbish is left"
        if outcome.content == OLD and outcome.recovery is not None:
            assert outcome.recovery.state != "in use"


@pytest.mark.parametrize("fault", ["before", "after", "half"])
@pytest.mark.parametrize("scenario", ["session", "linked session"])
def test_killed_at_any_call_a_session_loses_no_edit_that_was_accepted(
    scenario: str, fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for outcome in outcomes(tmp_path / "runs", scenario, fault, monkeypatch):
        accepted = outcome.steps
        if outcome.content == NEW:
            continue
        if accepted == 0:
            assert outcome.content == OLD
            continue
        recovery = outcome.recovery
        assert recovery is not None and recovery.state in ("whole", "torn") and recovery.before == OLD
        # One more may have been on its way.
        edited = [OLD]
        for i in range(4):
            edited.append(edited[-1][: 13 * i] + b"edit" + edited[-1][13 * i + 4 :])
        edited.append(NEW)
        assert recovery.text in edited[accepted : accepted + 2]
        if outcome.content == OLD and recovery.state == "whole":
            assert recovery.data(source.read(outcome.path)) == recovery.text


LIMITED = """
import resource, sys
from pathlib import Path
from dgtui.document import source
from dgtui.document.save import save
from dgtui.errors import RunFailed
path = Path(sys.argv[1])
before = source.read(path)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
try:
    save(before.data * 40, path, before)
except RunFailed as error:
    print(error, "|", error.hint)
"""


@pytest.mark.parametrize("linked", [False, True])
@pytest.mark.parametrize("limit", [7000, 100_000])
def test_a_file_that_the_system_lets_grow_no_further_keeps_its_bytes(tmp_path: Path, linked: bool, limit: int) -> None:
    path = tmp_path / "file.txt"
    path.write_bytes(OLD)
    if linked:
        (tmp_path / "second.txt").hardlink_to(path)
    script = [sys.executable, "-c", LIMITED, str(path), str(limit)]
    done = subprocess.run(script, capture_output=True, text=True, timeout=60)
    assert "could not be saved: File too large" in done.stdout or "cannot be written to its journal" in done.stdout, (
        done
    )
    assert path.read_bytes() == OLD
    assert sorted(file.name for file in tmp_path.glob("*.txt")) == ["file.txt"] + ["second.txt"] * linked
    assert journal.find(path) is None


SMALL_DISK = """
mount -t tmpfs -o size=64k tmpfs "$1" || exit 77
head -c 30000 /dev/zero | tr '\\0' x > "$1/file.txt"
[ "$2" = linked ] && ln "$1/file.txt" "$1/second.txt"
before=$(sha256sum < "$1/file.txt")
"$3" -c "$4" "$1/file.txt" 10000000
[ "$before" = "$(sha256sum < "$1/file.txt")" ] && echo untouched
ls -A "$1"
"""


@pytest.mark.parametrize("linked", ["alone", "linked"])
def test_on_a_full_disk_the_file_keeps_its_bytes_and_nothing_is_left_behind(tmp_path: Path, linked: str) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["unshare", "-rm", "sh", "-c", SMALL_DISK, "sh", str(disk), linked, sys.executable, LIMITED]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except FileNotFoundError:
        pytest.skip("no unshare")
    if "untouched" not in done.stdout and done.returncode in (1, 77) and not done.stdout:
        pytest.skip(f"no small disk can be made here: {done.stderr.strip()}")
    said, *rest = done.stdout.splitlines()
    assert "No space left on device" in said and said.endswith("free some space and save again"), done
    assert rest == ["untouched", "file.txt"] + ["second.txt"] * (linked == "linked")


def test_of_many_that_save_at_once_one_wins_and_the_others_are_told(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_bytes(OLD)
    script = """
import sys
from pathlib import Path
from dgtui.document import source
from dgtui.document.save import Conflict, save
path = Path(sys.argv[1])
before = source.read(path)
print("ready", flush=True)
sys.stdin.readline()
try:
    save(sys.argv[2].encode(), path, before)
    print("saved", flush=True)
except Conflict:
    print("told", flush=True)
"""
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(path), f"writer {i}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for i in range(8)
    ]
    try:
        for writer in writers:
            assert writer.stdout and writer.stdout.readline() == "ready\n"
        for writer in writers:
            assert writer.stdin
            writer.stdin.write("\n")
            writer.stdin.flush()
        said = [writer.communicate(timeout=60)[0].strip() for writer in writers]
    finally:
        for writer in writers:
            writer.kill()
            writer.communicate()
    assert sorted(said) == ["saved"] + ["told"] * 7
    assert path.read_bytes() == f"writer {said.index('saved')}".encode()
    assert not list(tmp_path.glob(".dgtui-*"))
