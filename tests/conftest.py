"""Isolates every test from the user's folders, the network and the terminal it was started in."""

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

# huggingface_hub and transformers read these when they are imported, perhaps before any fixture runs.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
# Models of these sizes run faster on one thread, sums have a fixed order, and test processes do not compete.
os.environ["OMP_NUM_THREADS"] = "1"
# Read when Triton is imported, which transformers does: kernels are interpreted, for there is no GPU.
os.environ["TRITON_INTERPRET"] = "1"
# A shell makes background programs ignore Ctrl+C, and the programs they start inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


TIMED = frozenset({"cli", "end_to_end", "server", "tui"})
"""Folders of tests that use a screen, a terminal, a signal or a socket. What they wait for depends on the machine."""

ROUNDS = 4
"""How often every widget handles its messages in a pause: those of a round can follow from those of the one before."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow tests run first: no process is left alone with one at the end. Timed tests have a second try; the report
    lists each test that needed it."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
    for item in items:
        if TIMED & set(item.path.relative_to(item.config.rootpath).parts):
            item.add_marker(pytest.mark.flaky(reruns=1))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """A process without tests takes over half of another's, for `-n` without `--dist`."""
    from xdist.scheduler import WorkStealingScheduling

    return WorkStealingScheduling(config, log) if config.getvalue("dist") == "load" else None


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Points HOME and the XDG folders into the test's folder, removes `DGTUI_*` variables, and returns the new home."""
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
    """Gives every test the same terminal, with colour. A test that wants another one sets it.

    COLUMNS and LINES are removed, as they would override the size of a test's own pseudo-terminal.
    """
    for variable in ("NO_COLOR", "FORCE_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "COLORTERM", "COLUMNS", "LINES"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")


@pytest.fixture(autouse=True)
def patient_pilot(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes `Pilot.pause()` wait until messages that follow from messages have been handled too.

    Textual's own waits until the process does not use the processor. On a busy machine that is at once.
    """
    briefly = Pilot.pause

    async def pause(pilot: Pilot[Any], delay: float | None = None) -> None:
        await briefly(pilot, delay)
        for _ in range(ROUNDS if delay is None else 0):
            await pilot._wait_for_screen()
            pilot.app.screen._on_timer_update()

    monkeypatch.setattr(Pilot, "pause", pause)


@pytest.fixture
def own_signals() -> Iterator[None]:
    """Gives the test the handlers of signals that a command sets, and takes them back."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes every connection over IP raise. Local sockets, which event loops need, keep working."""
    for method in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, method, _only_local(getattr(socket.socket, method)))


def _only_local(method: Any) -> Any:
    def call(self: socket.socket, *arguments: Any) -> Any:
        if self.family in (socket.AF_INET, socket.AF_INET6):
            self.close()
            # Not an OSError: many callers catch that and try again.
            raise AssertionError(f"a test tried to reach {arguments[-1]} over the network")
        return method(self, *arguments)

    return call
