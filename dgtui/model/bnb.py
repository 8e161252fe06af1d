"""bitsandbytes, if it is installed and works: its NF4 kernels, its linear layer, and its map of 8-bit scales."""

import functools
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from dgtui.model.formats import NF4, NF4_TABLE

if TYPE_CHECKING:
    from dgtui.model.quantized_weight import QuantizedWeight


@functools.cache
def native(kind: str) -> bool:
    """Whether bitsandbytes is installed and its kernels run on a kind of device.

    It can be imported without kernels for this version of CUDA, and fails only when they are called.
    """
    if kind not in ("cpu", "cuda"):
        return False
    try:
        import bitsandbytes  # noqa: F401

        packed = torch.zeros((NF4.block // 2, 1), dtype=torch.uint8, device=kind)
        scales = torch.ones(1, device=kind)
        values = torch.ops.bitsandbytes.dequantize_4bit(packed, scales, NF4.block, "nf4", (NF4.block,), torch.float32)
    except Exception:  # at the import or at the call; the error differs between versions
        return False
    return bool((values == NF4_TABLE[0]).all())


def quantize(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(n) floats → (n / 2) uint8 and (n / 64) fp32 scales, using the kernels."""
    packed, scales = torch.ops.bitsandbytes.quantize_4bit(values.contiguous(), NF4.block, "nf4", torch.uint8)
    return packed.view(-1), scales


def dequantize(packed: torch.Tensor, scales: torch.Tensor, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """(n / 2) uint8, (n / 64) fp32 scales → n values in `shape`, using the kernels."""
    values: torch.Tensor = torch.ops.bitsandbytes.dequantize_4bit(
        packed.unsqueeze(-1), scales, NF4.block, "nf4", shape, dtype
    )
    return values


@functools.cache
def dynamic_map(device: torch.device) -> torch.Tensor:
    """(256) ascending: the signed 8-bit dynamic map (Dettmers, arXiv 1511.04561): 7 decades, each with twice as many
    steps as the one below it."""
    values = [0.0, 1.0]
    for decade in range(7):
        edges = torch.linspace(0.1, 1, 2**decade + 1, dtype=torch.float32)
        means = (edges[:-1] + edges[1:]) / 2 * 10.0 ** (decade - 6)
        values += [*means.tolist(), *(-means).tolist()]
    with torch.inference_mode(False):
        return torch.tensor(sorted(values), dtype=torch.float32, device=device)


def linear4bit(weight: "QuantizedWeight", dtype: torch.dtype) -> nn.Module:
    """An NF4 weight (rows, columns) as bitsandbytes' `Linear4bit` on the same bytes, for libraries that expect it."""
    from bitsandbytes import nn as layers
    from bitsandbytes.functional import QuantState

    bnb: Any = layers
    make_state: Any = QuantState
    device, nested, double = weight.packed.device, None, weight.group_scales is not None
    if double:
        nested = make_state(
            absmax=weight.group_scales, blocksize=weight.group, code=dynamic_map(device), dtype=torch.float32
        )
    state = make_state(
        absmax=weight.scales, shape=torch.Size(weight.shape), code=torch.tensor(NF4_TABLE, device=device),
        blocksize=NF4.block, quant_type="nf4", dtype=dtype, offset=weight.scale_offset, state2=nested,
    )  # fmt: skip
    out_features, in_features = weight.shape
    options = {"compress_statistics": double, "quant_type": "nf4"}
    layer: Any = bnb.Linear4bit(in_features, out_features, bias=False, compute_dtype=dtype, device="meta", **options)
    layer.weight = bnb.Params4bit(
        weight.packed.unsqueeze(-1), quant_state=state, blocksize=NF4.block, module=layer, bnb_quantized=True, **options
    )
    layer.quant_state = state
    # On some processors it would reorder the bytes at the first forward, and compute in bfloat16
    layer.support_avx512bf16_for_cpu = False
    made: nn.Module = layer
    return made
