"""A run on disk: one safetensors file that replays without a model, and forks exactly on the machine that made it.

It holds every event of the run, the bytes of every token that occurs, and the model and versions that made it. It is
written completely or not at all, and only its owner may read it. Reading never runs code from the file and rejects
anything unknown.
"""

import hashlib
import json
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import safetensors
import safetensors.numpy

from dgtui.atomic import write_private
from dgtui.diffusion.log import RunLog
from dgtui.errors import RecordingRefused, RunFailed
from dgtui.session.run_pack import Contents, fields, occurring_ids, pack, ragged, unpack
from dgtui.session.run_schema import Array, Malformed, typed

FORMAT: Final = "dgtui.recording"
VERSION: Final = 2
"""The newest version that can be read. Version 2 adds the images of a prompt; a run without them is version 1."""
MOST_BYTES: Final = 2**30
"""Larger files are neither written nor read. 50,000 frames of 256 positions reach this size."""
MOST_HEADER_BYTES: Final = 2**22

_MADE_BY: Final = ("fingerprint", "model", "stepper", "device", "versions")


@dataclass(frozen=True, slots=True, eq=False)
class Recording:
    """A run, and everything needed to show and continue it."""

    log: RunLog
    pieces: Mapping[int, bytes]
    "the bytes of every id that occurs"
    special_ids: frozenset[int]
    "ids that are markup, not text"
    fingerprint: str
    "identifies the weights and the tokenizer"
    model: str
    "its name, for display"
    stepper: str
    device: str
    versions: Mapping[str, str]
    "versions of the packages that can affect a token"


def save(path: Path, recording: Recording) -> None:
    """Writes a run, finished or not, and replaces a file at `path`. Only the owner may read it.

    Args:
        path: In an existing folder. Links are followed.
        recording: Its log must not grow any more, because the pieces must fit it. Other pieces are left out.

    Raises:
        RunFailed: It could not be written, or is too large. `path` is unchanged.
        ValueError: The events belong to different runs, or a piece is missing.
    """
    log, pieces = recording.log, recording.pieces
    arrays, facts = pack(log)
    ids = occurring_ids(log)
    missing = [i for i in ids.tolist() if i not in pieces]
    if missing:
        raise ValueError(f"there is no piece of id {missing[0]}")
    arrays["pieces.ids"] = ids
    arrays["pieces"], arrays["pieces.lengths"] = ragged([pieces[i] for i in ids.tolist()], np.uint8)
    arrays["special_ids"] = np.array(sorted(recording.special_ids), dtype=np.int32)
    made_by = {name: getattr(recording, name) for name in _MADE_BY}
    facts_json = json.dumps({"run": facts, **made_by}, ensure_ascii=True, default=_plain)
    data = safetensors.numpy.save(
        arrays,
        {
            "format": FORMAT,
            "version": "2" if log.job.images else "1",
            "json": facts_json,
            "sha256": _digest(arrays, facts_json),
        },
    )
    if len(data) > MOST_BYTES or int.from_bytes(data[:8], "little") > MOST_HEADER_BYTES:
        raise RunFailed("the run is too long for a recording", hint="record a shorter run")
    write_private(path, data)


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} cannot be recorded")


def _digest(arrays: Mapping[str, Array], facts_json: str) -> str:
    """A checksum of all contents, to detect damage. It does not protect against forgery."""
    digest = hashlib.sha256(facts_json.encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"\n{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def load(path: Path) -> Recording:
    """Reads a recording.

    Raises:
        RecordingRefused: The file cannot be read, is not a recording, has an unknown version, or is damaged.
    """
    arrays, metadata = _read(path)
    if metadata.get("format") != FORMAT:
        raise RecordingRefused(f"{path} is not a recording")
    version = metadata.get("version", "")
    if version not in ("1", "2"):
        newer = version.isascii() and version.isdigit() and len(version) < 10 and int(version) > VERSION
        raise RecordingRefused(
            f"{path} is a recording of version {version[:20] or 'none'}; this program reads versions 1 to {VERSION}",
            hint="update dgtui" if newer else "",
        )
    facts_json = metadata.get("json", "")
    try:
        if metadata.get("sha256") != _digest(arrays, facts_json):
            raise Malformed("its checksum is wrong")
        return _recording(Contents(arrays), json.loads(facts_json))
    except (ValueError, RecursionError, OverflowError) as error:
        raise RecordingRefused(f"{path} is damaged: {error}") from error


def _recording(contents: Contents, facts: Any) -> Recording:
    run, *made_by, versions = fields(facts, "run", *_MADE_BY)
    log = unpack(contents, run)
    ids = contents.take_ids("pieces.ids")
    pieces = {i: row.tobytes() for i, row in zip(ids, contents.take_ragged("pieces", np.uint8, len(ids)), strict=True)}
    if pieces.keys() != set(occurring_ids(log).tolist()):
        raise Malformed("the pieces do not match the tokens that occur")
    fingerprint, model, stepper, device = (typed(value, str) for value in made_by)
    log.stepper = stepper
    return Recording(
        log=log,
        pieces=pieces,
        special_ids=frozenset(contents.take_ids("special_ids")),
        fingerprint=fingerprint,
        model=model,
        stepper=stepper,
        device=device,
        versions={name: typed(version, str) for name, version in typed(versions, dict).items()},
    )


def _read(path: Path) -> tuple[dict[str, Array], dict[str, str]]:
    """Arrays and metadata. Sizes are checked before that much is read."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # opening a pipe would block for ever
            raise RecordingRefused(f"{path} is not a file")
        if status.st_size > MOST_BYTES:
            raise RecordingRefused(f"{path} is too large for a recording ({status.st_size} bytes)")
        with path.open("rb") as file:
            start = file.read(8)
            header_bytes = int.from_bytes(start, "little")
            if len(start) < 8 or header_bytes > status.st_size - 8:
                raise RecordingRefused(f"{path} is not a recording, or is cut short")
            if header_bytes > MOST_HEADER_BYTES:
                raise RecordingRefused(f"{path} is not a recording: its header has {header_bytes} bytes")
            header = file.read(header_bytes)
            data = start + header + file.read(status.st_size - 8 - header_bytes)
    except OSError as error:
        raise RecordingRefused(f"{path} cannot be read: {error.strerror or error}") from error
    try:
        arrays = safetensors.numpy.load(data)  # checks that the header describes the data, byte for byte
        metadata = json.loads(header)["__metadata__"]
    except (safetensors.SafetensorError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise RecordingRefused(f"{path} is not a recording, or is damaged") from error
    return arrays, metadata
