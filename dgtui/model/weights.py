"""Tensors into the model, one at a time and in pieces: as they are, or packed into 4 bit on the way.

Each goes from its file to where it stays in a model that `skeleton` has laid out; beside the model, no more than a
piece of one is in memory. The files are opened here and by name: transformers never sees the folder.
Nothing else in it (code, pickles, other weight files) can be looked up or run, and nothing can be downloaded.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol, Self

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from dgtui.errors import CorruptCheckpoint
from dgtui.model.decoding import decoded
from dgtui.model.nf4 import Quantizing
from dgtui.model.parts import Packing, experts_layer, part_of
from dgtui.model.quantized_weight import DTYPES, QuantizedWeight
from dgtui.model.shards import Shard, shown, some
from dgtui.model.skeleton import Slot, not_shared, quantized_weights, share_layers, slots, use_bitsandbytes
from dgtui.model.stored import Part, StoredTensor, total_size

if TYPE_CHECKING:
    from transformers.models.diffusion_gemma.modeling_diffusion_gemma import DiffusionGemmaForBlockDiffusion

    from dgtui.model.open_checkpoint import OpenCheckpoint

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


class TensorSource(Protocol):
    """Where a model's tensors come from, by name."""

    @property
    def tensors(self) -> Mapping[str, StoredTensor]:
        """What there is."""

    def pieces(self, name: str) -> Iterator[torch.Tensor | QuantizedWeight]:
        """A tensor in pieces of consecutive rows, in order, those of a stack counted through; whole if it has none.

        Plain rows have the shape (rows, …), a quantized piece (rows, columns) and the stored format. A piece may be a
        view of a file: copy it before the next one is taken.
        """

    def skip(self, name: str) -> None:
        """Says that a tensor is not needed."""


class Keep(Protocol):
    """Takes what is being loaded, to keep it (see `quantized.Folder`)."""

    def add(self, name: str, tensor: torch.Tensor) -> None:
        """A plain tensor; on any device."""

    def add_weight(self, name: str, weight: QuantizedWeight) -> None:
        """A weight in NF4; on any device."""


class Files:
    """The tensors of a checkpoint's files, opened once. Raises `CorruptCheckpoint` if a file cannot be read."""

    def __init__(self, checkpoint: "OpenCheckpoint", progress: Report | None = None, stage: str = "reading") -> None:
        self._shards, self.tensors = checkpoint.shards, checkpoint.tensors
        self._progress, self._stage = progress, stage
        self._of = {name: shard for shard in self._shards for name in shard.tensors}
        self.total = total_size(self.tensors.values())
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

    def pieces(self, name: str) -> Iterator[torch.Tensor | QuantizedWeight]:
        """See `TensorSource`."""
        tensor = self.tensors[name]
        for part in tensor.parts:
            if tensor.form is None:
                yield from self._plain(tensor, part)
                continue
            raw = {kind: self._read(own) for kind, own in part.tensors.items()}
            yield decoded(tensor.scheme, tensor.form, (part.rows, tensor.shape[-1]), raw)

    def _plain(self, tensor: StoredTensor, part: Part) -> Iterator[torch.Tensor]:
        """The first dimension cut into pieces; of a stack that is stored matrix by matrix, its rows."""
        name = part.tensors["weight"]
        size = tensor.size // len(tensor.parts)
        shape = self._of[name].tensors[name].shape
        rows = shape[0] if shape else 1
        step = max(1, rows * _PIECE // max(1, size))
        if rows <= step:
            yield self._read(name)
            return
        for start in range(0, rows, step):
            with _readable(self._of[name]):
                piece: torch.Tensor = self._file(name).get_slice(name)[start : start + step]
                self._count(size // rows * len(piece))
            yield piece

    def _file(self, name: str) -> Any:
        return self._open[self._of[name].path.name]

    def _read(self, name: str) -> torch.Tensor:
        with _readable(self._of[name]):
            tensor: torch.Tensor = self._file(name).get_tensor(name)
            self._count(tensor.nbytes)
        return tensor

    def skip(self, name: str) -> None:
        """See `TensorSource`."""
        self._count(self.tensors[name].size)

    def _count(self, size: int) -> None:
        self._done += size
        tell(self._progress, self._stage, self._done, self.total)


@contextmanager
def _readable(shard: Shard) -> Iterator[None]:
    try:
        yield
    except (SafetensorError, OSError) as error:
        raise CorruptCheckpoint(f"{shown(shard.path.name)} cannot be read: {shown(error)}") from error


def stream(
    model: "DiffusionGemmaForBlockDiffusion",
    source: TensorSource,
    packing: Packing,
    device: torch.device,
    keep: Keep | None = None,
) -> Iterator[tuple[Slot, torch.Tensor]]:
    """The tensors of a model from `lay_out`, one after the other as the model holds them, with their slots in it.

    Args:
        model: Laid out for the same packing.
        source: The tensors: in the format that the model wants, or to be packed or decoded on the way.
        packing: How the model holds them.
        device: Where it runs. Experts that are streamed stay in the machine's memory.
        keep: Is given every tensor, plain ones in the source's own type, and a vision tower also where the model
            leaves it out.

    Raises:
        CorruptCheckpoint: If the source does not hold what the model needs, in its shapes.
        ModelUnloadable: If it holds weights for encoder and decoder apart.
    """
    wanted, weights = slots(model), quantized_weights(model)
    _check(source.tensors, wanted, weights, packing)
    first_streamed = len(model.model.decoder.layers) - packing.streamed
    for name, stored in source.tensors.items():
        layer = experts_layer(name)
        home = device if layer is None or layer < first_streamed else torch.device("cpu")
        if name in weights:
            weight = read_quantized(source, name, weights[name], device, home)
            if keep:
                keep.add_weight(name, weight)
            for own, tensor in weight.named_buffers():
                yield (weights[name], own), tensor
            continue
        vision = part_of(name) == "vision"
        if name not in wanted and not (keep and vision):
            source.skip(name)
            continue
        dtype = _get(*wanted[name]).dtype if name in wanted else DTYPES[stored.dtype]
        tensor = whole(source, name, home, DTYPES[stored.dtype] if keep else dtype)
        if keep:
            keep.add(name, tensor)
        if name in wanted:
            yield wanted[name], tensor.to(dtype)


def fill(
    model: "DiffusionGemmaForBlockDiffusion",
    source: TensorSource,
    packing: Packing,
    device: torch.device,
    keep: Keep | None = None,
) -> None:
    """Give a model from `lay_out` its weights, each on the device where it stays; see `stream`."""
    for (module, own), tensor in stream(model, source, packing, device, keep):
        if tensor.device != device and device.type == "cuda":
            tensor = _pinned(tensor)
        _put(module, own, tensor)
    for module in model.modules():
        for own in module._non_persistent_buffers_set:
            if module._buffers[own] is not None:
                _put(module, own, _get(module, own).to(device))
    if device.type == "cpu":  # for experts that are not packed
        model.set_experts_implementation("eager")  # grouped matmul is slower there
    use_bitsandbytes(model, device)
    share_layers(model)


def _pinned(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor that goes to the GPU without a copy in between, if the system lets so much memory be held in place."""
    try:
        return tensor.pin_memory()
    except RuntimeError:  # a limit of the container's, or of Windows': slower, and no reason to give up
        return tensor


def whole(source: TensorSource, name: str, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    """A tensor of a source in memory of its own, decoded if it is quantized."""
    shape = source.tensors[name].shape
    tensor = torch.empty(shape, dtype=dtype, device=device)
    flat = tensor.view(-1)
    at = 0
    for piece in source.pieces(name):
        values = piece.dequantize(dtype) if isinstance(piece, QuantizedWeight) else piece
        flat[at : at + values.numel()].view(values.shape).copy_(values)
        at += values.numel()
    return tensor


def read_quantized(
    source: TensorSource, name: str, like: QuantizedWeight, device: torch.device, home: torch.device
) -> QuantizedWeight:
    """A weight of a source in the format of `like`; beside it, no more than a piece of it is in memory.

    Args:
        source: Where it comes from.
        name: Its name there.
        like: The weight without its tensors.
        device: Where it is packed, if it has to be.
        home: Where it stays.
    """
    if source.tensors[name].form == like.form:
        weight = QuantizedWeight(like.form, like.shape, like.parts, device=home)
        row = 0
        for piece in source.pieces(name):
            assert isinstance(piece, QuantizedWeight), "a source keeps to the format that it names"
            weight.put(row, piece)
            row += piece.rows
        return weight
    quantizing = Quantizing(like.form, like.shape, device)
    for piece in source.pieces(name):
        quantizing.add(piece.on(device).dequantize(torch.float32) if isinstance(piece, QuantizedWeight) else piece)
    return quantizing.close().on(home)


def _get(module: nn.Module, name: str) -> torch.Tensor:
    tensor: torch.Tensor = getattr(module, name)
    return tensor


def _put(module: nn.Module, name: str, tensor: torch.Tensor) -> None:
    if name in module._buffers:
        module._buffers[name] = tensor
    else:
        module._parameters[name] = nn.Parameter(tensor, requires_grad=False)


def _check(
    tensors: Mapping[str, StoredTensor],
    wanted: Mapping[str, Slot],
    weights: Mapping[str, QuantizedWeight],
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
        raise not_shared(apart)
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


def tell(progress: Report | None, stage: str, done: int, total: int) -> None:
    """Report, if anybody wants to know."""
    if progress is not None:
        progress(Progress(stage, done, total))
