"""The parts of the model, told by the names of their tensors, and how they can be held. Imports nothing heavy."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from dgtui.model.formats import NF4, NF4_DOUBLE, Format

if TYPE_CHECKING:
    import torch

    from dgtui.model.stored import StoredTensor

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

_PACKABLE: Final = re.compile(
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
    """Whether a weight may be held in 4 bit: experts, attention and dense MLP of the shared layers.

    Embedding, norms, router, self-conditioning and vision stay as they are: small, or read by lookup, or both. So does
    a weight whose rows are no multiple of 64 values: a block would span two of them, or two experts.
    """
    return bool(_PACKABLE.fullmatch(name)) and NF4.fits(shape[-1])


def experts_layer(name: str) -> int | None:
    """The layer whose experts a tensor belongs to."""
    match = _EXPERTS.match(name)
    return int(match[1]) if match else None


@dataclass(frozen=True, slots=True)
class Packing:
    """How the weights of a model are held."""

    nf4: bool = False
    """What can be packed, and takes more than 4 bits, is packed into NF4."""
    double: bool = False
    """The scales of NF4 are in 8 bit."""
    vision: bool = True
    """The vision tower is kept, where the checkpoint has one."""
    streamed: int = 0
    """Layers, from the last, whose experts stay in the machine's memory and go to the GPU when it is their turn."""


def held_formats(tensors: "Mapping[str, StoredTensor]", packing: Packing) -> dict[str, Format]:
    """The weights that are held in a quantized format, and in which: as they are stored, or in NF4.

    What is not among them is held as plain numbers, decoded if need be. The two stacks of a layer's experts are both
    quantized or neither.
    """
    nf4 = NF4_DOUBLE if packing.double else NF4
    held: dict[str, Format] = {}
    for name, tensor in tensors.items():
        if not _PACKABLE.fullmatch(name):
            continue
        wide = tensor.form is None or tensor.form.bits > 4
        if packing.nf4 and wide and can_be_packed(name, tensor.shape):
            held[name] = nf4
        elif tensor.form is not None:
            held[name] = tensor.form
    stacks = {name for name in held if experts_layer(name) is not None}
    return {name: form for name, form in held.items() if name not in stacks or {*_stacks(name)} <= stacks}


def _stacks(name: str) -> tuple[str, str]:
    path = name.rpartition(".")[0]
    return f"{path}.gate_up_proj", f"{path}.down_proj"


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
