"""Tests of the screens answer a question at once, and wait in shorter slices."""

import pytest
from textual import _wait, screen

from dgtui.tui.screens import ask


@pytest.fixture(autouse=True)
def quick_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the first key as an answer."""
    monkeypatch.setattr(ask, "QUIET", 0.0)


@pytest.fixture(autouse=True)
def short_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Halve the slice in which an app has to be idle after each key, and the time between two updates of a screen."""
    monkeypatch.setattr(_wait, "SLEEP_GRANULARITY", _wait.SLEEP_GRANULARITY / 2)
    monkeypatch.setattr(_wait, "SLEEP_IDLE", _wait.SLEEP_IDLE / 2)
    monkeypatch.setattr(screen, "UPDATE_PERIOD", screen.UPDATE_PERIOD / 2)
