"""`dgtui keys` and `dgtui themes` list everything, mark the person's own, and report every mistake on stderr."""

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dgtui import paths
from dgtui.tui import keymap
from dgtui.tui.theme_file import load_themes

THEME = '[colors]\nprimary = "#7aa2f7"\n[entropy]\nramp = ["#fff", "#f00"]\n'


def own_theme(name: str, source: str | bytes) -> Path:
    folder = paths.config_dir() / "themes"
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(source.encode() if isinstance(source, str) else source)
    return folder / name


def configure(source: str) -> None:
    (paths.config_dir() / "config.toml").write_text(source, encoding="utf-8")


def on_a_terminal(*args: str, **variables: str) -> str:
    """The output of a command in a terminal of 100 columns."""
    primary, secondary = pty.openpty()
    env = {**os.environ, "COLUMNS": "100", **variables}
    code = f"import sys; from dgtui.cli import main; sys.exit(main({list(args)!r}))"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=secondary, stderr=subprocess.DEVNULL, env=env)
    os.close(secondary)
    written = b""
    try:
        while chunk := os.read(primary, 65536):
            written += chunk
    except OSError:  # Linux's way to say that the other end is closed
        pass
    os.close(primary)
    assert process.wait(timeout=60) == 0
    return written.decode()


# dgtui themes


def test_themes_lists_the_shipped_ones_and_marks_the_chosen(dgtui: Any) -> None:
    done = dgtui("themes")
    assert done.code == 0
    rows = [line.split() for line in done.out.decode().splitlines()]
    assert ["*", "midnight", "dark", "shipped"] in rows
    assert ["paper", "light", "shipped"] in rows
    assert ["terminal", "terminal", "shipped"] in rows
    assert b"\x1b" not in done.out


def test_themes_lists_the_persons_own_with_their_files(dgtui: Any) -> None:
    file = own_theme("mine.toml", THEME)
    configure('[screen]\ntheme = "mine"\n')
    assert f"*  mine      dark      {file}" in dgtui("themes").out.decode().splitlines()


def test_a_broken_theme_is_named_with_its_line_on_stderr(dgtui: Any) -> None:
    file = own_theme("mine.toml", THEME.replace("#f00", "#f0"))
    done = dgtui("themes")
    assert done.code == 0
    assert f"{file}:4: entropy.ramp: '#f0' is not a colour such as #7aa2f7 or cyan" in done.err.splitlines()
    assert b"mine" not in done.out


def test_a_chosen_theme_that_is_not_there_is_said(dgtui: Any) -> None:
    configure('[screen]\ntheme = "midnihgt"\n')
    assert "screen.theme is 'midnihgt', but there is no such theme" in dgtui("themes").err


def test_a_theme_of_the_person_that_is_hard_to_read_is_listed_and_named(dgtui: Any) -> None:
    file = own_theme("faint.toml", THEME.replace("#f00", "#333"))
    own_theme("clear.toml", THEME.replace("#f00", "#ff0"))
    done = dgtui("themes")
    said = [line for line in done.err.splitlines() if "contrast" in line]
    assert len(said) == 1 and said[0].startswith(f"{file}: the lowest text contrast is 1.")
    assert b"faint" in done.out


def test_themes_as_json(dgtui: Any) -> None:
    file = own_theme("broken.toml", b"\xff")
    own_theme("mine.toml", THEME)
    done = dgtui("themes", "--json")
    assert done.code == 0
    by_name = {theme["name"]: theme for theme in done.json["themes"]}
    assert by_name.keys() == {*load_themes([paths.shipped_dir("themes")])[0], "mine"}
    assert (by_name["midnight"]["chosen"], by_name["paper"]["chosen"]) == (True, False)
    assert (by_name["paper"]["dark"], by_name["terminal"]["ansi"]) == (False, True)
    assert by_name["mine"]["ramp"] == ["#ffffff", "#ff0000"]
    assert by_name["mine"]["file"] == str(file.with_name("mine.toml"))
    assert by_name["contrast"]["contrast"] >= 7 and by_name["terminal"]["contrast"] is None
    assert done.json["problems"] == [{"file": str(file), "line": 1, "message": "not UTF-8"}]


def test_themes_makes_no_folder(dgtui: Any, own_folders: Path) -> None:
    dgtui("themes")
    assert list(own_folders.rglob("*")) == []


def test_a_hostile_file_name_cannot_drive_the_terminal(dgtui: Any) -> None:
    own_theme("a\x1b[2J.toml", 'name = "good"\n' + THEME)
    own_theme("b\x1b]0;x\x07.toml", "nothing")
    for done in (dgtui("themes"), dgtui("themes", "--json")):
        assert b"\x1b" not in done.out and "\x1b" not in done.err


@pytest.mark.terminal
def test_a_terminal_with_colours_gets_a_sample() -> None:
    seen = on_a_terminal("themes", COLORTERM="truecolor")
    lines = {line.split("\x1b")[0].strip("* ").split()[0]: line for line in seen.splitlines()}
    assert "\x1b[38;2;205;213;245;48;2;19;20;31m" in lines["midnight"]
    assert "\x1b[38;2" not in lines["terminal"] and "\x1b[3" in lines["terminal"]
    assert "settled likely wavering noise" in re.sub(r"\x1b\[[0-9;]*m", "", lines["paper"])
    assert re.fullmatch(r"[^\x1b]*(\x1b\[[0-9;]*m[^\x1b]*)*", seen)


@pytest.mark.terminal
def test_a_sample_keeps_to_the_colours_that_the_terminal_has() -> None:
    assert "38;2;" not in on_a_terminal("themes", TERM="xterm-256color")
    assert "38;5;" not in on_a_terminal("themes", TERM="xterm")
    assert "\x1b" not in on_a_terminal("themes", NO_COLOR="1")
    assert "\x1b" not in on_a_terminal("themes", TERM="dumb")


# dgtui keys


def test_keys_lists_every_binding(dgtui: Any) -> None:
    done = dgtui("keys")
    assert (done.code, done.err) == (0, "")
    out = done.out.decode()
    assert all(f" {name} " in out for name in keymap.ids())
    assert re.search(r"^   \[ +canvas.scrub_back ", out, re.MULTILINE)
    assert re.search(r"^   f1 \? +app.help ", out, re.MULTILINE)
    assert re.search(r"^   ctrl\+j \(shift\+enter\) +prompt.newline ", out, re.MULTILINE)
    assert "*" not in out


def test_keys_marks_what_the_person_changed(dgtui: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    configure('[keys]\n"canvas.pin" = ["P", "ctrl+k"]\n')
    monkeypatch.setenv("DGTUI_KEYS_CANVAS_FORK", "F")
    done = dgtui("keys")
    assert done.err == ""
    out = done.out.decode()
    assert re.search(r"^\*  P ctrl\+k +canvas.pin .*\(was p\)$", out, re.MULTILINE)
    assert re.search(r"^\*  F +canvas.fork .*\(was f\)$", out, re.MULTILINE)
    assert out.count("*") == 2


def test_keys_reports_what_it_cannot_take(dgtui: Any) -> None:
    configure(
        '[keys]\n"canvas.pni" = "z"\n"canvas.pin" = "r"\n"canvas.fork" = "ctrl+mouse"\n"canvas.polish" = 3\n'
        '"app.quit" = "q"\n'
    )
    done = dgtui("keys")
    assert done.code == 0
    file = paths.config_file()
    assert done.err.splitlines() == [
        f"{file}:2: unknown binding canvas.pni; not used (did you mean canvas.pin?)",
        f'{file}:5: keys.canvas.polish must be a key such as "r", or a list of keys; not used',
        "[keys] canvas.fork: no terminal sends 'ctrl+mouse'; not used",
        "[keys] app.quit: q is needed for typing text; not used",
        "[keys] canvas.pin: r is already the key of canvas.rediffuse; canvas.pin keeps p",
    ]
    assert b"*" not in done.out


def test_keys_as_json(dgtui: Any) -> None:
    configure('[keys]\n"canvas.pin" = ";"\n"canvas.x" = "z"\n')
    done = dgtui("keys", "--json")
    by_id = {binding["id"]: binding for binding in done.json["bindings"]}
    assert by_id.keys() == keymap.ids()
    pin = by_id["canvas.pin"]
    assert (pin["keys"], pin["default_keys"], pin["changed"]) == (["semicolon"], ["p"], True)
    assert by_id["app.help"]["keys"] == ["f1", "question_mark"] and not by_id["app.help"]["changed"]
    assert len(done.json["problems"]) == 1


def test_a_hostile_key_cannot_drive_the_terminal(dgtui: Any) -> None:
    configure('[keys]\n"canvas.pin" = "\\u001b[2J"\n"\\u001b]0;x\\u0007" = "z"\n')
    for done in (dgtui("keys"), dgtui("keys", "--json")):
        assert b"\x1b" not in done.out and "\x1b" not in done.err


def test_neither_starts_anything_heavy() -> None:
    code = (
        "import json, sys\nfrom dgtui.cli import main\n"
        "assert main(['keys']) == main(['themes', '--json']) == 0\n"
        "print(json.dumps(sorted({'torch', 'transformers', 'textual'} & sys.modules.keys())), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stderr.splitlines()[-1]) == []
