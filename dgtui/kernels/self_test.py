"""Runs every kernel once, at the widths of a model, and compares it with its reference in fp64.

It runs when a model is loaded, which also compiles the kernels before the first step. Kernels that fail are not used.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import torch

from dgtui.kernels import norms, sampler
from dgtui.kernels.experts import gated_reference
from dgtui.kernels.ops import Ops
from dgtui.kernels.packed import PackedWeight
from dgtui.kernels.sampler import Draws, Pins
from dgtui.kernels.tiles import ROWS

MOST: Final = 1e-2
"""Kernels with a larger error count as wrong. Correct ones have 1e-7 to 5e-3: bf16 rounds at 4e-3."""


@dataclass(frozen=True, slots=True)
class Widths:
    """The sizes of a model that kernels are compiled for."""

    hidden: int
    experts: int
    top: int
    "experts per token"
    vocabulary: int
    softcap: float | None
    attention: tuple[tuple[int, int, int], ...]
    "query heads, key heads and head width, for each kind of layer"
    eps: float = 1e-6


@dataclass(slots=True)
class Outcome:
    """The result: the error of each kernel, and why the kernels are not used, or None."""

    errors: dict[str, float] = field(default_factory=dict)
    failure: str | None = None


def check(
    ops: Ops,
    widths: Widths,
    device: torch.device,
    experts: Sequence[tuple[PackedWeight, PackedWeight]] = (),
    linears: Sequence[PackedWeight] = (),
) -> Outcome:
    """Runs the kernels until one fails.

    Args:
        ops: `TRITON`.
        widths: The model's sizes.
        device: The model's device.
        experts: Gate-and-up and down weights of one layer per kind of quantization.
        linears: Single matrices, one per kind.
    """
    outcome = Outcome()
    generator = torch.Generator(device).manual_seed(0)
    tests: list[tuple[str, Callable[[], float]]] = []
    for gate_up, down in experts:
        for rows in ROWS:
            name = f"experts, {gate_up.decoder.name} and {down.decoder.name}, {rows} rows"
            tests.append((name, functools.partial(_experts, ops, widths, gate_up, down, rows, generator)))
    for weight in linears:
        tests.append((f"linear, {weight.decoder.name}", functools.partial(_linear, ops, weight, generator)))
    tests += [
        ("gated", functools.partial(_gated, ops, widths, generator)),
        ("norms", functools.partial(_norms, ops, widths, generator)),
        *((f"rotary, {each}", functools.partial(_rotate, ops, widths, each, generator)) for each in widths.attention),
        ("router", functools.partial(_route, ops, widths, generator)),
        ("sampler", functools.partial(_sample, ops, widths, generator)),
    ]
    for name, test in tests:
        try:
            error = test()
        except Exception as failure:  # the compiler and the driver can raise anything
            first = next(iter(str(failure).strip().splitlines()), "")
            outcome.failure = f"{name}: {type(failure).__name__}: {first}"
            return outcome
        outcome.errors[name] = error
        if not error < MOST:
            outcome.failure = f"{name}: an error of {error:.1e}"
            return outcome
    return outcome


def _experts(
    ops: Ops, widths: Widths, gate_up: PackedWeight, down: PackedWeight, rows: int, generator: torch.Generator
) -> float:
    """Routes with `rows` per expert on average, unevenly: some have none, one has many."""
    e, hidden, _ = down.shape
    device = gate_up.codes.device
    top = widths.top if e > 1 else 1
    tokens = -(-rows * e // top)
    x = _normal((tokens, hidden), generator)
    scores = torch.rand((tokens, e), generator=generator, device=device)
    index = (scores * torch.rand(e, generator=generator, device=device)).topk(top, -1).indices.int()
    weights = torch.rand((tokens, top), generator=generator, device=device)
    found = ops.mlp(x, gate_up, down) if e == 1 else ops.experts(x, index, weights, gate_up, down)
    exact = torch.zeros((tokens, hidden), dtype=torch.float64, device=device)
    for expert in range(e):
        token, slot = (index == expert).nonzero(as_tuple=True)
        mid = gated_reference(x[token].double() @ gate_up.dequantize(torch.float64, expert).T)
        each = mid @ down.dequantize(torch.float64, expert).T
        exact.index_add_(0, token, each if e == 1 else each * weights[token, slot].double().unsqueeze(1))
    return _error(found, exact)


def _linear(ops: Ops, weight: PackedWeight, generator: torch.Generator) -> float:
    x = _normal((256, weight.shape[2]), generator)
    return _error(ops.linear(x, weight), x.double() @ weight.dequantize(torch.float64, 0).T)


def _gated(ops: Ops, widths: Widths, generator: torch.Generator) -> float:
    x = _normal((3, 2 * widths.hidden), generator)
    return _error(ops.gated(x), gated_reference(x.double()))


def _norms(ops: Ops, widths: Widths, generator: torch.Generator) -> float:
    x, y, z = (_normal((3, widths.hidden), generator) for _ in range(3))
    weights = [1 + 0.1 * _normal((widths.hidden,), generator) for _ in range(6)]
    scale = weights[0][:1]
    errors = []
    for branches, post, by, outputs in (
        ([(y, weights[0])], None, None, weights[1:4]),
        ([(y, weights[0]), (z, weights[1])], weights[2], scale, weights[3:4]),
    ):
        stream, normed = ops.residual_norm(x, branches, post, by, outputs, widths.eps)
        exact = norms.residual_norm_reference(x.float(), branches, post, by, outputs, widths.eps)
        errors += [_error(stream, exact[0]), *map(_error, normed, exact[1])]
    return max(errors)


def _rotate(ops: Ops, widths: Widths, attention: tuple[int, int, int], generator: torch.Generator) -> float:
    heads, kv, d = attention
    errors: list[float] = []
    for own_v in (2, 1):
        qkv = _normal((2, 3, (heads + own_v * kv) * d), generator)
        q_norm, k_norm = (1 + 0.1 * _normal((d,), generator) for _ in range(2))
        angles = torch.rand((3, d), generator=generator, device=qkv.device)
        start = torch.tensor(4, dtype=torch.int32, device=qkv.device)
        results = []
        for rotate, given in ((ops.rotate, qkv), (norms.rotate_reference, qkv.float())):
            keys, values = given.new_zeros((2, 2, kv, 9, d)).unbind()
            q = rotate(given, q_norm, k_norm, angles.cos(), angles.sin(), keys, values, start, heads, widths.eps)
            results.append((q, keys, values))
        errors += map(_error, *results)
    return max(errors)


def _route(ops: Ops, widths: Widths, generator: torch.Generator) -> float:
    scores = torch.randn((64, widths.experts), generator=generator, device=generator.device)  # no two are equal
    scale = torch.rand(widths.experts, generator=generator, device=scores.device)
    found, exact = (route(scores, scale, widths.top) for route in (ops.route, norms.route_reference))
    return max(_error(found[0], exact[0]), _differing(found[1], exact[1]))


def _sample(ops: Ops, widths: Widths, generator: torch.Generator) -> float:
    v, device = widths.vocabulary, generator.device
    logits = 4 * _normal((2, 8, v), generator)
    pinned = torch.arange(16, device=device).view(2, 8) % 5 == 2
    suppressed = torch.arange(v, device=device) % 7 == 3
    pins = Pins(torch.full((2, 8), v - 1, device=device), pinned, suppressed)
    counter = torch.tensor([1, 2], dtype=torch.int32, device=device)
    seeds = torch.tensor([3, (1 << 62) + 5], device=device)
    draws = Draws(seeds, torch.arange(2, dtype=torch.int32, device=device), counter)
    inverse, bound = torch.tensor([1 / 0.7, 1.0], device=device).unbind()
    found, exact = (
        sample(logits, inverse, widths.softcap, pins, draws) for sample in (ops.sample, sampler.sample_reference)
    )
    accepted, expected = (accept(exact, pins, bound) for accept in (ops.accept, sampler.accept_reference))
    live = torch.tensor([True, False], device=device)
    last = (exact.normalizer, inverse, widths.softcap, pins, live)
    probs = sampler.probabilities_reference(logits, *last)
    return max(
        *map(_differing, (found.argmax, found.drawn, found.noise), (exact.argmax, exact.drawn, exact.noise)),
        *map(_differing, (accepted.accepted, accepted.canvas), (expected.accepted, expected.canvas)),
        *map(_error, (found.entropy, found.top_probs), (exact.entropy, exact.top_probs)),
        _error(found.normalizer, exact.normalizer),
        _error(ops.probabilities(logits, *last), probs),
    )


def _normal(shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    return torch.randn(shape, generator=generator, device=generator.device).bfloat16()


def _error(found: torch.Tensor, exact: torch.Tensor) -> float:
    """The norm of the difference, relative to the exact result. NaN if any value is NaN."""
    exact = exact.double()
    return float((found.double() - exact).norm() / exact.norm().clamp_min(1e-30))


def _differing(found: torch.Tensor, exact: torch.Tensor) -> float:
    """The share of positions that differ. A sum that is rounded differently may move a draw to its neighbour."""
    return float((found != exact).double().mean())
