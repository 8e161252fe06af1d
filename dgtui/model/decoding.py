"""Turns layers that other programs quantized into `QuantizedWeight`s: the same codes and scales, without rounding.

Layouts, each checked against the library that writes it: modelopt and compressed-tensors keep two 4-bit codes in a
byte, the even column in the low half. modelopt multiplies an NVFP4 block's scale by `weight_scale_2`;
compressed-tensors divides it by `weight_global_scale`. INT4 has eight codes in a 32-bit word, the lowest first, each
the value plus 8.
"""

from collections.abc import Mapping

import torch

from dgtui.model.formats import Format
from dgtui.model.quantized_weight import QuantizedWeight, from_tensors
from dgtui.model.stored import Scheme

Tensors = Mapping[str, torch.Tensor]
"""The tensor's role in the weight ("weight", "weight_scale", …) → the tensor."""


def decoded(scheme: Scheme, form: Format, shape: tuple[int, ...], tensors: Tensors) -> QuantizedWeight:
    """A weight (…, rows, columns) from its tensors on disk. They may be views of a file; none is kept."""
    match scheme:
        case "nf4":
            return from_tensors(form, shape, tensors)
        case "fp8" | "int8":
            return _by_row(form, shape, tensors)
        case "int4":
            return _int4(form, shape, tensors)
        case "nvfp4 modelopt":
            return _nvfp4(form, shape, tensors["weight"], tensors["weight_scale"], tensors["weight_scale_2"].float())
        case "nvfp4 compressed":
            scale = 1 / tensors["weight_global_scale"].float()
            return _nvfp4(form, shape, tensors["weight_packed"], tensors["weight_scale"], scale)
    raise AssertionError(f"{scheme} is not decoded here")


def _by_row(form: Format, shape: tuple[int, ...], tensors: Tensors) -> QuantizedWeight:
    codes, scale = tensors["weight"].view(torch.uint8), tensors["weight_scale"].float().reshape(-1)
    blocks = codes.numel() // (form.block or shape[-1])
    if form.zero:  # signed
        codes = codes ^ 0x80
    scales = scale.expand(blocks) if len(scale) == 1 else scale
    return from_tensors(form, shape, {"packed": codes, "scales": scales})


def _int4(form: Format, shape: tuple[int, ...], tensors: Tensors) -> QuantizedWeight:
    codes, scale = tensors["weight_packed"].contiguous().view(torch.uint8), tensors["weight_scale"].float()
    if not form.minima:
        return from_tensors(form, shape, {"packed": codes, "scales": scale})
    words = tensors["weight_zero_point"]  # (rows / 8, groups): eight rows per word, the lowest first
    shifts = torch.arange(0, 32, 4, device=words.device)
    zeros = (words.unsqueeze(1) >> shifts.view(1, -1, 1)) & 15
    minima = zeros.reshape(-1, words.shape[-1]) * scale
    return from_tensors(form, shape, {"packed": codes, "scales": scale, "minima": minima})


def _nvfp4(
    form: Format, shape: tuple[int, ...], codes: torch.Tensor, scale: torch.Tensor, group_scale: torch.Tensor
) -> QuantizedWeight:
    return from_tensors(form, shape, {"packed": codes, "scales": scale, "group_scales": group_scale})
