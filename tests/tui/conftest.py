"""Tests of the screens answer a question at once."""

import pytest

from dgtui.tui.screens import ask


@pytest.fixture(autouse=True)
def quick_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the first key as an answer."""
    monkeypatch.setattr(ask, "QUIET", 0.0)
