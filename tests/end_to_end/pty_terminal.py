r"""A terminal for tests: runs a program on a pseudo-terminal, types at it, and shows what a person would see.

    with Terminal([sys.executable, "-m", "dgtui"], columns=80, rows=24) as terminal:
        terminal.wait_for("Ctrl+Q")
        terminal.keys("hello", "enter")
        assert terminal.wait_exit().code == 0
        assert audit(terminal.raw) == []

Nothing sleeps: `wait_for` looks again whenever there is output, and only at whole frames (synchronised output, mode
2026). All output is kept, with its times. `audit` reads it as a terminal does and names every sequence that the program
does not send by itself. Columns and rows count from 0; times are seconds since the program was started.
"""

import codecs
import contextlib
import copy
import errno
import itertools
import os
import re
import select
import signal
import termios
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias

import pyte
from pyte.screens import wcwidth

TIMEOUT = 30.0
"""Seconds that a wait lasts at most unless a test says otherwise; only a failure takes them."""
ESCAPE_PAUSE = 0.3
"""Seconds that nothing follows a typed Esc; else it reads as Alt. Textual waits ESCDELAY and polls every 0.1 s."""

# What a program sends, in pieces. Bytes that are no UTF-8 have become lone surrogates; a UTF-8 terminal acts on none of
# them, but it does act on C1 controls that are encoded as UTF-8, hence \x9b beside ESC [. A sequence without an end is
# "broken"; at the end of the data it may only be unfinished.
_STRING = r"[^\x18\x1a\x1b\x9c]*"
_PIECE = re.compile(
    rf"""(?P<text>[^\x00-\x1f\x7f-\x9f\udc80-\udcff]+)
    | (?P<CSI>(?:\x1b\[|\x9b)[\x00-\x17\x19\x1c-\x3f]*[@-~])
    | (?P<OSC>(?:\x1b\]|\x9d)[^\x07\x18\x1a\x1b\x9c]*(?:\x07|\x1b\\|\x9c))
    | (?P<string>(?:\x1b[PX^_]|[\x90\x98\x9e\x9f]){_STRING}(?:\x1b\\|\x9c))
    | (?P<escape>\x1b(?![\[\]PX^_])[\x20-\x2f]*[0-~])
    | (?P<broken>(?:(?:\x1b\[|\x9b)[\x00-\x17\x19\x1c-\x3f]*
        | (?:\x1b\]|\x9d)[^\x07\x18\x1a\x1b\x9c]*(?:\x1b\Z)?
        | (?:\x1b[PX^_]|[\x90\x98\x9e\x9f]){_STRING}(?:\x1b\Z)?
        | \x1b[\x20-\x2f]*))
    | (?P<malformed>[\udc80-\udcff])
    | (?P<control>[\x00-\x1f\x7f-\x9f])""",
    re.VERBOSE,
)


def _pieces(text: str) -> Iterator[tuple[str, str]]:
    """Kind and text of each piece; put together they are `text`."""
    return ((match.lastgroup or "", match.group()) for match in _PIECE.finditer(text))


# What may reach the terminal, as patterns of whole sequences. A number that is never sent is not in them.
_COLOUR = r"(?:[34][0-79]|9[0-7]|10[0-7]|[34]8;5;\d{1,3}|[34]8;2;\d{1,3};\d{1,3};\d{1,3})"
_STYLE = rf"\x1b\[(?:(?:[1-9]|21|5[123]|{_COLOUR})(?:;(?=\d)|(?=m)))+m"
_STYLE_END = r"\x1b\[0m"
RICH = (_STYLE, _STYLE_END, r"[\r\n]", r"\x1b\[\?25[hl]", r"\x1b\[1A", r"\x1b\[2K")
"""A Rich console and its `Live`: style, line ends, cursor shown or hidden, one line up, erase the line."""
TEXTUAL = (
    *(_STYLE, _STYLE_END, r"[\r\n]"),
    r"\x1b\[\d+;\d+H",  # cursor position
    r"\x1b\[\?(?:7|25|1000|1003|1004|1006|1015|1049|2004|2026)[hl]",  # wrap, cursor, mouse, focus, screen, paste, sync
    r"\x1b\[\?(?:2026|2048)\$p",  # are synchronised output, resize reports supported
    r"\x1b\[(?:>25|<)u",  # Kitty's keyboard protocol on, off
    r"\x1b\]22;[a-z-]+\x07",  # shape of the mouse pointer
)
"""Textual 8.2.8 in full screen; the bell, the clipboard (OSC 52) and links (OSC 8) have to be expected by a test."""
HOSTILE = (
    *("\x1b[6666m", "\x1b[2J", "\x1b[H", "\x1b[?47h", "\x1b[5n", "\x1b[>1m", "\x1bc", "\x1b(0"),
    *("\x1b]0;title\x07", "\x1b]2;title\x1b\\", "\x1b]8;;http://evil.test\x1b\\link\x1b]8;;\x1b\\"),
    *("\x1b]52;c;ZXZpbA==\x07", "\x1bP+q544e\x1b\\", "\x1b_Gi=1;AAAA\x1b\\", "\x1b^pm\x1b\\", "\x1bXsos\x1b\\"),
    *("\x9b2J", "\x9d52;c;ZXZpbA==\x9c", "\x90q\x9c", "\x85", "\x07", "\x08", "\x0e", "\x7f", "\x00", "\x1b"),
)
"""Texts to smuggle in (prompts, names of files, titles …); `audit` reports each of them wherever it comes out raw."""


def audit(raw: bytes, allowed: Iterable[str] = TEXTUAL) -> list[str]:
    """Every control or sequence in `raw` that `allowed` has no pattern for, with its place and the text before it.

    C1 controls count as bytes and as UTF-8, and so does whatever is no UTF-8. Rich and Textual end each styled run with
    `CSI 0 m`: within a run only text and line ends may come, and it ends once, so that what is smuggled into a run is
    found even if its like is allowed. In unstyled text such a sequence passes: smuggle what is in `HOSTILE`. Take `raw`
    of a program that has ended, for a sequence without an end is reported too.
    """
    permitted = re.compile("|".join(f"(?:{pattern})" for pattern in allowed))
    found, styled, offset, before = [], False, 0, ""
    for kind, piece in _pieces(raw.decode("utf-8", "surrogateescape")):
        data = piece.encode("utf-8", "surrogateescape")
        if kind == "text":
            before = piece
        elif kind == "broken" or not permitted.fullmatch(piece):
            found.append(f"{kind} {data[:80]!r} at byte {offset}, after {before[-20:]!r}")
        elif kind != "control":
            starts, ends = (re.fullmatch(pattern, piece) is not None for pattern in (_STYLE, _STYLE_END))
            if ends != styled:
                found.append(f"{kind} {data!r} at byte {offset}, {'inside' if styled else 'without'} a style")
            styled = not ends and (starts or styled)
        offset += len(data)
    return found


# What an xterm sends for a key, with its default settings.
_LETTERED = dict(zip("up down right left end home f1 f2 f3 f4".split(), "ABCDFHPQRS", strict=True))
_NUMBERED = {"insert": 2, "delete": 3, "pageup": 5, "pagedown": 6, "f5": 15}
_NUMBERED |= {f"f{n}": code for n, code in zip(range(6, 13), (17, 18, 19, 20, 21, 23, 24), strict=True)}
_SIMPLE = {"enter": "\r", "tab": "\t", "esc": "\x1b", "escape": "\x1b", "backspace": "\x7f", "space": " "}
_MODIFIERS = {"shift": 1, "alt": 2, "ctrl": 4}


def key_bytes(name: str, *, application_cursor: bool = False) -> bytes | None:
    """The bytes of a key such as "enter", "ctrl+j", "shift+left", "alt+x", "f1"; None if `name` is no key but text.

    Raises:
        ValueError: For a combination that a plain terminal cannot send, or sends as another key.
    """
    *prefixes, key = re.split(r"(?<=\w)\+(?=.)", name)
    known = key in _LETTERED or key in _NUMBERED or key in _SIMPLE
    if not (known or prefixes) or not set(prefixes) <= _MODIFIERS.keys():
        return None
    modifiers = sum(_MODIFIERS[prefix] for prefix in set(prefixes))
    if key in _LETTERED:
        plain = "\x1bO" if key.startswith("f") or application_cursor else "\x1b["
        return ((f"\x1b[1;{modifiers + 1}" if modifiers else plain) + _LETTERED[key]).encode()
    if key in _NUMBERED:
        return f"\x1b[{_NUMBERED[key]}{f';{modifiers + 1}' if modifiers else ''}~".encode()
    alt = "\x1b" if modifiers & _MODIFIERS["alt"] else ""
    sent = _SIMPLE.get(key, key)
    match modifiers & ~_MODIFIERS["alt"]:
        case 0 if len(sent) == 1:
            return (alt + sent).encode()
        case 1 if key == "tab":
            return (alt + "\x1b[Z").encode()
        case 1 if len(key) == 1 and key.isalpha():
            return (alt + key.upper()).encode()
        case 4 if key in ("space", "backspace"):
            return (alt + ("\x00" if key == "space" else "\x08")).encode()
        case 4 if len(key) == 1 and "@" <= key.upper() <= "_":
            return (alt + chr(ord(key.upper()) & 0x1F)).encode()
    raise ValueError(f"no plain terminal sends {name}")


class Cell(NamedTuple):
    """A place on the screen. A colour is "default", a name ("red", "brightred"; pyte's yellow is "brown") or rrggbb."""

    data: str = " "
    """Its character with what combines with it; "" in the right half of a wide one. (The names are pyte's.)"""
    fg: str = "default"
    bg: str = "default"
    bold: bool = False
    italics: bool = False
    underscore: bool = False
    strikethrough: bool = False
    reverse: bool = False
    blink: bool = False
    dim: bool = False

    @property
    def underline(self) -> bool:
        return self.underscore


class _Screen(pyte.Screen):
    """pyte's screen, and what it lacks: dim text, the alternate screen, variation selectors and joiners."""

    def __init__(self, columns: int, rows: int) -> None:
        self.answers: deque[bytes] = deque()
        self._primary: tuple[object, object] | None = None
        super().__init__(columns, rows)

    def write_process_input(self, data: str) -> None:
        """What pyte answers by itself: the cursor's position, status, DA1."""
        self.answers.append(data.encode())

    @property
    def default_char(self) -> Cell:
        return Cell()

    def reset(self) -> None:
        super().reset()
        self.cursor.attrs = self.default_char

    def row(self, y: int) -> str:
        return "".join(self.buffer[y][x].data for x in range(self.columns))

    def alternate(self, on: bool) -> None:
        """Changes to a clear second screen, or back to the first as it was."""
        if on and self._primary is None:
            self._primary = copy.deepcopy(self.buffer), copy.copy(self.cursor)
            self.erase_in_display(2)
        elif not on and self._primary is not None:
            (self.buffer, self.cursor), self._primary = self._primary, None

    def draw(self, data: str) -> None:
        for combining, group in itertools.groupby(data, lambda character: wcwidth(character) == 0):
            if not combining:
                super().draw("".join(group))
                continue
            line, x = self.buffer[self.cursor.y], self.cursor.x - 1
            x -= x > 0 and line[x].data == ""
            if x >= 0:
                line[x] = line[x]._replace(data=line[x].data + "".join(group))

    def select_graphic_rendition(self, *attrs: int) -> None:
        super().select_graphic_rendition(*attrs)
        dim, codes = self.cursor.attrs.dim, iter(attrs)
        for code in codes:
            if code in (38, 48):  # the numbers of a colour
                for _ in range(1 if next(codes, 0) == 5 else 3):
                    next(codes, None)
            elif code in (0, 2, 22):
                dim = code == 2
        self.cursor.attrs = self.cursor.attrs._replace(dim=dim)


Wanted: TypeAlias = "str | re.Pattern[str] | Callable[[Terminal], object]"
"""What can be waited for: a text or a pattern on the screen, or something true of the terminal."""


class Exit(NamedTuple):
    """How a program ended: its exit code (minus the number of a signal that killed it), and when."""

    code: int
    seconds: float


class Terminal(contextlib.AbstractContextManager["Terminal"]):
    """A program on a pseudo-terminal of its own, in a session of its own. Use it as a context manager, or `close` it.

    Args:
        command: Program and arguments.
        columns: Width of the screen in cells.
        rows: Height of the screen in cells.
        env: What differs from the tests' environment; None takes a variable out. TERM is xterm-256color.
        stdout: A file that takes standard output instead of the terminal.
        stderr: The same for standard error; its end is shown in failures.
        log: A file that the program itself writes; its end is shown in failures.
    """

    def __init__(
        self, command: Sequence[str | Path], *, columns: int = 80, rows: int = 24,
        env: Mapping[str, str | None] | None = None,
        stdout: Path | None = None, stderr: Path | None = None, log: Path | None = None,
    ) -> None:  # fmt: skip
        self.command = [str(part) for part in command]
        self.chunks: list[tuple[float, bytes]] = []
        self._files = [path for path in (stderr, log) if path is not None]
        self._screen = _Screen(columns, rows)
        self._stream = pyte.Stream(self._screen)
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self._unfinished = ""
        self._modes = {7, 25}
        self.on_frame: Callable[[Terminal], object] | None = None
        """Called after each whole frame; `wait_for` may miss some of them."""
        self._outgoing = self._screen.answers
        self._news = threading.Condition()  # guards all of it; notified after output, at its end, and at the exit
        self._drained = self._closed = self._hung_up = False
        self._exit: Exit | None = None

        variables: dict[str, str | None] = {"TERM": "xterm-256color", "COLUMNS": None, "LINES": None, **(env or {})}
        environment = {name: value for name, value in (os.environ | variables).items() if value is not None}
        self._master, slave = os.openpty()
        self._wake, self._waker = os.pipe()
        try:
            termios.tcsetwinsize(slave, (rows, columns))
            # The leader of a new session gets the first terminal it opens as the one that controls it.
            actions: list[tuple[object, ...]] = [(os.POSIX_SPAWN_OPEN, 0, os.ttyname(slave), os.O_RDWR, 0)]
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
            for descriptor, path in ((1, stdout), (2, stderr)):
                to_file = (os.POSIX_SPAWN_OPEN, descriptor, path, flags, 0o600)
                actions.append(to_file if path else (os.POSIX_SPAWN_DUP2, 0, descriptor))
            defaults = [signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGPIPE]
            self.started = time.monotonic()
            how = {"file_actions": actions, "setsid": True, "setsigmask": [], "setsigdef": defaults}
            self.pid = os.posix_spawnp(self.command[0], self.command, environment, **how)
        except BaseException:
            for descriptor in (self._master, self._wake, self._waker):
                os.close(descriptor)
            raise
        finally:
            os.close(slave)
        os.set_blocking(self._master, False)
        self._server, self._awaiter = (threading.Thread(target=t, daemon=True) for t in (self._serve, self._await_exit))
        self._server.start()
        self._awaiter.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Kills the program and all of its process group, and gives back every thread and descriptor."""
        if self._closed:
            return
        self._closed = True
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self.hang_up()
        self._awaiter.join(10)
        assert not self._awaiter.is_alive(), f"{self.command} cannot be ended"

    def hang_up(self) -> None:
        """Closes the terminal, as if its window was closed or the connection was lost. The program may go on."""
        if self._hung_up:
            return
        self._hung_up = True
        os.close(self._waker)
        self._server.join(10)
        assert not self._server.is_alive(), "the terminal cannot be closed"
        os.close(self._wake)
        os.close(self._master)

    # What is on the screen

    @property
    def raw(self) -> bytes:
        """All output so far; `chunks` has it with the time at which each piece came."""
        with self._news:
            return b"".join(data for _, data in self.chunks)

    @property
    def modes(self) -> frozenset[int]:
        """The private modes that are on, such as 25 (cursor shown), 1049 (alternate screen), 2004 (bracketed paste)."""
        with self._news:
            return frozenset(self._modes)

    def clock(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.started

    @contextlib.contextmanager
    def _frame(self) -> Iterator[_Screen]:
        """The screen while it holds a whole frame, which is waited for."""
        with self._news:
            self._news.wait_for(lambda: 2026 not in self._modes or self._drained, 1.0)
            yield self._screen

    def row(self, y: int) -> str:
        """The text of a row, its blanks included; a wide character is one character."""
        with self._frame() as screen:
            return screen.row(y)

    def text(self) -> str:
        """All rows, without the blanks at their ends."""
        with self._frame() as screen:
            return "\n".join(screen.row(y).rstrip() for y in range(screen.lines))

    def cell(self, x: int, y: int) -> Cell:
        """The character at a place, and how it looks."""
        with self._frame() as screen:
            return screen.buffer[y][x]

    def wait_for(self, wanted: Wanted, timeout: float = TIMEOUT) -> float:
        """Waits until the screen shows a text, or a pattern, or a function of this terminal is true.

        Returns when its newest output came. Fails, with the screen, after `timeout` seconds or once nothing can come.
        """
        deadline = time.monotonic() + timeout
        with self._news:
            while not self._sees(wanted):
                left = deadline - time.monotonic()
                if left <= 0 or (self._drained and self._exit):
                    raise AssertionError(self.report(f"never seen: {wanted!r}"))
                self._news.wait(min(left, 0.1))  # what a function looks at may change without output
            return self.chunks[-1][0] if self.chunks else self.clock()

    def _sees(self, wanted: Wanted) -> bool:
        if callable(wanted):
            return bool(wanted(self))
        if 2026 in self._modes and not self._drained:
            return False
        return wanted in self.text() if isinstance(wanted, str) else wanted.search(self.text()) is not None

    def wait_exit(self, timeout: float = TIMEOUT) -> Exit:
        """Waits for the program to end by itself, and for its last output."""
        with self._news:
            if not self._news.wait_for(lambda: self._exit is not None, timeout):
                raise AssertionError(self.report("still running"))
            while not self._drained:  # a process it left behind may hold the terminal, and say nothing
                read = len(self.chunks)
                if not self._news.wait_for(lambda: self._drained or len(self.chunks) > read, 3.0):  # noqa: B023
                    break
            assert self._exit is not None
            return self._exit

    def report(self, complaint: str) -> str:
        """A complaint with what there is to see: screen, newest output, ends of the files."""
        with self._news:
            edge = "+" + "-" * self._screen.columns + "+"
            screen = "\n".join(f"|{self._screen.row(y)}|" for y in range(self._screen.lines))
            state = str(self._exit or "running") + (", a frame has no end" if 2026 in self._modes else "")
            tails = [f"end of output: {self.raw[-300:]!r}"]
            for path in filter(Path.exists, self._files):
                tails.append(f"end of {path}:\n{path.read_bytes()[-2000:].decode(errors='replace')}")
            head = f"{complaint} ({state}, {self.clock():.1f} s): {self.command}"
            return "\n".join([head, edge, screen, edge, *tails])

    # What is done to it

    def keys(self, *keys: str) -> None:
        """Types keys by name (see `key_bytes`) and everything else as text; a pause follows Esc."""
        for key in keys:
            with self._news:
                known = key_bytes(key, application_cursor=1 in self._modes)
            self._send(key.encode() if known is None else known)

    def paste(self, text: str) -> None:
        """Pastes as an xterm does: line ends become carriage returns, in brackets where the program asked for them."""
        data = text.replace("\r\n", "\r").replace("\n", "\r").encode()
        self._send(b"\x1b[200~" + data + b"\x1b[201~" if 2004 in self.modes else data)

    def click(self, x: int, y: int) -> None:
        """Presses and releases the left button of the mouse, as SGR reports (mode 1006) say it."""
        self._send(f"\x1b[<0;{x + 1};{y + 1}M\x1b[<0;{x + 1};{y + 1}m")

    def resize(self, columns: int, rows: int) -> None:
        """Changes the size, which the program is told by SIGWINCH."""
        with self._news:
            self._screen.resize(rows, columns)
            for gone in [y for y in self._screen.buffer if y >= rows]:
                del self._screen.buffer[gone]
            self._screen.ensure_hbounds()
            self._screen.ensure_vbounds()
            termios.tcsetwinsize(self._master, (rows, columns))

    def _send(self, data: bytes | str) -> None:
        with self._news:
            assert not self._hung_up, "the terminal is closed"
            self._outgoing.append(data.encode() if isinstance(data, str) else data)
            os.write(self._waker, b".")

    # Its two threads

    def _await_exit(self) -> None:
        _, status = os.waitpid(self.pid, 0)
        with self._news:
            self._exit = Exit(os.waitstatus_to_exitcode(status), self.clock())
            self._news.notify_all()

    def _serve(self) -> None:
        """Reads output and writes input, so that neither side can block the other, until `close` or the last output."""
        quiet_until = 0.0
        try:
            while not self._closed:
                quiet = max(0.0, quiet_until - time.monotonic()) if self._outgoing else 0.0
                writers = [self._master] if self._outgoing and not quiet else []
                readable, writable, _ = select.select([self._master, self._wake], writers, [], quiet or None)
                if self._wake in readable and not os.read(self._wake, 4096):
                    break
                if self._master in readable and not self._take(os.read(self._master, 65536)):
                    break
                if writable:
                    with self._news:
                        data = self._outgoing.popleft()
                        if rest := data[os.write(self._master, data[:1024]) :]:
                            self._outgoing.appendleft(rest)
                    quiet_until = time.monotonic() + ESCAPE_PAUSE * (data == b"\x1b")
        except OSError as error:
            if error.errno != errno.EIO:  # which says that nobody has the terminal open any more
                raise
        finally:
            with self._news:
                self._drained = True
                self._news.notify_all()

    def _take(self, data: bytes) -> bytes:
        with self._news:
            self.chunks.append((self.clock(), data))
            text = self._unfinished + self._decoder.decode(data)
            self._unfinished = ""
            end = 0
            for kind, piece in _pieces(text):
                end += len(piece)
                if kind == "broken" and end == len(text):
                    self._unfinished = piece
                else:
                    self._show(kind, piece)
            self._news.notify_all()
        return data

    def _show(self, kind: str, piece: str) -> None:
        """Gives pyte what it understands, answers what is asked, and drops the rest as a terminal does."""
        if kind in ("text", "malformed"):
            self._screen.draw(piece if kind == "text" else "\N{REPLACEMENT CHARACTER}")
        elif (kind == "control" and piece in "\b\t\n\v\f\r") or (kind == "escape" and piece[1:] in "78DEHMc"):
            self._stream.feed(piece)
        sequence = re.fullmatch(r"(?:\x1b\[|\x9b)([<-?]?)([\d;]{0,99})([ -/]*)([@-~])", piece)
        match sequence and sequence.groups():
            case "?", numbers, "", "h" | "l" as switch:
                for mode in map(int, filter(None, numbers.split(";"))):
                    self._set_mode(mode, switch == "h")
            case "?", mode, "$", "p" if mode.isdecimal():  # DECRQM: 1 on, 2 off, 0 unknown (resize reports)
                state = 0 if mode == "2048" else 1 if int(mode) in self._modes else 2
                self._screen.write_process_input(f"\x1b[?{mode};{state}$y")
            case "?", "", "", "u":  # Kitty's keyboard protocol: known, nothing switched on
                self._screen.write_process_input("\x1b[?0u")
            case "", numbers, "", final if final in pyte.Stream.csi and final not in "hl":
                # Numbers that pyte has not thought of: a terminal ignores them
                with contextlib.suppress(TypeError, ValueError, LookupError, UnboundLocalError):
                    self._stream.feed(f"\x1b[{numbers}{final}")

    def _set_mode(self, mode: int, on: bool) -> None:
        (self._modes.add if on else self._modes.discard)(mode)
        if mode == 2026 and not on and self.on_frame is not None:
            self.on_frame(self)
        if mode == 1049:
            self._screen.alternate(on)
        elif mode in (7, 25):
            self._stream.feed(f"\x1b[?{mode}{'h' if on else 'l'}")
