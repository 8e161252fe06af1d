"""The table that chooses the tiling and decoding of products with 4-bit weights, by architecture.

It is based on issue slots per weight, counted in machine code (`tests/kernels/aot.py`). No entry spills registers.
"""

import dataclasses
import functools
from dataclasses import dataclass
from typing import Any, Final

import torch

from dgtui.kernels.packed import Decoder, PackedWeight

OLDEST: Final = 80
"""The lowest compute capability that the kernels support (10 × major + minor): matrix units with bf16."""


@dataclass(frozen=True, slots=True)
class Tile:
    """The tiling and launch parameters of a product."""

    rows: int
    swap: bool
    "the weights are the left operand of the matrix instruction"
    bytes: int
    "bytes of codes that are decoded at a time: those that are adjacent in a thread's part of an operand"
    columns: int = 64
    warps: int = 4
    stages: int = 4
    registers: int | None = None
    "most registers per thread"

    @property
    def options(self) -> dict[str, Any]:
        """Arguments for the launch."""
        return {"num_warps": self.warps, "num_stages": self.stages, "maxnreg": self.registers}


Row = tuple[int, Tile]
"""(rows, tile): the tile for up to this many rows per matrix, on average."""
_MOST: Final = 1 << 30
_GEFORCE: Final[tuple[Row, ...]] = (
    (16, Tile(16, True, 4)),  # the matrix units are slow enough that padding rows cost time
    (32, Tile(32, True, 4)),
    (_MOST, Tile(64, True, 4, stages=3)),
)
TABLE: Final[dict[int, tuple[Row, ...]]] = {
    80: ((8, Tile(16, True, 4)), (32, Tile(32, True, 4)), (_MOST, Tile(64, True, 4, stages=3))),
    86: _GEFORCE,
    89: _GEFORCE,
    # A warpgroup's instruction reads 64 rows of weights from registers, in which two bytes are adjacent
    90: ((8, Tile(16, True, 2)), (32, Tile(32, True, 2)), (_MOST, Tile(64, True, 2, stages=3))),
    100: ((16, Tile(16, False, 4)), (_MOST, Tile(32, False, 4))),
    120: _GEFORCE,
}
"""By compute capability; others use the next lower entry. An H100 reads weights faster than it decodes them, so there
each decoded weight is used for 32 rows."""

OFFSET_REGISTERS: Final = {100: 128}
"""Registers per thread for weights with offsets, for which the compiler would use too few."""

ROWS: Final = (8, 16, 32, 64)
"""Numbers of rows per matrix that together use every tile of an architecture."""


def tile_for(weight: PackedWeight, rows: int, architecture: int) -> Tile:
    """The tile for products of a weight with `rows` rows per matrix, on average."""
    known = max((known for known in TABLE if known <= architecture), default=OLDEST)
    table = TABLE[known]
    tile = next(tile for most, tile in table if rows <= most)
    if weight.group == 32 or weight.offsets is not None:  # two sums or a third operand: more rows do not fit
        tile = dataclasses.replace(table[0][1], registers=OFFSET_REGISTERS.get(known))
    _, n, _ = weight.shape
    columns = next((columns for columns in (64, 32, 16) if n % (2 * columns) == 0), None)
    if columns is None:
        raise ValueError(f"{n} rows of a weight are not a multiple of 32")
    # With their scales, four bytes of E2M1 are adjacent everywhere
    together = 4 if weight.decoder is Decoder.E2M1 else tile.bytes
    return dataclasses.replace(tile, columns=columns, bytes=together)


def power(n: int) -> int:
    """The next power of 2."""
    return 1 << (n - 1).bit_length()


@functools.cache
def architecture(device: torch.device) -> int:
    """10 × major + minor of a device's compute capability. For a CPU, where kernels are interpreted: the lowest."""
    if device.type != "cuda":
        return OLDEST
    major, minor = torch.cuda.get_device_capability(device)
    return 10 * major + minor
