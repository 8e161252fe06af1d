"""Reads the headers of a checkpoint's safetensors files.

Reads a few kilobytes even of 50 GB, without torch. A header is valid only if its tensors fill the file exactly: a file
that is cut short, patched or mixed up raises a `CorruptCheckpoint` that names it, before any weight is read.
"""

import hashlib
import json
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from dgtui.errors import CorruptCheckpoint
from dgtui.model.formats import ITEM_SIZE
from dgtui.text import sanitize

SINGLE: Final = "model.safetensors"
INDEX: Final = "model.safetensors.index.json"

_HEADER_LIMIT: Final = 100_000_000  # the format's own
_EDGE: Final = 65_536
_AGAIN: Final = "the download or copy may be incomplete: download the file again"


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """A tensor's entry in a header."""

    dtype: str
    """The safetensors name of the type: "BF16", "F32", …"""
    shape: tuple[int, ...]
    start: int
    """First byte, counted from the end of the header."""
    end: int

    @property
    def elements(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class Shard:
    """One safetensors file."""

    path: Path
    size: int
    """Size of the file in bytes."""
    header: bytes
    """The header's JSON, byte for byte."""
    tensors: Mapping[str, TensorEntry]


def read_shards(folder: Path) -> list[Shard]:
    """The files of a checkpoint: `model.safetensors`, else what `model.safetensors.index.json` lists.

    Raises:
        CorruptCheckpoint: A file is missing, damaged, or differs from the index; the message names it.
    """
    if (folder / SINGLE).is_file():
        return [read_shard(folder / SINGLE)]
    index = read_json(folder / INDEX)
    shards: dict[str, Shard] = {}
    for name in shard_names(index):
        if not (folder / name).is_file():
            raise CorruptCheckpoint(f"the shard {shown(name)} is missing, but {INDEX} lists it", hint=_AGAIN)
        shards[name] = read_shard(folder / name)
    for tensor, name in index["weight_map"].items():
        if tensor not in shards[str(name)].tensors:
            raise CorruptCheckpoint(f"the shard {shown(name)} lacks {shown(tensor)}, but {INDEX} lists it there")
    return list(shards.values())


def shard_names(index: Mapping[str, Any]) -> list[str]:
    """The files that an index lists, sorted; each is a plain name.

    Raises:
        CorruptCheckpoint: It lists no files, or an invalid name.
    """
    weight_map = index.get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CorruptCheckpoint(f"{INDEX} lists no weights", hint=_AGAIN)
    names = sorted({str(name) for name in weight_map.values()})
    for name in names:
        # The index is untrusted: it must not lead to files outside the folder.
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise CorruptCheckpoint(f"{INDEX} names a file that cannot be a shard: {shown(name)}")
    return names


def read_shard(path: Path) -> Shard:
    """Read and check one header. Raises `CorruptCheckpoint` if the file is not exactly a shard."""
    name = shown(path.name)
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            header = file.read(header_size(file.read(8), size, name))
    except OSError as error:
        raise CorruptCheckpoint(f"{name} cannot be read: {error.strerror or error}") from error
    return parse_shard(path, size, header)


def header_size(start: bytes, size: int, name: str) -> int:
    """Length of a file's header, from its first 8 bytes and its size. Raises `CorruptCheckpoint` if it has none."""
    length = int.from_bytes(start, "little")
    if size < 8 or len(start) < 8 or length > min(size - 8, _HEADER_LIMIT):
        raise CorruptCheckpoint(f"{name} is damaged or cut short: its header cannot be read", hint=_AGAIN)
    return length


def parse_shard(path: Path, size: int, header: bytes) -> Shard:
    """A shard from its header. A file is 8 bytes of length, little-endian, this JSON, then the tensors without gaps.

    Raises:
        CorruptCheckpoint: The header does not describe a file of this size.
    """
    name = shown(path.name)
    try:
        table = json.loads(header)
        table.pop("__metadata__", None)
        tensors = {tensor: _entry(entry) for tensor, entry in table.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise CorruptCheckpoint(f"{name} is damaged: its header is not valid", hint=_AGAIN) from None
    position = 0
    for entry in sorted(tensors.values(), key=lambda entry: (entry.start, entry.end)):
        if entry.start != position or entry.end - entry.start != entry.elements * ITEM_SIZE[entry.dtype]:
            raise CorruptCheckpoint(f"{name} is damaged: its tensors overlap or leave gaps", hint=_AGAIN)
        position = entry.end
    expected = 8 + len(header) + position
    if size != expected:
        kind = "cut short" if size < expected else "damaged"
        raise CorruptCheckpoint(f"{name} is {kind}: it has {size:,} bytes instead of {expected:,}", hint=_AGAIN)
    return Shard(path, size, header, tensors)


def _entry(entry: Any) -> TensorEntry:
    shape = tuple(_whole(size) for size in entry["shape"])
    start, end = entry["data_offsets"]
    if entry["dtype"] not in ITEM_SIZE:
        raise ValueError(entry["dtype"])
    return TensorEntry(entry["dtype"], shape, _whole(start), _whole(end))


def _whole(number: Any) -> int:
    if type(number) is not int or number < 0:
        raise ValueError(number)
    return number


def fingerprint(config: bytes, shards: Collection[Shard]) -> str:
    """32 hexadecimal digits that identify a checkpoint, in milliseconds even for 50 GB.

    A hash of `config` (the bytes of config.json) and of each shard's name, size, header, and first and last 64 KiB of
    tensors. Another training run changes these; a patch in the middle of a shard is not detected, so this does not
    protect against tampering.
    """
    digest = hashlib.blake2b(digest_size=16)

    def add(data: bytes) -> None:
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)

    add(config)
    for shard in sorted(shards, key=lambda shard: shard.path.name):
        add(shard.path.name.encode("utf-8", "surrogateescape"))
        add(shard.size.to_bytes(8, "little"))
        add(shard.header)
        with shard.path.open("rb") as file:
            file.seek(8 + len(shard.header))
            add(file.read(_EDGE))
            file.seek(max(8 + len(shard.header), shard.size - _EDGE))
            add(file.read(_EDGE))
    return digest.hexdigest()


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object. Raises `CorruptCheckpoint`, naming the file, if it is not one."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CorruptCheckpoint(f"{shown(path.name)} cannot be read: {error.strerror or error}") from error
    return parse_json(data, shown(path.name))


def parse_json(data: bytes, name: str) -> dict[str, Any]:
    """Parse a JSON object; `name` is the file's name for errors. Raises `CorruptCheckpoint` if it is not one."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        raise CorruptCheckpoint(f"{name} is not JSON", hint=_AGAIN) from None
    if not isinstance(value, dict):
        raise CorruptCheckpoint(f"{name} is not a JSON object", hint=_AGAIN)
    return value


def shown(name: object) -> str:
    """A name from a checkpoint or a command line, sanitised for a message."""
    return sanitize(str(name), newlines=False, tabs="replace")


def some(names: list[str]) -> str:
    """The first three names, and how many more there are."""
    more = f" and {len(names) - 3:,} more" if len(names) > 3 else ""
    return ", ".join(map(shown, names[:3])) + more
