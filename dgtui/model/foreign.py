"""Checkpoints quantized by bitsandbytes: transformers itself reads and runs them.

Transformers gets their tensors one by one when it asks for them, never the folder; see `weights`.
"""

from contextlib import ExitStack
from importlib.util import find_spec
from threading import Lock
from typing import TYPE_CHECKING, Any, Final

import torch
from safetensors import SafetensorError, safe_open

from dgtui.errors import CorruptCheckpoint, ModelUnloadable
from dgtui.model.open_checkpoint import OpenCheckpoint
from dgtui.model.plan import Plan
from dgtui.model.shards import Shard, shown, some
from dgtui.model.skeleton import verify_shared
from dgtui.model.stored import total_size
from dgtui.model.weights import Report, tell

if TYPE_CHECKING:
    from transformers.models.diffusion_gemma.modeling_diffusion_gemma import DiffusionGemmaForBlockDiffusion

METHOD: Final = "bitsandbytes"
"""The `quant_method` of the checkpoints that transformers has to read itself."""
_PACKAGES: Final = ("bitsandbytes", "accelerate")  # accelerate moves the model to a device


def require_packages(name: str) -> None:
    """Raise `ModelUnloadable` if a package is missing that transformers needs to read them."""
    missing = " ".join(package for package in _PACKAGES if find_spec(package) is None)
    if missing:
        raise ModelUnloadable(
            f"{shown(name)} is quantized with {METHOD}, which needs {missing}", hint=f"pip install {missing}"
        )


def read(
    opened: OpenCheckpoint, geometry: Any, plan: Plan, progress: Report | None
) -> "DiffusionGemmaForBlockDiffusion":
    """The complete model, for inference.

    Args:
        opened: The checkpoint.
        geometry: The `DiffusionGemmaConfig`.
        plan: Where it will run.
        progress: Called after each tensor.

    Raises:
        CorruptCheckpoint: If a file cannot be read, or the files do not hold what the config says.
        ModelUnloadable: If encoder and decoder do not share their weights.
    """
    from transformers.models.diffusion_gemma.modeling_diffusion_gemma import DiffusionGemmaForBlockDiffusion

    geometry.quantization_config = opened.config["quantization_config"]
    with ExitStack() as files:
        source = _Reading(progress, total_size(opened.tensors.values()))
        tensors: dict[str, _Lazy] = {}
        for shard in opened.shards:
            try:
                file = files.enter_context(safe_open(shard.path, framework="pt", device="cpu"))
                for name in shard.tensors:
                    tensors[name] = _Lazy(source, shard, file.get_slice(name))
            except (SafetensorError, OSError) as error:
                raise _unreadable(shard, error) from error
        try:
            loaded: Any = DiffusionGemmaForBlockDiffusion.from_pretrained(
                None,
                config=geometry,
                state_dict=tensors,
                dtype=plan.dtype,
                device_map={"": plan.device},
                attn_implementation="sdpa",
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=False,
                ignore_mismatched_sizes=True,  # they are listed in the info, and rejected below by name
                output_loading_info=True,
            )
        except Exception:
            if source.failure is not None:  # the cause of the error that transformers raised
                raise source.failure from None
            raise
    if source.failure is not None:  # transformers records what a reading thread raised, and continues
        raise source.failure
    model, info = loaded
    _verify_whole(model, info)
    verify_shared(model)
    whole: DiffusionGemmaForBlockDiffusion = model.eval().requires_grad_(False)
    return whole


class _Reading:
    """Shared by the tensors of a load: the count of bytes and the first failure."""

    def __init__(self, progress: Report | None, total: int) -> None:
        self.failure: BaseException | None = None
        self._progress, self._total, self._done = progress, total, 0
        self._lock = Lock()

    def count(self, size: int) -> None:
        with self._lock:
            self._done += size
            tell(self._progress, "reading", self._done, self._total)


class _Lazy:
    """A tensor that is read when transformers indexes it, on one of its threads."""

    def __init__(self, source: _Reading, shard: Shard, view: Any) -> None:
        self._source, self._shard, self._view = source, shard, view

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
            # Cloned: replacing the file while the program runs must not change or crash a model that is mapped from it
            tensor: torch.Tensor = self._view[index].clone()
            source.count(tensor.nbytes)
        except (SafetensorError, OSError) as error:
            source.failure = _unreadable(self._shard, error)
            raise source.failure from error
        except BaseException as error:
            source.failure = error
            raise
        return tensor


def _unreadable(shard: Shard, error: Exception) -> CorruptCheckpoint:
    return CorruptCheckpoint(f"{shown(shard.path.name)} cannot be read: {shown(error)}")


def _verify_whole(model: torch.nn.Module, info: dict[str, Any]) -> None:
    mismatched = sorted(
        f"{name} {list(found)} instead of {list(right)}" for name, found, right in info["mismatched_keys"]
    )
    if mismatched:
        raise CorruptCheckpoint(f"the weights do not have the shapes that config.json gives: {some(mismatched)}")
    missing = sorted(map(str, info["missing_keys"]))
    on_meta = [name for name, tensor in (*model.named_parameters(), *model.named_buffers()) if tensor.is_meta]
    if missing or on_meta:
        raise CorruptCheckpoint(
            f"the checkpoint lacks {some(missing or on_meta)}", hint="download the checkpoint again"
        )
