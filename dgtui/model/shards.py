"""What the safetensors files of a checkpoint hold, from their headers alone.

Reads a few kilobytes of files that may have 50 GB, without torch. A header that can be trusted is one whose tensors
fill the file exactly: anything cut short, patched or mixed up is a `CorruptCheckpoint` that names the file, before a
weight is read.
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
_AGAIN: Final = "the download or copy may be incomplete: fetch the file again"


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """A tensor as a header describes it."""

    dtype: str
    """The format's name of the type: "BF16", "F32", …"""
    shape: tuple[int, ...]
    start: int
    """First byte, counted from the end of the header."""
    end: int

    @property
    def elements(self) -> int:
        """How many numbers it has."""
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class Shard:
    """One safetensors file."""

    path: Path
    size: int
    """Bytes of the whole file."""
    header: bytes
    """The header's JSON as it is in the file."""
    tensors: Mapping[str, TensorEntry]


def read_shards(folder: Path) -> list[Shard]:
    """The files of a checkpoint: `model.safetensors`, else what `model.safetensors.index.json` lists.

    Raises:
        CorruptCheckpoint: If a file is missing or damaged, or disagrees with the index. Names the file.
    """
    if (folder / SINGLE).is_file():
        return [read_shard(folder / SINGLE)]
    index = read_json(folder / INDEX)
    shards: dict[str, Shard] = {}
    for name in shard_names(index):
        if not (folder / name).is_file():
            raise CorruptCheckpoint(f"the shard {shown(name)} is missing, though {INDEX} lists it", hint=_AGAIN)
        shards[name] = read_shard(folder / name)
    for tensor, name in index["weight_map"].items():
        if tensor not in shards[str(name)].tensors:
            raise CorruptCheckpoint(f"the shard {shown(name)} lacks {shown(tensor)}, though {INDEX} places it there")
    return list(shards.values())


def shard_names(index: Mapping[str, Any]) -> list[str]:
    """The files that an index lists, sorted; each is a plain name.

    Raises:
        CorruptCheckpoint: If it lists none, or something that cannot be the name of a shard.
    """
    weight_map = index.get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CorruptCheckpoint(f"{INDEX} lists no weights", hint=_AGAIN)
    names = sorted({str(name) for name in weight_map.values()})
    for name in names:
        # An index is data from elsewhere: it may not lead to other places on this disk.
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise CorruptCheckpoint(f"{INDEX} names a file that cannot be a shard: {shown(name)}")
    return names


def read_shard(path: Path) -> Shard:
    """Read and check one header. Raises `CorruptCheckpoint` if the file is not a shard, to its last byte."""
    name = shown(path.name)
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            header = file.read(header_size(file.read(8), size, name))
    except OSError as error:
        raise CorruptCheckpoint(f"{name} cannot be read: {error.strerror or error}") from error
    return parse_shard(path, size, header)


def header_size(start: bytes, size: int, name: str) -> int:
    """Bytes of the header of a file, by its first 8 bytes and its size. Raises `CorruptCheckpoint` if it has none."""
    length = int.from_bytes(start, "little")
    if size < 8 or len(start) < 8 or length > min(size - 8, _HEADER_LIMIT):
        raise CorruptCheckpoint(f"{name} is damaged or cut short: its header cannot be read", hint=_AGAIN)
    return length


def parse_shard(path: Path, size: int, header: bytes) -> Shard:
    """A shard of its header: 8 bytes of length, little-endian, then this JSON, then the tensors without gaps.

    Raises:
        CorruptCheckpoint: If the header does not describe a file of this size.
    """
    name = shown(path.name)
    try:
        table = json.loads(header)
        table.pop("__metadata__", None)
        tensors = {tensor: _entry(entry) for tensor, entry in table.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise CorruptCheckpoint(f"{name} is damaged: its header makes no sense", hint=_AGAIN) from None
    position = 0
    for entry in sorted(tensors.values(), key=lambda entry: (entry.start, entry.end)):
        if entry.start != position or entry.end - entry.start != entry.elements * ITEM_SIZE[entry.dtype]:
            raise CorruptCheckpoint(f"{name} is damaged: the places of its tensors contradict each other", hint=_AGAIN)
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
    """32 hexadecimal digits that tell checkpoints apart, in milliseconds also for 50 GB.

    A hash of `config`, the bytes of config.json, and, of every shard, the name, the size, the header, and the first and
    last 64 KiB of its tensors. Another training run changes all of these tensors; a single number patched in the middle
    of a shard goes unnoticed, so this is no proof against tampering.
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
    """A JSON object of a checkpoint. Raises `CorruptCheckpoint`, naming the file, if it is not one."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CorruptCheckpoint(f"{shown(path.name)} cannot be read: {error.strerror or error}") from error
    return parse_json(data, shown(path.name))


def parse_json(data: bytes, name: str) -> dict[str, Any]:
    """A JSON object, of the bytes of a file with this name. Raises `CorruptCheckpoint` if it is not one."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        raise CorruptCheckpoint(f"{name} is not JSON", hint=_AGAIN) from None
    if not isinstance(value, dict):
        raise CorruptCheckpoint(f"{name} holds no JSON object", hint=_AGAIN)
    return value


def shown(name: object) -> str:
    """A name from a checkpoint or a command line, fit to stand in a message."""
    return sanitize(str(name), newlines=False, tabs="replace")


def some(names: list[str]) -> str:
    """The first three of many names."""
    more = f" and {len(names) - 3:,} more" if len(names) > 3 else ""
    return ", ".join(map(shown, names[:3])) + more
