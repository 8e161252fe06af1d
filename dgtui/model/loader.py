"""A checkpoint into memory: everything cheap is checked before the first weight is read, and nothing is ever fetched.

How it is held is planned first (`plan`): in full where that fits, else in 4 bit, packed on the way (`weights`) or
before (`quantized`). What comes back is whole: every weight was in the checkpoint, none is left on the meta device,
encoder and decoder share one copy, and the tokenizer is the model's.
"""

import shutil
import time
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch

from dgtui.diffusion.job import SamplerSettings
from dgtui.errors import (
    ModelUnloadable,
    OutOfMemory,
    RunFailed,
    VocabularyMismatch,
    out_of_memory,
)
from dgtui.model import devices, foreign, quantized
from dgtui.model.catalog import Checkpoint, check, read_config
from dgtui.model.devices import gigabytes
from dgtui.model.generation import for_generate, read_generation
from dgtui.model.geometry import read_geometry
from dgtui.model.images import ImageReader
from dgtui.model.offline import go_offline
from dgtui.model.parts import LoadOptions, Packing, part_of
from dgtui.model.plan import Plan, choose
from dgtui.model.shards import Shard, fingerprint, shown
from dgtui.model.skeleton import lay_out
from dgtui.model.tokenizer import ModelTokenizer
from dgtui.model.weights import Files, Progress, Report, fill
from dgtui.model_info import ModelInfo
from dgtui.paths import private_dir

__all__ = ["LoadOptions", "LoadedModel", "Progress", "load", "plan_for"]

if TYPE_CHECKING:
    from transformers.models.diffusion_gemma.modeling_diffusion_gemma import DiffusionGemmaForBlockDiffusion

_DISK_RESERVE: Final = 1_000_000_000
# Bytes that stay free on the disk where packed copies are kept.


@dataclass(eq=False, slots=True)
class LoadedModel:
    """A model that is ready to run, and what goes with it."""

    checkpoint: Checkpoint
    model: "DiffusionGemmaForBlockDiffusion"
    """For inference: `eval()`, without gradients."""
    tokenizer: ModelTokenizer
    settings: SamplerSettings
    """The checkpoint's own sampler settings."""
    stop_ids: frozenset[int]
    """Ids that end a reply."""
    pad_id: int
    fingerprint: str
    """Tells checkpoints, and ways of packing them, apart: see `shards.fingerprint`."""
    plan: Plan
    """How it is held."""
    notes: tuple[str, ...]
    """What a person should know, a sentence each: why it is held so, and what was kept."""
    load_seconds: float
    images: ImageReader | None = None
    """None: it does not see; `images.seeing` says why."""

    @property
    def info(self) -> ModelInfo:
        """Its sizes and ids."""
        config: Any = self.model.config
        tokenizer = self.tokenizer
        end = tokenizer.turn_end_id if tokenizer.turn_end_id in self.stop_ids else tokenizer.eos_id
        end = min(self.stop_ids) if end is None else end
        return ModelInfo(
            canvas_length=config.canvas_length,
            max_context=self.plan.context,
            bos_id=tokenizer.bos_id,
            turn_end_id=end,
            fill_id=end if tokenizer.eos_id is None else tokenizer.eos_id,
            stop_ids=self.stop_ids,
            special_ids=tokenizer.special_ids,
            reads_marks=self.checkpoint.source != "embedded",
        )

    @property
    def device(self) -> torch.device:
        """Where it runs."""
        return self.plan.device

    @property
    def dtype(self) -> torch.dtype:
        """Of what is not packed."""
        return self.plan.dtype


def load(checkpoint: Checkpoint, options: LoadOptions | None = None, progress: Report | None = None) -> LoadedModel:
    """Load a checkpoint for inference.

    Args:
        checkpoint: From `catalog.resolve`.
        options: How it is to be held.
        progress: Told how far it is, one call at a time, perhaps from other threads. What it raises ends the load.

    Raises:
        ModelNotFound, ModelUnloadable: What `catalog.check` raises, or a device that is not there.
        CorruptCheckpoint: Weights are missing, changed, or of another shape than config.json says. Names some.
        VocabularyMismatch: Tokenizer and weights are not of one model.
        OutOfMemory: Before the first weight is read, where that can be known.
    """
    began = time.perf_counter()
    options = options or LoadOptions()
    found = _open(checkpoint)
    vocab_size: int = found.geometry.text_config.vocab_size
    generation = read_generation(checkpoint.path, found.config, vocab_size)
    tokenizer = ModelTokenizer.load(checkpoint.path)
    _check_vocabulary(tokenizer.vocab_size, vocab_size)
    plan = _plan(found, options)
    notes = [plan.reason] if plan.reason else []
    try:
        if found.stored is not None:
            quantized.verify(checkpoint.path, found.shards, progress)
        if found.foreign:
            model: Any = foreign.read(found.config, found.geometry, found.shards, plan, progress)
        elif found.stored is not None or not plan.packing.nf4:
            model = _read(found.geometry, found.shards, plan, progress)
        else:
            model = _pack(found, plan, options.cache, progress, notes)
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        raise OutOfMemory(
            f"the memory ran out while loading {shown(checkpoint.name)}, which needs {gigabytes(plan.estimate.total)}",
            hint="close what else uses memory, or take a smaller model: --model embedded",
        ) from error
    model.generation_config = for_generate(generation)
    return LoadedModel(
        checkpoint=checkpoint,
        model=model,
        tokenizer=tokenizer,
        settings=generation.settings,
        stop_ids=generation.stop_ids,
        pad_id=generation.pad_id,
        fingerprint=found.mark + _suffix(plan, found),
        plan=plan,
        notes=tuple(notes),
        load_seconds=time.perf_counter() - began,
        images=ImageReader.load(checkpoint.path, found.geometry.vision_config) if plan.packing.vision else None,
    )


def plan_for(checkpoint: Checkpoint, options: LoadOptions) -> Plan:
    """How a checkpoint would be held here. Raises what `load` raises before it reads weights."""
    return _plan(_open(checkpoint), options)


@dataclass(frozen=True, slots=True)
class _Found:
    """A checkpoint, of which no weight has been read."""

    checkpoint: Checkpoint
    shards: list[Shard]
    config: dict[str, Any]
    geometry: Any
    stored: Packing | None
    foreign: bool
    mark: str


def _open(checkpoint: Checkpoint) -> _Found:
    shards, config = check(checkpoint.path), read_config(checkpoint.path)
    if config.get("tie_word_embeddings") is False:
        raise ModelUnloadable(
            f"{shown(checkpoint.name)} keeps separate weights for encoder and decoder",
            hint="DiffusionGemma has one stack of weights for both: save it with tie_word_embeddings=True",
        )
    stored = quantized.stored_packing(config)
    others = stored is None and foreign.is_foreign(config, checkpoint.name)
    go_offline()
    from transformers.utils import logging

    silence: Any = logging  # untyped
    silence.set_verbosity_error()
    silence.disable_progress_bar()
    mark = fingerprint(checkpoint.path, shards)
    return _Found(checkpoint, shards, config, read_geometry(config), stored, others, mark)


def _plan(found: _Found, options: LoadOptions) -> Plan:
    """The best way to hold a checkpoint; beside the GPU, if that is too small and nobody asked for it."""
    tensors = {name: entry for shard in found.shards for name, entry in shard.tensors.items()}
    if options.vision and not any(part_of(name) == "vision" for name in tensors):
        raise ModelUnloadable(
            f"{shown(found.checkpoint.name)} was saved without its vision tower", hint="take one that has it"
        )

    def best(device: torch.device) -> Plan:
        return choose(
            found.geometry, tensors, device, options.dtype or devices.choose_dtype(device), stored=found.stored,
            context=options.context, vision=options.vision, most=options.memory, fixed=found.foreign,
        )  # fmt: skip

    device = devices.choose_device(options.device)
    try:
        return best(device)
    except OutOfMemory:
        if options.device != "auto" or device.type == "cpu":
            raise
        return best(torch.device("cpu"))


def _read(geometry: Any, shards: list[Shard], plan: Plan, progress: Report | None) -> Any:
    model = lay_out(geometry, plan.packing, plan.dtype)
    with Files(shards, progress) as source:
        fill(model, source, plan.packing, plan.device)
    return model


def _pack(found: _Found, plan: Plan, cache: Path | None, progress: Report | None, notes: list[str]) -> Any:
    """A checkpoint in full, packed while it is read; or the packed copy of it that was kept, if that is whole."""
    name, packing = found.checkpoint.name, replace(plan.packing, vision=True, streamed=0)
    kept = quantized.copy_of(name, found.mark, packing.double, cache) if cache else None
    if kept is not None and kept.exists():
        try:
            shards = check(kept)
            quantized.verify(kept, shards, progress)
        except ModelUnloadable as error:
            notes.append(f"the 4-bit copy in {shown(kept)} was damaged ({error.message}) and is made again")
            shutil.rmtree(kept, ignore_errors=True)
        else:
            return _read(found.geometry, shards, plan, progress)
    copy = None
    if kept is not None:
        needed, free = quantized.stored_size(found.shards, packing), quantized.room(kept)
        if needed + _DISK_RESERVE <= free:
            folder = quantized.Folder(kept, found.checkpoint.path, found.config, name, found.mark, packing)
            copy = _Copy(folder, notes)
        else:
            notes.append(f"no 4-bit copy is kept: it takes {gigabytes(needed)}, and {gigabytes(free)} are free")
    with copy or nullcontext(), Files(found.shards, progress, "quantizing") as source:
        model = lay_out(found.geometry, plan.packing, plan.dtype)
        fill(model, source, plan.packing, plan.device, copy)
        if copy is not None:
            copy.finish()
    return model


class _Copy:
    """The copy that a load keeps along the way. It is a convenience: where it cannot be written, the load goes on."""

    def __init__(self, folder: quantized.Folder, notes: list[str]) -> None:
        self._folder, self._notes = folder, notes
        self._open = ExitStack()
        self._failed = False

    def __enter__(self) -> None:
        def enter() -> None:
            private_dir(self._folder.target.parent)
            self._open.enter_context(self._folder)

        self._try(enter)

    def __exit__(self, *why: Any) -> None:
        self._open.__exit__(*why)

    def add(self, name: str, tensor: torch.Tensor) -> None:
        """See `weights.Keep`."""
        self._try(lambda: self._folder.add(name, tensor))

    def finish(self) -> None:
        """The copy is there, or there is a note that says why not."""
        self._try(self._folder.finish)
        if not self._failed:
            place = shown(self._folder.target)
            self._notes.append(f"a 4-bit copy is kept in {place} and read the next time; --no-keep declines")

    def _try(self, work: Callable[[], object]) -> None:
        if self._failed:
            return
        try:
            work()
        except RunFailed as error:  # the disk is full, say, or another dgtui makes the copy just now
            self._failed = True
            self._open.close()
            self._notes.append(f"no 4-bit copy is kept: {error.message}")


def _suffix(plan: Plan, found: _Found) -> str:
    """Marks weights that were packed here: they give other numbers than the checkpoint's own."""
    if found.stored is not None or not plan.packing.nf4:
        return ""
    return "-nf4-double" if plan.packing.double else "-nf4"


def _check_vocabulary(entries: int, vocab_size: int) -> None:
    """Refuse a tokenizer that is not the model's.

    A model may have more ids than the tokenizer has entries: embeddings are padded to multiples of 64 or 128. Noise is
    drawn from all of them, so such ids occur in drafts, and decode to nothing. Up to 128 of them, or one in a hundred,
    is padding; more is another model's tokenizer.
    """
    if entries > vocab_size or vocab_size - entries > max(128, vocab_size // 100):
        raise VocabularyMismatch(
            f"the tokenizer has {entries:,} entries and the model {vocab_size:,}",
            hint="tokenizer.json and config.json are of different models: fetch the checkpoint again",
        )
