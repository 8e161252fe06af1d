"""The parts of the model, recognised by tensor names, and the ways to hold them. Imports nothing heavy."""

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
    from dgtui.model.tokenizer import ModelTokenizer

PARTS: Final = (
    ("vision", ("vision_tower", "embed_vision")),
    ("self-conditioning", ("self_conditioning",)),
    ("embedding", ("embed_tokens",)),
    ("experts", ("experts",)),
    ("router", ("router",)),
    ("attention", ("self_attn",)),
    ("dense MLP", ("mlp",)),
)
"""A part, and names that occur in the paths of its tensors; the first match wins."""
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
    """(name, number) of each tensor → the sum for each part."""
    counts: Counter[str] = Counter({part: 0 for part, _ in PARTS} | {REST: 0})
    for name, size in sizes:
        counts[part_of(name)] += size
    return dict(counts)


def can_be_packed(name: str, shape: tuple[int, ...]) -> bool:
    """Whether a weight may be held in 4 bit: experts, attention and dense MLP of the shared layers may.

    Embedding, norms, router, self-conditioning and vision are not packed: they are small, or read by lookup, or both.
    Nor is a weight whose row length is not a multiple of 64: a block would span two rows, or two experts.
    """
    return bool(_PACKABLE.fullmatch(name)) and NF4.fits(shape[-1])


def experts_layer(name: str) -> int | None:
    """The layer of an expert tensor."""
    match = _EXPERTS.match(name)
    return int(match[1]) if match else None


@dataclass(frozen=True, slots=True)
class Packing:
    """How a model's weights are held in memory."""

    nf4: bool = False
    """Weights of more than 4 bits are packed into NF4 if possible."""
    double: bool = False
    """NF4's scales are held in 8 bit."""
    experts_only: bool = False
    """Attention and dense MLP are not packed: every position of a canvas uses them, and decoding them in each step
    takes longer than reading them."""
    vision: bool = True
    """The vision tower is kept, if the checkpoint has one."""
    streamed: int = 0
    """Number of layers, counted from the last, whose experts stay in main memory and are copied to the GPU in turn."""
    decoded: bool = False
    """Quantized weights are held as plain numbers, decoded while loading."""


def held_formats(tensors: "Mapping[str, StoredTensor]", packing: Packing) -> dict[str, Format]:
    """The weights that are held in a quantized format, with the format: the stored one, or NF4.

    All other weights are held as plain numbers, decoded if needed. Of the two stacks of a layer's experts, both are
    quantized or neither is.
    """
    if packing.decoded:
        return {}
    nf4 = NF4_DOUBLE if packing.double else NF4
    held: dict[str, Format] = {}
    for name, tensor in tensors.items():
        if not _PACKABLE.fullmatch(name):
            continue
        wide = tensor.form is None or tensor.form.bits > 4
        chosen = experts_layer(name) is not None or not packing.experts_only
        if packing.nf4 and wide and chosen and can_be_packed(name, tensor.shape):
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
    """The user's wishes for loading a model; by default, the best way that fits is chosen."""

    device: str = "auto"
    """ "auto", "cpu", "mps", "cuda", "cuda:N"."""
    dtype: "torch.dtype | None" = None
    """Type of the weights that are not packed; None for the device's default."""
    context: int | None = None
    """Most tokens of prefix and canvas; None for as many as fit."""
    vision: bool | None = None
    """The vision tower is required (True), left out (False), or kept if it fits (None)."""
    memory: int | None = None
    """Most bytes of the device's memory to use."""
    adapter: Path | None = None
    """Folder of a LoRA adapter to add to the model."""
    cache: Path | None = None
    """Where to keep a packed copy for the next load; None to keep none."""
    decoded: bool = False
    """Hold the weights as plain numbers, even if the checkpoint is quantized. The embedded model is always held so: it
    is small, and decoding it in every step would take longer than the rest."""
    tokenizer: "ModelTokenizer | None" = None
    """The tokenizer of a checkpoint that has none of its own."""
