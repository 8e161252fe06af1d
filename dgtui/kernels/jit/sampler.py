"""The sampler for (rows, V) logits: one pass over them and a small second one. The logits are not copied.

Pass 1 softcaps and scales the logits in registers. For each part of a row it stores the maximum and its position, Σ e^z
and Σ z · e^z relative to the maximum. Pass 2 combines the parts of a row into normalizer, entropy and argmax. It draws
by the inverse of the cumulative distribution: first the part, from the sums of parts, then the position in that part,
which is read again. This needs one random number per position instead of one per logit. The 8 most likely ids are in
the 8 parts with the largest maxima, which are also read again.
"""

import triton
import triton.language as tl

LAST = tl.constexpr(2147483647)


@triton.jit
def scaled(x_ptr, at, mask, inverse_t, cap, SOFTCAP: tl.constexpr):
    """Logits in fp32, softcapped and divided by the temperature; −inf outside the mask."""
    z = tl.load(x_ptr + at, mask=mask, other=0.0).to(tl.float32)
    if SOFTCAP:
        z = cap * (1.0 - 2.0 / (tl.exp(2.0 / cap * z) + 1.0))  # tanh(u) = 1 − 2 / (e^2u + 1)
    return tl.where(mask, z * inverse_t, -float("inf"))


@triton.jit
def allowed(suppressed_ptr, at, V, SUPPRESS: tl.constexpr):
    """Whether ids can be drawn."""
    mask = at < V
    if SUPPRESS:
        mask = mask & (tl.load(suppressed_ptr + at, mask=mask, other=1) == 0)
    return mask


@triton.jit
def parts(
    x_ptr, suppressed_ptr, inverse_t_ptr, max_ptr, arg_ptr, sum_ptr, moment_ptr, V, cap,
    PART: tl.constexpr, EACH: tl.constexpr, SUPPRESS: tl.constexpr, SOFTCAP: tl.constexpr,
):  # fmt: skip
    """Pass 1. Grid: (rows, programs); a program takes EACH parts of PART logits."""
    row = tl.program_id(0).to(tl.int64)
    count = tl.cdiv(V, PART)
    inverse_t = tl.load(inverse_t_ptr)
    i = tl.arange(0, PART)
    for each in range(EACH):
        part = tl.program_id(1) * EACH + each
        if part < count:
            at = part * PART + i
            mask = allowed(suppressed_ptr, at, V, SUPPRESS)
            z = scaled(x_ptr + row * V, at, mask, inverse_t, cap, SOFTCAP)
            highest = tl.max(z, 0)
            about = tl.maximum(highest, -3.0e38)  # finite even if all of a part is suppressed
            e = tl.exp(z - about)
            to = row * count + part
            tl.store(max_ptr + to, highest)
            tl.store(arg_ptr + to, tl.min(tl.where(z == highest, at, LAST), 0))
            tl.store(sum_ptr + to, tl.sum(e, 0))
            tl.store(moment_ptr + to, tl.sum(tl.where(mask, z - about, 0.0) * e, 0))


@triton.jit
def key(seeds_ptr, candidates_ptr, counter_ptr, row, C, ROUNDS: tl.constexpr):
    """The first two random words of a row: of a position of a candidate."""
    candidate = row // C
    seed = tl.load(seeds_ptr + candidate)
    c3 = tl.load(candidates_ptr + candidate).to(tl.uint32)
    block, step = tl.load(counter_ptr).to(tl.uint32), tl.load(counter_ptr + 1).to(tl.uint32)
    first, second, _, _ = tl.philox(seed, (row % C).to(tl.uint32), step, block, c3, ROUNDS)
    return first, second


@triton.jit
def draw(
    x_ptr, suppressed_ptr, held_ptr, pinned_ptr, inverse_t_ptr, seeds_ptr, candidates_ptr, counter_ptr,
    max_ptr, arg_ptr, sum_ptr, moment_ptr,
    entropy_ptr, argmax_ptr, drawn_ptr, noise_ptr, top_ids_ptr, top_probs_ptr, normalizer_ptr, V, C, cap,
    PART: tl.constexpr, COUNT: tl.constexpr, TOP: tl.constexpr, ROUNDS: tl.constexpr, SUPPRESS: tl.constexpr,
    SOFTCAP: tl.constexpr,
):  # fmt: skip
    """Pass 2. Grid: (rows). COUNT: the next power of 2 of the number of parts."""
    row = tl.program_id(0)
    k = tl.arange(0, TOP)
    word, other_word = key(seeds_ptr, candidates_ptr, counter_ptr, row, C, ROUNDS)
    tl.store(noise_ptr + row, (other_word.to(tl.uint64) * V >> 32).to(tl.int64))
    if tl.load(pinned_ptr + row) != 0:
        held = tl.load(held_ptr + row)
        tl.store(entropy_ptr + row, 0.0)
        tl.store(normalizer_ptr + row, 0.0)
        tl.store(argmax_ptr + row, held)
        tl.store(drawn_ptr + row, held)
        tl.store(top_ids_ptr + row * TOP + k, tl.where(k == 0, held, 0))
        tl.store(top_probs_ptr + row * TOP + k, tl.where(k == 0, 1.0, 0.0))
        return
    count = tl.cdiv(V, PART)
    j = tl.arange(0, COUNT)
    at = row * count + j
    highest = tl.load(max_ptr + at, mask=j < count, other=-float("inf"))
    top = tl.max(highest, 0)
    factor = tl.exp(highest - top)
    mass = tl.load(sum_ptr + at, mask=j < count, other=0.0) * factor
    total = tl.sum(mass, 0)
    # Σ (z − top) · e^(z − top), from each part's sum relative to its own maximum
    moments = factor * tl.load(moment_ptr + at, mask=j < count, other=0.0) + (highest - top) * mass
    moment = tl.sum(tl.where(mass > 0, moments, 0.0), 0)
    tl.store(entropy_ptr + row, tl.maximum(tl.log(total) - moment / total, 0.0))
    tl.store(normalizer_ptr + row, top + tl.log(total))
    first = tl.min(tl.where(highest == top, j, COUNT), 0)
    tl.store(argmax_ptr + row, tl.load(arg_ptr + row * count + first).to(tl.int64))

    x_row = x_ptr + row.to(tl.int64) * V
    inverse_t = tl.load(inverse_t_ptr)
    i = tl.arange(0, PART)
    wanted = (word >> 8).to(tl.float32) * 5.9604644775390625e-08 * total  # [0, 1) in steps of 2^−24
    part = first_above(tl.cumsum(mass, 0), mass, wanted, j, COUNT)
    before = tl.sum(tl.where(j < part, mass, 0.0), 0)
    ids = part * PART + i
    e = tl.exp(scaled(x_row, ids, allowed(suppressed_ptr, ids, V, SUPPRESS), inverse_t, cap, SOFTCAP) - top)
    place = first_above(before + tl.cumsum(e, 0), e, wanted, i, PART)
    tl.store(drawn_ptr + row, (part * PART + place).to(tl.int64))

    likeliest = tl.zeros((TOP,), tl.int32)
    for r in tl.static_range(TOP):
        best = tl.min(tl.where(highest == tl.max(highest, 0), j, COUNT - 1), 0)
        likeliest = tl.where(k == r, best, likeliest)
        highest = tl.where(j == best, -float("inf"), highest)
    candidates = likeliest[:, None] * PART + i[None, :]
    z = scaled(x_row, candidates, allowed(suppressed_ptr, candidates, V, SUPPRESS), inverse_t, cap, SOFTCAP)
    for r in tl.static_range(TOP):
        value = tl.max(tl.max(z, 1), 0)
        best = tl.min(tl.min(tl.where(z == value, candidates, LAST), 1), 0)
        prob = tl.exp(value - top) / total
        tl.store(top_ids_ptr + row * TOP + r, tl.where(prob > 0, best, 0).to(tl.int64))
        tl.store(top_probs_ptr + row * TOP + r, prob)
        z = tl.where(candidates == best, -float("inf"), z)


@triton.jit
def first_above(cumulative, mass, wanted, i, COUNT: tl.constexpr):
    """The first position at which the cumulative mass exceeds `wanted`; if none does, the last with any mass."""
    place = tl.min(tl.where((cumulative > wanted) & (mass > 0), i, COUNT), 0)
    return tl.minimum(place, tl.max(tl.where(mass > 0, i, 0), 0))


@triton.jit
def probabilities(
    x_ptr, suppressed_ptr, held_ptr, pinned_ptr, inverse_t_ptr, normalizer_ptr, live_ptr, out_ptr, V, C, cap,
    PART: tl.constexpr, SUPPRESS: tl.constexpr, SOFTCAP: tl.constexpr,
):  # fmt: skip
    """e^(z − normalizer) of each row; for pinned rows 1 at the id and 0 elsewhere; 0 for rows that are not live.

    Grid: (rows, parts). `out` may be `x`.
    """
    row = tl.program_id(0)
    at = tl.program_id(1) * PART + tl.arange(0, PART)
    mask = allowed(suppressed_ptr, at, V, SUPPRESS)
    base = row.to(tl.int64) * V
    z = scaled(x_ptr + base, at, mask, tl.load(inverse_t_ptr), cap, SOFTCAP)
    prob = tl.exp(z - tl.load(normalizer_ptr + row))
    held = tl.load(held_ptr + row)
    prob = tl.where(tl.load(pinned_ptr + row) != 0, tl.where(at == held, 1.0, 0.0), prob)
    prob = tl.where(tl.load(live_ptr + row // C) != 0, prob, 0.0)
    tl.store(out_ptr + base + at, prob.to(out_ptr.dtype.element_ty), mask=at < V)


@triton.jit
def accept(
    entropy_ptr, drawn_ptr, noise_ptr, held_ptr, pinned_ptr, bound_ptr, accepted_ptr, canvas_ptr, mean_ptr, C,
    CP: tl.constexpr, AT_ONCE: tl.constexpr,
):  # fmt: skip
    """Accepts positions in ascending order of entropy while the sum of the previous ones is within the bound.

    Grid: (candidates). The sum before a position is over all others with less entropy, and equal ones to its left; no
    sort is needed. CP: the next power of 2 of the number of positions.
    """
    base = tl.program_id(0) * C
    i = tl.arange(0, CP)
    entropy = tl.load(entropy_ptr + base + i, mask=i < C, other=float("inf"))
    before = tl.zeros((CP,), tl.float32)
    for start in range(0, C, AT_ONCE):
        j = start + tl.arange(0, AT_ONCE)
        others = tl.load(entropy_ptr + base + j, mask=j < C, other=float("inf"))
        earlier = (others[None, :] < entropy[:, None]) | (
            (others[None, :] == entropy[:, None]) & (j[None, :] < i[:, None])
        )
        before += tl.sum(tl.where(earlier & (j < C)[None, :], others[None, :], 0.0), 1)
    accepted = before <= tl.load(bound_ptr)
    pinned = tl.load(pinned_ptr + base + i, mask=i < C, other=1) != 0
    drawn = tl.load(drawn_ptr + base + i, mask=i < C)
    noise = tl.load(noise_ptr + base + i, mask=i < C)
    held = tl.load(held_ptr + base + i, mask=i < C)
    tl.store(accepted_ptr + base + i, accepted, mask=i < C)
    tl.store(canvas_ptr + base + i, tl.where(pinned, held, tl.where(accepted, drawn, noise)), mask=i < C)
    free = tl.maximum(tl.sum((~pinned).to(tl.int32), 0), 1)
    tl.store(mean_ptr + tl.program_id(0), tl.sum(tl.where(i < C, entropy, 0.0), 0) / free.to(tl.float32))
