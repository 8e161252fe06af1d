"""Loads tensors into the model, one at a time and in pieces: as they are, or packed into 4 bit while loading.

Each tensor goes from its file directly to its slot in a model built by `skeleton`; besides the model, only one piece is
in memory at a time. The files are opened here, by name: transformers never sees the folder.
So nothing else in it (code, pickles, other weight files) can be found or run, and nothing can be downloaded.
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
from dgtui.model.stored import Part, StoredTensor, decoder_name, total_size

if TYPE_CHECKING:
    from transformers.models.diffusion_gemma.modeling_diffusion_gemma import DiffusionGemmaForBlockDiffusion

    from dgtui.model.open_checkpoint import OpenCheckpoint

_PIECE: Final = 16_000_000
# The most bytes to read at a time; at least one row is read.


@dataclass(frozen=True, slots=True)
class Progress:
    """Progress of a load."""

    stage: str
    """The activity, for display: "reading", "quantizing", "checking"."""
    done_bytes: int
    total_bytes: int


Report = Callable[[Progress], None]
"""Called with the progress of a load, one call at a time. Its exceptions end the load."""


class TensorSource(Protocol):
    """A source of a model's tensors, by name."""

    @property
    def tensors(self) -> Mapping[str, StoredTensor]:
        """The available tensors."""

    def pieces(self, name: str) -> Iterator[torch.Tensor | QuantizedWeight]:
        """A tensor in pieces of consecutive rows, in order; rows of a stack are numbered through. A scalar is whole.

        Plain pieces have the shape (rows, …); quantized ones have (rows, columns) and the stored format. A piece may be
        a view of a file: copy it before taking the next one.
        """

    def skip(self, name: str) -> None:
        """Counts a tensor that is not needed as done."""


class Keep(Protocol):
    """Receives tensors while they are loaded, to write a copy; see `quantized.Folder`."""

    def add(self, name: str, tensor: torch.Tensor) -> None:
        """Receives a plain tensor, on any device."""

    def add_weight(self, name: str, weight: QuantizedWeight) -> None:
        """Receives a weight in NF4, on any device."""


class Files:
    """The tensors of a checkpoint's files, which are opened once. Raises `CorruptCheckpoint` if one cannot be read."""

    def __init__(self, checkpoint: "OpenCheckpoint", progress: Report | None = None, stage: str = "reading") -> None:
        self._shards, self.tensors = checkpoint.shards, checkpoint.tensors
        self._progress, self._stage = progress, stage
        self._copies = checkpoint.copies
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
        """Pieces along the first dimension; for a stack that is stored matrix by matrix, along its rows."""
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
            if copy := self._copies.get(name):
                _require_equal(copy, piece, self._file(copy).get_slice(copy)[start : start + step])
            yield piece

    def _file(self, name: str) -> Any:
        return self._open[self._of[name].path.name]

    def _read(self, name: str) -> torch.Tensor:
        with _readable(self._of[name]):
            tensor: torch.Tensor = self._file(name).get_tensor(name)
            self._count(tensor.nbytes)
        if copy := self._copies.get(name):
            _require_equal(copy, tensor, self._file(copy).get_tensor(copy))
        return tensor

    def skip(self, name: str) -> None:
        """See `TensorSource`."""
        self._count(self.tensors[name].size)

    def _count(self, size: int) -> None:
        self._done += size
        tell(self._progress, self._stage, self._done, self.total)


def _require_equal(name: str, tensor: torch.Tensor, copy: torch.Tensor) -> None:
    """Refuse a checkpoint whose encoder and decoder have other weights."""
    first, second = (own.reshape(-1).view(torch.uint8) for own in (tensor, copy))
    if not torch.equal(first, second):
        raise not_shared([name])


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
    """Yield the tensors of a model from `lay_out` one by one, in the model's format, with their slots.

    Args:
        model: From `lay_out`, for the same packing.
        source: The tensors: already in the model's format, or to be packed or decoded while loading.
        packing: How the model holds them.
        device: Where it runs. Streamed experts stay in main memory.
        keep: Receives every tensor, plain ones in the source's type, and the vision tower even if the model has none.

    Raises:
        CorruptCheckpoint: The source lacks tensors that the model needs, or their shapes differ.
        ModelUnloadable: It holds separate weights for encoder and decoder.
    """
    check(source.tensors, model, packing)
    wanted, weights = slots(model), quantized_weights(model)
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
    """Fill a model from `lay_out` with its weights, each on its final device; see `stream`."""
    for (module, own), tensor in stream(model, source, packing, device, keep):
        if tensor.device != device and device.type == "cuda":
            tensor = _pinned(tensor)
        _put(module, own, tensor)
    for module in model.modules():
        for own in module._non_persistent_buffers_set:
            if module._buffers[own] is not None:
                _put(module, own, _get(module, own).to(device))
    if device.type == "cpu":  # for experts that are not packed
        model.set_experts_implementation("eager")  # grouped matmul is slower on the CPU
    use_bitsandbytes(model, device)
    share_layers(model)


def _pinned(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor in pinned memory, so copies to the GPU are direct, if the system allows to pin that much."""
    try:
        return tensor.pin_memory()
    except RuntimeError:  # a limit of the container or of Windows; unpinned memory is only slower
        return tensor


def whole(source: TensorSource, name: str, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    """A tensor of a source in its own memory, decoded if it is quantized."""
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
    """A weight of a source in the format of `like`; besides it, only one piece is in memory at a time.

    Args:
        source: The source of the weight.
        name: Its name in the source.
        like: The weight without its tensors.
        device: Where to pack it, if needed.
        home: Its final device.
    """
    if source.tensors[name].form == like.form:
        weight = QuantizedWeight(like.form, like.shape, like.parts, device=home)
        row = 0
        for piece in source.pieces(name):
            assert isinstance(piece, QuantizedWeight), "a source yields the format that it declares"
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


def check(tensors: Mapping[str, StoredTensor], model: "DiffusionGemmaForBlockDiffusion", packing: Packing) -> None:
    """Reject tensors that do not match a model from `lay_out`, before any is read.

    Raises:
        CorruptCheckpoint: Some are missing, have another shape or type, or no place in the model. Names them.
        ModelUnloadable: Encoder and decoder have separate weights.
    """
    wanted, weights = slots(model), quantized_weights(model)
    shapes = {name: tuple(_get(*place).shape) for name, place in wanted.items()}
    shapes |= {name: weight.shape for name, weight in weights.items() if name in tensors}
    strange = sorted(f"{name} in {t.dtype}" for name, t in tensors.items() if name in shapes and t.dtype not in DTYPES)
    if strange:
        raise CorruptCheckpoint(f"the weights have an unsupported type: {some(strange)}")
    mismatched = [
        f"{name} {list(entry.shape)} instead of {list(shapes[name])}"
        for name, entry in sorted(tensors.items())
        if name in shapes and entry.shape != shapes[name]
    ]
    if mismatched:
        raise CorruptCheckpoint(f"the weights do not have the shapes that config.json gives: {some(mismatched)}")
    held = {name for name in wanted if name in tensors or name.rpartition(".")[0] in weights.keys() & tensors.keys()}
    missing = sorted(wanted.keys() - held)
    if missing:
        raise CorruptCheckpoint(f"the checkpoint lacks {some(missing)}", hint="download the checkpoint again")
    others = sorted(tensors.keys() - shapes.keys())
    apart = [name for name in others if decoder_name(name) in shapes]
    if apart:
        raise not_shared(apart)
    # Unused vectors are buffers that other versions saved. An unused matrix means that config.json describes another
    # model, for example one with fewer layers.
    unused = [
        name for name in others if len(tensors[name].shape) >= 2 and (packing.vision or part_of(name) != "vision")
    ]
    if unused:
        raise CorruptCheckpoint(
            f"the checkpoint has weights that do not occur in the model of config.json: {some(unused)}"
        )


def tell(progress: Report | None, stage: str, done: int, total: int) -> None:
    """Report progress, if there is a listener."""
    if progress is not None:
        progress(Progress(stage, done, total))
