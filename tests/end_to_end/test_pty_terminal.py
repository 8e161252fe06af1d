"""What the terminal of the end-to-end tests promises: it shows, types, answers and audits as a real one does."""

import os
import random
import re
import signal
import sys
import threading
from pathlib import Path

import psutil
import pytest
from pty_terminal import ESCAPE_PAUSE, HOSTILE, RICH, TEXTUAL, Terminal, audit, key_bytes

pytestmark = pytest.mark.terminal

START = 240.0
"""Seconds within which a program is up, on a machine that has other things to do."""

APP = r"""
import sys

from textual.app import App
from textual.content import Content
from textual.widgets import Footer, Input, Markdown, Static

class Echo(App):
    '''Says what it was sent.'''

    CSS = "#look { text-style: bold underline; color: #ff0000; background: #0000ff; } Input { dock: bottom; }"
    said = []
    BINDINGS = [("f1", "copy", "Copy"), ("ctrl+q", "leave", "Leave")]

    def compose(self):
        yield Static("look", id="look")
        yield Static(Content.styled("turned", "reverse"), id="turned")
        yield Static("東京 e\u0301 ⚠\ufe0f and the rest", markup=False)
        yield Static("", id="said")
        yield Static("".join(sys.argv[1:]), markup=False)
        yield Markdown("# Title\n\na [link](https://example.org), `code`\n\n| a | b |\n|---|---|\n| 1 | 2 |\n")
        yield Footer()

    def say(self, what):
        self.said.append(what)
        self.query_one("#said").update(Content(" ".join(self.said[-6:])))

    def on_key(self, event):
        self.say(event.key)

    def on_paste(self, event):
        self.say(ascii(event.text))

    def on_click(self, event):
        self.say(f"click@{event.screen_x},{event.screen_y}")

    def on_resize(self, event):
        self.say(f"size={event.size.width}x{event.size.height}")

    def action_copy(self):
        self.copy_to_clipboard("copied")

    def action_leave(self):
        self.exit(return_code=7)

app = Echo()
app.run()
sys.exit(app.return_code)
"""


@pytest.fixture(scope="module")
def echo(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    script = tmp_path_factory.mktemp("app") / "echo.py"
    script.write_text(APP)
    return [sys.executable, str(script)]


def python(code: str, **options: object) -> Terminal:
    return Terminal([sys.executable, "-c", code], **options)


# A Textual app, from the first frame to the exit


def test_an_app_is_typed_at_and_seen_as_on_a_real_terminal(echo: list[str]) -> None:
    with Terminal(echo, columns=90, rows=24) as terminal:
        terminal.wait_for("size=90x24", START)
        assert terminal.modes >= {1000, 1004, 1006, 1049, 2004} and not terminal.modes & {7, 25, 2026}

        same = "x enter tab shift+tab backspace space ctrl+j up end shift+left ctrl+right shift+end pagedown delete"
        named = {key: key for key in [*same.split(), "f2", "f5", "alt+x", "ctrl+home", "é"]}
        for key, name in {**named, "esc": "escape", ".": "full_stop", "[": "left_square_bracket"}.items():
            terminal.keys("z", key)
            terminal.wait_for(re.compile(rf"\bz {re.escape(name)}(?! ?\S)"))
        terminal.keys("esc", "y")
        terminal.wait_for("escape y")

        terminal.paste("one\ntwo")
        terminal.wait_for(r"'one\rtwo'")
        terminal.click(3, 1)
        terminal.wait_for("click@3,1")
        terminal.resize(60, 20)
        terminal.wait_for("size=60x20")
        assert len(terminal.row(0)) == 60 and len(terminal.text().splitlines()) == 20

        before = terminal.clock()
        terminal.keys("ctrl+q")
        code, seconds = terminal.wait_exit()
        assert code == 7 and before < seconds <= terminal.clock()
        assert terminal.modes == {7, 25}
        assert audit(terminal.raw) == []


def test_cells_show_their_style_and_text_outlives_characters_that_combine(echo: list[str]) -> None:
    with Terminal(echo, env={"COLORTERM": "truecolor"}) as terminal:
        terminal.wait_for("size=80x24", START)
        look = terminal.cell(0, 0)
        assert (look.data, look.fg, look.bg) == ("l", "ff0000", "0000ff")
        assert (look.bold, look.underline, look.reverse, look.dim) == (True, True, False, False)
        assert terminal.cell(0, 1).reverse
        assert terminal.row(2).startswith("東京 e\u0301 ⚠\ufe0f and the rest")
        assert [terminal.cell(x, 2).data for x in range(6)] == ["東", "", "京", "", " ", "e\u0301"]


def test_frames_are_seen_whole_and_the_first_screen_comes_back(echo: list[str]) -> None:
    with Terminal(["/bin/sh", "-c", 'echo before; "$@"; echo "left with $?"', "sh", *echo]) as terminal:
        terminal.wait_for("size=80x24", START)
        assert b"\x1b[?2026h" in terminal.raw  # the answer to its query made the app mark its frames
        assert "before" not in terminal.text()
        terminal.keys("ctrl+q")
        terminal.wait_for("left with 7")
        assert terminal.text().split() == ["before", "left", "with", "7"]


def test_half_a_frame_is_never_shown() -> None:
    code = "import sys\nprint('\\x1b[?2026hhalf', flush=True); input(); print('whole\\x1b[?2026l', flush=True); input()"
    with python(code) as terminal:
        terminal.wait_for(lambda _: b"half" in terminal.raw)
        with pytest.raises(AssertionError, match="a frame has no end"):
            terminal.wait_for("half", 0.1)
        terminal.keys("enter")
        terminal.wait_for("half")
        assert "whole" in terminal.text()


# The auditor


@pytest.mark.parametrize("allowed", [TEXTUAL, RICH], ids=["Textual", "Rich"])
@pytest.mark.parametrize("hostile", HOSTILE, ids=ascii)
def test_every_hostile_text_is_found_and_nothing_else(hostile: str, allowed: tuple[str, ...]) -> None:
    clean = "plain \x1b[1;38;5;17mbold {} é\x1b[0m\r\n {} \x1b[48;2;1;2;3m \x1b[0m"
    assert audit(clean.format("", "").encode(), allowed) == []
    assert audit(clean.format(hostile, "").encode(), allowed)
    assert audit(clean.format("", hostile).encode(), allowed)


MALFORMED = (b"\x9b31m", b"\x9d0;t\x07", b"\xff", b"\xe2\x82", b"\xc2\x9b31m")
UNFINISHED = (b"\x1b", b"\x1b[31", b"\x1b]0;t", b"\x1bPq\x1b", b"\x1b[3\x1b[0m", b"\x1b[1\n2m", b"\x1b]0;t\x1b[0m")


@pytest.mark.parametrize("raw", [*MALFORMED, *UNFINISHED], ids=repr)
def test_c1_bytes_malformed_text_and_sequences_without_an_end_are_found(raw: bytes) -> None:
    assert audit(raw)


@pytest.mark.parametrize("raw", [b"\x1b[31ma\x1b[1mb\x1b[0m", b"\x1b[31ma\x1b[2;2Hb\x1b[0m", b"\x1b[0m"], ids=repr)
def test_a_sequence_of_the_apps_own_kind_is_found_where_the_app_would_not_send_it(raw: bytes) -> None:
    assert audit(raw)


def test_an_entry_names_the_sequence_its_place_and_what_came_before() -> None:
    assert audit(b"file \xc2\x9b2J") == [r"CSI b'\xc2\x9b2J' at byte 5, after 'file '"]


def test_an_app_that_shows_raw_text_is_caught(echo: list[str]) -> None:
    with Terminal([*echo, "name\x1b]0;owned\x1b\\\x1b[2J\x9b5n"]) as terminal:
        terminal.wait_for("size=80x24", START)
        found = " ".join(audit(terminal.raw))
        assert all(part in found for part in (r"\x1b]0;owned\x1b\\'", r"\x1b[2J", r"\xc2\x9b5n")), found


def test_the_clipboard_is_allowed_only_for_what_a_test_expects(echo: list[str]) -> None:
    with Terminal(echo) as terminal:
        terminal.wait_for("size=80x24", START)
        terminal.keys("f1")
        terminal.wait_for(lambda _: b"\x1b]52;c;" in terminal.raw)
        terminal.keys("ctrl+q")
        terminal.wait_exit()
        assert len(audit(terminal.raw)) == 1
        assert audit(terminal.raw, (*TEXTUAL, r"\x1b\]52;c;Y29waWVk\x07")) == []


# What a terminal does with its bytes


def test_queries_are_answered() -> None:
    code = r"""
import os, sys, termios, tty
tty.setraw(0)
for query, end in (("\x1b[6n", "R"), ("\x1b[c", "c"), ("\x1b[?2026$p", "y"), ("\x1b[?2048$p", "y"), ("\x1b[?u", "u")):
    os.write(1, query.encode())
    answer = ""
    while not answer.endswith(end):
        answer += os.read(0, 1).decode()
    os.write(1, (ascii(answer)[1:-1] + " ").encode())
"""
    with python(code) as terminal:
        assert terminal.wait_exit().code == 0
        assert terminal.text().split() == [r"\x1b[1;1R", r"\x1b[?6c", r"\x1b[?2026;2$y", r"\x1b[?2048;0$y", r"\x1b[?0u"]


def test_unknown_sequences_print_nothing_and_stop_nothing(tmp_path: Path) -> None:
    noise = [*HOSTILE, "\x1b[", ";", "?", "5", "h", "K", "\xff", "\x9b", "é", "\u200d"]
    random_bytes = random.Random(1).randbytes(20_000) + "".join(random.Random(2).choices(noise, k=5000)).encode()
    (tmp_path / "noise").write_bytes(random_bytes + b"\x18\x1b\\\x1b[?2026l\x1b[0m\x1b[H\x1b[2J\x1b[?7h")
    (tmp_path / "known").write_text(
        "\x1b[>25ua\x1b[<ub\x1b[?2048$pc\x1b]22;text\x07d\x1bP+q\x1b\\e\x1b_x\x1b\\f\x1b[4:3mg\x1b[9;9;9Kh\x1b[99mi\x1b(Bj"
    )
    with Terminal(["/bin/sh", "-c", 'stty -echo; cat "$@"', "sh", tmp_path / "noise", tmp_path / "known"]) as terminal:
        assert terminal.wait_exit().code == 0
        assert terminal.text().strip() == "abcdefghij"


def test_dim_and_the_colours_of_a_number_are_told_apart() -> None:
    with python(r"print('\x1b[2ma\x1b[0m\x1b[38;5;2mb\x1b[22;1mc\x1b[0m')") as terminal:
        terminal.wait_exit()
        dim, green, bold = (terminal.cell(x, 0) for x in range(3))
        assert (dim.dim, green.dim, green.fg != "default", bold.dim, bold.bold) == (True, False, True, False, True)


@pytest.mark.parametrize("name", ["shift+enter", "ctrl+enter", "ctrl+shift+a", "ctrl+1", "ctrl+tab", "alt+word"])
def test_a_key_that_no_plain_terminal_sends_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="no plain terminal sends"):
        key_bytes(name)


@pytest.mark.parametrize("text", ["x", "up and down", "1+1", "C++", "a+b", "+", "é", ""])
def test_what_is_no_key_is_typed_as_it_is(text: str) -> None:
    assert key_bytes(text) is None


def test_arrows_follow_the_cursor_mode() -> None:
    assert key_bytes("up") == b"\x1b[A"
    assert key_bytes("up", application_cursor=True) == b"\x1bOA"
    assert key_bytes("shift+up", application_cursor=True) == b"\x1b[1;2A"


def test_a_paste_larger_than_any_buffer_blocks_nobody() -> None:
    code = "import os, sys, tty; tty.setraw(0); print('up', flush=True); sys.stdin.readline()"
    with python(code) as terminal:
        terminal.wait_for("up")
        os.kill(terminal.pid, signal.SIGSTOP)
        before = terminal.clock()
        terminal.paste("x" * 1_000_000)
        assert terminal.clock() - before < 5


# Waiting and ending


def test_a_failed_wait_shows_the_screen_the_output_and_the_log(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("from the log")
    code = "import sys; print('on the screen'); print('from stderr', file=sys.stderr); input()"
    with python(code, stderr=tmp_path / "err", log=tmp_path / "log", columns=30, rows=3) as terminal:
        terminal.wait_for("on the screen")
        with pytest.raises(AssertionError) as failure:
            terminal.wait_for("never", 0.2)
        row = "|on the screen                 |"
        for part in ("never seen: 'never'", "running", row, "from stderr", "from the log"):
            assert part in str(failure.value)


def test_a_wait_ends_with_the_program() -> None:
    with python("print('bye'); raise SystemExit(3)") as terminal:
        with pytest.raises(AssertionError, match=r"Exit\(code=3"):
            terminal.wait_for("never", 60)
        assert terminal.clock() < 30


def test_output_has_its_times_and_a_signal_its_code() -> None:
    with python("print('one', flush=True); input(); import os; os.kill(os.getpid(), 9)") as terminal:
        seen = terminal.wait_for("one")
        terminal.keys("enter")
        code, seconds = terminal.wait_exit()
        assert code == -signal.SIGKILL and 0 < seen <= seconds
        assert seen in [time for time, _ in terminal.chunks]
        assert terminal.raw.startswith(b"one\r\n")


def test_all_output_is_there_after_the_exit_even_if_the_terminal_is_still_held() -> None:
    with Terminal(["/bin/sh", "-c", "trap '' HUP; sleep 600 & seq 20000; exit 4"]) as terminal:
        assert terminal.wait_exit().code == 4
        assert terminal.raw.endswith(b"20000\r\n")


def test_stdout_goes_to_a_file_and_stderr_to_the_terminal(tmp_path: Path) -> None:
    code = "import sys; print('result'); print(sys.stdout.isatty(), sys.stderr.isatty(), file=sys.stderr)"
    with python(code, stdout=tmp_path / "out") as terminal:
        terminal.wait_exit()
        assert (terminal.text().strip(), (tmp_path / "out").read_text()) == ("False True", "result\n")


def test_close_leaves_no_process_thread_or_descriptor() -> None:
    threads, descriptors = threading.active_count(), psutil.Process().num_fds()
    code = (
        "import signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN); signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "print('child', subprocess.Popen(['sleep', '600']).pid, flush=True); time.sleep(600)"
    )
    with python(code) as terminal:
        terminal.wait_for(re.compile(r"child \d+"))
        family = [psutil.Process(pid) for pid in (terminal.pid, int(terminal.text().split()[1]))]
    _, alive = psutil.wait_procs(family, 5)
    assert not [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]
    assert (threading.active_count(), psutil.Process().num_fds()) == (threads, descriptors)
    terminal.close()


def test_a_program_that_does_not_exist_leaves_nothing_either() -> None:
    descriptors = psutil.Process().num_fds()
    with pytest.raises(FileNotFoundError):
        Terminal(["no-such-program"])
    assert psutil.Process().num_fds() == descriptors


# The program itself


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from checkpoints import tiny_checkpoint  # imports torch, which the other tests do without

    return tiny_checkpoint(tmp_path_factory.mktemp("checkpoint") / "tiny")


def generate(tiny: Path, *args: str) -> Terminal:
    command = [sys.executable, "-m", "dgtui", "generate", "hello", "--model", tiny, "--seed", "7", *args]
    return Terminal(command, columns=120)


@pytest.mark.slow
def test_generate_resolves_its_canvas_in_place(tiny: Path) -> None:
    with generate(tiny, "--steps", "40", "--confidence", "1e-9", "--max-tokens", "32") as terminal:
        terminal.wait_for("loading", START)
        terminal.wait_for(re.compile(r"block 1 · step \d+/40"), START)
        assert terminal.wait_exit(START).code == 0
        assert re.search(r"32 tokens in .* · 40 steps · length · seed 7|tokens in .* · eos · seed 7", terminal.text())
        assert "block 1" not in terminal.text()
        assert audit(terminal.raw, RICH) == []


@pytest.mark.slow
def test_generate_ends_with_130_on_ctrl_c_and_keeps_its_draft(tiny: Path) -> None:
    with generate(tiny, "--steps", "100000", "--confidence", "1e-9", "--max-tokens", "900") as terminal:
        terminal.wait_for(re.compile(r"step [1-9]\d*/100000"), START)
        before = terminal.clock()
        terminal.keys("ctrl+c")
        code, seconds = terminal.wait_exit(START)
        assert code == 130 and seconds > before
        assert "cancelled · seed 7" in terminal.text()
        assert terminal.modes == {7, 25}


def test_nothing_is_typed_while_an_escape_could_still_become_alt() -> None:
    code = "import os, tty; tty.setraw(0); print('up', end='', flush=True); print(os.read(0, 9), os.read(0, 9))"
    with python(code) as terminal:
        terminal.wait_for("up")
        terminal.keys("esc", "x")
        before = terminal.clock()
        terminal.wait_for("b'\\x1b' b'x'")
        assert terminal.clock() - before > ESCAPE_PAUSE * 0.9
