"""Decodes 4-bit codes to bf16 in inline assembly, two or four bytes at a time.

A table of 16 bf16 entries is two tables of bytes, and PRMT looks up four bytes in a table of eight entries with one
instruction. So NF4 takes two look-ups per byte plane, and a selection by the code's highest bit. E2M1 takes one look-up
per byte plane, because its highest bit is the sign. Integers need no table.
"""

import struct
from typing import Final

import triton
import triton.language as tl

from dgtui.kernels.packed import E2M1_LEVELS, NF4_LEVELS, Decoder

MAX_LANE_INSTRUCTIONS: Final = {Decoder.NF4: 3.0, Decoder.E2M1: 3.0, Decoder.INT4: 1.5, Decoder.UINT4: 1.5}
"""Most instructions per thread and weight, on every architecture. The tests compile and count them."""

NF4, E2M1, INT4, UINT4 = (tl.constexpr(int(decoder)) for decoder in Decoder)

E2M1_SHIFT: Final = 100
"""E2M1's levels in the table are × 2^100. The bits of an E4M3 scale, read as bf16, are the scale × 2^−120."""
E2M1_FACTOR = tl.constexpr(2.0 ** (120 - E2M1_SHIFT))
"""The factor for products with decoded E2M1."""


def bf16_bits(x: float) -> int:
    """The bits of the nearest bf16, ties to even."""
    (bits,) = struct.unpack("<I", struct.pack("<f", x))
    return int((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16)


def _words(values: list[int]) -> list[int]:
    """Bytes → 32-bit words, the first byte lowest."""
    return [sum(byte << (8 * i) for i, byte in enumerate(values[at : at + 4])) for at in range(0, len(values), 4)]


def _table(levels: tuple[float, ...]) -> tuple[list[int], list[int]]:
    """The low bytes and the high bytes of the levels in bf16, as words."""
    bits = [bf16_bits(level) for level in levels]
    return _words([b & 255 for b in bits]), _words([b >> 8 for b in bits])


# 0, because the grid has one layer, but the assembler does not know that. A constant that is combined with it stays in
# a register; otherwise the assembler would load it again for every PRMT.
_ZERO: Final = ("mov.u32 z, %tid.x;", "mov.u32 y, %ctaid.z;", "and.b32 z, z, y;")


def _constant(name: str, value: int) -> str:
    return f"xor.b32 {name}, z, {value:#x};"


_HALVES: Final = (("s", "0x9D8C"), ("sh", "0xBFAE"))
"""For bytes 0 and 1, and for bytes 2 and 3: the selectors, and the PRMT that spreads the highest bits of the codes."""
_PLACES: Final = ("0x7351", "0x6240")
"""The PRMTs that join low and high bytes of values: for high halves, and for low halves."""


def _selectors(codes: str) -> list[str]:
    """s and sh are selectors from the lower three bits of each code."""
    return [f"and.b32 s, {codes}, 0x77777777;", f"shl.b32 up, {codes}, 4;", "shr.u32 sh, s, 16;"]


def _nf4(size: int) -> str:
    """2 or 4 bytes → bf16 of their high halves, then of their low halves, two per register."""
    low, high = _table(NF4_LEVELS)
    body = [".reg .b32 l<4>, h<4>, s, sh, up, m, a, b, pl, ph, z, y;", *_ZERO]
    body += [_constant(f"l{i}", word) for i, word in enumerate(low)]
    body += [_constant(f"h{i}", word) for i, word in enumerate(high)]
    body += _selectors(f"${size}")
    for at, (selector, spread) in enumerate(_HALVES[: size // 2]):
        body += [f"prmt.b32 m, ${size}, up, {spread};"]
        for plane, table in (("pl", "l"), ("ph", "h")):
            body += [
                f"prmt.b32 a, {table}0, {table}1, {selector};",
                f"prmt.b32 b, {table}2, {table}3, {selector};",
                f"lop3.b32 {plane}, m, b, a, 0xCA;",  # m ? b : a
            ]
        body += [f"prmt.b32 ${at + i * size // 2}, pl, ph, {places};" for i, places in enumerate(_PLACES)]
    return "\n".join(["{", *body, "}"])


def _e2m1(size: int) -> str:
    """2 or 4 bytes; for each byte, a word of four scales; for each byte, the number of its scale, twice → like `_nf4`,
    scaled.

    Neighbouring bytes share a scale: of words and numbers, the first is read.
    """
    low, high = _table(tuple(level * 2.0**E2M1_SHIFT for level in E2M1_LEVELS[:8]))
    body = [".reg .b32 l<2>, h<2>, s, sh, up, m, pl, ph, t, n, v, z, y;", *_ZERO]
    body += [_constant(f"l{i}", word) for i, word in enumerate(low)]
    body += [_constant(f"h{i}", word) for i, word in enumerate(high)]
    body += ["mov.b32 n, 0x80008000;", f"prmt.b32 t, ${size + 1}, 0, ${2 * size + 1};", "shl.b32 t, t, 4;"]
    body += _selectors(f"${size}")
    for at, (selector, spread) in enumerate(_HALVES[: size // 2]):
        body += [
            f"prmt.b32 m, ${size}, up, {spread};",
            f"prmt.b32 pl, l0, l1, {selector};",
            f"prmt.b32 ph, h0, h1, {selector};",
            "lop3.b32 ph, ph, m, 0x80808080, 0xF8;",  # ph | m & sign
        ]
        for i, places in enumerate(_PLACES):  # mul.bf16x2 needs sm_90
            body += [f"prmt.b32 v, pl, ph, {places};", f"fma.rn.bf16x2 ${at + i * size // 2}, v, t, n;"]
    return "\n".join(["{", *body, "}"])


def _integers(zero: int, size: int) -> str:
    """2 or 4 bytes → like `_nf4`, code − zero: 128 + code from its bits, minus 128 + zero."""
    less = bf16_bits(-128.0 - zero)
    body = [".reg .b32 a, u, one, y, c;", f"mov.b32 c, {less << 16 | less:#x};", "mov.b32 one, 0x3F803F80;"]
    for at, apart in enumerate(("0x4140", "0x4342")[: size // 2]):
        body += [
            f"prmt.b32 a, ${size}, 0, {apart};",
            "lop3.b32 u, a, 0x000F000F, 0x43004300, 0xEA;",  # a & mask | exponent
            f"fma.rn.bf16x2 ${at + size // 2}, u, one, c;",
            "shr.u32 y, a, 4;",
            "lop3.b32 u, y, 0x000F000F, 0x43004300, 0xEA;",
            f"fma.rn.bf16x2 ${at}, u, one, c;",
        ]
    return "\n".join(["{", *body, "}"])


NF4_2, NF4_4 = tl.constexpr(_nf4(2)), tl.constexpr(_nf4(4))
E2M1_2, E2M1_4 = tl.constexpr(_e2m1(2)), tl.constexpr(_e2m1(4))
INT4_2, INT4_4 = tl.constexpr(_integers(8, 2)), tl.constexpr(_integers(8, 4))
UINT4_2, UINT4_4 = tl.constexpr(_integers(0, 2)), tl.constexpr(_integers(0, 4))
CODES_2, CODES_4 = tl.constexpr("=r,=r,r"), tl.constexpr("=r,=r,=r,=r,r")
SCALED_2, SCALED_4 = tl.constexpr("=r,=r,r,r,r,r,r"), tl.constexpr("=r,=r,=r,=r,r,r,r,r,r,r,r,r,r")


@triton.jit
def decode(codes, scales, DECODER: tl.constexpr, BYTES: tl.constexpr):
    """codes (N, 32) uint8 → the values of their high halves and of their low halves, (N, 32) bf16 each.

    `scales` (N) int32 is only read for E2M1: four E4M3 scales, each for 16 neighbouring columns, that is 8 bytes. Its
    values are scaled, except for E2M1_FACTOR. BYTES: 4; 2 if a thread holds only two neighbours.
    """
    if DECODER == E2M1:
        which = 0x4040 + (tl.arange(0, 32) // 8) * 0x0101
        words, which = tl.broadcast(scales[:, None], which[None, :])
        high, low = tl.inline_asm_elementwise(
            E2M1_4 if BYTES == 4 else E2M1_2,
            SCALED_4 if BYTES == 4 else SCALED_2,
            [codes, words, which],
            (tl.bfloat16, tl.bfloat16),
            is_pure=True,
            pack=BYTES,
        )
    else:
        two: tl.constexpr = NF4_2 if DECODER == NF4 else INT4_2 if DECODER == INT4 else UINT4_2
        four: tl.constexpr = NF4_4 if DECODER == NF4 else INT4_4 if DECODER == INT4 else UINT4_4
        high, low = tl.inline_asm_elementwise(
            four if BYTES == 4 else two,
            CODES_4 if BYTES == 4 else CODES_2,
            [codes],
            (tl.bfloat16, tl.bfloat16),
            is_pure=True,
            pack=BYTES,
        )
    return high, low
