"""Quantized weights in the layout of the GPU kernels. The weight itself is converted, so nothing is held twice."""

from dataclasses import replace

import torch

from dgtui.kernels.packed import BLOCK, COMPRESSED, HALVES, PackedWeight, in_halves, int4, nf4, nvfp4
from dgtui.model import bnb
from dgtui.model.formats import E2M1_TABLE, NF4_TABLE, Format
from dgtui.model.quantized_weight import TOGETHER, QuantizedWeight


def kernel_format(form: Format, columns: int) -> Format | None:
    """The format of a weight after its conversion for kernels; None if no kernel reads it.

    Integers get one fp16 scale per block, and a minimum unless the value is (code − 8) · scale.
    """
    integers = form.table is None and form.zero in (0, 8) and (form.block == 32 or form.block % BLOCK == 0)
    if form.bits != 4 or not form.block or columns % BLOCK or not (integers or form.table in (NF4_TABLE, E2M1_TABLE)):
        return None
    if not integers:
        return form
    order = "halves" if form.block == 32 else form.order
    return replace(form, order=order, scale="F16", group=None, minima=form.zero == 0 or form.minima)


def for_kernels(weight: QuantizedWeight) -> PackedWeight | None:
    """A matrix or a stack of matrices; None if no kernel reads its format, such as codes of more than 4 bits.

    Converts the weight first. The result shares all of its tensors.
    """
    form = kernel_format(weight.form, weight.shape[-1])
    if form is None:
        return None
    if not weight.turned:
        _convert(weight, form)
    e, n, k = weight.shape if len(weight.shape) == 3 else (1, *weight.shape)
    if form.table is NF4_TABLE:
        scales = weight.scales.view(e, -1, n)
        if not form.dynamic:
            return nf4(weight.packed, scales, (e, n, k))
        assert weight.group_scales is not None and weight.scale_offset is not None
        meaning = bnb.dynamic_map(weight.packed.device)
        return nf4(weight.packed, scales, (e, n, k), (meaning, weight.group_scales, weight.scale_offset))
    codes = weight.packed.view(e, n, k // 2)
    if form.table is E2M1_TABLE:
        assert weight.group_scales is not None
        words = weight.scales.view(torch.int32).view(e, -1, n)
        return nvfp4(codes, words, weight.group_scales.view(e, -1))
    minima = None if weight.minima is None else weight.minima.view(e, -1, n)
    return int4(codes, weight.scales.view(e, -1, n), minima, HALVES if form.order == "halves" else COMPRESSED)


def _convert(weight: QuantizedWeight, form: Format) -> None:
    """Converts a weight to the kernels' layout: see `QuantizedWeight.turned`."""
    rows, columns = weight.shape[-2:]
    if form.table is None:
        scales, minima = weight.block_scales(), weight.block_minima()
        if form.minima and minima is None:
            minima = torch.zeros_like(scales)
        if form.order != weight.form.order:
            codes = weight.packed.view(1, -1, columns // 2)
            weight.packed = in_halves(codes, COMPRESSED).flatten()
        weight.form, weight.group_scales, weight.group_minima = form, None, None
        weight.scales, weight.minima = scales.half(), None if minima is None else minima.half()
    together = TOGETHER if weight.block == 16 else 1
    for name in ("scales", "minima"):
        if (each := getattr(weight, name)) is not None:
            flat = each.view(torch.uint8) if each.itemsize == 1 else each  # E4M3 has few operations
            turned = flat.view(-1, rows, columns // (weight.block * together), together).transpose(1, 2)
            setattr(weight, name, turned.reshape(-1).view(each.dtype))
    weight.turned = True
