"""The checks of `dgtui doctor` for the terminal: size, colours, encoding, clipboard."""

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from dgtui.cli.terminal import is_terminal
from dgtui.layout import MIN_SCREEN

Mark = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Check:
    """The result of one check."""

    name: str
    mark: Mark
    found: str
    advice: str = ""
    """What to do if the mark is not "ok"."""


def terminal() -> Iterator[Check]:
    """Checks what the terminal supports."""
    streams = [stream for stream in (sys.stdout, sys.stdin, sys.stderr) if is_terminal(stream)]
    if not is_terminal(sys.stdout):
        yield Check("terminal", "ok", "standard output is not a terminal: text and JSON work, screens do not")
    term = os.environ.get("TERM", "")
    if not streams:
        pass
    elif term in ("", "dumb"):
        yield Check("terminal", "warn", f"TERM is {term or 'not set'}", "set TERM, for example to xterm-256color")
    else:
        wide, high = os.get_terminal_size(streams[0].fileno())
        found = f"{term}, {wide} × {high}"
        if wide < MIN_SCREEN[0] or high < MIN_SCREEN[1]:
            least = "{} × {}".format(*MIN_SCREEN)
            yield Check("terminal", "warn", found, f"make the window larger: screens need {least}")
        else:
            yield Check("terminal", "ok", found)
    if os.environ.get("NO_COLOR"):
        yield Check("colours", "ok", "none, because NO_COLOR is set")
    elif streams:
        true_colour = os.environ.get("COLORTERM", "") in ("truecolor", "24bit")
        yield Check("colours", "ok", "16 million" if true_colour else "256" if "256" in term else "16")
    encoding = getattr(sys.stdout, "encoding", None) or "unknown"
    if encoding.lower().replace("-", "") == "utf8":
        yield Check("encoding", "ok", encoding)
    else:
        yield Check("encoding", "warn", encoding, "set a UTF-8 locale, for example LC_ALL=C.UTF-8")
    if streams:
        yield _clipboard()


def _clipboard() -> Check:
    """Checks where the screens copy to. A terminal does not confirm a copy."""
    from dgtui.tui import clipboard

    if found := clipboard.tool():
        name, command = found
        return Check("clipboard", "ok", f"{name}, with {command[0]}")
    remote = os.environ.get("SSH_CONNECTION") or os.environ.get("SSH_TTY")
    for variable, package in (("TMUX", "tmux"), ("WAYLAND_DISPLAY", "wl-clipboard"), ("DISPLAY", "xclip")):
        if os.environ.get(variable) and (package == "tmux" or not remote):
            return Check("clipboard", "warn", clipboard.TERMINAL, f"install {package} for reliable copies")
    return Check("clipboard", "ok", clipboard.TERMINAL)
