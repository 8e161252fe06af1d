"""Output of headless commands: results to stdout, notes to stderr, and progress to stderr if it can be redrawn."""

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
    """Writes a result to stdout at once. Characters outside the stream's encoding become question marks.

    Raises:
        RunFailed: stdout is closed, or the disk is full.
        BrokenPipeError: The reader of the pipe is gone.
    """
    if sys.stdout is None:
        raise RunFailed("standard output is closed", hint="redirect it to a file or a pipe")
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
    """Discards the buffered output, which the interpreter would otherwise fail to write again at exit."""
    if sys.stdout is None:
        return
    with suppress(OSError, ValueError):
        sink = os.open(os.devnull, os.O_WRONLY)
        os.dup2(sink, sys.stdout.fileno())


def columns(rows: Sequence[Sequence[str]], *, right: Collection[int] = ()) -> list[str]:
    """Returns sanitised rows as aligned lines. The columns in `right` are right-aligned."""
    cells = [[sanitize(cell, newlines=False, tabs="replace") for cell in row] for row in rows]
    widths = [max(cell_width(cell) for cell in column) for column in zip(*cells, strict=True)]

    def fill(at: int, cell: str) -> str:
        gap = " " * (widths[at] - cell_width(cell))
        return gap + cell if at in right else cell + gap

    return ["  ".join(fill(at, cell) for at, cell in enumerate(row)).rstrip() for row in cells]


def size(count: int) -> str:
    """Formats a number of bytes in powers of ten: "51.6 GB", "7 MB", "670 kB"."""
    if count >= 1e9:
        return f"{count / 1e9:.1f} GB"
    return f"{count / 1e6:.0f} MB" if count >= 1e6 else f"{count / 1e3:.0f} kB"


def note(text: str) -> None:
    """Prints one line to stderr."""
    if sys.stderr is not None:
        with suppress(OSError):  # a closed stderr or a full disk must not end the program
            print(sanitize(text, newlines=False), file=sys.stderr, flush=True)


def is_terminal(stream: object) -> bool:
    """Whether a standard stream exists and is a terminal."""
    return bool(stream is not None and hasattr(stream, "isatty") and stream.isatty())


def redrawable() -> bool:
    """Whether stderr is a terminal on which text can be redrawn."""
    return is_terminal(sys.stderr) and os.environ.get("TERM", "dumb") not in ("dumb", "")


def stderr_console() -> "Console":
    """Returns a console on stderr. Rich honours `NO_COLOR`."""
    from rich.console import Console

    return Console(file=sys.stderr, highlight=False, markup=False, emoji=False)


@contextmanager
def working(what: str) -> Iterator[Callable[[str], None]]:
    """Shows a status line on a terminal until the block ends. Yields a function that changes the line."""
    if not redrawable():
        yield lambda text: None
        return
    with stderr_console().status(sanitize(f"{what} …", newlines=False), spinner="dots") as status:
        # Painted at once: what is announced may hold the interpreter's lock, and the spinner's thread stands still.
        yield lambda text: status.update(sanitize(text, newlines=False), spinner="dots")


@contextmanager
def loading(name: str, what: str = "loading") -> Iterator["Callable[[Progress], None]"]:
    """Shows the progress of loading a model until the block ends. Yields the function that reports progress."""
    began = time.monotonic()
    with working(f"{what} {name}") as say:

        def report(progress: "Progress") -> None:
            part = ""
            if progress.total_bytes:
                part = f" {progress.done_bytes / 1e9:.2f} of {progress.total_bytes / 1e9:.2f} GB"
            say(f"{name}: {progress.stage}{part}, {time.monotonic() - began:.0f} s")

        yield report
