"""A quantized weight in memory: the tensors that a `Format` describes, and how to decode them.

`dequantize` is the reference: in fp32, in pieces, rounded once. NF4 is decoded by bitsandbytes if it is installed and
has kernels for the device.
"""

import copy
import functools
from collections.abc import Mapping
from typing import Final

import torch
from torch import nn

from dgtui.model import bnb
from dgtui.model.formats import NF4_TABLE, Format

DTYPES: Final = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64,
    "I32": torch.int32, "I8": torch.int8, "U8": torch.uint8, "F8_E4M3": torch.float8_e4m3fn,
}  # fmt: skip
"""safetensors' type names → PyTorch's types."""
BUFFERS: Final = ("packed", "high", "scales", "group_scales", "scale_offset", "minima", "group_minima")
"""The tensors that a weight may have, in storage order."""

TOGETHER: Final = 4
"""8-bit scales that kernels read as one number."""

_PIECE: Final = 1 << 22
# Values to decode at a time: about one expert of the published model.
_RUN: Final = 64
# Values in a run of the order "halves": 32 bytes of two codes.


class QuantizedWeight(nn.Module):
    """A weight (…, rows, columns) in some format. Frozen; gradients pass through to the activations.

    Args:
        form: How its values are coded.
        shape: (…, rows, columns).
        parts: If `form.group` is 0: the number of equal ranges of rows that each have a scale of their scales.
        device: The device of its tensors; their content is undefined at first.

    Buffers, flat, blocks in row-major order: `packed` uint8, the codes, or the lower four bits of codes of 5 and 6;
    `high` uint8, the other bits, the first code lowest; `scales` and `minima`, one per block; `group_scales` and
    `group_minima`, one per group of blocks; `scale_offset` () fp32. Those that the format does not use are None.
    """

    packed: torch.Tensor
    high: torch.Tensor | None
    scales: torch.Tensor
    group_scales: torch.Tensor | None
    scale_offset: torch.Tensor | None
    minima: torch.Tensor | None
    group_minima: torch.Tensor | None

    def __init__(
        self, form: Format, shape: tuple[int, ...], parts: int = 1, device: torch.device | str | None = None
    ) -> None:
        super().__init__()
        self.form, self.shape, self.parts = form, tuple(shape), parts
        self.turned = False
        """Scales and minima are stored in the order of the kernels: by column block, then by row. Blocks of 16 values
        stay together in fours."""
        self.block = form.block or self.shape[-1]
        """Number of values that share a scale."""
        own = form.tensors(self.shape, parts)
        for name in BUFFERS:
            if name not in own:
                setattr(self, name, None)
                continue
            count, kind = own[name]
            size = () if name == "scale_offset" else (count,)
            self.register_buffer(name, torch.empty(size, dtype=DTYPES[kind], device=device))
        self.group = form.group or len(self.scales) // parts
        """Number of blocks that share a scale of their scales."""

    def dequantize(self, dtype: torch.dtype, index: int | None = None) -> torch.Tensor:
        """The weight in `dtype`; of a stack (…, rows, columns), only number `index` if given."""
        shape = self.shape if index is None else self.shape[1:]
        count = torch.Size(shape).numel() // self.block
        start = 0 if index is None else index * count
        if self.form.table is NF4_TABLE and bnb.native(self.packed.device.type):
            packed = self.packed[start * self.block // 2 : (start + count) * self.block // 2]
            return bnb.dequantize(packed, self.block_scales(start, count), shape, dtype)
        values = torch.empty((count, self.block), dtype=dtype, device=self.packed.device)
        step = max(1, _PIECE // self.block)
        step += -step % (_RUN // min(self.block, _RUN))  # whole runs, whole bytes
        for at in range(0, count, step):
            size = min(step, count - at)
            decoded, scales = self._codes(start + at, size), self.block_scales(start + at, size).unsqueeze(-1)
            minima = self.block_minima(start + at, size)
            if minima is None:
                torch.mul(decoded, scales, out=values[at : at + size])
            else:
                values[at : at + size] = decoded * scales - minima.unsqueeze(-1)
        return values.view(shape)

    def block_scales(self, start: int = 0, count: int | None = None) -> torch.Tensor:
        """(count) fp32: the scales of the blocks from `start` on."""
        count = len(self.scales) - start if count is None else count
        scales = self._in_order(self.scales, start, count)
        if self.form.dynamic:
            scales = bnb.dynamic_map(scales.device)[scales.int()]
        scales = scales.float()
        if self.group_scales is not None:
            scales = scales * self._of_group(self.group_scales, start, count)
        return scales if self.scale_offset is None else scales + self.scale_offset

    def block_minima(self, start: int = 0, count: int | None = None) -> torch.Tensor | None:
        """(count) fp32: the minima of the blocks from `start` on, which are subtracted; None if there are none."""
        if self.minima is None:
            return None
        count = len(self.minima) - start if count is None else count
        minima = self._in_order(self.minima, start, count).float()
        return minima if self.group_minima is None else minima * self._of_group(self.group_minima, start, count)

    def _in_order(self, each: torch.Tensor, start: int, count: int) -> torch.Tensor:
        """The scales or minima of `count` blocks from `start` on, in row-major order."""
        if not self.turned:
            return each[start : start + count]
        together = TOGETHER if self.block == 16 else 1
        rows, across = self.shape[-2], self.shape[-1] // (self.block * together)
        block = torch.arange(start, start + count, device=each.device)
        row, column = block // (across * together), block // together % across
        return each[((row // rows * across + column) * rows + row % rows) * together + block % together]

    def _of_group(self, each: torch.Tensor, start: int, count: int) -> torch.Tensor:
        return each.float()[torch.arange(start, start + count, device=each.device) // self.group]

    def _codes(self, start: int, count: int) -> torch.Tensor:
        """(count, block) fp32: the unscaled values of the codes of the blocks from `start` on."""
        form, device = self.form, self.packed.device
        first, last = start * self.block, (start + count) * self.block
        if form.bits == 4:
            pairs = _pairs(form, device)[self.packed[first // 2 : last // 2].int()]
            if form.order == "halves":
                pairs = pairs.view(-1, _RUN // 2, 2).transpose(1, 2)
            return pairs.reshape(count, self.block)
        if form.bits == 8:
            codes = self.packed[first:last]
        else:
            assert self.high is not None
            packed = self.packed[first // 2 : last // 2]
            codes = torch.stack((packed & 15, packed >> 4), -1).view(-1) | _high(self.high, form.bits, first, last) << 4
        if form.table is None:
            return (codes.float() - form.zero).view(count, self.block)
        return _table(form.table, device)[codes.int()].view(count, self.block)

    def put(self, row: int, piece: "QuantizedWeight") -> None:
        """Copies the rows of `piece`, in the same format, to row `row` on; rows of a stack are numbered through."""
        rows, count = self.rows, piece.rows
        for name, own in self.named_buffers():
            given = getattr(piece, name)
            if own.dim() == 0:
                own.copy_(given)
            else:
                own[len(own) * row // rows : len(own) * (row + count) // rows].copy_(given)

    @property
    def rows(self) -> int:
        """Number of rows, over all weights of a stack."""
        return torch.Size(self.shape).numel() // self.shape[-1]

    def on(self, device: torch.device) -> "QuantizedWeight":
        """The weight on a device: itself, or a temporary copy if it stays on another device."""
        if self.packed.device == device:
            return self
        moved = copy.copy(self)
        moved._buffers = {
            name: None if own is None else own.to(device, non_blocking=True) for name, own in self._buffers.items()
        }
        return moved

    @property
    def device(self) -> torch.device:
        """Where its tensors are."""
        return self.packed.device

    @property
    def dtype(self) -> torch.dtype:
        """Of its codes."""
        return self.packed.dtype

    def extra_repr(self) -> str:
        return f"{self.form.name}, {self.shape}"


def from_tensors(form: Format, shape: tuple[int, ...], tensors: Mapping[str, torch.Tensor]) -> QuantizedWeight:
    """A weight from existing tensors, which are not copied."""
    weight = QuantizedWeight(form, shape, device="meta")
    for name, own in weight.named_buffers():
        given = tensors[name]
        if given.numel() != own.numel() or given.dtype != own.dtype:
            raise ValueError(f"{name} of a weight in {form.name} cannot be {list(given.shape)} {given.dtype}")
        weight._buffers[name] = given.reshape(own.shape)
    return weight


def packed_codes(codes: torch.Tensor, order: str) -> torch.Tensor:
    """(…) uint8 codes below 16 → (n / 2) uint8, two per byte in the given order; see `formats.Order`."""
    if order == "halves":
        first, second = codes.reshape(-1, 2, _RUN // 2).unbind(1)
        return (first | second << 4).reshape(-1)
    first, second = codes.reshape(-1, 2).unbind(1)
    return first << 4 | second if order == "high first" else first | second << 4


def high_codes(codes: torch.Tensor, bits: int) -> torch.Tensor:
    """(…) uint8 codes of 5 or 6 bits → the bits above the fourth, 8 or 4 codes per byte, the first code lowest."""
    extra = bits - 4
    high = (codes.reshape(-1, 8 // extra) >> 4) << _shifts(extra, codes.device)
    return high.sum(-1, dtype=torch.uint8)


def _high(high: torch.Tensor, bits: int, first: int, last: int) -> torch.Tensor:
    """The bits above the fourth of the codes from `first` to `last`."""
    extra = bits - 4
    each = high[first * extra // 8 : last * extra // 8].unsqueeze(-1) >> _shifts(extra, high.device)
    return (each & (1 << extra) - 1).view(-1)


def _shifts(extra: int, device: torch.device) -> torch.Tensor:
    return torch.arange(0, 8, extra, dtype=torch.uint8, device=device)


@functools.cache
def _table(values: tuple[float, ...], device: torch.device) -> torch.Tensor:
    """A small constant tensor, made once per device."""
    with torch.inference_mode(False):
        return torch.tensor(values, dtype=torch.float32, device=device)


@functools.cache
def _pairs(form: Format, device: torch.device) -> torch.Tensor:
    """(256, 2): a byte → its two values, in order."""
    table = form.table or tuple(float(code - form.zero) for code in range(16))
    high_first = form.order == "high first"
    pairs = [(table[byte >> 4], table[byte & 15]) for byte in range(256)]
    with torch.inference_mode(False):
        return torch.tensor([pair if high_first else pair[::-1] for pair in pairs], dtype=torch.float32, device=device)
