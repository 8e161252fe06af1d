"""Writes a run of the screen to a recording."""

from pathlib import Path

from dgtui.backend import Backend, Facts, RunHandle
from dgtui.tui.share import recorded


def record(path: Path, run: RunHandle, facts: Facts, backend: Backend) -> None:
    """Writes a run with the data of its model. Raises `RunFailed` if it cannot be written."""
    from dgtui.session.recording import save

    save(path, recorded(run, facts, backend))
