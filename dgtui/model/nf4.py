"""Packs weights into NF4, 4 bits per value. The bytes equal bitsandbytes', whether it is installed or not.

A block of 64 values in row-major order shares one scale, its largest absolute value; each value becomes the index of
the nearest of 16 quantiles of the normal distribution (Dettmers et al., QLoRA, arXiv 2305.14314). Double quantization
keeps the scales in 8 bit: blocks of 256 of them, less their mean, on bitsandbytes' dynamic map.
"""

from typing import Final

import torch
from torch import nn

from dgtui.model import bnb
from dgtui.model.formats import NF4, NF4_DOUBLE, NF4_TABLE, Format
from dgtui.model.quantized_weight import QuantizedWeight, packed_codes

_SCALE_BLOCK: Final = NF4_DOUBLE.group or 0
_TINY: Final = 1e-38  # replaces the scale of a block of zeros
_CHUNK: Final = 1 << 20
# Values to quantize at a time: their intermediates take a few megabytes.


class Quantizing:
    """Quantizes a weight that arrives in pieces: any number of rows at a time, in order, on any device.

    The result is `weight`, on its own device. It is complete after `close`.
    """

    def __init__(self, form: Format, shape: tuple[int, ...], device: torch.device) -> None:
        self.weight = QuantizedWeight(form, shape, device=device)
        blocks = len(self.weight.scales)
        self._scales = torch.empty(blocks, device=device) if form.dynamic else self.weight.scales
        self._done = 0

    def add(self, values: torch.Tensor) -> None:
        """The next values: any shape, a multiple of 64 values."""
        packed, scales = pack(values.reshape(-1).to(self.weight.packed.device))
        start, self._done = self._done, self._done + values.numel()
        self.weight.packed[start // 2 : self._done // 2] = packed
        self._scales[start // NF4.block : self._done // NF4.block] = scales

    def close(self) -> QuantizedWeight:
        """The weight, with its scales quantized too if that was requested."""
        weight = self.weight
        assert self._done == torch.Size(weight.shape).numel(), "a weight was quantized in part"
        if weight.group_scales is not None and weight.scale_offset is not None:
            codes, scales, offset = pack_scales(self._scales)
            weight.scales.copy_(codes)
            weight.group_scales.copy_(scales)
            weight.scale_offset.copy_(offset)
        return weight


def quantize(values: torch.Tensor, form: Format = NF4) -> QuantizedWeight:
    """A weight (…, rows, columns) in NF4, on its own device."""
    quantizing = Quantizing(form, tuple(values.shape), values.device)
    quantizing.add(values)
    return quantizing.close()


def pack(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(n) floats, n a multiple of 64 → (n / 2) uint8, (n / 64) fp32 scales. The bytes are bitsandbytes'."""
    if values.device.type == "cuda" and bnb.native("cuda"):
        return bnb.quantize(values)
    # On the CPU, bitsandbytes uses PyTorch's operations too, and ten times the memory
    pieces = [pack_reference(piece) for piece in torch.split(values, _CHUNK)]
    return torch.cat([packed for packed, _ in pieces]), torch.cat([scales for _, scales in pieces])


def pack_reference(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """`pack` using PyTorch's operations."""
    blocks = values.float().view(-1, NF4.block)
    scales = blocks.abs().amax(-1)
    scaled = (blocks * (1 / scales.clamp_min(_TINY)).unsqueeze(-1)).clamp_(-1, 1).view(-1)
    levels = torch.tensor(NF4_TABLE, dtype=torch.float32, device=values.device)
    indices = torch.zeros(scaled.shape, dtype=torch.uint8, device=values.device)
    for between in (levels[:-1] + levels[1:]) / 2:  # twice as fast as a search
        indices += scaled > between
    return packed_codes(indices, NF4.order), scales


def pack_scales(scales: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(n) fp32 → (n) uint8, the nearest on the dynamic map; (n / 256) fp32 scales; the mean, subtracted first.

    Always PyTorch: on the CPU, bitsandbytes' table lookup of the codes is off by one in about 1 of 1,000.
    """
    offset = scales.mean()
    centred = scales - offset
    blocks = nn.functional.pad(centred, (0, -len(centred) % _SCALE_BLOCK)).view(-1, _SCALE_BLOCK)
    group_scales = blocks.abs().amax(-1)
    scaled = (blocks * (1 / group_scales.clamp_min(_TINY)).unsqueeze(-1)).clamp_(-1, 1).view(-1)[: len(centred)]
    code = bnb.dynamic_map(scales.device)
    above = torch.searchsorted(code, scaled).clamp_(1, len(code) - 1)
    nearer = code[above] - scaled < scaled - code[above - 1]
    return (above - 1 + nearer).to(torch.uint8), group_scales, offset
