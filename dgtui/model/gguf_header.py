"""Reads the first kilobytes of a GGUF file, local or on a hub, to tell what kind of model it holds."""

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


class _Reader:
    def __init__(self, data: bytes, at: int) -> None:
        self._data, self._at = data, at

    def number(self, form: str) -> Any:
        (value,) = struct.unpack_from(form, self._data, self._at)
        self._at += struct.calcsize(form)
        return value

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
        if of in _SCALARS:
            self._at += length * struct.calcsize(_SCALARS[of])
            return None
        for _ in range(length):
            self.value(of)
        return None
