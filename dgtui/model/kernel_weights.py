"""Quantized weights in the layout of the GPU kernels. Codes are shared; scales are transposed copies."""

import torch

from dgtui.kernels.packed import COMPRESSED, HALVES, PackedWeight, in_halves, int4, nf4, nvfp4
from dgtui.model import bnb
from dgtui.model.formats import E2M1_TABLE, NF4_TABLE
from dgtui.model.quantized_weight import QuantizedWeight


def for_kernels(weight: QuantizedWeight) -> PackedWeight | None:
    """A matrix or a stack of matrices; None if no kernel reads its format, such as codes of more than 4 bits."""
    form = weight.form
    e, n, k = weight.shape if len(weight.shape) == 3 else (1, *weight.shape)
    integers = form.table is None and form.zero in (0, 8) and (weight.block == 32 or weight.block % 64 == 0)
    if form.bits != 4 or k % 64 or not (integers or form.table in (NF4_TABLE, E2M1_TABLE)):
        return None
    if form.table is NF4_TABLE:
        if not form.dynamic:
            return nf4(weight.packed, weight.scales, (e, n, k))
        assert weight.group_scales is not None and weight.scale_offset is not None
        meaning = bnb.dynamic_map(weight.packed.device)
        return nf4(weight.packed, weight.scales, (e, n, k), (meaning, weight.group_scales, weight.scale_offset))
    codes = weight.packed.view(e, n, k // 2)
    if form.table is E2M1_TABLE:
        assert weight.group_scales is not None
        return nvfp4(codes, weight.scales.view(e, n, -1), weight.group_scales.view(e, -1))
    order = HALVES if form.order == "halves" else COMPRESSED
    if weight.block == 32 and order.pairs:
        codes, order = in_halves(codes, order), HALVES
    scales, minima = (
        None if each is None else each.half().view(e, n, -1) for each in (weight.block_scales(), weight.block_minima())
    )
    assert scales is not None
    if form.zero == 0 and minima is None:
        minima = torch.zeros_like(scales)
    return int4(codes, scales, minima, order)
