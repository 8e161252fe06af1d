"""A run on disk: one safetensors file that replays without a model, and forks exactly on the machine that made it.

It holds every event of the run, the bytes of every token that occurs, and what made it. Written all or not at all,
readable by its owner only. Reading runs no code of the file and refuses what it does not understand.
"""

import hashlib
import json
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import safetensors
import safetensors.numpy

from dgtui.atomic import write_private
from dgtui.diffusion.log import RunLog
from dgtui.errors import RecordingRefused, RunFailed
from dgtui.session.run_pack import Array, as_bytes, occurring_ids, pack, ragged
from dgtui.session.run_unpack import Contents, Malformed, fields, text, unpack

FORMAT: Final = "dgtui.recording"
VERSION: Final = 2
"""The newest that is read. Version 2 adds the images of a prompt; a run without any is written as version 1."""
MOST_BYTES: Final = 2**30
"""A larger file is neither written nor read: 50,000 frames of 256 places take as much."""
MOST_HEADER_BYTES: Final = 2**22

_MADE_BY: Final = ("fingerprint", "model", "stepper", "device", "versions")


@dataclass(frozen=True, slots=True, eq=False)
class Recording:
    """A run and what is needed to show it, and perhaps to go on from it."""

    log: RunLog
    pieces: Mapping[int, bytes]
    "the bytes of every id that occurs"
    special_ids: frozenset[int]
    "ids that are markup and no text"
    fingerprint: str
    "of the weights and the tokenizer"
    model: str
    "its name, to show"
    stepper: str
    device: str
    versions: Mapping[str, str]
    "of the packages that can change a token"


def save(
    path: Path,
    log: RunLog,
    *,
    pieces: Mapping[int, bytes],
    special_ids: Iterable[int],
    fingerprint: str,
    model: str,
    stepper: str,
    device: str,
    versions: Mapping[str, str],
) -> None:
    """Writes a run, finished or not, in the place of the file that was at `path`; only its owner may read it.

    Args:
        path: In a folder that exists. A link is followed.
        log: May still grow: it is written as long as it is now.
        pieces: Of at least `occurring_ids(log)`; only those are kept.
        special_ids: Those of the tokenizer.
        fingerprint: Of the weights and the tokenizer.
        model: Its name, to show.
        stepper: The kind of stepper that made the run.
        device: Where it ran.
        versions: Of the packages that can change a token.

    Raises:
        RunFailed: It could not be written, or is too large; what was at `path` is still there.
        ValueError: The events are not of one run, or a piece is missing.
    """
    log = RunLog(log.job, list(log))
    arrays, facts = pack(log)
    ids = occurring_ids(log)
    missing = [i for i in ids.tolist() if i not in pieces]
    if missing:
        raise ValueError(f"there is no piece of id {missing[0]}")
    arrays["pieces.ids"] = ids
    arrays["pieces"], arrays["pieces.lengths"] = ragged([as_bytes(pieces[i]) for i in ids.tolist()], np.uint8)
    arrays["special_ids"] = np.array(sorted(special_ids), dtype=np.int32)
    made_by = dict(zip(_MADE_BY, (fingerprint, model, stepper, device, dict(versions)), strict=True))
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
        raise RunFailed("the run is too long for a recording", hint="record its last replies in a run of their own")
    write_private(path, data)


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} cannot be recorded")


def _digest(arrays: Mapping[str, Array], facts_json: str) -> str:
    """Over all contents: damage is found that would load as another run. No protection against intent."""
    digest = hashlib.sha256(facts_json.encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"\n{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def load(path: Path) -> Recording:
    """Reads a recording.

    Raises:
        RecordingRefused: The file cannot be read, is not a recording, is of a version that is not known here, or is
            damaged.
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
            raise Malformed("its contents are not those that were written")
        return _recording(Contents(arrays), json.loads(facts_json))
    except (ValueError, RecursionError, OverflowError) as error:
        raise RecordingRefused(f"{path} is damaged: {error}") from error


def _recording(contents: Contents, facts: Any) -> Recording:
    run, fingerprint, model, stepper, device, versions = fields(facts, "run", *_MADE_BY)
    log = unpack(contents, run)
    ids = contents.take_ids("pieces.ids")
    pieces = {i: row.tobytes() for i, row in zip(ids, contents.take_ragged("pieces", np.uint8, len(ids)), strict=True)}
    if pieces.keys() != set(occurring_ids(log).tolist()):
        raise Malformed("the pieces are not those of the tokens that occur")
    if not isinstance(versions, dict):
        raise Malformed("expected an object of versions")
    return Recording(
        log=log,
        pieces=pieces,
        special_ids=frozenset(contents.take_ids("special_ids")),
        fingerprint=text(fingerprint),
        model=text(model),
        stepper=text(stepper),
        device=text(device),
        versions={name: text(version) for name, version in versions.items()},
    )


def _read(path: Path) -> tuple[dict[str, Array], dict[str, str]]:
    """Arrays and metadata. Sizes are looked at before anything of that size is read."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for ever
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


def matches(
    recording: Recording, *, fingerprint: str, stepper: str, device: str, versions: Mapping[str, str]
) -> str | None:
    """None where a fork of the run is exact with what is here, else what differs, in words to be shown."""
    differences = []
    if recording.fingerprint != fingerprint:
        differences.append(f"recorded with other weights ({recording.model})")
    for what, then, now in (("stepper", recording.stepper, stepper), ("device", recording.device, device)):
        if then != now:
            differences.append(f"recorded with {what} {then}, here it is {now}")
    for name in sorted({*recording.versions, *versions}):
        then, now = recording.versions.get(name, "none"), versions.get(name, "none")
        if then != now:
            differences.append(f"recorded with {name} {then}, here it is {now}")
    return "; ".join(differences) or None
