"""The process: `dgtui`, or `python -m dgtui`."""

import os
import signal
import sys
from contextlib import suppress

from dgtui.cli import main


def run() -> None:
    """Runs the program and ends the process."""
    # `kill` and `timeout` end it as Ctrl+C does: what there is is kept, and the terminal left in order
    signal.signal(signal.SIGTERM, signal.default_int_handler)
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
