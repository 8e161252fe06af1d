"""The clipboard: tmux's buffer inside tmux, the tool of a local desktop, else the terminal (OSC 52).

Most terminals accept OSC 52, but not all, and tmux drops it by default. Terminals do not confirm it.
"""

import os
import shutil
import subprocess
import sys
from typing import Final

_SECONDS: Final = 1.0
"""Most seconds that a tool may take."""
TERMINAL: Final = "the terminal's clipboard, if it allows that"


def tool() -> tuple[str, list[str]] | None:
    """The target of a copy, and its command, which reads the text from standard input; None: the terminal."""
    remote = bool(os.environ.get("SSH_CONNECTION") or os.environ.get("SSH_TTY"))
    desktop = "the clipboard of the desktop"
    found = [
        (bool(os.environ.get("TMUX")), "tmux's buffer and the clipboard", ["tmux", "load-buffer", "-w", "-"]),
        (not remote and sys.platform == "darwin", desktop, ["pbcopy"]),
        (not remote and bool(os.environ.get("WAYLAND_DISPLAY")), desktop, ["wl-copy"]),
        (not remote and bool(os.environ.get("DISPLAY")), desktop, ["xclip", "-selection", "clipboard"]),
        (not remote and bool(os.environ.get("DISPLAY")), desktop, ["xsel", "--clipboard", "--input"]),
    ]
    return next(((name, command) for fits, name, command in found if fits and shutil.which(command[0])), None)


def copy(text: str) -> str | None:
    """Copies with a tool. Returns the name of the target, or None if no tool worked."""
    if (found := tool()) is None:
        return None
    name, command = found
    quiet = subprocess.DEVNULL
    try:
        subprocess.run(
            command, input=text.encode("utf-8", "replace"), stdout=quiet, stderr=quiet, timeout=_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return name
