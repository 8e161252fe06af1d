"""Writes a run of the screen to a recording."""

from pathlib import Path

from dgtui.backend import Backend, Facts, RunHandle
from dgtui.tui.share import recorded


def record(path: Path, run: RunHandle, facts: Facts, backend: Backend) -> None:
    """Writes a run with the data of its model. Raises `RunFailed` if it cannot be written."""
    from dgtui.session import recording

    made = recorded(run, facts, backend)
    recording.save(
        path,
        made.log,
        pieces=made.pieces,
        special_ids=made.special_ids,
        fingerprint=made.fingerprint,
        model=made.model,
        stepper=made.stepper,
        device=made.device,
        versions=made.versions,
    )
