"""What a headless command shows while it works: on stderr, and only where that is a terminal that can be redrawn."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from dgtui.text import sanitize

if TYPE_CHECKING:
    from rich.console import Console

    from dgtui.model.weights import Progress


def note(text: str) -> None:
    """One line for the person, on stderr."""
    if sys.stderr is not None:
        print(sanitize(text, newlines=False), file=sys.stderr, flush=True)


def is_terminal(stream: object) -> bool:
    """Whether a standard stream is there and is a terminal."""
    return bool(stream is not None and hasattr(stream, "isatty") and stream.isatty())


def redrawable() -> bool:
    """Whether stderr is a terminal that understands more than lines."""
    return is_terminal(sys.stderr) and os.environ.get("TERM", "dumb") not in ("dumb", "")


def stderr_console() -> "Console":
    """A console on stderr; `NO_COLOR` is honoured by rich."""
    from rich.console import Console

    return Console(file=sys.stderr, highlight=False, markup=False, emoji=False)


@contextmanager
def loading(name: str) -> Iterator["Callable[[Progress], None] | None"]:
    """Says that a model is being loaded, and how far it is, until the block ends."""
    if not redrawable():
        yield None
        return
    shown = sanitize(name, newlines=False)
    console = stderr_console()
    with console.status(f"loading {shown} …", spinner="dots") as status:

        def report(progress: "Progress") -> None:
            part = ""
            if progress.total_bytes:
                part = f" {progress.done_bytes / 1e9:.2f} of {progress.total_bytes / 1e9:.2f} GB"
            status.update(f"loading {shown}: {sanitize(progress.stage, newlines=False)}{part}")

        yield report
