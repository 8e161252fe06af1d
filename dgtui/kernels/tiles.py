"""The one table that chooses how a product with 4-bit weights is cut and decoded, by architecture.

The figures behind it are issue slots for each weight, counted in machine code (`tests/kernels/aot.py`). No entry
spills registers.
"""

import dataclasses
import functools
from dataclasses import dataclass
from typing import Any, Final

import torch

from dgtui.kernels.packed import Decoder, PackedWeight

OLDEST: Final = 80
"""The first compute capability that the kernels run on: bf16 in the matrix units, 10 × major + minor."""


@dataclass(frozen=True, slots=True)
class Tile:
    """How a product is cut and launched."""

    rows: int
    swap: bool
    "the weights are the left operand of the matrix instruction"
    bytes: int
    "codes are decoded by so many bytes at a time: as many as lie together in a thread's part of an operand"
    columns: int = 64
    warps: int = 4
    stages: int = 4
    registers: int | None = None
    "of a thread, at most"

    @property
    def options(self) -> dict[str, Any]:
        """For the launch."""
        return {"num_warps": self.warps, "num_stages": self.stages, "maxnreg": self.registers}


Row = tuple[int, Tile]
"""Up to so many rows for each matrix, on the average: this tile."""
_MOST: Final = 1 << 30
_GEFORCE: Final[tuple[Row, ...]] = (
    (16, Tile(16, True, 4)),  # the matrix units are slow enough to mind rows that are not there
    (32, Tile(32, True, 4)),
    (_MOST, Tile(64, True, 4, stages=3)),
)
TABLE: Final[dict[int, tuple[Row, ...]]] = {
    80: ((8, Tile(16, True, 4)), (32, Tile(32, True, 4)), (_MOST, Tile(64, True, 4, stages=3))),
    86: _GEFORCE,
    89: _GEFORCE,
    # A warpgroup's instruction takes 64 rows of weights out of registers, in which two bytes lie together
    90: ((8, Tile(16, True, 2)), (32, Tile(32, True, 2)), (_MOST, Tile(64, True, 2, stages=3))),
    100: ((16, Tile(16, False, 4)), (_MOST, Tile(32, False, 4))),
    120: _GEFORCE,
}
"""By compute capability; others take the next lower one's. An H100 reads weights faster than it decodes them: there a
decoded weight serves 32 rows."""

OFFSET_REGISTERS: Final = {100: 128}
"""Registers of a thread for weights with offsets, where the compiler would take too few by itself."""

ROWS: Final = (8, 16, 32, 64)
"""Rows for each matrix that together bring about every tile of an architecture."""


def tile_for(weight: PackedWeight, rows: int, architecture: int) -> Tile:
    """The tile for products of a weight with `rows` rows for each of its matrices, on the average."""
    known = max((known for known in TABLE if known <= architecture), default=OLDEST)
    table = TABLE[known]
    tile = next(tile for most, tile in table if rows <= most)
    if weight.group == 32 or weight.offsets is not None:  # two sums, or a third operand: more rows do not fit
        tile = dataclasses.replace(table[0][1], registers=OFFSET_REGISTERS.get(known))
    _, n, _ = weight.shape
    columns = next((columns for columns in (64, 32, 16) if n % (2 * columns) == 0), None)
    if columns is None:
        raise ValueError(f"{n} rows of a weight are no multiple of 32")
    # Beside their scales four bytes of E2M1 lie together everywhere
    together = 4 if weight.decoder is Decoder.E2M1 else tile.bytes
    return dataclasses.replace(tile, columns=columns, bytes=together)


@functools.cache
def architecture(device: torch.device) -> int:
    """10 × major + minor of a device's compute capability. Of a CPU, where kernels are interpreted: the oldest."""
    if device.type != "cuda":
        return OLDEST
    major, minor = torch.cuda.get_device_capability(device)
    return 10 * major + minor
