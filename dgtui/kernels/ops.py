"""The operations of a denoising step as one object, so a forward is written once for kernels and references.

T tokens, H hidden, E experts of width W, k experts per token; B candidates, C canvas positions, V vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import torch

from dgtui.kernels import experts, norms, sampler
from dgtui.kernels.packed import PackedWeight
from dgtui.kernels.sampler import Accepted, Draws, Pins, Sampled


class Experts(Protocol):
    def __call__(
        self, x: torch.Tensor, index: torch.Tensor, weights: torch.Tensor, gate_up: PackedWeight, down: PackedWeight
    ) -> torch.Tensor:
        """x (T, H), index (T, k) int32, weights (T, k) fp32, gate_up (E, 2W, H) gate first, down (E, H, W) → (T, H).

        The k results of a token are added in the order of `index`, so the sum is deterministic.
        """


class Mlp(Protocol):
    def __call__(self, x: torch.Tensor, gate_up: PackedWeight, down: PackedWeight) -> torch.Tensor:
        """A dense gated MLP: x (T, H), gate_up (1, 2W, H) gate first, down (1, H, W) → (T, H)."""


class Linear(Protocol):
    def __call__(self, x: torch.Tensor, weight: PackedWeight) -> torch.Tensor:
        """x (T, K), weight (1, N, K) → (T, N)."""


class Gated(Protocol):
    def __call__(self, gate_up: torch.Tensor) -> torch.Tensor:
        """(T, 2W), gate first → gelu(gate) · up (T, W), with the tanh form of GELU."""


class ResidualNorm(Protocol):
    def __call__(
        self,
        x: torch.Tensor,
        branches: Sequence[tuple[torch.Tensor, torch.Tensor]],
        post: torch.Tensor | None,
        scale: torch.Tensor | None,
        norms: Sequence[torch.Tensor],
        eps: float,
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Adds branches to the residual stream and normalises the sum, in one launch.

        x (T, H); one or two branches: y (T, H) and the weight (H) of its norm. total = Σ rms(y) · weight, with `post`
        (H) rms(total) · post; stream = (x + total) · scale, `scale` () or (1). Returns the stream (T, H), and
        rms(stream) · w (T, H) for each w (H) of `norms`, of which there are up to three. All sums in fp32.
        """


class Rotate(Protocol):
    def __call__(
        self,
        qkv: torch.Tensor,
        q_norm: torch.Tensor,
        k_norm: torch.Tensor,
        cos: torch.Tensor,
        sin: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        start: torch.Tensor,
        heads: int,
        eps: float,
    ) -> torch.Tensor:
        """Normalises and rotates q and k, normalises v, and writes k and v to the KV buffer, in one launch.

        qkv (B, C, (heads + 2 · kv) · d), or (B, C, (heads + kv) · d) if v is k; q_norm, k_norm (d); cos, sin
        (C, d) fp32 for the canvas's positions; keys, values (B, kv, L, d), written at start … start + C − 1;
        start () int32, on the device. Returns q (B, heads, C, d).
        """


class Route(Protocol):
    def __call__(self, scores: torch.Tensor, expert_scale: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
        """scores (T, E), expert_scale (E) → weights (T, k) fp32, index (T, k) int32.

        Softmax in fp32; the k most likely are normalised to sum to 1 and multiplied by their experts' scales.
        """


class Sample(Protocol):
    def __call__(
        self,
        logits: torch.Tensor,
        inverse_temperature: torch.Tensor,
        softcap: float | None,
        pins: Pins,
        draws: Draws,
    ) -> Sampled:
        """logits (B, C, V) as the head gives them, bf16 or fp32; inverse_temperature () fp32, on the device."""


class Probabilities(Protocol):
    def __call__(
        self,
        logits: torch.Tensor,
        normalizer: torch.Tensor,
        inverse_temperature: torch.Tensor,
        softcap: float | None,
        pins: Pins,
        live: torch.Tensor,
    ) -> torch.Tensor:
        """The distribution for the self-conditioning, (B, C, V) in the type of the logits, which may be overwritten.

        Logits, normalizer (`Sampled.normalizer`) and inverse temperature are from the previous step, the pins are the
        current ones. `live` (B) bool: False gives zeros, as for a first step.
        """


class Accept(Protocol):
    def __call__(self, sampled: Sampled, pins: Pins, bound: torch.Tensor) -> Accepted:
        """Accepts in ascending order of entropy while (cumulative − own) ≤ bound; bound () fp32, on the device."""


@dataclass(frozen=True, slots=True)
class Ops:
    """All operations."""

    name: str
    experts: Experts
    mlp: Mlp
    linear: Linear
    gated: Gated
    residual_norm: ResidualNorm
    rotate: Rotate
    route: Route
    sample: Sample
    probabilities: Probabilities
    accept: Accept


TRITON: Final = Ops(
    "triton",
    experts.experts,
    experts.mlp,
    experts.linear,
    experts.gated,
    norms.residual_norm,
    norms.rotate,
    norms.route,
    sampler.sample,
    sampler.probabilities,
    sampler.accept,
)
"""The kernels. They run on CUDA devices, and in Triton's interpreter."""

TORCH: Final = Ops(
    "pytorch",
    experts.experts_reference,
    experts.mlp_reference,
    experts.linear_reference,
    experts.gated_reference,
    norms.residual_norm_reference,
    norms.rotate_reference,
    norms.route_reference,
    sampler.sample_reference,
    sampler.probabilities_reference,
    sampler.accept_reference,
)
"""The references. Static shapes and no synchronisation, like the kernels."""
