"""The process: `dgtui`, or `python -m dgtui`."""

import os
import sys
from contextlib import suppress

from dgtui.cli import main


def run() -> None:
    """Runs the program and ends the process."""
    code = main()
    if "torch" not in sys.modules:
        sys.exit(code)
    # Taking torch apart takes a second, and there is nothing in it to keep: files are closed by those who wrote them
    for stream in filter(None, (sys.stdout, sys.stderr)):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


if __name__ == "__main__":
    run()
