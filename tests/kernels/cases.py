"""What is compiled: every kernel of a step, at the geometry of the published model, cut as the program cuts it."""

import math
from collections.abc import Iterator
from typing import Any

import torch
import triton
import triton.language as tl
from aot import Case
from weights import random_weight

from dgtui.kernels import experts as launch
from dgtui.kernels.jit import decode, experts, norms, sampler
from dgtui.kernels.packed import Decoder, PackedWeight
from dgtui.kernels.tiles import tile_for

EXPERTS, HIDDEN, WIDTH, TOP, VOCABULARY, CANVAS = 128, 2816, 704, 8, 262144, 256
MATRIX = ("HMMA|HGMMA|UTC", "LDGSTS")
"""matrix instructions, and loads that run ahead"""

_TYPES = {
    torch.uint8: "*u8", torch.int32: "*i32", torch.float32: "*fp32", torch.float16: "*fp16", torch.bfloat16: "*bf16",
}  # fmt: skip
_POINTERS = {
    "*bf16": "x y z h out permuted qkv q k v q_norm k_norm y_weight z_weight post first second third stream normed",
    "*i32": "index order place tile_expert tile_start tile_rows arg candidates counter start",
    "*i64": "held seeds argmax drawn noise top_ids canvas",
    "*i1": "pinned suppressed live accepted",
    "*fp32": "weight weights max sum moment entropy normalizer inverse_t top_probs bound mean cos sin scale scores",
}
TYPES = {f"{name}_ptr": kind for kind, names in _POINTERS.items() for name in names.split()}
TYPES |= dict.fromkeys("R TILES V C T k_batch k_head k_place v_batch v_head v_place".split(), "i32")
TYPES |= {"cap": "fp32", "eps": "fp32", "expert_scale_ptr": "*fp32"}


def weight(kind: str, e: int, n: int, k: int) -> PackedWeight:
    """As in the tests, without memory."""
    return random_weight(kind, e, n, k, "meta")


def product(name: str, kernel: Any, packed: PackedWeight, arch: int, rows: int, **constants: Any) -> Case:
    """A product with `rows` rows for each matrix, on the average."""
    tile = tile_for(packed, rows, arch)
    tensors = ("codes_ptr", "scale_ptr", "minimum_ptr", "meaning_ptr", "nested_ptr", "offset_ptr", "parts_ptr")
    types = dict(zip(tensors, (_TYPES[tensor.dtype] for tensor in launch._tensors(packed)), strict=True))
    names = ("DECODER", "HIGH_FIRST", "GROUP", "NESTED", "OFFSETS", "PARTS")
    constants |= dict(zip(names, launch._constants(packed), strict=True))
    constants |= {"BM": tile.rows, "BN": tile.columns, "SWAP": tile.swap, "BYTES": tile.bytes}
    most = experts.MAX_ISSUE_SLOTS if name == "gate_up nf4" and tile.rows <= 16 else 0
    return Case(
        f"{name}, {tile.rows} rows", kernel, TYPES | types, constants, tile.options, arch, tile.rows, most, MATRIX
    )


def products(arch: int) -> Iterator[Case]:
    """Grouped and single products, in every format and with every tile of an architecture."""
    for kind, rows in (("nf4", 8), ("nf4", 16), ("nf4", 64), ("nf4-double", 16), ("nvfp4", 16), ("int4", 16),
                       ("q4_k", 16)):  # fmt: skip
        pair = weight(kind, EXPERTS, 2 * WIDTH, HIDDEN), weight(kind, EXPERTS, HIDDEN, WIDTH)
        grouped = {"DENSE": False}
        yield product(f"gate_up {kind}", experts.gate_up, pair[0], arch, rows, K=HIDDEN, N=WIDTH, TOP=TOP,
                      PAIRS=pair[1].order.pairs, **grouped)  # fmt: skip
        if kind in ("nf4", "nf4-double", "nvfp4"):
            yield product(f"down {kind}", experts.down, pair[1], arch, rows, K=WIDTH, N=HIDDEN, **grouped)
    single = weight("nf4", 1, 8192, HIDDEN)
    yield product("linear nf4", experts.down, single, arch, CANVAS, K=HIDDEN, N=8192, DENSE=True)


def small(arch: int) -> Iterator[Case]:
    """Everything else of a step."""

    def case(name: str, kernel: Any, warps: int, unaligned: tuple[str, ...] = (), **constants: Any) -> Case:
        return Case(name, kernel, TYPES, constants, {"num_warps": warps}, arch, unaligned=unaligned)

    hidden = 1 << (HIDDEN - 1).bit_length()
    yield case("prepare", experts.prepare, 8, K=HIDDEN, E=EXPERTS, EP=EXPERTS, BR=1024, BK=hidden, BM=16, PAIRS=True)
    yield case("permute", experts.permute, 4, K=HIDDEN, BK=hidden)
    yield case("combine", experts.combine, 4, H=HIDDEN, TOP=TOP, BH=1024)
    yield case("gated", experts.gated, 4, W=3 * WIDTH, BW=1024)
    yield case("residual_norm, attention", norms.residual_norm, 8, H=HIDDEN, BH=hidden, TWO=False, POST=False,
               SCALE=False, NORMS=3)  # fmt: skip
    yield case("residual_norm, MLP", norms.residual_norm, 8, H=HIDDEN, BH=hidden, TWO=True, POST=True, SCALE=True,
               NORMS=1)  # fmt: skip
    yield case("rotate, sliding", norms.rotate, 1, D=256, BD=128, HEADS=16, KV=8, OWN_V=True)
    yield case("rotate, full", norms.rotate, 1, D=512, BD=256, HEADS=16, KV=2, OWN_V=False)
    yield case("route", norms.route, 1, E=EXPERTS, EP=EXPERTS, K=TOP, KP=TOP)
    count = 1 << (math.ceil(VOCABULARY / 2048) - 1).bit_length()
    options: dict[str, Any] = {"SUPPRESS": True, "SOFTCAP": True, "PART": 2048}
    yield case("sampler, parts", sampler.parts, 4, EACH=4, **options)
    yield case("sampler, draw", sampler.draw, 8, COUNT=count, TOP=8, ROUNDS=10, **options)
    yield case("sampler, probabilities", sampler.probabilities, 4, **options)
    yield case("sampler, accept", sampler.accept, 4, CP=CANVAS, AT_ONCE=8)


def cases(arch: int) -> list[Case]:
    """All that is compiled for an architecture."""
    return list({case.name: case for case in (*products(arch), *small(arch))}.values())  # some tiles serve twice


@triton.jit
def decode_only(codes_ptr, scale_ptr, out_ptr, DECODER: tl.constexpr, BYTES: tl.constexpr):
    n, byte = tl.arange(0, 64), tl.arange(0, 32)
    at = n[:, None] * 32 + byte[None, :]
    codes = tl.load(codes_ptr + at)
    if DECODER < 0:  # what is done around the decoding
        moves: tl.constexpr = "mov.b32 $0, $4; mov.b32 $1, $4; mov.b32 $2, $4; mov.b32 $3, $4;"
        kinds: tl.constexpr = (tl.bfloat16, tl.bfloat16)
        high, low = tl.inline_asm_elementwise(moves, "=r,=r,=r,=r,r", [codes], kinds, is_pure=True, pack=4)
    else:
        high, low = decode.decode(codes, tl.load(scale_ptr + n), DECODER, BYTES)
    tl.store(out_ptr + at, high)
    tl.store(out_ptr + 2048 + at, low)


def decode_case(decoder: int, arch: int) -> Case:
    """A decoder alone; of −1, none."""
    types = {"codes_ptr": "*u8", "scale_ptr": "*i32", "out_ptr": "*bf16"}
    return Case("decode", decode_only, types, {"DECODER": decoder, "BYTES": 4}, {"num_warps": 4}, arch)


def decoders() -> list[tuple[str, int, float]]:
    """Name, number, and most instructions of a lane for each weight."""
    return [(decoder.name, int(decoder), decode.MAX_LANE_INSTRUCTIONS[decoder]) for decoder in Decoder]
