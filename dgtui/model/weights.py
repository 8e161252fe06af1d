"""Reads checked safetensors files into transformers' model class, and verifies what came of it.

The files are opened here and by name: transformers is handed their tensors, never the folder, so that nothing else in
it (code, pickles, other weight files) can be looked up or run, and nothing can be fetched.
"""

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open

from dgtui.errors import CorruptCheckpoint, ModelUnloadable
from dgtui.model.shards import ITEM_SIZE, Shard, shown

if TYPE_CHECKING:
    from transformers.models.diffusion_gemma.configuration_diffusion_gemma import DiffusionGemmaConfig
    from transformers.models.diffusion_gemma.modeling_diffusion_gemma import DiffusionGemmaForBlockDiffusion


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a load is."""

    stage: str
    """What is being done, for a person: "reading", "moving to cuda:0"."""
    done_bytes: int
    total_bytes: int


Report = Callable[[Progress], None]
"""Is told how far a load is: one call at a time, from several threads. What it raises ends the load."""


def read(
    config: "DiffusionGemmaConfig",
    shards: Iterable[Shard],
    device: torch.device,
    dtype: torch.dtype,
    progress: Report | None,
) -> "DiffusionGemmaForBlockDiffusion":
    """The model, whole and for inference, in the machine's memory.

    Args:
        config: What the model is.
        shards: Its files, from `shards.read_shards`.
        device: Where the caller will move it.
        dtype: Of the weights.
        progress: Told of every tensor that was read.

    Raises:
        CorruptCheckpoint: If a file cannot be read, or the files do not hold what `config` says.
        ModelUnloadable: If encoder and decoder do not share their weights.
    """
    from transformers.models.diffusion_gemma.modeling_diffusion_gemma import DiffusionGemmaForBlockDiffusion

    shards = list(shards)
    with ExitStack() as files:
        source = _Source(progress, sum(t.end - t.start for shard in shards for t in shard.tensors.values()))
        tensors: dict[str, _Lazy] = {}
        for shard in shards:
            try:
                file = files.enter_context(safe_open(shard.path, framework="pt", device="cpu"))
                for name in shard.tensors:
                    tensors[name] = _Lazy(source, shard, file.get_slice(name), dtype if device.type == "cpu" else None)
            except (SafetensorError, OSError) as error:
                raise _unreadable(shard, error) from error
        try:
            loaded: Any = DiffusionGemmaForBlockDiffusion.from_pretrained(
                None,
                config=config,
                state_dict=tensors,
                dtype=dtype,
                attn_implementation="sdpa",
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=False,
                ignore_mismatched_sizes=True,  # they are in the info, and refused below by name
                output_loading_info=True,
            )
        except Exception:
            if source.failure is not None:  # the cause of whatever transformers made of it
                raise source.failure from None
            raise
    if source.failure is not None:  # transformers notes what a reading thread raised, and goes on
        raise source.failure
    model, info = loaded
    _verify_whole(model, info, {name: tensor.rank for name, tensor in tensors.items()})
    verify_shared(model)
    if device.type == "cpu":
        model.set_experts_implementation("eager")  # grouped matmul is slower there
    whole: DiffusionGemmaForBlockDiffusion = model.eval().requires_grad_(False)
    return whole


class _Source:
    """What the tensors of a load share: the count of bytes, and the first thing that went wrong."""

    def __init__(self, progress: Report | None, total: int) -> None:
        self.failure: BaseException | None = None
        self._progress, self._total, self._done = progress, total, 0
        self._lock = Lock()

    def count(self, size: int) -> None:
        with self._lock:
            self._done += size
            tell(self._progress, "reading", self._done, self._total)


class _Lazy:
    """A tensor that is read when transformers indexes it, in one of its threads."""

    def __init__(self, source: _Source, shard: Shard, view: Any, resident: torch.dtype | None) -> None:
        self._source, self._shard, self._view, self._resident = source, shard, view, resident
        self.rank = len(view.get_shape())

    def get_shape(self) -> list[int]:
        shape: list[int] = self._view.get_shape()
        return shape

    def get_dtype(self) -> str:
        name: str = self._view.get_dtype()
        return name

    def __getitem__(self, index: Any) -> torch.Tensor:
        source = self._source
        if source.failure is not None:
            raise source.failure
        try:
            tensor: torch.Tensor = self._view[index]
            # What needs no conversion would stay a view of the mapped file: a file that is replaced while the program
            # runs must not change, or end, a model that lives in it.
            if tensor.dtype == self._resident:
                tensor = tensor.clone()
            source.count(tensor.nbytes)
        except (SafetensorError, OSError) as error:
            source.failure = _unreadable(self._shard, error)
            raise source.failure from error
        except BaseException as error:
            source.failure = error
            raise
        return tensor


def tell(progress: Report | None, stage: str, done: int, total: int) -> None:
    """Report, if anybody wants to know."""
    if progress is not None:
        progress(Progress(stage, done, total))


def loaded_size(shards: Iterable[Shard], dtype: torch.dtype) -> int:
    """Bytes of the tensors once loaded: numbers with a fraction take the model's type, others stay."""
    return sum(
        tensor.elements * (dtype.itemsize if "F" in tensor.dtype else ITEM_SIZE[tensor.dtype])
        for shard in shards
        for tensor in shard.tensors.values()
    )


def _unreadable(shard: Shard, error: Exception) -> CorruptCheckpoint:
    return CorruptCheckpoint(f"{shown(shard.path.name)} cannot be read: {shown(error)}")


def _verify_whole(model: torch.nn.Module, info: dict[str, Any], ranks: dict[str, int]) -> None:
    mismatched = sorted(
        f"{name} {list(found)} instead of {list(right)}" for name, found, right in info["mismatched_keys"]
    )
    if mismatched:
        raise CorruptCheckpoint(f"the weights have other shapes than config.json says: {_some(mismatched)}")
    missing = sorted(map(str, info["missing_keys"]))
    on_meta = [name for name, tensor in (*model.named_parameters(), *model.named_buffers()) if tensor.is_meta]
    if missing or on_meta:
        raise CorruptCheckpoint(f"the checkpoint lacks {_some(missing or on_meta)}", hint="fetch the checkpoint again")
    # Vectors that no module asks for are buffers that other versions saved. A matrix that is not used means that
    # config.json describes another, say a shallower, model.
    unused = sorted(str(key) for key in info["unexpected_keys"] if ranks.get(str(key), 2) >= 2)
    if unused:
        raise CorruptCheckpoint(f"the checkpoint has weights that config.json has no place for: {_some(unused)}")


def verify_shared(model: "DiffusionGemmaForBlockDiffusion") -> None:
    """Refuse a model whose encoder, decoder and output layer are not one copy.

    A second copy doubles the memory, and may hold other values.
    """
    decoder = dict(model.model.decoder.named_parameters())
    pairs = [(name, tensor, decoder[name]) for name, tensor in model.model.encoder.language_model.named_parameters()]
    pairs.append(("lm_head.weight", model.lm_head.weight, decoder["embed_tokens.weight"]))
    separate = [name for name, one, other in pairs if one.data_ptr() != other.data_ptr()]
    if separate:
        raise ModelUnloadable(
            f"encoder and decoder do not share {_some(separate)}",
            hint="such a checkpoint was saved untied; DiffusionGemma has one stack of weights for both",
        )


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 3:,} more" if len(names) > 3 else ""
    return ", ".join(map(shown, names[:3])) + more
