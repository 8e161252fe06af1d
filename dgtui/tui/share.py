"""Writes a run to a recording, or shares it: an animated SVG and a GIF of it in the current folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from dgtui.backend import Backend, Facts, RunHandle
from dgtui.tui.theme import Theme

if TYPE_CHECKING:
    from dgtui.session.recording import Recording

WIDTH: Final = 84
"""Columns of the text."""
MOST_STEPS: Final = 48
"""Steps in a moving picture; with more, some are left out."""


def recorded(run: RunHandle, facts: Facts, backend: Backend) -> Recording:
    """A run, finished or not, as a recording."""
    from dgtui.session.recording import Recording
    from dgtui.session.run_pack import occurring_ids

    log = run.log.copy()  # it may still grow
    ids = occurring_ids(log).tolist()
    return Recording(
        log,
        dict(zip(ids, backend.pieces(ids), strict=True)),
        facts.model.special_ids,
        facts.fingerprint,
        facts.name,
        facts.stepper,
        facts.device,
        facts.versions,
    )


def record(path: Path, run: RunHandle, facts: Facts, backend: Backend) -> None:
    """Writes a run with the data of its model. Raises `RunFailed` if it cannot be written."""
    from dgtui.session.recording import save

    save(path, recorded(run, facts, backend))


def share(recording: Recording, candidate: int, theme: Theme) -> tuple[Path, Path]:
    """Writes the pictures under a new name, and returns their paths. Takes seconds.

    Raises:
        RecordingRefused: There is no step to show.
        RunFailed: A file could not be written.
    """
    from dgtui.atomic import write_private
    from dgtui.tui.exports import gif, svg
    from dgtui.tui.exports.exporter import Exporter
    from dgtui.tui.exports.recorded_run import RecordedRun

    exporter = Exporter(RecordedRun(recording, candidate), theme, WIDTH)
    steps = exporter.recorded.chosen(MOST_STEPS)
    name = f"dgtui-{recording.log.job.seed}"
    names = (Path(f"{name}{suffix}") for suffix in ("", *(f"-{n}" for n in range(2, 1000))))
    stem = next(stem for stem in names if not any(stem.with_suffix(kind).exists() for kind in (".svg", ".gif")))
    write_private(stem.with_suffix(".svg"), svg.animation(exporter, steps).encode())
    write_private(stem.with_suffix(".gif"), gif.animation(exporter, steps))
    return stem.with_suffix(".svg"), stem.with_suffix(".gif")
