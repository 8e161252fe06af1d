"""The assembly that decodes 4-bit codes is exact, for every byte and every scale."""

import interpreter
import numpy as np
import pytest
import torch

from dgtui.kernels.jit import decode
from dgtui.kernels.packed import BITSANDBYTES, COMPRESSED, HALVES, Decoder, Order, in_halves, unpacked

BYTES = np.arange(256, dtype=np.uint8)


def decoded(assembly: str, size: int, *inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Every byte in every place of `size` → fp32 values of high halves, of low halves, each (256, size)."""
    codes = np.zeros((256, 4), np.uint8)
    codes[:, :size] = np.stack([np.roll(BYTES, i) for i in range(size)], -1)
    registers = interpreter.run(assembly, size, [codes.view(np.uint32)[:, 0], *inputs])
    values = [np.stack([r << np.uint32(16), r & np.uint32(0xFFFF0000)], -1).view(np.float32) for r in registers]
    return np.concatenate(values[: size // 2], -1), np.concatenate(values[size // 2 :], -1)


def expected(levels: tuple[float, ...], size: int) -> tuple[np.ndarray, np.ndarray]:
    table = torch.tensor(levels).bfloat16().float().numpy()
    codes = np.stack([np.roll(BYTES, i) for i in range(size)], -1)
    return table[codes >> 4], table[codes & 15]


@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize("decoder", [Decoder.NF4, Decoder.INT4, Decoder.UINT4], ids=lambda decoder: decoder.name)
def test_every_byte_is_decoded_exactly(decoder: Decoder, size: int) -> None:
    assembly = getattr(decode, f"{decoder.name}_{size}").value
    for found, wanted in zip(decoded(assembly, size), expected(decoder.levels, size), strict=True):
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("size", [2, 4])
def test_nvfp4_is_exact_for_every_byte_and_every_scale(size: int) -> None:
    scales = torch.arange(127, dtype=torch.uint8)
    for bits, scale in zip(scales.tolist(), scales.view(torch.float8_e4m3fn).float().tolist(), strict=True):
        place = bits % 4
        word = np.full(256, bits << 8 * place, np.uint32)
        which = np.full(256, 0x4040 + place * 0x0101, np.uint32)
        values = decoded(getattr(decode, f"E2M1_{size}").value, size, *[word] * size, *[which] * size)
        for found, wanted in zip(values, expected(Decoder.E2M1.levels, size), strict=True):
            np.testing.assert_array_equal(found * np.float32(decode.E2M1_FACTOR.value), wanted * np.float32(scale))


@pytest.mark.parametrize("order", [BITSANDBYTES, COMPRESSED, HALVES, Order(pairs=False, high_first=True)], ids=str)
def test_codes_put_in_halves_are_the_same_columns(order: Order) -> None:
    codes = torch.randint(256, (2, 3, 64), dtype=torch.uint8)
    assert torch.equal(unpacked(in_halves(codes, order), HALVES), unpacked(codes, order))
