"""RMS norms with the residual, q/k norm with rotary embedding, and the router: one row per program, sums in fp32."""

import triton
import triton.language as tl


@triton.jit
def rms(x, N: tl.constexpr, eps):
    """x / √(mean x² + eps); x is 0 outside its N values."""
    return x * tl.rsqrt(tl.sum(x * x, 0) / N + eps)


@triton.jit
def load_row(ptr, h, H: tl.constexpr):
    return tl.load(ptr + h, mask=h < H, other=0.0).to(tl.float32)


@triton.jit
def residual_norm(
    x_ptr, y_ptr, y_weight_ptr, z_ptr, z_weight_ptr, post_ptr, scale_ptr, first_ptr, second_ptr, third_ptr,
    stream_ptr, normed_ptr, T, eps,
    H: tl.constexpr, BH: tl.constexpr, TWO: tl.constexpr, POST: tl.constexpr, SCALE: tl.constexpr,
    NORMS: tl.constexpr,
):  # fmt: skip
    """stream = (x + total) · scale, total = rms(y) · weight [+ rms(z) · weight, TWO], normalised again with POST.

    normed (NORMS, T, H): rms(stream) times each weight. Grid: (T). BH: the next power of 2 of H.
    """
    row = tl.program_id(0).to(tl.int64) * H
    h = tl.arange(0, BH)
    total = rms(load_row(y_ptr + row, h, H), H, eps) * load_row(y_weight_ptr, h, H)
    if TWO:
        total += rms(load_row(z_ptr + row, h, H), H, eps) * load_row(z_weight_ptr, h, H)
    if POST:
        total = rms(total, H, eps) * load_row(post_ptr, h, H)
    total += load_row(x_ptr + row, h, H)
    if SCALE:
        total = total * tl.load(scale_ptr).to(tl.float32)
    stream = total.to(stream_ptr.dtype.element_ty)
    tl.store(stream_ptr + row + h, stream, mask=h < H)
    normed = rms(stream.to(tl.float32), H, eps)
    size = T.to(tl.int64) * H
    if NORMS > 0:
        store_row(normed_ptr + row, normed * load_row(first_ptr, h, H), h, H)
    if NORMS > 1:
        store_row(normed_ptr + size + row, normed * load_row(second_ptr, h, H), h, H)
    if NORMS > 2:
        store_row(normed_ptr + 2 * size + row, normed * load_row(third_ptr, h, H), h, H)


@triton.jit
def store_row(ptr, value, h, H: tl.constexpr):
    tl.store(ptr + h, value.to(ptr.dtype.element_ty), mask=h < H)


@triton.jit
def rotate(
    qkv_ptr, q_norm_ptr, k_norm_ptr, cos_ptr, sin_ptr, start_ptr, q_ptr, k_ptr, v_ptr, C,
    k_batch, k_head, k_place, v_batch, v_head, v_place, eps,
    D: tl.constexpr, BD: tl.constexpr, HEADS: tl.constexpr, KV: tl.constexpr, OWN_V: tl.constexpr,
):  # fmt: skip
    """One head of a token: writes q, normalised and rotated, to q (B, HEADS, C, D); k, likewise, and v, normalised, to
    their buffers.

    A row of qkv: HEADS of q, KV of k, KV of v; without OWN_V, v is k. Grid: (B · C, HEADS + 2 · KV). BD: the next
    power of 2 of D / 2. The rotation pairs the two halves of a head.
    """
    token, head = tl.program_id(0), tl.program_id(1)
    batch, c = token // C, token % C
    source = head
    if not OWN_V:
        source = tl.where(head < HEADS + KV, head, head - KV)
    width: tl.constexpr = (HEADS + 2 * KV if OWN_V else HEADS + KV) * D
    i = tl.arange(0, BD)
    half: tl.constexpr = D // 2
    at = qkv_ptr + token.to(tl.int64) * width + source * D
    low, high = load_row(at, i, half), load_row(at + half, i, half)
    factor = tl.rsqrt((tl.sum(low * low, 0) + tl.sum(high * high, 0)) / D + eps)
    low, high = low * factor, high * factor
    if head < HEADS + KV:
        norm_ptr = k_norm_ptr
        if head < HEADS:
            norm_ptr = q_norm_ptr
        low, high = low * load_row(norm_ptr, i, half), high * load_row(norm_ptr + half, i, half)
        angles = c * D
        low, high = (
            low * load_row(cos_ptr + angles, i, half) - high * load_row(sin_ptr + angles, i, half),
            high * load_row(cos_ptr + angles + half, i, half) + low * load_row(sin_ptr + angles + half, i, half),
        )
    if head < HEADS:
        to = q_ptr + ((batch * HEADS + head).to(tl.int64) * C + c) * D
        store_row(to, low, i, half)
        store_row(to + half, high, i, half)
    else:
        place = (tl.load(start_ptr) + c).to(tl.int64)
        if head < HEADS + KV:
            to = k_ptr + batch * k_batch + (head - HEADS) * k_head + place * k_place
        else:
            to = v_ptr + batch * v_batch + (head - HEADS - KV) * v_head + place * v_place
        store_row(to, low, i, half)
        store_row(to + half, high, i, half)


@triton.jit
def route(scores_ptr, expert_scale_ptr, weights_ptr, index_ptr, E: tl.constexpr, EP: tl.constexpr, K: tl.constexpr,
          KP: tl.constexpr):  # fmt: skip
    """The K most likely experts of a token; their probabilities are normalised to sum to 1 and scaled. Grid: (T).

    EP and KP: the next powers of 2 of E and K. The other experts cancel out in the normalisation.
    """
    token = tl.program_id(0)
    e, k = tl.arange(0, EP), tl.arange(0, KP)
    score = tl.load(scores_ptr + token * E + e, mask=e < E, other=-float("inf")).to(tl.float32)
    chosen = tl.zeros((KP,), tl.int32)
    best = tl.full((KP,), -float("inf"), tl.float32)
    for r in tl.static_range(K):
        value = tl.max(score, 0)
        which = tl.min(tl.where(score == value, e, EP - 1), 0)
        best = tl.where(k == r, value, best)
        chosen = tl.where(k == r, which, chosen)
        score = tl.where(e == which, -float("inf"), score)
    mass = tl.exp(best - tl.max(best, 0))
    weight = mass / tl.sum(mass, 0) * tl.load(expert_scale_ptr + chosen, mask=k < K, other=0.0).to(tl.float32)
    tl.store(weights_ptr + token * K + k, weight, mask=k < K)
    tl.store(index_ptr + token * K + k, chosen, mask=k < K)
