"""Shared by commands that make a run: its images, and checking and writing its recording."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dgtui.errors import UsageError

if TYPE_CHECKING:
    from dgtui.backend import RunHandle
    from dgtui.diffusion.image import Image
    from dgtui.model.images import Picture
    from dgtui.model.loader import LoadedModel
    from dgtui.server.served import ServedModel


def check_record(path: Path | None, file: Path | None = None) -> None:
    """Raises `UsageError` if a recording cannot be written to `path`, or would overwrite `file`."""
    if path is None:
        return
    if not path.absolute().parent.is_dir():
        raise UsageError(f"there is no folder {path.parent} to record to")
    if file is not None and os.path.realpath(path) == os.path.realpath(file):
        raise UsageError(f"{path} is the file itself", hint="give the recording another name")
    if os.path.lexists(path):
        raise UsageError(f"{path} already exists", hint="give the recording another name")


def pictures(paths: Sequence[Path] | None) -> "list[Picture]":
    """Opens image files, before anything slow starts. Raises `ImageRefused`."""
    if not paths:
        return []
    from dgtui.model.images import open_picture

    return [open_picture(path) for path in paths]


def seen(pictures: "Sequence[Picture]", loaded: "LoadedModel | ServedModel") -> "tuple[Image, ...]":
    """The images as the model's input. Raises `ImageRefused`, or `ModelBlind` for a model without a vision tower."""
    if not pictures:
        return ()
    from dgtui.model.images import seeing

    reader = seeing(loaded.images, loaded.checkpoint)
    return tuple(reader.read(picture) for picture in pictures)


def record(path: Path, run: "RunHandle", loaded: "LoadedModel | ServedModel") -> None:
    """Writes a run to a recording."""
    from dgtui.session.recording import Recording, save
    from dgtui.session.run_pack import occurring_ids
    from dgtui.worker import versions

    log = run.log.copy()  # after a second Ctrl+C the original still grows
    ids = occurring_ids(log).tolist()
    recording = Recording(
        log,
        dict(zip(ids, loaded.tokenizer.pieces(ids), strict=True)),
        loaded.tokenizer.special_ids,
        loaded.fingerprint,
        loaded.name,
        log.stepper,
        str(loaded.device),
        versions(),
    )
    save(path, recording)
