"""What kernels read of a quantized weight stands for the same values as the weight."""

import pytest
import torch

from dgtui.model import nf4
from dgtui.model.formats import FP8, GGUF, INT8, NF4, NF4_DOUBLE, NVFP4, Format, int4
from dgtui.model.kernel_weights import for_kernels, kernel_format
from dgtui.model.quantized_weight import QuantizedWeight

SHAPE = (3, 64, 128)
READ = (
    NVFP4,
    int4(64, "BF16", False),
    int4(32, "F16", False),
    int4(128, "F32", True),
    *(GGUF[f"Q4_{n}"] for n in "01K"),
)


def random_weight(form: Format) -> QuantizedWeight:
    """Random codes and scales, of gate and up apart where the format has scales of parts."""
    torch.manual_seed(0)
    weight = QuantizedWeight(form, SHAPE, parts=2 * SHAPE[0], device="cpu")
    for name, own in weight.named_buffers():
        if name == "packed" or own.dtype in (torch.uint8, torch.int8):
            own.copy_(torch.randint(256 if name == "packed" else 64, own.shape))
        else:
            own.copy_(0.5 + torch.rand(own.shape))
    return weight


@pytest.mark.parametrize("form", READ, ids=lambda form: f"{form.name} {form.block}")
def test_they_are_the_same_values(form: Format) -> None:
    weight = random_weight(form)
    exact = weight.dequantize(torch.float32)
    packed = for_kernels(weight)
    assert packed is not None
    found = packed.dequantize(torch.float32)
    assert (found - exact).norm() <= 5e-4 * exact.norm()  # scales that are products are rounded to fp16
    assert torch.equal(packed.dequantize(torch.float32, 1), packed.dequantize(torch.float32)[1])


@pytest.mark.parametrize("form", [NF4, NF4_DOUBLE], ids=lambda form: form.name)
def test_nf4_is_the_same_to_the_bit(form: Format) -> None:
    weight = nf4.quantize(0.05 * torch.randn(SHAPE), form)
    exact = weight.dequantize(torch.float32)
    packed = for_kernels(weight)
    assert packed is not None
    assert torch.equal(packed.dequantize(torch.float32), exact)


@pytest.mark.parametrize("form", [NF4, NF4_DOUBLE, *READ], ids=lambda form: f"{form.name} {form.block}")
def test_nothing_is_held_twice_and_the_reference_still_reads_it(form: Format) -> None:
    """The weight itself takes the kernels' layout, and takes the memory that its format says."""
    weight = random_weight(form)
    packed, planned = for_kernels(weight), kernel_format(form, SHAPE[-1])
    assert packed is not None and planned == weight.form
    held = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in weight.buffers()}
    assert sum(held.values()) == planned.size(SHAPE, 2 * SHAPE[0])
    read = [packed.codes, packed.scales, packed.offsets, packed.parts, *(packed.nested or ())[1:]]
    assert {t.untyped_storage().data_ptr() for t in read if t is not None} == held.keys()
    found = weight.dequantize(torch.float32)
    assert (found - packed.dequantize(torch.float32)).norm() <= 1e-6 * found.norm()
    assert torch.equal(weight.dequantize(torch.float32, 2), found[2])
    assert for_kernels(weight).scales.data_ptr() == packed.scales.data_ptr()  # type: ignore[union-attr]


@pytest.mark.parametrize("form", [FP8, INT8, GGUF["Q5_0"], GGUF["Q6_K"], GGUF["Q8_0"]], ids=lambda form: form.name)
def test_formats_without_a_kernel_are_told_apart(form: Format) -> None:
    assert for_kernels(QuantizedWeight(form, (2, 64, 256), device="meta")) is None
