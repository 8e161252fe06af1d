"""Where headless commands write: results to stdout; notes to stderr, progress only where that can be redrawn."""

import os
import sys
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from dgtui.errors import RunFailed
from dgtui.text import cell_width, sanitize

if TYPE_CHECKING:
    from rich.console import Console

    from dgtui.model.weights import Progress


def put(result: str | bytes) -> None:
    """Writes a result to stdout, at once; what the stream's encoding has no sign for becomes a question mark.

    Raises:
        RunFailed: If stdout is closed, or its disk is full.
        BrokenPipeError: If whoever read it has gone.
    """
    if sys.stdout is None:
        raise RunFailed("standard output is closed", hint="there is nowhere to write the result to")
    encoding = sys.stdout.encoding or "utf-8"
    data = result if isinstance(result, bytes) else result.encode(encoding, "replace")
    try:
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        drop_output()
        raise RunFailed(f"standard output cannot be written: {error.strerror or error}") from error


def drop_output() -> None:
    """Sends what is still to be written to nowhere: the interpreter would fail on it again when it ends."""
    if sys.stdout is None:
        return
    with suppress(OSError, ValueError):
        sink = os.open(os.devnull, os.O_WRONLY)
        os.dup2(sink, sys.stdout.fileno())


def columns(rows: Sequence[Sequence[str]], *, right: Collection[int] = ()) -> list[str]:
    """Sanitised rows as lines with their cells below each other; the columns in `right` end at the same place."""
    cells = [[sanitize(cell, newlines=False, tabs="replace") for cell in row] for row in rows]
    widths = [max(cell_width(cell) for cell in column) for column in zip(*cells, strict=True)]

    def fill(at: int, cell: str) -> str:
        gap = " " * (widths[at] - cell_width(cell))
        return gap + cell if at in right else cell + gap

    return ["  ".join(fill(at, cell) for at, cell in enumerate(row)).rstrip() for row in cells]


def size(count: int) -> str:
    """Bytes, in powers of ten: "51.6 GB", "7 MB", "670 kB"."""
    if count >= 1e9:
        return f"{count / 1e9:.1f} GB"
    return f"{count / 1e6:.0f} MB" if count >= 1e6 else f"{count / 1e3:.0f} kB"


def note(text: str) -> None:
    """One line for the person, on stderr."""
    if sys.stderr is not None:
        with suppress(OSError):  # nobody reads it any more, or its disk is full: no reason to fail
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
def working(what: str) -> Iterator[Callable[[str], None]]:
    """Says what is being done until the block ends, on a terminal only; what it yields says something else."""
    if not redrawable():
        yield lambda text: None
        return
    with stderr_console().status(sanitize(f"{what} …", newlines=False), spinner="dots") as status:
        yield lambda text: status.update(sanitize(text, newlines=False))


@contextmanager
def loading(name: str, what: str = "loading") -> Iterator["Callable[[Progress], None]"]:
    """Says that a model is being loaded, how far it is and for how long, until the block ends."""
    began = time.monotonic()
    with working(f"{what} {name}") as say:

        def report(progress: "Progress") -> None:
            part = ""
            if progress.total_bytes:
                part = f" {progress.done_bytes / 1e9:.2f} of {progress.total_bytes / 1e9:.2f} GB"
            say(f"{name}: {progress.stage}{part}, {time.monotonic() - began:.0f} s")

        yield report
