"""`dgtui replay`: bad files and bad calls are rejected with a clear message, and an export never destroys a file."""

import json
import os
import signal
import stat
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from end_to_end.pty_terminal import TEXTUAL, Terminal, audit
from recorded import hostile, write

from dgtui import paths

KINDS = ("svg", "gif", "html", "cast")


@pytest.fixture
def made(tmp_path: Path) -> Path:
    return write(tmp_path / "run.dgtui")


# Refused before anything is drawn


@pytest.mark.parametrize("contents", [b"", b"no recording", b"\x08" + bytes(15), b"{}" * 4000, None])
def test_what_is_no_recording_is_refused(contents: bytes | None, tmp_path: Path, dgtui: Any) -> None:
    file = tmp_path / "some.dgtui"
    if contents is not None:
        file.write_bytes(contents)
    for more in ((), ("--export", tmp_path / "out.html")):
        done = dgtui("replay", file, *more)
        assert (done.code, done.out) == (4, b"")
        assert str(file) in done.err and "Traceback" not in done.err
    assert not (tmp_path / "out.html").exists()


def test_a_damaged_recording_is_refused(made: Path, dgtui: Any) -> None:
    data = bytearray(made.read_bytes())
    data[-5] ^= 0xFF
    made.write_bytes(data)
    done = dgtui("replay", made)
    assert done.code == 4 and "damaged" in done.err


def test_the_screen_needs_a_terminal_and_says_what_does_not(made: Path, dgtui: Any) -> None:
    done = dgtui("replay", made)
    assert (done.code, done.out) == (6, b"")
    assert "--export" in done.err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--export", "film.mp4"), ".svg, .gif, .html, .cast"),
        (("--export", "film"), ".svg, .gif, .html, .cast"),
        (("--export", "nowhere/film.svg"), "no folder nowhere"),
        (("--export", "film.svg", "--step", "99"), "has"),
        (("--export", "film.svg", "--step", "2", "--animate"), "--animate"),
        (("--export", "film.html", "--animate"), "--animate"),
        (("--animate",), "--export"),
        (("--export", "film.svg", "--step", "2", "--stills", "3"), "--stills"),
        (("--export", "film.html", "--stills", "3"), "--stills"),
        (("--export", "film.cast", "--step", "3"), "--step"),
        (("--export", "film.svg", "--candidate", "2"), "the run has 1"),
        (("--export", "film.svg", "--theme", "midnigt"), "did you mean midnight?"),
        (("--export", "film.svg", "--width", "3"), "--width"),
        (("--export", "run.dgtui"), ".svg"),
        (("--stills", "3"), "--stills needs --export"),
        (("--force",), "--force needs --export"),
    ],
)
def test_options_that_make_no_sense_are_wrong_usage(
    options: tuple[str, ...], said: str, made: Path, dgtui: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(made.parent)
    done = dgtui("replay", made.name, *options)
    assert (done.code, done.out) == (2, b"")
    assert said in done.err
    assert {path.name for path in made.parent.iterdir()} == {made.name, "home"}


# Exports


@pytest.mark.parametrize("kind", KINDS)
def test_an_export_is_written_and_never_over_another_file(kind: str, made: Path, dgtui: Any) -> None:
    file = made.parent / f"film.{kind}"
    file.write_text("something dear")
    done = dgtui("replay", made, "--export", file)
    assert (done.code, done.out) == (1, b"")
    assert "already exists" in done.err and "--force" in done.err
    assert file.read_text() == "something dear"
    done = dgtui("replay", made, "--export", file, "--force")
    assert (done.code, done.out) == (0, b"")
    data = file.read_bytes()
    assert b"something dear" not in data
    assert data.startswith(b"GIF89a") if kind == "gif" else "Tell me of the river." in data.decode()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert not [path for path in made.parent.iterdir() if path.name.startswith(".")]


def test_a_recording_is_not_its_own_export(tmp_path: Path, dgtui: Any) -> None:
    made = write(tmp_path / "run.svg")
    before = made.read_bytes()
    done = dgtui("replay", made, "--export", made, "--force")
    assert done.code == 2 and "is the recording itself" in done.err
    assert made.read_bytes() == before


def test_step_theme_and_width_are_taken(made: Path, dgtui: Any) -> None:
    file = made.parent / "one.svg"
    assert dgtui("replay", made, "--export", file, "--step", "3", "--theme", "paper", "--width", "40").code == 0
    root = ET.fromstring(file.read_text(encoding="utf-8"))
    assert float(root.attrib["width"]) == pytest.approx(2 * 24 + 40 * 8.4)
    status = [element.text for element in root.iter() if (element.text or "").startswith("block ")]
    assert len(status) == 1 and "step 3/8" in (status[0] or "")


def test_an_animation_holds_all_steps(made: Path, dgtui: Any) -> None:
    file = made.parent / "film.svg"
    assert dgtui("replay", made, "--export", file, "--animate").code == 0
    root = ET.fromstring(file.read_text(encoding="utf-8"))
    status = [element.text or "" for element in root.iter() if (element.text or "").startswith("block ")]
    assert len(status) > 8 and status[0].startswith("block 1 · step 1/")


def test_a_theme_of_the_settings_that_is_missing_stops_no_export(made: Path, dgtui: Any) -> None:
    (paths.config_dir() / "config.toml").write_text('[screen]\ntheme = "nope"\n')
    done = dgtui("replay", made, "--export", made.parent / "film.svg")
    assert done.code == 0 and "there is no theme nope: using midnight" in done.err
    done = dgtui("replay", made, "--export", made.parent / "other.svg", "--theme", "nope")
    assert done.code == 2 and "there is no theme nope" in done.err


def test_a_name_in_capitals_is_the_same_kind(made: Path, dgtui: Any) -> None:
    assert dgtui("replay", made, "--export", made.parent / "FILM.SVG").code == 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_hostile_recording_says_nothing_to_the_terminal(kind: str, tmp_path: Path, dgtui: Any) -> None:
    hostile(tmp_path)
    done = dgtui("replay", tmp_path / "run.dgtui", "--export", tmp_path / f"film.{kind}")
    assert done.code == 0
    assert "\x1b" not in done.err


def test_an_export_needs_neither_model_nor_torch(made: Path) -> None:
    code = (
        "import sys\nfrom dgtui.cli import main\n"
        f"assert main(['replay', {str(made)!r}, '--export', {str(made.parent / 'film.html')!r}]) == 0\n"
        "heavy = {m for m in sys.modules if m.split('.')[0] in ('torch', 'transformers')}\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ)


@pytest.mark.slow
def test_what_generate_records_can_be_exported(tmp_path: Path, dgtui: Any) -> None:
    file = tmp_path / "tale.dgtui"
    done = dgtui("generate", "Tell me a story about Mia the fox.", "-m", "embedded", "--steps", "6", "--seed", "7",
                 "--record", file)  # fmt: skip
    assert done.code == 0
    for kind in KINDS:
        assert dgtui("replay", file, "--export", tmp_path / f"film.{kind}").code == 0
    page = (tmp_path / "film.html").read_text(encoding="utf-8")
    assert "› Tell me a story about Mia the fox." in page
    content = json.loads(page.partition('id="data">')[2].partition("</script>")[0])
    text = "".join("".join(content["rows"][number][1::2]) for number in content["pages"][-1])
    noise = str.maketrans("", "", "·⏎")  # what stands for blanks that have not settled
    assert "".join(text.translate(noise).split()) == "".join(done.out.decode().translate(noise).split())


# In a terminal


@pytest.mark.terminal
@pytest.mark.slow
def test_a_run_is_played_in_a_real_terminal_and_left(tmp_path: Path) -> None:
    hostile(tmp_path)
    command = [sys.executable, "-m", "dgtui", "replay", str(tmp_path / "run.dgtui")]
    with Terminal(command, columns=80, rows=24, env={"OMP_NUM_THREADS": "1", "COLORTERM": "truecolor"}) as terminal:
        terminal.wait_for("step 1/8", 120)
        terminal.keys("]", "]")
        terminal.wait_for("step 3/8", 60)
        terminal.keys("{", " ")
        terminal.wait_for("out of room", 60)
        terminal.keys("q")
        assert terminal.wait_exit().code == 0
        assert audit(terminal.raw, TEXTUAL) == []


@pytest.mark.terminal
@pytest.mark.slow
def test_a_kill_leaves_the_terminal_in_order(made: Path) -> None:
    command = [sys.executable, "-m", "dgtui", "replay", str(made)]
    with Terminal(command, columns=80, rows=24) as terminal:
        terminal.wait_for("step 1/8", 120)
        os.kill(terminal.pid, signal.SIGTERM)
        assert terminal.wait_exit().code == 130
        assert terminal.modes == {7, 25}  # the cursor is shown, nothing else is on
