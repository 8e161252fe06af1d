"""What commands need around a run: images and a place for the recording before it, the recording after it."""

import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from dgtui.errors import UsageError

if TYPE_CHECKING:
    from dgtui.backend import RunHandle
    from dgtui.diffusion.image import Image
    from dgtui.model.images import Picture
    from dgtui.model.loader import LoadedModel


def check_record(path: Path | None, file: Path | None = None) -> None:
    """Raises `UsageError` for a recording that has nowhere to go, or would go over `file`, before anything is done."""
    if path is None:
        return
    if not path.absolute().parent.is_dir():
        raise UsageError(f"there is no folder {path.parent} to record to")
    with suppress(OSError):  # nothing there yet, or nothing that can be: saving says what
        if not stat.S_ISREG(path.stat().st_mode):
            raise UsageError(f"{path} is there already and is not a file", hint="give the recording another name")
    if file is not None and os.path.realpath(path) == os.path.realpath(file):
        raise UsageError(f"{path} is the file itself", hint="give the recording another name")


def pictures(paths: Sequence[Path] | None) -> "list[Picture]":
    """The image files that were named, before anything that takes long. Raises `ImageRefused`."""
    if not paths:
        return []
    from dgtui.model.images import open_picture

    return [open_picture(path) for path in paths]


def seen(pictures: "Sequence[Picture]", loaded: "LoadedModel") -> "tuple[Image, ...]":
    """What the model is given of them. Raises `ImageRefused`, or `ModelBlind` for a model that does not see."""
    if not pictures:
        return ()
    from dgtui.model.images import seeing

    reader = seeing(loaded.images, loaded.checkpoint)
    return tuple(reader.read(picture) for picture in pictures)


def record(path: Path, run: "RunHandle", loaded: "LoadedModel") -> None:
    """Writes a run to a recording."""
    from dgtui.session import recording
    from dgtui.session.run_pack import occurring_ids
    from dgtui.worker import versions

    ids = occurring_ids(run.log).tolist()
    recording.save(
        path,
        run.log,
        pieces=dict(zip(ids, loaded.tokenizer.pieces(ids), strict=True)),
        special_ids=loaded.tokenizer.special_ids,
        fingerprint=loaded.fingerprint,
        model=loaded.checkpoint.name,
        stepper=run.log.stepper,
        device=str(loaded.device),
        versions=versions(),
    )
