"""Entry point of `dgtui` and `python -m dgtui`."""

import os
import signal
import sys
from contextlib import suppress

from dgtui.cli import main


def run() -> None:
    """Runs the program and ends the process."""
    # Read when torch is imported. Threads that spin while they wait make a step several times slower beside any other
    # busy program (docs/performance.md)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # `kill`, `timeout` and a closed terminal act like Ctrl+C: results so far are kept. `nohup` still ignores hang-ups.
    for number in (signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)
    code = main()
    if "torch" not in sys.modules:
        sys.exit(code)
    # Unloading torch takes a second and has no effect: all files are closed already
    for stream in filter(None, (sys.stdout, sys.stderr)):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


if __name__ == "__main__":
    run()
