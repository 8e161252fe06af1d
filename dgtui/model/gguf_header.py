"""Reads the first kilobytes of a GGUF file, local or on a hub, to tell what kind of model it holds."""

import mmap
import struct
from pathlib import Path
from typing import Any, Final

ARCHITECTURE: Final = "diffusion-gemma"
"""`general.architecture` of a DiffusionGemma."""
MAGIC: Final = b"GGUF"

_SCALARS: Final = {
    0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d",
}  # fmt: skip
_STRING, _ARRAY = 8, 9
_MOST_DIMENSIONS: Final = 8


def read_start(data: bytes) -> dict[str, Any] | None:
    """The keys and values that the first bytes of a file contain; None if it is not a GGUF file.

    Arrays are left out. If one does not end within `data`, so is everything after it.
    """
    if data[:4] != MAGIC or len(data) < 24:
        return None
    count = int.from_bytes(data[16:24], "little")
    values: dict[str, Any] = {}
    reader = _Reader(data, 24)
    try:
        for _ in range(count):
            key = reader.text()
            value = reader.value(reader.number("<I"))
            if value is not None:
                values[key] = value
    except (struct.error, UnicodeDecodeError, KeyError):  # the end of the data
        pass
    return values


def architecture(path: Path) -> str | None:
    """The architecture that a file names; None if it is not a GGUF file or names none."""
    try:
        with path.open("rb") as file:
            values = read_start(file.read(65_536)) or {}
    except OSError:
        return None
    name = values.get("general.architecture")
    return name if isinstance(name, str) else None


def is_whole(path: Path) -> bool:
    """Whether the header of a file is complete: no count in it exceeds the file.

    The package gguf trusts the counts, and a damaged one makes it read without end.
    """
    with path.open("rb") as file:
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    with data:
        reader = _Reader(data, 8)
        try:
            tensors, values = reader.number("<Q"), reader.number("<Q")
            for _ in range(values):
                reader.text()
                reader.value(reader.number("<I"))
            for _ in range(tensors):
                reader.text()
                if (dimensions := reader.number("<I")) > _MOST_DIMENSIONS:
                    return False
                reader.number(f"<{dimensions * 8}x")
                reader.number("<I")
                reader.number("<Q")
        except (struct.error, UnicodeDecodeError, KeyError):
            return False
    return True


class _Reader:
    def __init__(self, data: bytes | mmap.mmap, at: int) -> None:
        self._data, self._at = data, at

    def number(self, form: str) -> Any:
        value = struct.unpack_from(form, self._data, self._at)
        self._at += struct.calcsize(form)
        return value[0] if value else None

    def text(self) -> str:
        size = self.number("<Q")
        if self._at + size > len(self._data):
            raise struct.error("the string is cut short")
        self._at += size
        return self._data[self._at - size : self._at].decode()

    def value(self, kind: int) -> Any:
        """A value; None for an array, which is skipped."""
        if kind == _STRING:
            return self.text()
        if kind != _ARRAY:
            return self.number(_SCALARS[kind])
        of, length = self.number("<I"), self.number("<Q")
        size = 8 if of == _STRING else struct.calcsize(_SCALARS[of])
        if length * size > len(self._data) - self._at:
            raise struct.error("the array is cut short")
        if of in _SCALARS:
            self._at += length * size
            return None
        for _ in range(length):
            self.text()
        return None
