"""NF4 is bitsandbytes' NF4, byte for byte, with it and without it; and computes what its dequantized weights would."""

import copy
from typing import Any

import bitsandbytes.functional as bnb
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from transformers.models.diffusion_gemma.configuration_diffusion_gemma import DiffusionGemmaTextConfig
from transformers.models.diffusion_gemma.modeling_diffusion_gemma import DiffusionGemmaTextExperts

from dgtui.model import bnb as own_bnb
from dgtui.model import nf4, quantized_layers, quantized_weight
from dgtui.model.formats import NF4, NF4_DOUBLE, Format
from dgtui.model.quantized_layers import QuantizedExperts, QuantizedLinear
from dgtui.model.quantized_weight import QuantizedWeight

CPU = torch.device("cpu")
EXPERTS, HIDDEN, WIDTH, ACTIVE = 6, 128, 64, 2


def weights(rows: int, columns: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> torch.Tensor:
    """Rows of different size, as real ones are, with a block of zeros."""
    draw = torch.Generator().manual_seed(seed)
    values = torch.randn(rows, columns, generator=draw) * torch.rand(rows, 1, generator=draw)
    values[0, :64] = 0
    return values.to(dtype)


# The bytes


@settings(deadline=None, max_examples=40)
@given(
    rows=st.integers(1, 40),
    blocks=st.integers(1, 5),
    seed=st.integers(0, 2**32),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float16]),
)
def test_the_bytes_are_those_of_bitsandbytes(rows: int, blocks: int, seed: int, dtype: torch.dtype) -> None:
    values = weights(rows, 64 * blocks, dtype, seed)
    theirs, state = bnb.quantize_4bit(values, blocksize=64, quant_type="nf4")
    ours = nf4.quantize(values)
    assert torch.equal(ours.packed, theirs.view(-1))
    assert torch.equal(ours.scales, state.absmax)
    assert torch.equal(ours.dequantize(dtype), bnb.dequantize_4bit(theirs, state))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_without_bitsandbytes_the_numbers_are_the_same(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = nf4.quantize(weights(300, 192), NF4_DOUBLE)
    with_it = ours.dequantize(dtype)
    monkeypatch.setattr(own_bnb, "native", lambda kind: False)
    assert torch.equal(ours.dequantize(dtype), with_it)
    monkeypatch.setattr(quantized_weight, "_PIECE", 1 << 12)  # and in pieces, the last one smaller
    assert torch.equal(ours.dequantize(dtype), with_it)


def test_bitsandbytes_without_kernels_for_the_device_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """It can be imported where it has none for this version of CUDA, and raises when it is called."""
    assert own_bnb.native("cpu")

    def fail(*given: Any) -> None:
        raise RuntimeError("Attempted to use bitsandbytes native library functionality but it's not available.")

    monkeypatch.setattr(torch.ops.bitsandbytes, "dequantize_4bit", fail)
    own_bnb.native.cache_clear()
    try:
        assert not own_bnb.native("cpu")
        assert nf4.quantize(weights(2, 64)).dequantize(torch.float32).shape == (2, 64)
    finally:
        own_bnb.native.cache_clear()


def test_scales_in_8_bit_are_those_of_bitsandbytes_but_for_its_table() -> None:
    """On the CPU bitsandbytes takes a code from a table: beside the border of two codes that may be the other one."""
    values = weights(4096, 256)
    _, state = bnb.quantize_4bit(values, blocksize=64, quant_type="nf4", compress_statistics=True)
    ours = nf4.quantize(values, NF4_DOUBLE)
    assert ours.group_scales is not None and ours.scale_offset is not None
    assert torch.equal(ours.group_scales, state.state2.absmax)
    assert ours.scale_offset == state.offset
    code = own_bnb.dynamic_map(CPU)
    assert torch.equal(code, state.state2.code)
    apart = (ours.scales.int() - state.absmax.int()).abs()
    assert apart.max() <= 2
    assert (apart > 0).float().mean() < 0.005
    scaled = (nf4.quantize(values).scales - state.offset) / state.state2.absmax.repeat_interleave(256)
    mine, theirs = ((code[codes.int()] - scaled).abs() for codes in (ours.scales, state.absmax))
    assert (mine <= theirs + 1e-6).all()  # where they differ, ours is the nearer


def test_a_stack_is_unpacked_one_by_one() -> None:
    """Also where the scales of a member begin in the middle of a block of scales."""
    stack = weights(5 * 24, 192).view(5, 24, 192)
    for form in (NF4, NF4_DOUBLE):
        packed = nf4.quantize(stack, form)
        whole = packed.dequantize(torch.float32)
        for index in range(5):
            assert torch.equal(packed.dequantize(torch.float32, index), whole[index])


def test_pieces_make_the_same_weight() -> None:
    values = weights(100, 128, torch.bfloat16)
    quantizing = nf4.Quantizing(NF4_DOUBLE, (100, 128), CPU)
    for piece in values.split(7):
        quantizing.add(piece)
    whole, pieced = nf4.quantize(values, NF4_DOUBLE), quantizing.close()
    for name, tensor in whole.named_buffers():
        assert torch.equal(pieced.get_buffer(name), tensor)


def test_its_size_is_as_it_is_planned() -> None:
    for form in (NF4, NF4_DOUBLE):
        packed = nf4.quantize(weights(333, 192), form)
        assert sum(t.nbytes for t in packed.buffers()) == form.size((333, 192))


def test_a_weight_that_stays_elsewhere_is_copied_for_the_moment() -> None:
    weight = nf4.quantize(weights(8, 64), NF4_DOUBLE)
    assert weight.on(CPU) is weight
    moved = weight.on(torch.device("meta"))
    assert all(tensor.is_meta for tensor in moved.buffers())
    assert not any(tensor.is_meta for tensor in weight.buffers())
    assert moved.shape == weight.shape


# What is computed with them


def experts(form: Format = NF4) -> tuple[QuantizedExperts, Any]:
    """Packed experts, and transformers' own with the same values unpacked."""
    config: Any = DiffusionGemmaTextConfig(
        hidden_size=HIDDEN, moe_intermediate_size=WIDTH, num_experts=EXPERTS, top_k_experts=ACTIVE
    )
    config._experts_implementation = "eager"
    theirs = DiffusionGemmaTextExperts(config)
    stacks = [
        nf4.quantize(0.1 * torch.randn(EXPERTS, *shape), form) for shape in ((2 * WIDTH, HIDDEN), (HIDDEN, WIDTH))
    ]
    for own, stack in zip((theirs.gate_up_proj, theirs.down_proj), stacks, strict=True):
        own.data = stack.dequantize(torch.float32)
    return QuantizedExperts(config, *stacks), theirs


def routed(tokens: int, most: int = EXPERTS) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    hidden = torch.randn(tokens, HIDDEN)
    index = torch.stack([torch.randperm(most)[:ACTIVE] for _ in range(tokens)])
    return hidden, index, torch.rand(tokens, ACTIVE)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(3)


@pytest.mark.parametrize("form", [NF4, NF4_DOUBLE])
@pytest.mark.parametrize("tokens", [1, 7, 256])
def test_packed_experts_compute_what_transformers_computes_with_their_values(tokens: int, form: Format) -> None:
    packed, theirs = experts(form)
    hidden, index, share = routed(tokens)
    torch.testing.assert_close(packed(hidden, index, share), theirs(hidden, index, share), rtol=1e-5, atol=1e-6)


def test_gradients_reach_the_inputs() -> None:
    packed, theirs = experts()
    hidden, index, share = routed(9)
    given = [tensor.clone().requires_grad_() for tensor in (hidden, share, hidden, share)]
    packed(given[0], index, given[1]).square().sum().backward()
    theirs(given[2], index, given[3]).square().sum().backward()
    torch.testing.assert_close(given[0].grad, given[2].grad, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(given[1].grad, given[3].grad, rtol=1e-4, atol=1e-5)


def test_backward_keeps_no_weight_unpacked() -> None:
    kept: list[torch.Tensor] = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor)
        return tensor

    packed, _ = experts()
    hidden, index, share = routed(3)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        packed(hidden.requires_grad_(), index, share)
    assert max(tensor.numel() for tensor in kept) < HIDDEN * WIDTH


def test_an_expert_that_gets_no_token_is_not_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    unpacked: list[int | None] = []
    whole = QuantizedWeight.dequantize

    def watched(self: QuantizedWeight, dtype: torch.dtype, index: int | None = None) -> torch.Tensor:
        unpacked.append(index)
        return whole(self, dtype, index)

    packed, _ = experts()
    hidden, index, share = routed(50, most=3)
    monkeypatch.setattr(QuantizedWeight, "dequantize", watched)
    packed(hidden, index, share)
    assert unpacked == [0, 0, 1, 1, 2, 2]


def test_a_token_counts_alone() -> None:
    packed, _ = experts()
    hidden, index, share = routed(20)
    whole = packed(hidden, index, share)
    assert torch.equal(whole, packed(hidden, index, share))
    torch.testing.assert_close(packed(hidden[4:5], index[4:5], share[4:5]), whole[4:5], rtol=1e-5, atol=1e-6)


def test_another_implementation_is_taken_from_transformers_interface(monkeypatch: pytest.MonkeyPatch) -> None:
    packed, _ = experts()
    hidden, index, share = routed(2)
    monkeypatch.setitem(
        quantized_layers.ALL_EXPERTS_FUNCTIONS,
        "quantized_twice",
        lambda own, *given: 2 * quantized_layers.experts_reference(own, *given),
    )
    once = packed(hidden, index, share)
    packed.config._experts_implementation = "quantized_twice"
    torch.testing.assert_close(packed(hidden, index, share), 2 * once)


@pytest.mark.parametrize("form", [NF4, NF4_DOUBLE])
def test_a_linear_layer_is_the_same_with_bitsandbytes_and_without(form: Format) -> None:
    weight = nf4.quantize(weights(96, 128), form)
    dense = nn.Linear(128, 96, bias=False)
    dense.weight.data = weight.dequantize(torch.float32)
    layers = [QuantizedLinear(weight), own_bnb.linear4bit(weight, torch.float32), dense]
    given = [torch.randn(5, 128).requires_grad_()]
    given += [given[0].detach().clone().requires_grad_() for _ in layers[1:]]
    results = [layer(x) for layer, x in zip(layers, given, strict=True)]
    for result in results:
        result.square().sum().backward()
    for result, x in zip(results[:-1], given[:-1], strict=True):
        torch.testing.assert_close(result, results[-1], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(x.grad, given[-1].grad, rtol=1e-4, atol=1e-4)


def test_bitsandbytes_layer_lies_on_the_same_bytes_and_leaves_them() -> None:
    weight = nf4.quantize(weights(96, 128))
    before = copy.deepcopy(weight)
    layer: Any = own_bnb.linear4bit(weight, torch.float32).eval()
    with torch.inference_mode():
        layer(torch.randn(300, 128))
    assert layer.weight.data_ptr() == weight.packed.data_ptr()
    assert torch.equal(weight.packed, before.packed)
    assert type(layer).__name__ == "Linear4bit"
