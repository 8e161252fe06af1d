"""The tensors of a GGUF file in pieces, in the file's own formats if `formats.GGUF` has them.

Blocks on disk hold scales and codes together; here they are separated, without rounding. Other formats are decoded by
the `gguf` package.
"""

from collections.abc import Iterator
from typing import Final, Self

import numpy as np
import torch

from dgtui.model.formats import Format
from dgtui.model.gguf_file import PLAIN, GgufFile
from dgtui.model.quantized_weight import QuantizedWeight, from_tensors, high_codes, packed_codes
from dgtui.model.stored import total_size
from dgtui.model.weights import Report, tell

_PIECE: Final = 4_000_000
# The most values to read at a time; at least one row is read.


class GgufSource:
    """The tensors of an open GGUF file, in pieces; see `weights.TensorSource`."""

    def __init__(self, file: GgufFile, report: Report | None = None, stage: str = "reading") -> None:
        self._file, self._report, self._stage = file, report, stage
        self.tensors = file.tensors
        self.total = total_size(self.tensors.values())
        self._done = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *why: object) -> None:
        pass

    def pieces(self, name: str) -> Iterator[torch.Tensor | QuantizedWeight]:
        """See `weights.TensorSource`."""
        stored, tensor = self.tensors[name], self._file.tensor(name)
        columns = stored.shape[-1]
        data = tensor.data.reshape(-1, tensor.data.shape[-1])
        step = max(1, _PIECE // columns)
        for start in range(0, len(data), step):
            rows = np.array(data[start : start + step])  # copied: the file may be replaced meanwhile
            self._count(rows.nbytes)
            if stored.form is not None:
                yield quantized_rows(stored.form, torch.from_numpy(rows), columns)
            elif tensor.tensor_type.name == "BF16":
                yield torch.from_numpy(rows).view(torch.bfloat16).view(-1, columns)
            elif tensor.tensor_type.name in PLAIN:
                yield torch.from_numpy(rows).view(-1, columns)
            else:
                yield torch.from_numpy(self._file.decode(rows, tensor.tensor_type))

    def skip(self, name: str) -> None:
        """See `weights.TensorSource`."""
        self._count(self.tensors[name].size)

    def _count(self, size: int) -> None:
        self._done += size
        tell(self._report, self._stage, self._done, self.total)


def quantized_rows(form: Format, rows: torch.Tensor, columns: int) -> QuantizedWeight:
    """Rows (n, bytes) of a GGUF tensor as a weight (n, columns) with the same codes and scales."""
    shape = (len(rows), columns)
    if form.name in ("Q4_K", "Q5_K", "Q6_K"):
        return _super_blocks(form, rows.view(-1, rows.shape[1] * 256 // columns), shape)
    blocks = rows.view(-1, rows.shape[1] * 32 // columns)
    count = 2 if form.minima else 1
    halves = blocks[:, : 2 * count].contiguous().view(torch.float16)
    tensors = {"scales": halves[:, 0].contiguous()}
    if form.minima:
        tensors["minima"] = -halves[:, 1]
    body = blocks[:, 2 * count :]
    if form.bits == 8:
        return from_tensors(form, shape, {**tensors, "packed": (body ^ 0x80).reshape(-1)})
    nibbles = body[:, -16:]
    codes = torch.cat([nibbles & 15, nibbles >> 4], 1)
    if form.bits == 5:
        bits = torch.arange(8, dtype=torch.uint8)
        high = (body[:, :4].unsqueeze(-1) >> bits & 1).view(-1, 32)
        codes = codes | high << 4
    return from_tensors(form, shape, tensors | _split(codes, form))


def _super_blocks(form: Format, blocks: torch.Tensor, shape: tuple[int, int]) -> QuantizedWeight:
    """Super-blocks of 256 values: (n, bytes)."""
    if form.name == "Q6_K":
        low, high = blocks[:, :128].view(-1, 2, 2, 32), blocks[:, 128:192].view(-1, 2, 1, 32)
        quarters = high >> torch.arange(0, 8, 2, dtype=torch.uint8).view(1, 1, 4, 1) & 3
        codes = (torch.cat([low & 15, low >> 4], 2) | quarters << 4).reshape(-1)
        tensors = {
            "scales": blocks[:, 192:208].contiguous().view(torch.int8), "group_scales": _halves(blocks[:, 208:210], 0),
        }  # fmt: skip
        return from_tensors(form, shape, tensors | _split(codes, form))
    scales, minima = _six_bits(blocks[:, 4:16])
    tensors = {
        "scales": scales, "minima": minima,
        "group_scales": _halves(blocks[:, :4], 0), "group_minima": _halves(blocks[:, :4], 1),
    }  # fmt: skip
    body = blocks[:, -128:]
    if form.name == "Q4_K":  # in runs of 64, as in memory
        return from_tensors(form, shape, tensors | {"packed": body.reshape(-1)})
    chunks = body.view(-1, 4, 1, 32)
    shifts = torch.arange(8, dtype=torch.uint8).view(1, 4, 2, 1)
    high = blocks[:, 16:48].view(-1, 1, 1, 32) >> shifts & 1
    codes = (torch.cat([chunks & 15, chunks >> 4], 2) | high << 4).reshape(-1)
    return from_tensors(form, shape, tensors | _split(codes, form))


def _split(codes: torch.Tensor, form: Format) -> dict[str, torch.Tensor]:
    """The tensors for codes of 4 and more bits."""
    packed = {"packed": packed_codes(codes & 15, form.order)}
    return packed if form.bits == 4 else packed | {"high": high_codes(codes, form.bits)}


def _halves(data: torch.Tensor, at: int) -> torch.Tensor:
    """(n) fp16: number `at` of the fp16 values in each row of bytes."""
    return data.contiguous().view(torch.float16)[:, at].contiguous()


def _six_bits(data: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(n, 12) bytes → eight scales and eight minima of 6 bits each."""
    first, second, third = data[:, :4], data[:, 4:8], data[:, 8:]
    scales = torch.cat([first & 63, third & 15 | first >> 6 << 4], 1)
    minima = torch.cat([second & 63, third >> 4 | second >> 6 << 4], 1)
    return scales.reshape(-1), minima.reshape(-1)
