"""What kernels read of a quantized weight stands for the same values as the weight."""

import pytest
import torch

from dgtui.model import nf4
from dgtui.model.formats import FP8, GGUF, INT8, NF4, NF4_DOUBLE, NVFP4, Format, int4
from dgtui.model.kernel_weights import for_kernels
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
    packed = for_kernels(weight)
    assert packed is not None
    found, exact = packed.dequantize(torch.float32), weight.dequantize(torch.float32)
    assert (found - exact).norm() <= 5e-4 * exact.norm()  # scales that are products are rounded to fp16
    assert torch.equal(packed.dequantize(torch.float32, 1), packed.dequantize(torch.float32)[1])


@pytest.mark.parametrize("form", [NF4, NF4_DOUBLE], ids=lambda form: form.name)
def test_nf4_is_the_same_to_the_bit(form: Format) -> None:
    weight = nf4.quantize(0.05 * torch.randn(SHAPE), form)
    packed = for_kernels(weight)
    assert packed is not None
    assert torch.equal(packed.dequantize(torch.float32), weight.dequantize(torch.float32))
    assert packed.codes.data_ptr() == weight.packed.data_ptr()  # not copied


@pytest.mark.parametrize("form", [FP8, INT8, GGUF["Q5_0"], GGUF["Q6_K"], GGUF["Q8_0"]], ids=lambda form: form.name)
def test_formats_without_a_kernel_are_told_apart(form: Format) -> None:
    assert for_kernels(QuantizedWeight(form, (2, 64, 256), device="meta")) is None
