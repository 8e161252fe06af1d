"""Quantization formats as data: codes in blocks, a scale per block, maybe an offset. Does not import torch.

    value = table[code] · scale − minimum        or        value = (code − zero) · scale − minimum

A block is a run of values in one row. Its scale may be stored in few bits and multiplied by a scale of a whole group of
blocks. NF4, NVFP4, integers with group scales, FP8 and the formats of GGUF files differ only in these numbers, so
loading, planning, counting and running use a `Format` and not its name. `quantized_weight` holds the tensors.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal

ITEM_SIZE: Final[Mapping[str, int]] = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1,
    "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1,
}  # fmt: skip
"""Bytes per element, by safetensors' name of the type."""

Order = Literal["high first", "low first", "halves"]
"""Which two values a byte of 4-bit codes holds: neighbours, the first one in the high or in the low half; or, in each
run of 64 values, numbers i (low half) and i + 32 (high half)."""

NF4_TABLE: Final = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
)  # fmt: skip
"""The values of NF4's codes: quantiles of the normal distribution (Dettmers et al., arXiv 2305.14314)."""
E2M1_TABLE: Final = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0)
"""4-bit floats: a sign bit, two bits of exponent, one of mantissa."""


def _e4m3(code: int) -> float:
    exponent, mantissa = code >> 3 & 15, code & 7
    size = math.ldexp(mantissa, -9) if exponent == 0 else math.ldexp(8 + mantissa, exponent - 10)
    return math.copysign(0.0 if code & 127 == 127 else size, -1 if code & 128 else 1)  # 127 stands for NaN


E4M3_TABLE: Final = tuple(map(_e4m3, range(256)))
"""8-bit floats, without infinities."""


@dataclass(frozen=True, slots=True)
class Format:
    """How the values of a weight are coded."""

    name: str
    """The common name: "NF4", "FP8", "Q4_K"."""
    bits: int
    """Bits per code: 4, 5, 6 or 8. With 5 and 6, the lower four are packed like 4-bit codes, the others separately."""
    block: int
    """Values that share a scale; 0 for a whole row."""
    table: tuple[float, ...] | None = None
    """The value of each code; None for code − `zero`."""
    zero: int = 0
    order: Order = "low first"
    scale: str = "F32"
    """The type of the scales, by safetensors' name."""
    dynamic: bool = False
    """Scales are codes of bitsandbytes' dynamic 8-bit map, with one common offset."""
    group: int | None = None
    """Number of blocks that share a scale of their scales. 0: all blocks of a part of the weight, such as the gate
    projection of one expert. None: there is no such scale."""
    group_scale: str = "F32"
    minima: bool = False
    """Blocks have a minimum, stored like the scales."""

    def fits(self, columns: int) -> bool:
        """Whether rows of this many values consist of whole blocks."""
        together = 1 if self.bits == 8 else 64 if self.order == "halves" else 8  # codes that share bytes
        return columns % (self.block or 1) == 0 and columns % together == 0

    def tensors(self, shape: tuple[int, ...], parts: int = 1) -> dict[str, tuple[int, str]]:
        """The tensors of a weight with this shape: name → number of elements, type.

        Args:
            shape: Of the weight, (…, rows, columns).
            parts: If `group` is 0: the number of equal ranges of rows that each have a scale of their scales.
        """
        values = math.prod(shape)
        blocks = values // (self.block or shape[-1])
        found = {"packed": (values * min(self.bits, 4) // 8 if self.bits < 8 else values, "U8")}
        if 4 < self.bits < 8:
            found["high"] = (values * (self.bits - 4) // 8, "U8")
        found["scales"] = (blocks, self.scale)
        groups = 0 if self.group is None else -(-blocks // self.group) if self.group else parts
        if groups:
            found["group_scales"] = (groups, self.group_scale)
        if self.dynamic:
            found["scale_offset"] = (1, "F32")
        if self.minima:
            found["minima"] = (blocks, self.scale)
            if groups:
                found["group_minima"] = (groups, self.group_scale)
        return found

    def size(self, shape: tuple[int, ...], parts: int = 1) -> int:
        """Bytes of a weight with this shape."""
        return sum(count * ITEM_SIZE[kind] for count, kind in self.tensors(shape, parts).values())


NF4: Final = Format("NF4", 4, 64, NF4_TABLE, order="high first")
NF4_DOUBLE: Final = replace(NF4, name="NF4 (8-bit scales)", scale="U8", dynamic=True, group=256)
"""NF4 with 8-bit scales, which takes 8% less."""
NVFP4: Final = Format("NVFP4", 4, 16, E2M1_TABLE, scale="F8_E4M3", group=0)
FP8: Final = Format("FP8", 8, 0, E4M3_TABLE)
INT8: Final = Format("INT8", 8, 0, zero=128)

GGUF: Final[Mapping[str, Format]] = {
    "Q4_0": Format("Q4_0", 4, 32, zero=8, order="halves", scale="F16"),
    "Q4_1": Format("Q4_1", 4, 32, order="halves", scale="F16", minima=True),
    "Q5_0": Format("Q5_0", 5, 32, zero=16, scale="F16"),
    "Q5_1": Format("Q5_1", 5, 32, scale="F16", minima=True),
    "Q8_0": Format("Q8_0", 8, 32, zero=128, scale="F16"),
    "Q4_K": Format("Q4_K", 4, 32, order="halves", scale="U8", group=8, group_scale="F16", minima=True),
    "Q5_K": Format("Q5_K", 5, 32, scale="U8", group=8, group_scale="F16", minima=True),
    "Q6_K": Format("Q6_K", 6, 16, zero=32, scale="I8", group=16, group_scale="F16"),
}
"""The formats of GGUF files that are kept as they are."""


def int4(block: int, scale: str, minima: bool) -> Format:
    """4-bit integers with a scale per `block` values: code − 8, or, with minima, the code itself."""
    return Format("INT4", 4, block, zero=0 if minima else 8, scale=scale, minima=minima)
