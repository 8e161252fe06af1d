"""Tensors into the model, one at a time and in pieces: as they are, or packed into 4 bit on the way.

The model is laid out without memory, encoder and decoder on the same modules from the start, so that there can be no
second copy. Then each tensor goes from its file to where it stays; beside the model, no more than a piece of one is in
memory. The files are opened here and by name: transformers never sees the folder, so that nothing else in it (code,
pickles, other weight files) can be looked up or run, and nothing can be fetched.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol, Self

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from dgtui.errors import CorruptCheckpoint, ModelUnloadable
from dgtui.model.parts import Packing, experts_layer, is_quantized, part_of
from dgtui.model.shards import Shard, TensorEntry, shown

if TYPE_CHECKING:
    from transformers.models.diffusion_gemma.configuration_diffusion_gemma import DiffusionGemmaConfig
    from transformers.models.diffusion_gemma.modeling_diffusion_gemma import DiffusionGemmaForBlockDiffusion

    from dgtui.model.nf4 import Nf4Weight

DTYPES: Final = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "U8": torch.uint8,
}  # fmt: skip
"""PyTorch's types, by the format's names."""

_PIECE: Final = 16_000_000
# Bytes that are read at a time, at most, or one row.


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a load is."""

    stage: str
    """What is being done, for a person: "reading", "quantizing", "checking"."""
    done_bytes: int
    total_bytes: int


Report = Callable[[Progress], None]
"""Is told how far a load is, one call at a time. What it raises ends the load."""


class Source(Protocol):
    """Where tensors come from, by name."""

    @property
    def tensors(self) -> Mapping[str, TensorEntry]:
        """What there is."""

    def pieces(self, name: str) -> Iterator[torch.Tensor]:
        """A tensor, its first dimension cut into pieces; whole if it has none."""

    def skip(self, name: str) -> None:
        """Says that a tensor is not needed."""


class Keep(Protocol):
    """Takes what is being loaded, to keep it (see `quantized.Folder`)."""

    def add(self, name: str, tensor: torch.Tensor) -> None:
        """A tensor as the model holds it; on any device."""


class Files:
    """The tensors of a checkpoint's files, opened once. Raises `CorruptCheckpoint` if a file cannot be read."""

    def __init__(self, shards: Iterable[Shard], progress: Report | None = None, stage: str = "reading") -> None:
        self._shards = list(shards)
        self._progress, self._stage = progress, stage
        self._of = {name: shard for shard in self._shards for name in shard.tensors}
        self.tensors = {name: shard.tensors[name] for name, shard in self._of.items()}
        self.total = sum(entry.end - entry.start for entry in self.tensors.values())
        self._done = 0
        self._files = ExitStack()
        self._open: dict[str, Any] = {}

    def __enter__(self) -> Self:
        for shard in self._shards:
            with _readable(shard):
                self._open[shard.path.name] = self._files.enter_context(
                    safe_open(shard.path, framework="pt", device="cpu")
                )
        return self

    def __exit__(self, *why: object) -> None:
        self._files.close()

    def pieces(self, name: str) -> Iterator[torch.Tensor]:
        """See `Source`. What is yielded may be a view of the file: copy it, or be done with it before the next."""
        shard, entry = self._of[name], self.tensors[name]
        file = self._open[shard.path.name]
        rows = entry.shape[0] if entry.shape else 1
        size = entry.end - entry.start
        step = max(1, rows * _PIECE // max(1, size))
        if rows <= step:
            with _readable(shard):
                yield file.get_tensor(name)
                self._count(size)
            return
        for start in range(0, rows, step):
            with _readable(shard):
                piece: torch.Tensor = file.get_slice(name)[start : start + step]
                yield piece
                self._count(size // rows * len(piece))

    def skip(self, name: str) -> None:
        """See `Source`."""
        entry = self.tensors[name]
        self._count(entry.end - entry.start)

    def _count(self, size: int) -> None:
        self._done += size
        tell(self._progress, self._stage, self._done, self.total)


@contextmanager
def _readable(shard: Shard) -> Iterator[None]:
    try:
        yield
    except (SafetensorError, OSError) as error:
        raise CorruptCheckpoint(f"{shown(shard.path.name)} cannot be read: {shown(error)}") from error


def lay_out(config: "DiffusionGemmaConfig", packing: Packing, dtype: torch.dtype) -> "DiffusionGemmaForBlockDiffusion":
    """The model without its weights, which are on the meta device; what is computed from the config is there.

    Encoder and decoder share all modules that have weights in common. Packed layers are `nf4` modules.
    """
    from transformers.models.diffusion_gemma.modeling_diffusion_gemma import DiffusionGemmaForBlockDiffusion

    config._attn_implementation = "sdpa"
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device("meta"):
            model: Any = DiffusionGemmaForBlockDiffusion(config)
        config.dtype = dtype
        _compute_buffers(model)
    finally:
        torch.set_default_dtype(before)
    if packing.nf4:
        pack_layers(model, packing.double)
    if not packing.vision:
        model.model.encoder.vision_tower = model.model.encoder.embed_vision = None
    share_layers(model)
    whole: DiffusionGemmaForBlockDiffusion = model.eval().requires_grad_(False)
    return whole


def _compute_buffers(model: Any) -> None:
    """Buffers that no checkpoint holds (rotary frequencies, scales), as transformers computes them at a load."""
    for module in model.modules():
        for name in module._non_persistent_buffers_set:
            if module._buffers[name] is not None:
                module._buffers[name] = torch.empty_like(module._buffers[name], device="cpu")
    model.initialize_weights()  # what is on the meta device stays as it is


def pack_layers(model: Any, double: bool) -> None:
    from dgtui.model.nf4 import IMPLEMENTATION, Nf4Experts, Nf4Linear, Nf4Weight

    def packed(name: str, weight: torch.Tensor) -> "Nf4Weight":
        return Nf4Weight(tuple(weight.shape), double, device="meta")

    for at, layer in enumerate(model.model.decoder.layers):
        start = f"model.decoder.layers.{at}"
        experts = layer.experts
        stacks = {name: getattr(experts, name) for name in ("gate_up_proj", "down_proj")}
        if all(is_quantized(f"{start}.experts.{name}", tuple(stack.shape)) for name, stack in stacks.items()):
            config = model.config.text_config
            layer.experts = Nf4Experts(config, *(packed(name, stack) for name, stack in stacks.items()))
        for group in ("self_attn", "mlp"):
            for name, linear in list(getattr(layer, group).named_children()):
                own = f"{start}.{group}.{name}.weight"
                if isinstance(linear, nn.Linear) and is_quantized(own, tuple(linear.weight.shape)):
                    setattr(getattr(layer, group), name, Nf4Linear(packed(own, linear.weight)))
    model.set_experts_implementation(IMPLEMENTATION)


def share_layers(model: Any) -> None:
    """Makes the encoder's layers those of the decoder: all but what only one of them has."""
    encoder, decoder = model.model.encoder.language_model, model.model.decoder
    encoder.embed_tokens, encoder.norm = decoder.embed_tokens, decoder.norm
    for own, shared in zip(encoder.layers, decoder.layers, strict=True):
        for name, module in shared.named_children():
            if name != "self_attn":
                setattr(own, name, module)
        for name, module in shared.self_attn.named_children():
            setattr(own.self_attn, name, module)
    model.lm_head.weight = decoder.embed_tokens.weight


Place = tuple[nn.Module, str]
"""A module, and the name of its parameter or buffer."""


def places(model: "DiffusionGemmaForBlockDiffusion") -> dict[str, Place]:
    """Where each tensor of a checkpoint goes, by its name there: each once, what is shared under the decoder's."""
    found: dict[str, Place] = {}
    seen: set[int] = set()
    for prefix, root in (("model.decoder", model.model.decoder), ("model.encoder", model.model.encoder)):
        for path, module in root.named_modules():
            if id(module) in seen:
                continue
            seen.add(id(module))
            persistent = {n: t for n, t in module._buffers.items() if n not in module._non_persistent_buffers_set}
            for name, tensor in (module._parameters | persistent).items():
                if tensor is not None:
                    found[".".join(filter(None, (prefix, path, name)))] = (module, name)
    return found


def stream(
    model: "DiffusionGemmaForBlockDiffusion",
    source: Source,
    packing: Packing,
    device: torch.device,
    keep: Keep | None = None,
) -> Iterator[tuple[Place, torch.Tensor]]:
    """The tensors of a model from `lay_out`, one after the other as the model holds them, with their places in it.

    Args:
        model: Laid out with the same packing.
        source: The tensors: packed already, or to be packed on the way where the model wants it.
        packing: How the model holds them.
        device: Where it runs. Experts that are streamed stay in the machine's memory.
        keep: Is given every tensor, unpacked ones in the source's own type, and a vision tower also where the model
            leaves it out.

    Raises:
        CorruptCheckpoint: If the source does not hold what the model needs, in its shapes.
        ModelUnloadable: If it holds weights for encoder and decoder apart.
    """
    wanted, weights = places(model), _packed_weights(model)
    _check(source.tensors, wanted, weights, packing)
    first_streamed = len(model.model.decoder.layers) - packing.streamed
    for name, entry in source.tensors.items():
        layer = experts_layer(name)
        home = device if layer is None or layer < first_streamed else torch.device("cpu")
        if name in weights:
            for own, tensor in quantized(source, name, packing.double, home).named_buffers():
                if keep:
                    keep.add(f"{name}.{own}", tensor)
                yield (weights[name], own), tensor
            continue
        vision = part_of(name) == "vision"
        if name not in wanted and not (keep and vision):
            source.skip(name)
            continue
        dtype = _get(*wanted[name]).dtype if name in wanted else DTYPES[entry.dtype]
        tensor = whole(source, name, home, DTYPES[entry.dtype] if keep else dtype)
        if keep:
            keep.add(name, tensor)
        if name in wanted:
            yield wanted[name], tensor.to(dtype)


def fill(
    model: "DiffusionGemmaForBlockDiffusion",
    source: Source,
    packing: Packing,
    device: torch.device,
    keep: Keep | None = None,
) -> None:
    """Give a model from `lay_out` its weights, each on the device where it stays; see `stream`."""
    for (module, own), tensor in stream(model, source, packing, device, keep):
        if tensor.device != device and device.type == "cuda":
            tensor = tensor.pin_memory()  # goes to the GPU without a copy in between
        _put(module, own, tensor)
    for module in model.modules():
        for own in module._non_persistent_buffers_set:
            if module._buffers[own] is not None:
                _put(module, own, _get(module, own).to(device))
    if not packing.nf4 and device.type == "cpu":
        model.set_experts_implementation("eager")  # grouped matmul is slower there
    if packing.nf4:
        _use_bitsandbytes(model, device)
    share_layers(model)


def whole(source: Source, name: str, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    """A tensor of a source, in memory of its own."""
    shape = source.tensors[name].shape
    found = torch.empty(shape, dtype=dtype, device=device)
    at = 0
    for piece in source.pieces(name):
        if not shape:
            return found.copy_(piece)
        found[at : at + len(piece)].copy_(piece)
        at += len(piece)
    return found


def quantized(source: Source, name: str, double: bool, device: torch.device) -> "Nf4Weight":
    """A weight of a source in NF4; beside it, no more than a piece of it is in memory."""
    from dgtui.model.nf4 import Quantizing

    quantizing = Quantizing(source.tensors[name].shape, double, device)
    for piece in source.pieces(name):
        quantizing.add(piece)
    return quantizing.close()


def _packed_weights(model: nn.Module) -> "dict[str, Nf4Weight]":
    """The packed weights, by the names that they have unpacked."""
    from dgtui.model.nf4 import Nf4Weight

    root: Any = model
    return {
        f"model.decoder.{path}": module
        for path, module in root.model.decoder.named_modules()
        if isinstance(module, Nf4Weight)
    }


def _get(module: nn.Module, name: str) -> torch.Tensor:
    tensor: torch.Tensor = getattr(module, name)
    return tensor


def _put(module: nn.Module, name: str, tensor: torch.Tensor) -> None:
    if name in module._buffers:
        module._buffers[name] = tensor
    else:
        module._parameters[name] = nn.Parameter(tensor, requires_grad=False)


def _check(
    tensors: Mapping[str, TensorEntry],
    wanted: Mapping[str, Place],
    weights: "Mapping[str, Nf4Weight]",
    packing: Packing,
) -> None:
    """Refuse tensors that are not those of the model, before one of them is read."""
    shapes = {name: tuple(_get(*place).shape) for name, place in wanted.items()}
    shapes |= {name: weight.shape for name, weight in weights.items() if name in tensors}
    strange = sorted(f"{name} in {t.dtype}" for name, t in tensors.items() if name in shapes and t.dtype not in DTYPES)
    if strange:
        raise CorruptCheckpoint(f"weights are of a type that the model cannot have: {some(strange)}")
    mismatched = [
        f"{name} {list(entry.shape)} instead of {list(shapes[name])}"
        for name, entry in sorted(tensors.items())
        if name in shapes and entry.shape != shapes[name]
    ]
    if mismatched:
        raise CorruptCheckpoint(f"the weights have other shapes than config.json says: {some(mismatched)}")
    held = {name for name in wanted if name in tensors or name.rpartition(".")[0] in weights.keys() & tensors.keys()}
    missing = sorted(wanted.keys() - held)
    if missing:
        raise CorruptCheckpoint(f"the checkpoint lacks {some(missing)}", hint="fetch the checkpoint again")
    others = sorted(tensors.keys() - shapes.keys())
    apart = [name for name in others if _decoders(name) in shapes]
    if apart:
        raise _not_shared(apart)
    # Vectors that no module asks for are buffers that other versions saved. A matrix that is not used means that
    # config.json describes another, say a shallower, model.
    unused = [
        name for name in others if len(tensors[name].shape) >= 2 and (packing.vision or part_of(name) != "vision")
    ]
    if unused:
        raise CorruptCheckpoint(f"the checkpoint has weights that config.json has no place for: {some(unused)}")


def _decoders(name: str) -> str:
    """What a tensor of the encoder or the output layer is called in the decoder, which has it too."""
    if name == "lm_head.weight":
        return "model.decoder.embed_tokens.weight"
    return name.replace("model.encoder.language_model.", "model.decoder.")


def _use_bitsandbytes(model: Any, device: torch.device) -> None:
    """Linear layers in NF4 become bitsandbytes' own, where it is installed and has kernels for the device."""
    from dgtui.model.nf4 import Nf4Linear, linear4bit, native

    if not native(device.type):
        return
    for layer in model.model.decoder.layers:
        for group in (layer.self_attn, layer.mlp):
            for name, linear in list(group.named_children()):
                if isinstance(linear, Nf4Linear):
                    setattr(group, name, linear4bit(linear.weight, model.dtype))


def tell(progress: Report | None, stage: str, done: int, total: int) -> None:
    """Report, if anybody wants to know."""
    if progress is not None:
        progress(Progress(stage, done, total))


def some(names: list[str]) -> str:
    """The first three of many names."""
    more = f" and {len(names) - 3:,} more" if len(names) > 3 else ""
    return ", ".join(map(shown, names[:3])) + more


def verify_shared(model: "DiffusionGemmaForBlockDiffusion") -> None:
    """Refuse a model whose encoder, decoder and output layer are not one copy.

    A second copy doubles the memory, and may hold other values.
    """
    decoder = dict(model.model.decoder.named_parameters())
    pairs = [(name, tensor, decoder[name]) for name, tensor in model.model.encoder.language_model.named_parameters()]
    pairs.append(("lm_head.weight", model.lm_head.weight, decoder["embed_tokens.weight"]))
    separate = [name for name, one, other in pairs if one.data_ptr() != other.data_ptr()]
    if separate:
        raise _not_shared(separate)


def _not_shared(names: list[str]) -> ModelUnloadable:
    return ModelUnloadable(
        f"encoder and decoder do not share {some(names)}",
        hint="such a checkpoint was saved untied; DiffusionGemma has one stack of weights for both",
    )
