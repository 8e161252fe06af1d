"""`dgtui infill`: the whole file on standard output, every byte outside of the spans as it was, and every exit code."""

import re
import signal
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dgtui.inference.stepper import DeviceStepper
from dgtui.model import devices
from dgtui.session import recording
from dgtui.steering.infill import Infill, Proposal

TALE = (
    b"Mira was a brave fox who lived by the river and had a blue kite. One night the wind came in and carried off the "
    b"kite.\r\nThen Tom the otter came along, and together they found it.\r\n"
)
QUICK = ("--model", "embedded", "--seed", "5", "--length", "3", "--candidates", "1")


@pytest.fixture
def tale(tmp_path: Path) -> Path:
    file = tmp_path / "tale.md"
    file.write_bytes(b"\xef\xbb\xbf" + TALE)
    return file


def test_standard_output_holds_the_file_and_only_the_span_is_another(dgtui: Any, tale: Path) -> None:
    done = dgtui("infill", tale, "--span", "1:12-1:21", *QUICK)
    assert done.code == 0, done.err
    assert done.out.startswith(b"\xef\xbb\xbfMira was a ")
    assert done.out.endswith(TALE[20:])
    assert tale.read_bytes() == b"\xef\xbb\xbf" + TALE, "the file is not touched"


def test_the_same_seed_fills_in_the_same_text(dgtui: Any, tale: Path) -> None:
    first, second = (dgtui("infill", tale, "--span", "1:12-1:21", *QUICK).out for _ in range(2))
    assert first and first == second


def test_a_pipe_in_is_a_pipe_out(dgtui: Any) -> None:
    done = dgtui("infill", "-", "--at", "2:1", *QUICK, stdin=TALE)
    assert done.code == 0, done.err
    first, second = TALE.split(b"\r\n")[:2]
    assert done.out.startswith(first + b"\r\n") and done.out.endswith(second + b"\r\n")


@pytest.mark.slow
def test_json_says_what_was_written_where_and_what_else_there_was(dgtui: Any, tale: Path) -> None:
    done = dgtui("infill", tale, "--span", "1:12-1:21", "--json", "--model", "embedded", "--seed", "5")
    assert done.code == 0, done.err
    assert set(done.json) == {"spans", "steps", "seed", "unchanged"}
    (span,) = done.json["spans"]
    assert (span["start_byte"], span["end_byte"], span["old"]) == (14, 23, "brave fox")
    assert span["new"] == span["alternatives"][0]["text"]
    assert {"text", "score", "tokens", "unlikely"} == set(span["alternatives"][0])
    assert done.json["seed"] == 5 and done.json["steps"] > 0
    assert done.json["unchanged"] == (span["old"] == span["new"])


def test_json_has_the_line_breaks_of_the_file(dgtui: Any, tale: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = "kite.\r\nThen Tom"
    monkeypatch.setattr(Infill, "job", lambda self: None)
    proposal = Proposal((old.replace("\r\n", "\n"),), 1.0, 5, 8, 1, 0.1, 3)
    monkeypatch.setattr(Infill, "proposals", [proposal], raising=False)
    monkeypatch.setattr(Infill, "__init__", lambda self, *arguments, **options: None)
    at = TALE.split(b"\r\n")[0].index(b"kite.", 90) + 1
    done = dgtui("infill", tale, "--span", f"1:{at}-2:9", "--json", *QUICK)
    assert done.code == 0, done.err
    (span,) = done.json["spans"]
    assert span["old"] == span["new"] == span["alternatives"][0]["text"] == old
    assert done.json["unchanged"] and "no change" in done.err


def test_a_recording_does_not_take_the_place_of_the_file(dgtui: Any, tale: Path) -> None:
    done = dgtui("infill", tale, "--at", "1:1", "--record", tale, *QUICK)
    assert done.code == 2 and "the file itself" in done.err
    assert tale.read_bytes() == b"\xef\xbb\xbf" + TALE


def test_a_recording_is_not_overwritten(dgtui: Any, tale: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept.dgtui"
    kept.write_bytes(b"mine")
    done = dgtui("infill", tale, "--span", "1:12-1:21", "--record", kept, *QUICK)
    assert done.code == 2 and "already exists" in done.err
    assert kept.read_bytes() == b"mine"


@pytest.mark.parametrize(
    "command", [("infill", "{}", "--at", "1:1"), ("replay", "{}"), ("generate", "x", "--image", "{}")]
)
def test_a_missing_input_file_is_exit_4(dgtui: Any, tmp_path: Path, command: tuple[str, ...]) -> None:
    done = dgtui(*(word.format(tmp_path / "missing") for word in command))
    assert done.code == 4, done.err


def test_several_spans_are_written_in_one_go(dgtui: Any, tale: Path) -> None:
    done = dgtui("infill", tale, "--span", "2:6-2:9", "--span", "1:12-1:17", "--json", *QUICK)
    assert done.code == 0, done.err
    assert [span["old"] for span in done.json["spans"]] == ["brave", "Tom"], "in the order of the file"


def test_something_is_written_at_every_place_that_is_named(dgtui: Any, tale: Path) -> None:
    done = dgtui("infill", tale, "--at", "1:12", "--at", "2:6", "--json", *QUICK)
    assert done.code == 0, done.err
    assert [span["start_byte"] for span in done.json["spans"]] == [14, 3 + TALE.index(b"Tom")]


def test_spans_too_far_apart_for_one_canvas_go_one_after_the_other(dgtui: Any, tmp_path: Path) -> None:
    file = tmp_path / "long.md"
    file.write_bytes(TALE * 8)
    done = dgtui("infill", file, "--span", "1:12-1:17", "--span", "16:6-16:9", *QUICK)
    assert done.code == 0, done.err
    assert done.out.startswith(TALE[:11]) and TALE[16:] + TALE * 6 + TALE.split(b"Tom")[0] in done.out


def test_in_place_saves_the_file_and_prints_nothing(dgtui: Any, tale: Path) -> None:
    tale.chmod(0o640)
    done = dgtui("infill", tale, "--span", "1:12-1:21", "--in-place", *QUICK)
    assert (done.code, done.out) == (0, b"")
    assert tale.read_bytes().startswith(b"\xef\xbb\xbfMira was a ") and tale.read_bytes().endswith(TALE[20:])
    assert tale.stat().st_mode & 0o777 == 0o640


def test_a_named_encoding_is_kept(dgtui: Any, tmp_path: Path) -> None:
    file = tmp_path / "old.txt"
    data = "Zoë was a brave fox who lived by the river.\n".encode("cp1252")
    file.write_bytes(data)
    done = dgtui("infill", file, "--span", "1:11-1:16", "--encoding", "cp1252", *QUICK)
    assert done.code == 0, done.err
    assert done.out.startswith(data[:10]) and done.out.endswith(data[15:])


def test_an_instruction_is_what_the_model_is_asked(dgtui: Any, tale: Path) -> None:
    asked = ("--instruction", "Tell me a story about Mira and Tom.")
    done = dgtui("infill", tale, "--span", "1:12-1:21", *asked, *QUICK)
    assert done.code == 0 and done.out.endswith(TALE[20:])


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--span", "1:1"), 2, "3:1-3:20"),
        (("--at", "one"), 2, "3:1"),
        ((), 2, "--span"),
        (("--at", "1:1", "--length", "many"), 2, "auto"),
        (("--at", "1:1", "--at", "1:1"), 4, "overlap"),
        (("--at", "99:1"), 4, "no line 99"),
        (("--at", "1:999"), 4, "no column 999"),
        (("--span", "1:9-1:3"), 4, "before it starts"),
        (("--span", "1:1-1:9", "--span", "1:5-1:12"), 4, "overlap"),
        (("--at", "1:1", "--encoding", "utf-16"), 4, "utf-16"),
        (("--at", "1:1", "--model", "no-such-model"), 3, "no-such-model"),
    ],
)
def test_what_cannot_be_done_is_said_with_its_exit_code(
    dgtui: Any, tale: Path, arguments: tuple[str, ...], code: int, said: str
) -> None:
    done = dgtui("infill", tale, *arguments)
    assert (done.code, done.out) == (code, b"")
    assert said in done.err
    assert tale.read_bytes() == b"\xef\xbb\xbf" + TALE


@pytest.mark.parametrize("data", [b"a\0b", b"\xff\xfe\xfa", b"caf\xe9\n"])
def test_what_is_no_text_is_refused(dgtui: Any, data: bytes) -> None:
    done = dgtui("infill", "-", "--at", "1:1", stdin=data)
    assert (done.code, done.out) == (4, b"")


def test_standard_input_cannot_be_saved_in_place(dgtui: Any) -> None:
    assert dgtui("infill", "-", "--at", "1:1", "--in-place", stdin=TALE).code == 2


def test_a_file_that_changed_meanwhile_is_not_overwritten(
    dgtui: Any, tale: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dgtui.cli import options

    load = options.load

    def slow(*arguments: object) -> object:
        tale.write_bytes(b"somebody else's\n")
        return load(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(options, "load", slow)
    done = dgtui("infill", tale, "--span", "1:12-1:21", "--in-place", *QUICK)
    assert done.code == 1 and "changed" in done.err and "run the command again" in done.err
    assert tale.read_bytes() == b"somebody else's\n"


def test_too_little_memory_for_the_model_is_exit_5(dgtui: Any, tale: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "available", lambda device: 1_000_000)
    done = dgtui("infill", tale, "--span", "1:12-1:21", "--in-place", *QUICK)
    assert done.code == 5 and "memory" in done.err and not done.out
    assert tale.read_bytes() == b"\xef\xbb\xbf" + TALE


def test_memory_that_runs_out_while_writing_is_exit_5(dgtui: Any, tale: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> None:
        raise MemoryError

    monkeypatch.setattr(DeviceStepper, "step", full)
    done = dgtui("infill", tale, "--span", "1:12-1:21", "--in-place", *QUICK)
    assert done.code == 5 and "--context" in done.err and not done.out
    assert tale.read_bytes() == b"\xef\xbb\xbf" + TALE


TELLING = """
import sys
from dgtui import worker
from dgtui.__main__ import run

class Telling(worker.Worker):
    def submit(self, job, sink=None):
        def sink(run, upto):
            if upto == 5:
                print("running", file=sys.stderr, flush=True)
        return super().submit(job, sink)

worker.Worker = Telling
run()
"""
"""The program, with a word on stderr when it has taken steps."""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_it_with_130_changes_nothing_and_keeps_the_recording(
    number: signal.Signals, tale: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", TELLING, "infill", str(tale), "--at", "2:1", "--model", "embedded", "--in-place"]
    options = ["--length", "200", "--candidates", "8", "--confidence", "1e-30", "--record", str(tmp_path / "run.dgtui")]
    with subprocess.Popen([*command, *options], bufsize=0, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        while process.stderr.readline() != b"running\n":
            assert process.poll() is None
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, b""), err
    assert tale.read_bytes() == b"\xef\xbb\xbf" + TALE
    assert recording.load(tmp_path / "run.dgtui").log.frames()


ENDINGS = st.sampled_from(["\n", "\r\n"])
LINES = st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12), min_size=1, max_size=5)


@pytest.mark.slow
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=LINES, ending=ENDINGS, bom=st.booleans(), where=st.randoms(use_true_random=False))
def test_bytes_outside_of_the_span_are_identical_whatever_the_file(
    dgtui: Any, lines: list[str], ending: str, bom: bool, where: Random
) -> None:
    mark = b"\xef\xbb\xbf" if bom else b""
    text = ending.join(lines).encode()
    whole = re.split(rb"(?<=\n)", text)
    line = where.randrange(len(whole))
    shown = re.sub(r"\r?\n\Z", "", whole[line].decode())
    start, end = sorted(where.randint(0, len(shown)) for _ in range(2))
    place = f"{line + 1}:{start + 1}-{line + 1}:{end + 1}"
    done = dgtui("infill", "-", "--span", place, "--steps", "2", *QUICK, stdin=mark + text)
    if done.code == 1:
        assert "not text" in done.err  # the model wrote bytes that are none
        return
    assert done.code == 0, done.err
    before = mark + b"".join(whole[:line]) + shown[:start].encode()
    after = whole[line][len(shown[:end].encode()) :] + b"".join(whole[line + 1 :])
    assert done.out.startswith(before) and done.out.endswith(after)
    assert len(done.out) >= len(before) + len(after)
