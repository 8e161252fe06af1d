"""Maps the model's tensors to the tensors on disk that they are made of. Does not import torch.

Other programs store a quantized linear layer as several tensors, and experts one by one, while the model has one stack
for all of them. A layer's format is derived from the names, types and shapes of its tensors; the config only gives
`quant_method`. Supported are compressed-tensors (FP8, INT8, INT4, NVFP4), modelopt (FP8, NVFP4) and dgtui's own NF4.
"""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from dgtui.errors import CorruptCheckpoint, ModelUnloadable
from dgtui.model.formats import FP8, INT8, NF4, NF4_DOUBLE, NVFP4, Format, int4
from dgtui.model.shards import TensorEntry, shown

NF4_METHOD: Final = "dgtui_nf4"
"""The `quant_method` of folders that dgtui quantized."""
NF4_VERSION: Final = 1
NF4_NAMES: Final[Mapping[str, str]] = {
    "packed": "packed", "scales": "absmax", "group_scales": "absmax_scale", "scale_offset": "absmax_offset",
}  # fmt: skip
"""Names of a weight's tensors in dgtui's NF4 folders, by their names in a `QuantizedWeight`."""

Scheme = Literal["plain", "nf4", "fp8", "int8", "int4", "nvfp4 modelopt", "nvfp4 compressed", "gguf"]
"""How a weight is stored on disk."""

_IGNORED: Final = {"weight_shape", "input_scale", "input_global_scale", "k_scale", "v_scale", "output_scale"}
# Tensors of a layer that do not describe its weight.
_LAYER: Final = re.compile(r"(.+)\.(weight(?:_\w+)?|input_scale|input_global_scale|[kv]_scale|output_scale)")
_EXPERT: Final = re.compile(r"(.+\.experts)\.(\d+)\.(gate|up|down)_proj")
_FLOATS: Final = ("F64", "F32", "F16", "BF16")


@dataclass(frozen=True, slots=True)
class Part:
    """A range of rows of a weight, and the tensors on disk that they are made of."""

    rows: int
    tensors: Mapping[str, str]
    """The tensor's role in the weight ("weight", "weight_scale", …) → its name on disk."""


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor of the model, as stored in a checkpoint."""

    dtype: str
    """The safetensors name of its type, such as "BF16"; for a quantized weight, the type that it is decoded to."""
    shape: tuple[int, ...]
    size: int
    """Bytes on disk."""
    form: Format | None = None
    """Its quantized format, if any."""
    scheme: Scheme = "plain"
    parts: tuple[Part, ...] = ()

    @property
    def elements(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


def plain(name: str, entry: TensorEntry) -> StoredTensor:
    """A tensor that is stored unquantized."""
    rows = math.prod(entry.shape[:-1])
    return StoredTensor(entry.dtype, entry.shape, entry.end - entry.start, parts=(Part(rows, {"weight": name}),))


def stored_tensors(entries: Mapping[str, TensorEntry], config: Mapping[str, Any]) -> dict[str, StoredTensor]:
    """The model's tensors, from the tensors that a checkpoint's headers list.

    Raises:
        CorruptCheckpoint: Some of a weight's tensors are missing or inconsistent.
        ModelUnloadable: A weight is stored in an unsupported format.
    """
    about = config.get("quantization_config")
    method = about.get("quant_method") if isinstance(about, dict) else None
    if method == NF4_METHOD:
        return _nf4_weights(entries, config)
    layers: dict[str, dict[str, str]] = {}
    tensors: dict[str, StoredTensor] = {}
    for name, entry in entries.items():
        match = _LAYER.fullmatch(name)
        if match is None:
            tensors[name] = plain(name, entry)
        elif match[2] not in _IGNORED:
            layers.setdefault(match[1], {})[match[2]] = name
    stacks: dict[str, dict[tuple[int, str], StoredTensor]] = {}
    for layer, own in layers.items():
        weight = _weight(layer, {kind: entries[name] for kind, name in own.items()}, own)
        if expert := _EXPERT.fullmatch(layer):
            stack = f"{expert[1]}.{'down_proj' if expert[3] == 'down' else 'gate_up_proj'}"
            stacks.setdefault(stack, {})[int(expert[2]), expert[3]] = weight
        else:
            tensors[f"{layer}.weight"] = weight
    return tensors | {name: _stacked(name, members) for name, members in stacks.items()}


def _weight(layer: str, entries: Mapping[str, TensorEntry], names: Mapping[str, str]) -> StoredTensor:
    """A linear layer's weight, from its own tensors."""
    kinds = set(entries)
    main = entries.get("weight_packed") or entries.get("weight")
    if main is None:
        raise CorruptCheckpoint(f"the checkpoint lacks {shown(layer)}.weight", hint="download the checkpoint again")
    if kinds == {"weight"}:
        return plain(names["weight"], main)
    scale = entries.get("weight_scale")
    rows, width = main.shape if len(main.shape) == 2 else (0, 0)
    found: tuple[Scheme, Format, int] | None = None
    if scale is not None and rows:
        if main.dtype in ("F8_E4M3", "I8") and kinds == {"weight", "weight_scale"} and (block := _rowwise(main, scale)):
            form = FP8 if main.dtype == "F8_E4M3" else INT8
            found = ("fp8" if form is FP8 else "int8"), form if block == width else _grouped(form, block), width
        elif main.dtype == "U8" and scale.shape == (rows, width // 8) and scale.dtype == "F8_E4M3":
            dialect: dict[frozenset[str], Scheme] = {
                frozenset({"weight", "weight_scale", "weight_scale_2"}): "nvfp4 modelopt",
                frozenset({"weight_packed", "weight_scale", "weight_global_scale"}): "nvfp4 compressed",
            }
            if scheme := dialect.get(frozenset(kinds)):
                found = scheme, NVFP4, 2 * width
        elif main.dtype == "I32" and kinds - {"weight_zero_point"} == {"weight_packed", "weight_scale"}:
            columns = 8 * width
            if len(scale.shape) == 2 and scale.shape[0] == rows and columns % scale.shape[1] == 0:
                block = columns // scale.shape[1]
                found = "int4", int4(block, "F32", "weight_zero_point" in kinds), columns
    if found is None or not found[1].fits(found[2]):
        stored = ", ".join(f"{kind} {entry.dtype} {list(entry.shape)}" for kind, entry in sorted(entries.items()))
        raise ModelUnloadable(
            f"{shown(layer)} is stored in an unsupported format: {shown(stored)}",
            hint="use the bfloat16 checkpoint: dgtui packs it into 4 bit itself",
        )
    scheme, form, columns = found
    size = sum(entry.end - entry.start for entry in entries.values())
    return StoredTensor("BF16", (rows, columns), size, form, scheme, (Part(rows, names),))


def _rowwise(weight: TensorEntry, scale: TensorEntry) -> int:
    """Number of columns that share a scale: all for a scale per row or weight; 0 if the scales do not fit the rows."""
    rows, columns = weight.shape
    if scale.elements in (1, rows) and scale.dtype in _FLOATS:
        return columns
    if len(scale.shape) == 2 and scale.shape[0] == rows and columns % scale.shape[1] == 0 and scale.dtype in _FLOATS:
        return columns // scale.shape[1]
    return 0


def _grouped(form: Format, block: int) -> Format:
    return Format(form.name, form.bits, block, form.table, form.zero)


def _stacked(name: str, members: Mapping[tuple[int, str], StoredTensor]) -> StoredTensor:
    """A stack of all experts' matrices; in `gate_up_proj` each expert's gate comes first."""
    order = ("down",) if name.endswith("down_proj") else ("gate", "up")
    experts = 1 + max(expert for expert, _ in members)
    keys = [(expert, kind) for expert in range(experts) for kind in order]
    missing = [key for key in keys if key not in members]
    if missing:
        expert, kind = missing[0]
        raise CorruptCheckpoint(
            f"the checkpoint lacks {shown(name.rpartition('.')[0])}.{expert}.{kind}_proj",
            hint="download the checkpoint again",
        )
    first = members[keys[0]]
    parts = [members[key] for key in keys]
    if any((m.form, m.shape, m.dtype, m.scheme) != (first.form, first.shape, first.dtype, first.scheme) for m in parts):
        raise ModelUnloadable(
            f"the experts of {shown(name)} are not all stored in the same format", hint="use the bfloat16 checkpoint"
        )
    rows, columns = first.shape
    return StoredTensor(
        first.dtype, (experts, rows * len(order), columns), sum(m.size for m in parts), first.form, first.scheme,
        tuple(part for m in parts for part in m.parts),
    )  # fmt: skip


def nf4_folder(config: Mapping[str, Any]) -> tuple[Format, bool]:
    """How a folder quantized by dgtui is packed, and whether it has a vision tower.

    Raises:
        CorruptCheckpoint: Its version is not supported, or its description is not valid.
    """
    about = config["quantization_config"]
    version, double, vision = (about.get(key) for key in ("version", "double_quant", "vision"))
    if version != NF4_VERSION:
        raise CorruptCheckpoint(
            f"config.json describes NF4 version {shown(version)}, but this program reads version {NF4_VERSION}",
            hint="update dgtui, or quantize the checkpoint again",
        )
    if type(double) is not bool or type(vision) is not bool or about.get("block_size") != NF4.block:
        raise CorruptCheckpoint(
            "the quantization_config in config.json is not valid", hint="quantize the checkpoint again"
        )
    return NF4_DOUBLE if double else NF4, vision


def _nf4_weights(entries: Mapping[str, TensorEntry], config: Mapping[str, Any]) -> dict[str, StoredTensor]:
    """The tensors of a folder quantized by dgtui; the shapes of its weights follow from the config."""
    form, _ = nf4_folder(config)
    tensors: dict[str, StoredTensor] = {}
    own = {disk: name for name, disk in NF4_NAMES.items()}
    weights: dict[str, dict[str, str]] = {}
    for name, entry in entries.items():
        weight, _, kind = name.rpartition(".")
        if kind in own:
            weights.setdefault(weight, {})[own[kind]] = name
        else:
            tensors[name] = plain(name, entry)
    for weight, names in weights.items():
        elements = 2 * entries[names["packed"]].elements if "packed" in names else 0
        shape = _packed_shape(weight, elements, config["text_config"])
        expected = form.tensors(shape)
        if {k: (entries[n].elements, entries[n].dtype) for k, n in names.items()} != expected:
            raise CorruptCheckpoint(f"{shown(weight)} is incomplete", hint="quantize the checkpoint again")
        size = sum(entries[name].end - entries[name].start for name in names.values())
        rows = math.prod(shape[:-1])
        tensors[weight] = StoredTensor("BF16", shape, size, form, "nf4", (Part(rows, names),))
    return tensors


def _packed_shape(weight: str, elements: int, text: Mapping[str, Any]) -> tuple[int, ...]:
    hidden, experts = (text.get(key) for key in ("hidden_size", "num_experts"))
    if type(hidden) is not int or hidden <= 0 or elements % hidden:
        raise CorruptCheckpoint(f"{shown(weight)} does not fit config.json", hint="quantize the checkpoint again")
    other = elements // hidden
    last_is_hidden = not weight.removesuffix(".weight").endswith(("down_proj", "o_proj"))
    if ".experts." not in weight:
        return (other, hidden) if last_is_hidden else (hidden, other)
    if type(experts) is not int or experts <= 0 or other % experts:
        raise CorruptCheckpoint(f"{shown(weight)} does not fit config.json", hint="quantize the checkpoint again")
    return (experts, other // experts, hidden) if last_is_hidden else (experts, hidden, other // experts)


def decoder_name(name: str) -> str:
    """What a tensor of the encoder or the output layer is called in the decoder, which has it too."""
    if name == "lm_head.weight":
        return "model.decoder.embed_tokens.weight"
    return name.replace("model.encoder.language_model.", "model.decoder.")


def without_copies(tensors: Mapping[str, StoredTensor]) -> tuple[dict[str, StoredTensor], dict[str, str]]:
    """Tensors that encoder and decoder share, once, under the decoder's names: some programs write them twice.

    Returns:
        The tensors; and of those that are there twice, the names on disk: the one that is kept → its copy. That they
        are equal is not known before they are read.
    """
    kept, copies = dict(tensors), dict[str, str]()
    for name, own in tensors.items():
        shared = decoder_name(name)
        if shared == name or name.endswith("layer_scalar"):  # the one thing that each has for itself
            continue
        other = tensors.get(shared)
        if other is None:
            kept[shared] = kept.pop(name)
        elif (own.shape, own.dtype, own.form, own.scheme) == (other.shape, other.dtype, other.form, other.scheme):
            del kept[name]
            for first, second in zip(other.parts, own.parts, strict=True):
                copies |= {first.tensors[kind]: second.tensors[kind] for kind in first.tensors}
    return kept, copies


def total_size(tensors: Iterable[StoredTensor]) -> int:
    """Bytes on disk."""
    return sum(tensor.size for tensor in tensors)
