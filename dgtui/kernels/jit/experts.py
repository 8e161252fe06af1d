"""Grouped products with 4-bit weights: (R, K) rows of bf16, sorted by expert, times (E, N, K).

A tile is up to BM rows of one expert and BN columns. The K columns are processed in blocks of 64, each as two products
of 32: the columns that bytes hold first, and those that they hold second. Activations are in that order (`prepare`), so
no decoded value is moved. Scales of 64 columns or more multiply the fp32 sum of a block. Scales of 32 columns multiply
the two sums of a block. Scales of 16 columns multiply the decoded values. Weights are read once for each row tile.

SWAP makes the weights the left operand of the matrix instruction; BYTES are decoded together (`decode`).
"""

from typing import Final

import triton
import triton.language as tl

from dgtui.kernels.jit.decode import E2M1, E2M1_FACTOR, decode

MAX_ISSUE_SLOTS: Final = 5.5
"""Instructions that a multiprocessor issues per weight and lane in the loop of `gate_up` with NF4, at 16 rows."""


@triton.jit
def prepare(
    index_ptr, x_ptr, order_ptr, place_ptr, tile_expert_ptr, tile_start_ptr, tile_rows_ptr, permuted_ptr,
    R, TILES, K: tl.constexpr, E: tl.constexpr, EP: tl.constexpr, BR: tl.constexpr, BK: tl.constexpr,
    BM: tl.constexpr, PAIRS: tl.constexpr,
):  # fmt: skip
    """Sorts the routes by expert, stably, and builds the table of tiles, with one program per expert. Further programs
    put the columns of a token into the order of the weights (PAIRS).

    `order`: the sorted routes (R); `place`: the position of each in it. Unused tiles have 0 rows.
    EP, BR, BK: powers of 2, EP and BK no less than E and K.
    """
    program = tl.program_id(0)
    if program >= E:
        permute_row(x_ptr, permuted_ptr, program - E, K, BK, PAIRS)
        return
    expert = program
    e = tl.arange(0, EP)
    r = tl.arange(0, BR)
    counts = tl.zeros((EP,), tl.int32)
    for at in range(0, R, BR):
        index = tl.load(index_ptr + at + r, mask=at + r < R, other=0)
        counts += tl.histogram(index, EP, mask=at + r < R)
    start = tl.sum(tl.where(e < expert, counts, 0), 0)
    rank = start
    for at in range(0, R, BR):
        mine = tl.load(index_ptr + at + r, mask=at + r < R, other=E) == expert
        places = rank + tl.cumsum(mine.to(tl.int32), 0) - 1
        tl.store(order_ptr + places, at + r, mask=mine)
        tl.store(place_ptr + at + r, places, mask=mine)
        rank += tl.sum(mine.to(tl.int32), 0)
    tiles = (counts + BM - 1) // BM
    first = tl.sum(tl.where(e < expert, tiles, 0), 0)
    for t in range(0, tl.cdiv(rank - start, BM)):
        tl.store(tile_expert_ptr + first + t, expert)
        tl.store(tile_start_ptr + first + t, start + t * BM)
        tl.store(tile_rows_ptr + first + t, tl.minimum(rank - start - t * BM, BM))
    if expert == E - 1:
        for rest in range(first + tl.cdiv(rank - start, BM), TILES):
            tl.store(tile_rows_ptr + rest, 0)


@triton.jit
def permute(x_ptr, permuted_ptr, K: tl.constexpr, BK: tl.constexpr):
    """Reorders the columns of each row for weights in pairs, one program per row."""
    permute_row(x_ptr, permuted_ptr, tl.program_id(0), K, BK, True)


@triton.jit
def permute_row(x_ptr, permuted_ptr, row, K: tl.constexpr, BK: tl.constexpr, PAIRS: tl.constexpr):
    k = tl.arange(0, BK)
    base = row.to(tl.int64) * K
    x = tl.load(x_ptr + base + k, mask=k < K)
    tl.store(permuted_ptr + base + place_of(k, PAIRS), x, mask=k < K)


@triton.jit
def place_of(column, PAIRS: tl.constexpr):
    """The position of a column in activations: for weights in pairs, the even columns of a block of 64 come first."""
    return column // 64 * 64 + column % 2 * 32 + column % 64 // 2 if PAIRS else column


@triton.jit
def gelu(x):
    """The tanh form of GELU: x · sigmoid(2u)."""
    u = 0.7978845608028654 * (x + 0.044715 * x * x * x)
    return x / (1.0 + tl.exp(-2.0 * u))


@triton.jit
def load_scales(scale_ptr, meaning_ptr, nested_ptr, offset_ptr, at, flat, NESTED: tl.constexpr):
    """Scales in fp32. `at`: their offsets; `flat`: the same in the order of (E, N, K / 64)."""
    scale = tl.load(scale_ptr + at)
    if NESTED:
        scale = tl.load(meaning_ptr + scale.to(tl.int32)) * tl.load(nested_ptr + flat // 256) + tl.load(offset_ptr)
    return scale.to(tl.float32)


@triton.jit
def add_block(
    acc, first, second, codes_at, weight, row, expert, block, rows_of_weight: tl.constexpr, K: tl.constexpr,
    DECODER: tl.constexpr, HIGH_FIRST: tl.constexpr, GROUP: tl.constexpr, NESTED: tl.constexpr,
    OFFSETS: tl.constexpr, SWAP: tl.constexpr, BYTES: tl.constexpr,
):  # fmt: skip
    """acc + the product of a block of 64 columns. `row` (BN): rows of the weight, `expert` int64.

    `weight`: pointers to scales, offsets, the values of nested scales, their scales, their offset.
    """
    codes = tl.load(codes_at + block * 32)
    scale_ptr, minimum_ptr, meaning_ptr, nested_ptr, offset_ptr = weight
    if GROUP == 16:
        at = (expert * (K // 64) + block) * rows_of_weight + row
        high, low = decode(codes, tl.load(scale_ptr + at), DECODER, BYTES)
    else:
        high, low = decode(codes, row, DECODER, BYTES)
    if HIGH_FIRST:
        w_first, w_second = high, low
    else:
        w_first, w_second = low, high
    if GROUP == 16:
        acc = multiply(second, w_second, multiply(first, w_first, acc, SWAP), SWAP)
    elif GROUP == 32:
        at = (expert * (K // 32) + 2 * block) * rows_of_weight + row
        zero = tl.zeros_like(acc)
        acc += multiply(first, w_first, zero, SWAP) * across(tl.load(scale_ptr + at).to(tl.float32), SWAP)
        at_second = at + rows_of_weight
        acc += multiply(second, w_second, zero, SWAP) * across(tl.load(scale_ptr + at_second).to(tl.float32), SWAP)
        if OFFSETS:
            acc -= outer(row_sum(first, SWAP), tl.load(minimum_ptr + at).to(tl.float32), SWAP)
            acc -= outer(row_sum(second, SWAP), tl.load(minimum_ptr + at_second).to(tl.float32), SWAP)
    else:
        at = (expert * (K // GROUP) + block // (GROUP // 64)) * rows_of_weight + row
        flat = (expert * rows_of_weight + row) * (K // 64) + block
        scale = load_scales(scale_ptr, meaning_ptr, nested_ptr, offset_ptr, at, flat, NESTED)
        product = multiply(second, w_second, multiply(first, w_first, tl.zeros_like(acc), SWAP), SWAP)
        acc += product * across(scale, SWAP)
        if OFFSETS:
            sums = row_sum(first, SWAP) + row_sum(second, SWAP)
            acc -= outer(sums, tl.load(minimum_ptr + at).to(tl.float32), SWAP)
    return acc


@triton.jit
def multiply(x, w, acc, SWAP: tl.constexpr):
    """acc + x wᵀ, or its transpose."""
    return tl.dot(w, x, acc) if SWAP else tl.dot(x, w.T, acc)


@triton.jit
def across(each, SWAP: tl.constexpr):
    """One value per row of the weight, shaped as a factor for an accumulator."""
    return each[:, None] if SWAP else each[None, :]


@triton.jit
def row_sum(x, SWAP: tl.constexpr):
    return tl.sum(x.to(tl.float32), 0 if SWAP else 1)


@triton.jit
def outer(sums, each, SWAP: tl.constexpr):
    return sums[None, :] * each[:, None] if SWAP else sums[:, None] * each[None, :]


@triton.jit
def scaled_parts(acc, parts_ptr, expert, row, rows_of_weight: tl.constexpr, DECODER: tl.constexpr,
                 PARTS: tl.constexpr, SWAP: tl.constexpr):  # fmt: skip
    """The sum, times the factors of the weight's parts."""
    if PARTS:
        each = tl.load(parts_ptr + expert * PARTS + row * PARTS // rows_of_weight)
        if DECODER == E2M1:
            each = each * E2M1_FACTOR
        acc = acc * across(each, SWAP)
    return acc


@triton.jit
def tile_of(tile_expert_ptr, tile_start_ptr, tile_rows_ptr, R, BM: tl.constexpr, DENSE: tl.constexpr):
    """A program's expert, first row and number of rows. DENSE: one expert, all rows in order."""
    tile = tl.program_id(1)
    if DENSE:
        start = tile * BM
        rows = tl.minimum(R - start, BM)
        expert = (tile * 0).to(tl.int64)
    else:
        rows = tl.load(tile_rows_ptr + tile)
        expert = tl.load(tile_expert_ptr + tile, mask=rows > 0, other=0).to(tl.int64)
        start = tl.load(tile_start_ptr + tile, mask=rows > 0, other=0)
    return expert, start, rows


@triton.jit
def gate_up(
    x_ptr, codes_ptr, scale_ptr, minimum_ptr, meaning_ptr, nested_ptr, offset_ptr, parts_ptr,
    order_ptr, tile_expert_ptr, tile_start_ptr, tile_rows_ptr, h_ptr, R,
    K: tl.constexpr, N: tl.constexpr, TOP: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
    DECODER: tl.constexpr, HIGH_FIRST: tl.constexpr, GROUP: tl.constexpr, NESTED: tl.constexpr,
    OFFSETS: tl.constexpr, PARTS: tl.constexpr, SWAP: tl.constexpr, BYTES: tl.constexpr, DENSE: tl.constexpr,
    PAIRS: tl.constexpr,
):  # fmt: skip
    """h[sorted route] = gelu(x wgᵀ) · (x wuᵀ). x (T, K) in order; weights (E, 2N, K); h (R, N), in the order of PAIRS.

    Grid: (N / BN, tiles).
    """
    expert, start, rows = tile_of(tile_expert_ptr, tile_start_ptr, tile_rows_ptr, R, BM, DENSE)
    if rows == 0:
        return
    m = tl.arange(0, BM)
    n = tl.program_id(0) * BN + tl.arange(0, BN)
    token = start + tl.where(m < rows, m, 0)
    if not DENSE:
        token = tl.load(order_ptr + token) // TOP
    byte = tl.arange(0, 32)
    codes_at = codes_ptr + expert * (N * K) + n[:, None] * (K // 2) + byte[None, :]
    weight = (scale_ptr, minimum_ptr, meaning_ptr, nested_ptr, offset_ptr)
    if SWAP:
        x_at = x_ptr + token.to(tl.int64)[None, :] * K + byte[:, None]
        gate = tl.zeros((BN, BM), tl.float32)
    else:
        x_at = x_ptr + token.to(tl.int64)[:, None] * K + byte[None, :]
        gate = tl.zeros((BM, BN), tl.float32)
    up = tl.zeros_like(gate)
    for block in range(K // 64):
        first = tl.load(x_at + block * 64)
        second = tl.load(x_at + block * 64 + 32)
        gate = add_block(gate, first, second, codes_at, weight, n, expert, block, 2 * N, K,
                         DECODER, HIGH_FIRST, GROUP, NESTED, OFFSETS, SWAP, BYTES)  # fmt: skip
        up = add_block(up, first, second, codes_at + N * (K // 2), weight, N + n, expert, block, 2 * N, K,
                       DECODER, HIGH_FIRST, GROUP, NESTED, OFFSETS, SWAP, BYTES)  # fmt: skip
    gate = scaled_parts(gate, parts_ptr, expert, n, 2 * N, DECODER, PARTS, SWAP)
    up = scaled_parts(up, parts_ptr, expert, N + n, 2 * N, DECODER, PARTS, SWAP)
    store(h_ptr, gelu(gate) * up, start, m, rows, place_of(n, PAIRS), N, SWAP)


@triton.jit
def down(
    x_ptr, codes_ptr, scale_ptr, minimum_ptr, meaning_ptr, nested_ptr, offset_ptr, parts_ptr,
    tile_expert_ptr, tile_start_ptr, tile_rows_ptr, y_ptr, R,
    K: tl.constexpr, N: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
    DECODER: tl.constexpr, HIGH_FIRST: tl.constexpr, GROUP: tl.constexpr, NESTED: tl.constexpr,
    OFFSETS: tl.constexpr, PARTS: tl.constexpr, SWAP: tl.constexpr, BYTES: tl.constexpr, DENSE: tl.constexpr,
):  # fmt: skip
    """y[row] = x wᵀ: x (R, K) sorted by expert and in order, weights (E, N, K), y (R, N). Grid: (N / BN, tiles)."""
    expert, start, rows = tile_of(tile_expert_ptr, tile_start_ptr, tile_rows_ptr, R, BM, DENSE)
    if rows == 0:
        return
    m = tl.arange(0, BM)
    n = tl.program_id(0) * BN + tl.arange(0, BN)
    row = (start + tl.where(m < rows, m, 0)).to(tl.int64)
    byte = tl.arange(0, 32)
    codes_at = codes_ptr + expert * (N * K // 2) + n[:, None] * (K // 2) + byte[None, :]
    weight = (scale_ptr, minimum_ptr, meaning_ptr, nested_ptr, offset_ptr)
    if SWAP:
        x_at = x_ptr + row[None, :] * K + byte[:, None]
        acc = tl.zeros((BN, BM), tl.float32)
    else:
        x_at = x_ptr + row[:, None] * K + byte[None, :]
        acc = tl.zeros((BM, BN), tl.float32)
    for block in range(K // 64):
        first = tl.load(x_at + block * 64)
        second = tl.load(x_at + block * 64 + 32)
        acc = add_block(acc, first, second, codes_at, weight, n, expert, block, N, K,
                        DECODER, HIGH_FIRST, GROUP, NESTED, OFFSETS, SWAP, BYTES)  # fmt: skip
    acc = scaled_parts(acc, parts_ptr, expert, n, N, DECODER, PARTS, SWAP)
    store(y_ptr, acc, start, m, rows, n, N, SWAP)


@triton.jit
def store(to_ptr, tile, start, m, rows, column, N: tl.constexpr, SWAP: tl.constexpr):
    """Stores a tile to its rows, in the pointer's type."""
    value = tile.to(to_ptr.dtype.element_ty)
    at = (start + m).to(tl.int64) * N
    if SWAP:
        tl.store(to_ptr + at[None, :] + column[:, None], value, mask=(m < rows)[None, :])
    else:
        tl.store(to_ptr + at[:, None] + column[None, :], value, mask=(m < rows)[:, None])


@triton.jit
def combine(y_ptr, place_ptr, weight_ptr, out_ptr, H: tl.constexpr, TOP: tl.constexpr, BH: tl.constexpr):
    """out[token] = Σ weight · y[place of its route], in the order of the routes. Grid: (T, columns / BH)."""
    token = tl.program_id(0)
    h = tl.program_id(1) * BH + tl.arange(0, BH)
    acc = tl.zeros((BH,), tl.float32)
    for k in tl.static_range(TOP):
        place = tl.load(place_ptr + token * TOP + k).to(tl.int64)
        weight = tl.load(weight_ptr + token * TOP + k)
        acc += weight * tl.load(y_ptr + place * H + h, mask=h < H, other=0.0).to(tl.float32)
    tl.store(out_ptr + token.to(tl.int64) * H + h, acc.to(out_ptr.dtype.element_ty), mask=h < H)


@triton.jit
def gated(x_ptr, out_ptr, W: tl.constexpr, BW: tl.constexpr):
    """gelu(gate) · up of rows (2W). Grid: (T, columns / BW)."""
    row = tl.program_id(0).to(tl.int64)
    w = tl.program_id(1) * BW + tl.arange(0, BW)
    gate = tl.load(x_ptr + row * 2 * W + w, mask=w < W).to(tl.float32)
    up = tl.load(x_ptr + row * 2 * W + W + w, mask=w < W).to(tl.float32)
    tl.store(out_ptr + row * W + w, (gelu(gate) * up).to(out_ptr.dtype.element_ty), mask=w < W)
