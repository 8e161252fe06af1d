"""4-bit weights in the layout of the kernels: codes in bytes, a scale for each group of values, maybe an offset.

weight[e, n, k] = scale · value(code) − offset. The decoder gives the value of a code: the quantiles of NF4, the
floats of E2M1, or an integer. One description covers every 4-bit checkpoint format. Its tensors are views of the loaded
ones if the layout allows.
"""

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch

BLOCK: Final = 64
"""Columns that the kernels process at a time. The number of columns of a weight is a multiple of it."""
NESTED_BLOCK: Final = 256
"""Number of scales that share a scale, if they are quantized too."""

NF4_LEVELS: Final = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
)  # fmt: skip
E2M1_LEVELS: Final = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0)


class Decoder(enum.IntEnum):
    """How the 16 codes are decoded."""

    NF4 = 0
    "the 16 quantiles of the normal distribution, −1 to 1"
    E2M1 = 1
    "4-bit floats with an E4M3 scale for every 16 values: NVFP4"
    INT4 = 2
    "code − 8"
    UINT4 = 3
    "0 to 15"

    @property
    def levels(self) -> tuple[float, ...]:
        """The values of the 16 codes."""
        return {
            Decoder.NF4: NF4_LEVELS,
            Decoder.E2M1: E2M1_LEVELS,
            Decoder.INT4: tuple(float(code - 8) for code in range(16)),
            Decoder.UINT4: tuple(float(code) for code in range(16)),
        }[self]


@dataclass(frozen=True, slots=True)
class Order:
    """Which two columns of a block of 64 share a byte."""

    pairs: bool
    "byte j holds columns 2j and 2j + 1; otherwise columns j and j + 32"
    high_first: bool
    "whether the lower column is in the high half of the byte"


BITSANDBYTES: Final = Order(pairs=True, high_first=True)
COMPRESSED: Final = Order(pairs=True, high_first=False)
"""compressed-tensors and modelopt"""
HALVES: Final = Order(pairs=False, high_first=False)
"""Q4_K of GGUF, and what `in_halves` makes"""


@dataclass(frozen=True, slots=True, eq=False)
class PackedWeight:
    """A stack of E matrices (N, K) in 4 bit. Create one with `nf4`, `nvfp4` or `int4`."""

    decoder: Decoder
    order: Order
    codes: torch.Tensor
    "(E, N, K / 2) uint8"
    group: int
    "columns that share a scale: 16 for E2M1; 32 if the order is not pairs; a multiple of 64"
    scales: torch.Tensor
    """(E, K / group, N) fp32, fp16 or bf16; uint8 codes if nested. For E2M1: (E, K / 64, N) int32, four of E4M3 each"""
    offsets: torch.Tensor | None = None
    "like `scales`, never nested: subtracted from each value"
    nested: tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None = None
    """for 8-bit scales, in the order of (E, N, K / 64): the values of their codes (256), the scale for each 256 scales,
    and the common offset (); all fp32"""
    parts: torch.Tensor | None = None
    "(E, P) fp32: a factor for each of P equal ranges of rows"

    @property
    def shape(self) -> tuple[int, int, int]:
        """E, N, K."""
        e, n, half = self.codes.shape
        return e, n, 2 * half

    def dequantize(self, dtype: torch.dtype, index: int | None = None) -> torch.Tensor:
        """The reference: all matrices (E, N, K), or only matrix number `index` (N, K). Computed in fp32."""
        which = slice(None) if index is None else slice(index, index + 1)
        table = torch.tensor(self.decoder.levels, dtype=torch.float32, device=self.codes.device)
        values = table[unpacked(self.codes[which], self.order).int()] * self._spread(self._scales(which))
        if self.offsets is not None:
            values = values - self._spread(self.offsets[which].transpose(1, 2).float())
        if self.parts is not None:
            parts = self.parts[which]
            values = values * parts.float().repeat_interleave(values.shape[1] // parts.shape[1], 1).unsqueeze(-1)
        return (values if index is None else values[0]).to(dtype)

    def _scales(self, which: slice) -> torch.Tensor:
        """(…, N, K / group) fp32."""
        if self.decoder is Decoder.E2M1:
            words = self.scales[which].transpose(1, 2).clone(memory_format=torch.contiguous_format)
            return words.view(torch.float8_e4m3fn).float()
        found = self.scales[which].transpose(1, 2)
        if self.nested is None:
            return found.float()
        meaning, scales, offset = self.nested
        e, n, k = found.shape
        first = (which.start or 0) * n * k
        blocks = torch.arange(first, first + e * n * k, device=found.device) // NESTED_BLOCK
        return meaning[found.int()] * scales[blocks].view(e, n, k) + offset

    def _spread(self, each: torch.Tensor) -> torch.Tensor:
        return each.repeat_interleave(self.group, -1)


def nf4(
    codes: torch.Tensor,
    scales: torch.Tensor,
    shape: Sequence[int],
    nested: tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None = None,
) -> PackedWeight:
    """NF4 with bitsandbytes' codes: `codes` (values / 2) uint8, `scales` (E, K / 64, N) fp32, or uint8 if nested.

    `shape`: (E, N, K). `nested` is described at `PackedWeight.nested`.
    """
    e, n, k = shape
    _check_columns(k)
    return PackedWeight(Decoder.NF4, BITSANDBYTES, codes.view(e, n, k // 2), BLOCK, scales, nested=nested)


def nvfp4(codes: torch.Tensor, words: torch.Tensor, parts: torch.Tensor) -> PackedWeight:
    """NVFP4: `codes` (E, N, K / 2) uint8, the even column in the low half; `words` (E, K / 64, N) int32, the scales of
    four groups of 16 columns in E4M3 each.

    `parts` (E, P) fp32: the global scale of each of P equal ranges of rows, as a factor (a checkpoint in
    compressed-tensors' format stores its inverse). Gate and up have one each.
    """
    _check_columns(2 * codes.shape[-1])
    return PackedWeight(Decoder.E2M1, COMPRESSED, codes.contiguous(), 16, words, parts=parts.float().contiguous())


def int4(
    codes: torch.Tensor,
    scales: torch.Tensor,
    offsets: torch.Tensor | None = None,
    order: Order = COMPRESSED,
) -> PackedWeight:
    """4-bit integers: `codes` (E, N, K / 2) uint8, `scales` and `offsets` (E, K / group, N).

    Without offsets the value is (code − 8) · scale, with them code · scale − offset. A zero point z is the offset
    z · scale. The minimum of Q4_K is its offset. Groups of 32 need the order `HALVES`: see `in_halves`.
    """
    k = 2 * codes.shape[-1]
    _check_columns(k)
    group = k // scales.shape[1]
    if group % BLOCK and not (group == 32 and not order.pairs):
        raise ValueError(f"groups of {group} columns are not supported in this order")
    decoder = Decoder.INT4 if offsets is None else Decoder.UINT4
    return PackedWeight(decoder, order, codes.contiguous(), group, scales, offsets)


def unpacked(codes: torch.Tensor, order: Order) -> torch.Tensor:
    """(E, N, K / 2) bytes → (E, N, K) codes."""
    e, n, half = codes.shape
    bytes_ = codes.view(e, n, -1, BLOCK // 2)
    halves = (bytes_ >> 4, bytes_ & 15) if order.high_first else (bytes_ & 15, bytes_ >> 4)
    return torch.stack(halves, -1 if order.pairs else -2).view(e, n, 2 * half)


def in_halves(codes: torch.Tensor, order: Order) -> torch.Tensor:
    """`codes` (E, N, K / 2) in `order` → the same codes in the order `HALVES`."""
    e, n, half = codes.shape
    first, second = unpacked(codes, order).view(e, n, -1, 2, BLOCK // 2).unbind(-2)
    return (first | (second << 4)).view(e, n, half)


def _check_columns(k: int) -> None:
    if k % BLOCK:
        raise ValueError(f"{k} columns are not a multiple of {BLOCK}")
