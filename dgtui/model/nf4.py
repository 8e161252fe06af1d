"""NF4: weights in 4 bit, as bitsandbytes lays them out, for linear layers and for the fused experts.

A block of 64 values in row-major order shares one scale, its largest absolute value; each value becomes the index of
the nearest of 16 quantiles of the normal distribution (Dettmers et al., QLoRA, arXiv 2305.14314), two to a byte, the
first in the high half. Double quantization keeps the scales in 8 bit: blocks of 256 of them, less their mean, on
bitsandbytes' dynamic map. The bytes are the same whether bitsandbytes is installed or not; where it is, its kernels
make them and undo them.

`Nf4Experts` takes the place of transformers' experts, whose fused three-dimensional tensors bitsandbytes leaves alone.
It runs what its config names in transformers' experts interface, if that is for NF4, and the reference here if not.
"""

import copy
import functools
from typing import Any, Final

import torch
from torch import nn
from transformers.activations import ACT2FN
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

from dgtui.model.parts import BLOCK, SCALE_BLOCK

IMPLEMENTATION: Final = "nf4"
"""The reference's name in transformers' experts interface; kernels for NF4 are named `nf4_…`."""

_LEVELS: Final = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
)  # fmt: skip
_TINY: Final = 1e-38  # in place of the scale of a block of zeros
_CHUNK: Final = 1 << 20
# Values that are quantized at a time, so that their intermediates take a few megabytes.
_UNPACKED: Final = 1 << 22
# Values that are unpacked at a time: an expert of the published model.


class Nf4Weight(nn.Module):
    """A weight of `shape` in NF4: (…, out, in), `in` a multiple of 64. Frozen; gradients pass through to the input.

    Buffers, which are also its tensors on disk: `packed` (values / 2) uint8; `absmax` (values / 64) fp32, or, quantized
    twice, uint8 with `absmax_scale` (blocks / 256) fp32 and `absmax_offset` () fp32.
    """

    packed: torch.Tensor
    absmax: torch.Tensor
    absmax_scale: torch.Tensor | None
    absmax_offset: torch.Tensor | None

    def __init__(self, shape: tuple[int, ...], double: bool = False, device: torch.device | str | None = None) -> None:
        super().__init__()
        self.shape, self.nested = tuple(shape), double
        for name, (size, dtype) in tensor_sizes(self.shape, double).items():
            self.register_buffer(name, torch.empty(size, dtype=dtype, device=device))
        if not double:
            self.absmax_scale = self.absmax_offset = None

    def dequantize(self, dtype: torch.dtype, index: int | None = None) -> torch.Tensor:
        """The weight, or of a stack of them number `index` alone, as (…, out, in) in `dtype`."""
        shape = self.shape if index is None else self.shape[1:]
        values, start = _count(shape), 0 if index is None else index * _count(shape)
        packed = self.packed[start // 2 : (start + values) // 2]
        return unpack(packed, self.scales(start // BLOCK, values // BLOCK), shape, dtype)

    def scales(self, start: int = 0, count: int | None = None) -> torch.Tensor:
        """(count) fp32: the scales of the blocks from `start` on."""
        count = len(self.absmax) - start if count is None else count
        found = self.absmax[start : start + count]
        if self.absmax_scale is None or self.absmax_offset is None:
            return found
        which = torch.arange(start, start + count, device=found.device) // SCALE_BLOCK
        return dynamic_map(found.device)[found.int()] * self.absmax_scale[which] + self.absmax_offset

    def on(self, device: torch.device) -> "Nf4Weight":
        """The weight on a device: itself, or for the moment a copy of a weight that stays elsewhere."""
        if self.packed.device == device:
            return self
        moved = copy.copy(self)
        moved._buffers = {
            name: None if own is None else own.to(device, non_blocking=True) for name, own in self._buffers.items()
        }
        return moved

    def extra_repr(self) -> str:
        return f"{self.shape}{', double' if self.nested else ''}"


def tensor_sizes(shape: tuple[int, ...], double: bool) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
    """The tensors that an `Nf4Weight` of a shape consists of, with their shapes and types."""
    values = _count(shape)
    blocks = values // BLOCK
    sizes: dict[str, tuple[tuple[int, ...], torch.dtype]] = {"packed": ((values // 2,), torch.uint8)}
    if not double:
        return sizes | {"absmax": ((blocks,), torch.float32)}
    return sizes | {
        "absmax": ((blocks,), torch.uint8),
        "absmax_scale": ((-(-blocks // SCALE_BLOCK),), torch.float32),
        "absmax_offset": ((), torch.float32),
    }


class Quantizing:
    """Quantizes a weight that comes in pieces: rows of any number, in order, on any device.

    `weight` takes them, on its own device. It is whole after `close`.
    """

    def __init__(self, shape: tuple[int, ...], double: bool, device: torch.device) -> None:
        self.weight = Nf4Weight(shape, double, device)
        self._scales = torch.empty(_count(shape) // BLOCK, device=device) if double else self.weight.absmax
        self._done = 0

    def add(self, values: torch.Tensor) -> None:
        """The next values: any shape, as many as a multiple of 64."""
        packed, absmax = pack(values.reshape(-1).to(self.weight.packed.device))
        start, self._done = self._done, self._done + values.numel()
        self.weight.packed[start // 2 : self._done // 2] = packed
        self._scales[start // BLOCK : self._done // BLOCK] = absmax

    def close(self) -> Nf4Weight:
        """The weight. Its scales are quantized too, if that was asked for."""
        assert self._done == _count(self.weight.shape), "a weight was quantized in part"
        if self.weight.nested:
            codes, scales, offset = pack_scales(self._scales)
            self.weight.absmax.copy_(codes)
            assert self.weight.absmax_scale is not None and self.weight.absmax_offset is not None
            self.weight.absmax_scale.copy_(scales)
            self.weight.absmax_offset.copy_(offset)
        return self.weight


def quantize(values: torch.Tensor, double: bool = False) -> Nf4Weight:
    """A weight (…, out, in) in NF4, on its own device."""
    quantizing = Quantizing(tuple(values.shape), double, values.device)
    quantizing.add(values)
    return quantizing.close()


@functools.cache
def native(kind: str) -> bool:
    """Whether bitsandbytes is installed, and its kernels for a kind of device run.

    It can be imported where it has none for this version of CUDA, and says so only when they are called.
    """
    if kind not in ("cpu", "cuda"):
        return False
    try:
        import bitsandbytes  # noqa: F401

        packed = torch.zeros((BLOCK // 2, 1), dtype=torch.uint8, device=kind)
        scales = torch.ones(1, device=kind)
        found = torch.ops.bitsandbytes.dequantize_4bit(packed, scales, BLOCK, "nf4", (BLOCK,), torch.float32)
    except Exception:  # at the import or at the call, each of its versions with another error
        return False
    return bool((found == _LEVELS[0]).all())


def pack(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(n) floats, n a multiple of 64 → (n / 2) uint8, (n / 64) fp32 scales. The bytes are bitsandbytes'."""
    if values.device.type == "cuda" and native("cuda"):
        packed, absmax = torch.ops.bitsandbytes.quantize_4bit(values.contiguous(), BLOCK, "nf4", torch.uint8)
        return packed.view(-1), absmax
    # On the CPU bitsandbytes has none but PyTorch's operations either, and takes ten times the memory at once
    pieces = [pack_reference(piece) for piece in torch.split(values, _CHUNK)]
    return torch.cat([packed for packed, _ in pieces]), torch.cat([absmax for _, absmax in pieces])


def pack_reference(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """`pack` in PyTorch's own operations."""
    blocks = values.float().view(-1, BLOCK)
    absmax = blocks.abs().amax(-1)
    scaled = (blocks * (1 / absmax.clamp_min(_TINY)).unsqueeze(-1)).clamp_(-1, 1).view(-1)
    levels = _levels(values.device)
    indices = torch.zeros(scaled.shape, dtype=torch.uint8, device=values.device)
    for between in (levels[:-1] + levels[1:]) / 2:  # twice as fast as a search among so few
        indices += scaled > between
    return (indices[::2] << 4) | indices[1::2], absmax


def unpack(packed: torch.Tensor, absmax: torch.Tensor, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """(n / 2) uint8, (n / 64) fp32 scales → n values in `shape`."""
    if native(packed.device.type):
        found: torch.Tensor = torch.ops.bitsandbytes.dequantize_4bit(
            packed.unsqueeze(-1), absmax, BLOCK, "nf4", shape, dtype
        )
        return found
    return unpack_reference(packed, absmax, shape, dtype)


def unpack_reference(
    packed: torch.Tensor, absmax: torch.Tensor, shape: tuple[int, ...], dtype: torch.dtype
) -> torch.Tensor:
    """`unpack` in PyTorch's own operations."""
    found = torch.empty(shape, dtype=dtype, device=packed.device)
    pairs = _pairs(packed.device)
    pieces = zip(
        torch.split(found.view(-1), _UNPACKED),
        torch.split(packed, _UNPACKED // 2),
        torch.split(absmax, _UNPACKED // BLOCK),
        strict=True,
    )
    for values, codes, scales in pieces:
        torch.mul(pairs[codes.int()].view(-1, BLOCK), scales.unsqueeze(-1), out=values.view(-1, BLOCK))
    return found


def pack_scales(absmax: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(n) fp32 → (n) uint8, the nearest on the dynamic map; (n / 256) fp32 scales; the mean, which is taken off first.

    In PyTorch alone: on the CPU, bitsandbytes looks the codes up in a table that is off by one in about 1 of 1,000.
    """
    offset = absmax.mean()
    centred = absmax - offset
    blocks = nn.functional.pad(centred, (0, -len(centred) % SCALE_BLOCK)).view(-1, SCALE_BLOCK)
    scales = blocks.abs().amax(-1)
    scaled = (blocks * (1 / scales.clamp_min(_TINY)).unsqueeze(-1)).clamp_(-1, 1).view(-1)[: len(centred)]
    code = dynamic_map(absmax.device)
    above = torch.searchsorted(code, scaled).clamp_(1, len(code) - 1)
    nearer = code[above] - scaled < scaled - code[above - 1]
    return (above - 1 + nearer).to(torch.uint8), scales, offset


_tables: dict[tuple[str, torch.device], torch.Tensor] = {}


def _table(name: str, device: torch.device, values: Any) -> torch.Tensor:
    """A small constant tensor, made once a device."""
    found = _tables.get((name, device))
    if found is None:
        with torch.inference_mode(False):
            found = _tables[name, device] = torch.tensor(values(), dtype=torch.float32, device=device)
    return found


def _levels(device: torch.device) -> torch.Tensor:
    return _table("levels", device, lambda: _LEVELS)


def _pairs(device: torch.device) -> torch.Tensor:
    """(256, 2): byte → the two values it holds."""
    return _table("pairs", device, lambda: [(high, low) for high in _LEVELS for low in _LEVELS])


def dynamic_map(device: torch.device) -> torch.Tensor:
    """(256) ascending: the signed 8-bit dynamic map (Dettmers, arXiv 1511.04561): 7 decades, each with twice as many
    steps as the one below it."""

    def values() -> list[float]:
        found = [0.0, 1.0]
        for decade in range(7):
            edges = torch.linspace(0.1, 1, 2**decade + 1, dtype=torch.float32)
            means = (edges[:-1] + edges[1:]) / 2 * 10.0 ** (decade - 6)
            found += [*means.tolist(), *(-means).tolist()]
        return sorted(found)

    return _table("dynamic", device, values)


class _FrozenLinear(torch.autograd.Function):
    """x @ weightᵀ with a weight that is unpacked where it is needed, so that backward keeps only its 4 bits."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: Nf4Weight, index: int | None) -> torch.Tensor:
        ctx.weight, ctx.index = weight, index
        return nn.functional.linear(x, weight.dequantize(x.dtype, index))

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (gradient,) = gradients
        return gradient @ ctx.weight.dequantize(gradient.dtype, ctx.index), None, None


def linear(x: torch.Tensor, weight: Nf4Weight, index: int | None = None) -> torch.Tensor:
    """(…, in) → (…, out): by a weight, or by number `index` of a stack of them."""
    if torch.is_grad_enabled() and x.requires_grad:
        result: torch.Tensor = _FrozenLinear.apply(x, weight, index)  # type: ignore[no-untyped-call]
        return result
    return nn.functional.linear(x, weight.dequantize(x.dtype, index))


class Nf4Linear(nn.Module):
    """A linear layer without bias, its weight in NF4, where there is no bitsandbytes."""

    def __init__(self, weight: Nf4Weight) -> None:
        super().__init__()
        self.weight = weight
        self.out_features, self.in_features = weight.shape

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return linear(x, self.weight)


def linear4bit(weight: Nf4Weight, dtype: torch.dtype) -> nn.Module:
    """A weight (out, in) as bitsandbytes' `Linear4bit`, on the same bytes, for what knows that layer (PEFT, say)."""
    from bitsandbytes import nn as layers
    from bitsandbytes.functional import QuantState

    bnb: Any = layers
    make_state: Any = QuantState
    device, nested = weight.packed.device, None
    if weight.absmax_scale is not None:
        nested = make_state(
            absmax=weight.absmax_scale, blocksize=SCALE_BLOCK, code=dynamic_map(device), dtype=torch.float32
        )
    state = make_state(
        absmax=weight.absmax, shape=torch.Size(weight.shape), code=_levels(device), blocksize=BLOCK, quant_type="nf4",
        dtype=dtype, offset=weight.absmax_offset, state2=nested,
    )  # fmt: skip
    out_features, in_features = weight.shape
    options = {"compress_statistics": weight.nested, "quant_type": "nf4"}
    layer: Any = bnb.Linear4bit(in_features, out_features, bias=False, compute_dtype=dtype, device="meta", **options)
    layer.weight = bnb.Params4bit(
        weight.packed.unsqueeze(-1), quant_state=state, blocksize=BLOCK, module=layer, bnb_quantized=True, **options
    )
    layer.quant_state = state
    # On some processors it would lay the bytes out anew at the first forward, and compute in bfloat16
    layer.support_avx512bf16_for_cpu = False
    made: nn.Module = layer
    return made


class Nf4Experts(nn.Module):
    """The experts of one layer in NF4, in place of transformers' `DiffusionGemmaTextExperts`.

    `gate_up_proj`: a stack (experts, 2 × width, hidden), `down_proj`: (experts, hidden, width).
    """

    def __init__(self, config: Any, gate_up_proj: Nf4Weight, down_proj: Nf4Weight) -> None:
        super().__init__()
        self.config = config
        self.num_experts, self.hidden_dim, self.intermediate_dim = down_proj.shape
        self.gate_up_proj, self.down_proj = gate_up_proj, down_proj
        self.act_fn = ACT2FN[config.hidden_activation]

    def forward(
        self, hidden_states: torch.Tensor, top_k_index: torch.Tensor, top_k_weights: torch.Tensor
    ) -> torch.Tensor:
        """(tokens, hidden), (tokens, k) experts and (tokens, k) weights → (tokens, hidden)."""
        wanted: str = self.config._experts_implementation or ""
        chosen = wanted if wanted.startswith(IMPLEMENTATION) else IMPLEMENTATION
        found: torch.Tensor = ALL_EXPERTS_FUNCTIONS[chosen](self, hidden_states, top_k_index, top_k_weights)
        return found


def experts_reference(
    experts: Nf4Experts, hidden_states: torch.Tensor, top_k_index: torch.Tensor, top_k_weights: torch.Tensor
) -> torch.Tensor:
    """What `Nf4Experts` computes, expert by expert, each unpacked once, and none to which no token was sent.

    The k results of a token are added in the order of `top_k_index`, so that the same input gives the same sum.
    """
    tokens, k = top_k_index.shape
    routes = top_k_index.flatten()
    order = routes.argsort(stable=True)
    ends = routes.bincount(minlength=experts.num_experts).cumsum(0).tolist()
    gate_up_proj, down_proj = (weight.on(hidden_states.device) for weight in (experts.gate_up_proj, experts.down_proj))
    each = hidden_states.new_empty((tokens * k, experts.hidden_dim))
    for expert, (start, stop) in enumerate(zip([0, *ends[:-1]], ends, strict=True)):
        if start == stop:
            continue
        mine = order[start:stop]
        gate, up = linear(hidden_states[mine // k], gate_up_proj, expert).chunk(2, dim=-1)
        each[mine] = linear(experts.act_fn(gate) * up, down_proj, expert)
    weights = top_k_weights.to(each.dtype).unsqueeze(1)
    return (weights @ each.view(tokens, k, -1)).squeeze(1)


def _count(shape: tuple[int, ...]) -> int:
    return torch.Size(shape).numel()


ALL_EXPERTS_FUNCTIONS.register(IMPLEMENTATION, experts_reference)
