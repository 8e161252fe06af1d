"""Every test runs away from the person's folders, the network and the look of the terminal it was started from."""

import os
import signal
import socket
from pathlib import Path
from typing import Any

import pytest

# Read by huggingface_hub and transformers when they are imported, which may be before any fixture runs.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
# Models of these sizes run faster on one thread, and sums have one order.
os.environ["OMP_NUM_THREADS"] = "1"
# Whoever started the tests in the background has them, and the programs they start, ignore Ctrl+C.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Point HOME and the XDG folders into the test's own folder and drop `DGTUI_*` settings; returns the new home."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    for variable, folder in {
        "XDG_CONFIG_HOME": ".config",
        "XDG_DATA_HOME": ".local/share",
        "XDG_CACHE_HOME": ".cache",
        "XDG_STATE_HOME": ".local/state",
    }.items():
        monkeypatch.setenv(variable, str(home / folder))
    monkeypatch.setenv("HF_HOME", str(home / ".cache" / "huggingface"))
    for variable in [name for name in os.environ if name.startswith("DGTUI_")]:
        monkeypatch.delenv(variable)
    return home


@pytest.fixture(autouse=True)
def plain_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same terminal for all, with colour; a test that wants another sets it.

    COLUMNS and LINES are unset, for they would overrule the size of a test's own pseudo-terminal.
    """
    for variable in ("NO_COLOR", "FORCE_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "COLORTERM", "COLUMNS", "LINES"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every way out over IP raise; local sockets, which event loops need, keep working."""
    for method in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, method, _only_local(getattr(socket.socket, method)))


def _only_local(method: Any) -> Any:
    def call(self: socket.socket, *arguments: Any) -> Any:
        if self.family in (socket.AF_INET, socket.AF_INET6):
            self.close()
            # Not an OSError: those are caught, and tried again, by much of what could be calling.
            raise AssertionError(f"a test tried to reach {arguments[-1]} over the network")
        return method(self, *arguments)

    return call
