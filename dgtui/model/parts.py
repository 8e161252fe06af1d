"""The parts of the model, told by the names of their tensors, and how they can be held. Imports nothing heavy."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import torch

BLOCK: Final = 64
"""Values of a weight in NF4 that share a scale."""
SCALE_BLOCK: Final = 256
"""Scales that share a scale, where they are quantized too."""

PARTS: Final = (
    ("vision", ("vision_tower", "embed_vision")),
    ("self-conditioning", ("self_conditioning",)),
    ("embedding", ("embed_tokens",)),
    ("experts", ("experts",)),
    ("router", ("router",)),
    ("attention", ("self_attn",)),
    ("dense MLP", ("mlp",)),
)
"""A part, and the names that are on the path of its tensors; the first that fits takes a tensor."""
REST: Final = "norms and scales"

_QUANTIZED: Final = re.compile(
    r"model\.decoder\.layers\.(\d+)\."
    r"(?:experts\.(?:gate_up|down)_proj|self_attn\.[qkvo]_proj\.weight|mlp\.(?:gate|up|down)_proj\.weight)"
)
_EXPERTS: Final = re.compile(r"model\.decoder\.layers\.(\d+)\.experts\.")


def part_of(name: str) -> str:
    """The part that a tensor belongs to."""
    on_path = set(name.split("."))
    return next((part for part, names in PARTS if on_path.intersection(names)), REST)


def count_parts(sizes: Iterable[tuple[str, int]]) -> dict[str, int]:
    """(name, number) of each tensor → the sum of each part; together they are all there is."""
    counts: Counter[str] = Counter({part: 0 for part, _ in PARTS} | {REST: 0})
    for name, size in sizes:
        counts[part_of(name)] += size
    return dict(counts)


def can_be_packed(name: str, shape: tuple[int, ...]) -> bool:
    """Whether a weight is held in 4 bit where the model is: experts, attention and dense MLP of the shared layers.

    Embedding, norms, router, self-conditioning and vision stay as they are: small, or read by lookup, or both. So does
    a weight whose rows are no multiple of 64 values: a block would span two of them, or two experts.
    """
    return bool(_QUANTIZED.fullmatch(name)) and shape[-1] % BLOCK == 0


def experts_layer(name: str) -> int | None:
    """The layer whose experts a tensor belongs to."""
    found = _EXPERTS.match(name)
    return int(found[1]) if found else None


def is_packed(name: str) -> bool:
    """Whether a tensor on disk is one of those that a weight in NF4 consists of."""
    return name.rpartition(".")[2] in ("packed", "absmax", "absmax_scale", "absmax_offset")


def parameters_of(name: str, elements: int) -> int:
    """The model's numbers that a tensor on disk with so many elements holds: two a byte in NF4, none in scales."""
    if not is_packed(name):
        return elements
    return 2 * elements if name.endswith(".packed") else 0


def nf4_bytes(elements: int, double: bool) -> int:
    """Bytes of a weight in NF4, its scales included."""
    blocks = elements // BLOCK
    return elements // 2 + (blocks + 4 * -(-blocks // SCALE_BLOCK) + 4 if double else 4 * blocks)


@dataclass(frozen=True, slots=True)
class Packing:
    """How the weights of a model are held."""

    nf4: bool = False
    """4 bit where `can_be_packed` says so."""
    double: bool = False
    """Their scales in 8 bit."""
    vision: bool = True
    """The vision tower is kept, where the checkpoint has one."""
    streamed: int = 0
    """Layers, from the last, whose experts stay in the machine's memory and go to the GPU when it is their turn."""


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """How a person wants a model to be held; the default is whatever fits best."""

    device: str = "auto"
    """ "auto", "cpu", "mps", "cuda", "cuda:N"."""
    dtype: "torch.dtype | None" = None
    """Of what is not packed; None for what suits the device."""
    context: int | None = None
    """Most tokens of prefix and canvas; None for what fits."""
    vision: bool | None = None
    """The vision tower is needed (True), left out (False), or kept where it fits (None)."""
    memory: int | None = None
    """Bytes of the device that may be taken."""
    cache: Path | None = None
    """Where a checkpoint that had to be packed is kept, and read from the next time; None for nowhere."""
