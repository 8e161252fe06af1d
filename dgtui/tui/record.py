"""Writes a run of the screen to a recording."""

from pathlib import Path

from dgtui.backend import Backend, Facts, RunHandle


def record(path: Path, run: RunHandle, facts: Facts, backend: Backend) -> None:
    """Writes a run with the data of its model. Raises `RunFailed` if it cannot be written."""
    from dgtui.session import recording
    from dgtui.session.run_pack import occurring_ids

    log = run.log.copy()  # it may still grow
    ids = occurring_ids(log).tolist()
    recording.save(
        path,
        log,
        pieces=dict(zip(ids, backend.pieces(ids), strict=True)),
        special_ids=facts.model.special_ids,
        fingerprint=facts.fingerprint,
        model=facts.name,
        stepper=facts.stepper,
        device=facts.device,
        versions=facts.versions,
    )
