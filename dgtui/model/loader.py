"""Loads a checkpoint: all cheap checks come before the first weight is read. Never downloads anything.

The way to hold it is planned first (`plan`): in full if that fits, else in 4 bit, packed while loading (`weights`) or
earlier (`quantized`). The loaded model is complete: every weight was in the checkpoint, none is left on the meta
device, encoder and decoder share one copy, and the tokenizer matches the model.
"""

import shutil
import time
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

import torch

from dgtui.diffusion.job import SamplerSettings
from dgtui.errors import (
    ModelUnloadable,
    OutOfMemory,
    RunFailed,
    VocabularyMismatch,
    out_of_memory,
)
from dgtui.model import adapter, devices, foreign, quantized
from dgtui.model.catalog import Checkpoint
from dgtui.model.generation import for_generate, read_generation
from dgtui.model.geometry import read_geometry
from dgtui.model.images import ImageReader
from dgtui.model.offline import go_offline
from dgtui.model.open_checkpoint import OpenCheckpoint, open_checkpoint
from dgtui.model.parts import LoadOptions, Packing, held_formats
from dgtui.model.plan import Plan, choose
from dgtui.model.quantized_weight import QuantizedWeight
from dgtui.model.shards import shown
from dgtui.model.skeleton import lay_out
from dgtui.model.tokenizer import ModelTokenizer
from dgtui.model.weights import Files, Progress, Report, check, fill, tell
from dgtui.model_info import ModelInfo
from dgtui.paths import private_dir
from dgtui.text import gigabytes

__all__ = ["LoadOptions", "LoadedModel", "Progress", "checked_plan", "load", "plan_for"]

if TYPE_CHECKING:
    from transformers.models.diffusion_gemma.modeling_diffusion_gemma import DiffusionGemmaForBlockDiffusion

    from dgtui.model.gguf_source import GgufSource

_DISK_RESERVE: Final = 1_000_000_000
# Bytes to leave free on the disk where packed copies are kept.


@dataclass(eq=False, slots=True)
class LoadedModel:
    """A loaded model with its tokenizer, settings and images."""

    fixed: ClassVar[str] = ""
    """See `ServedModel.fixed`: its canvas can be steered."""

    checkpoint: Checkpoint
    model: "DiffusionGemmaForBlockDiffusion"
    """In `eval()` mode, without gradients."""
    tokenizer: ModelTokenizer
    settings: SamplerSettings
    """The checkpoint's own sampler settings."""
    stop_ids: frozenset[int]
    """Ids that end a reply."""
    pad_id: int
    fingerprint: str
    """Differs between checkpoints and between ways of packing them: see `shards.fingerprint`."""
    plan: Plan
    """How it is held in memory."""
    notes: tuple[str, ...]
    """Sentences for the user: why it is held this way, and what was kept on disk."""
    load_seconds: float
    slow: str = ""
    """Why its steps do not run in the fastest way; empty if they do."""
    adapted: bool = False
    """An adapter was added to it."""
    images: ImageReader | None = None
    """None if the model has no vision; `images.seeing` gives the reason."""

    def slow_down(self, why: str) -> None:
        """Adds a reason why steps do not run in the fastest way, for the notes and the meters."""
        self.slow = "; ".join(filter(None, [self.slow, why]))
        self.notes += (why,)

    def limit(self, tokens: int) -> int:
        """At how many tokens a reply is cut; see `ServedModel.limit`."""
        return tokens

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
    def name(self) -> str:
        """The checkpoint's name."""
        return self.checkpoint.name

    @property
    def held(self) -> str:
        """A short description of the formats of its weights."""
        return " · ".join((*self.plan.formats, str(self.dtype).removeprefix("torch.")))

    @property
    def device(self) -> torch.device:
        """Where it runs."""
        return self.plan.device

    @property
    def dtype(self) -> torch.dtype:
        """The type of the weights that are not packed."""
        return self.plan.dtype


def load(
    checkpoint: Checkpoint | OpenCheckpoint, options: LoadOptions | None = None, progress: Report | None = None
) -> LoadedModel:
    """Load a checkpoint for inference.

    Args:
        checkpoint: From `selection.select`, or open already.
        options: How to hold it.
        progress: Called with the progress, one call at a time, perhaps from other threads. Its exceptions end the load.

    Raises:
        ModelNotFound, ModelUnloadable: Raised by `open_checkpoint`, or the device does not exist.
        CorruptCheckpoint: Weights are missing, or their shapes differ from config.json; the message names some.
        VocabularyMismatch: Tokenizer and weights belong to different models.
        OutOfMemory: It does not fit; raised before the first weight is read if that can be predicted.
    """
    began = time.perf_counter()
    options = options or LoadOptions()
    opened = checkpoint if isinstance(checkpoint, OpenCheckpoint) else open_checkpoint(checkpoint)
    geometry = _geometry(opened)
    vocab_size: int = geometry.text_config.vocab_size
    generation = read_generation(opened.generation_config, opened.config, vocab_size)
    tell(progress, "reading the tokenizer", 0, 0)  # announced first: reading it holds the GIL for a second
    tokenizer = options.tokenizer or read_tokenizer(opened)
    plan = _plan(opened, geometry, options)
    added = adapter.read(options.adapter) if options.adapter is not None else None
    notes = [plan.reason] if plan.reason else []
    try:
        model = _read(opened, geometry, plan, options.cache, progress, notes)
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        raise OutOfMemory(
            f"out of memory while loading {shown(opened.name)}, which needs {gigabytes(plan.estimate.total)}",
            hint="close other programs that use memory, or use a smaller model: --model embedded",
        ) from error
    model.generation_config = for_generate(generation)
    if added is not None:
        adapter.attach(model, added)
        notes.append(f"the adapter in {shown(added.folder)} is added to {len(added.layers)} layers")
    return LoadedModel(
        checkpoint=opened.checkpoint,
        model=model,
        tokenizer=tokenizer,
        settings=generation.settings,
        stop_ids=generation.stop_ids,
        pad_id=generation.pad_id,
        fingerprint=opened.fingerprint + _suffix(plan, opened) + (f"-lora-{added.fingerprint}" if added else ""),
        plan=plan,
        notes=tuple(notes),
        load_seconds=time.perf_counter() - began,
        adapted=added is not None,
        images=ImageReader.load(opened.path, geometry.vision_config) if plan.packing.vision else None,
    )


def read_tokenizer(opened: OpenCheckpoint) -> ModelTokenizer:
    """A checkpoint's tokenizer. Raises the errors of `ModelTokenizer.load`, and `VocabularyMismatch`."""
    if opened.gguf is None:
        tokenizer = ModelTokenizer.load(opened.path)
    else:
        from dgtui.model.gguf_tokenizer import tokenizer_of

        tokenizer = tokenizer_of(opened.gguf)
    _check_vocabulary(tokenizer.vocab_size, opened.number("vocab_size"))
    return tokenizer


def plan_for(opened: OpenCheckpoint, options: LoadOptions) -> Plan:
    """How a checkpoint would be held on this machine. Raises the errors that `load` raises before it reads weights."""
    return _plan(opened, _geometry(opened), options)


def checked_plan(opened: OpenCheckpoint, options: LoadOptions) -> Plan:
    """`plan_for` a checkpoint whose tensors are all those of the model, by their names, types and shapes.

    Raises what `load` raises before it reads weights, but for the tokenizer's sake. Takes a second for a large model.
    """
    geometry = _geometry(opened)
    plan = _plan(opened, geometry, options)
    if opened.quant_method != foreign.METHOD:
        held = held_formats(opened.tensors, plan.packing)
        model = lay_out(geometry, held, plan.dtype, vision=plan.packing.vision)
        check(opened.tensors, model, plan.packing)
    return plan


def _geometry(opened: OpenCheckpoint) -> Any:
    """The model's config; first makes the settings that have to come before the import of transformers."""
    if opened.quant_method == foreign.METHOD:
        foreign.require_packages(opened.name)
    go_offline()
    from transformers.utils import logging

    silence: Any = logging  # untyped
    silence.set_verbosity_error()
    silence.disable_progress_bar()
    return read_geometry(opened.config)


def _plan(opened: OpenCheckpoint, geometry: Any, options: LoadOptions) -> Plan:
    """The best way to hold a checkpoint; on the CPU if the GPU is too small and was not requested."""
    if options.vision and not opened.sees:
        raise ModelUnloadable(
            f"{shown(opened.name)} was saved without its vision tower", hint="use a checkpoint that has one"
        )

    def best(device: torch.device) -> Plan:
        return choose(
            geometry, opened.tensors, device, options.dtype or devices.choose_dtype(device),
            context=options.context, vision=options.vision, most=options.memory,
            fixed=opened.quant_method == foreign.METHOD,
            decoded=options.decoded or opened.checkpoint.source == "embedded",
        )  # fmt: skip

    device = devices.choose_device(options.device)
    try:
        return best(device)
    except OutOfMemory:
        if options.device != "auto" or device.type == "cpu":
            raise
        return best(torch.device("cpu"))


def _read(
    opened: OpenCheckpoint, geometry: Any, plan: Plan, cache: Path | None, progress: Report | None, notes: list[str]
) -> Any:
    """The model: read as it is, packed while loading, or read from the packed copy of an earlier load."""
    if opened.quant_method == foreign.METHOD:
        return foreign.read(opened, geometry, plan, progress)
    held = held_formats(opened.tensors, plan.packing)
    packed_here = any(opened.tensors[name].form != form for name, form in held.items())
    copy = None
    if cache is not None and packed_here and quantized.can_be_kept(opened, held):
        packing = replace(plan.packing, vision=True, streamed=0)
        target = quantized.copy_of(opened, packing, cache)
        if target.exists():
            try:
                kept = open_checkpoint(Checkpoint(opened.name, target, "folder"))
                return _fill(kept, geometry, plan, progress, "reading")
            except ModelUnloadable as error:
                notes.append(f"the 4-bit copy in {shown(target)} is damaged ({error.message}) and will be rebuilt")
                shutil.rmtree(target, ignore_errors=True)
        copy = _copy(quantized.Folder(target, opened, packing), opened, packing, notes)
    return _fill(opened, geometry, plan, progress, "quantizing" if packed_here else "reading", copy)


def _fill(
    opened: OpenCheckpoint, geometry: Any, plan: Plan, progress: Report | None, stage: str, copy: "_Copy | None" = None
) -> Any:
    held = held_formats(opened.tensors, plan.packing)
    with copy or nullcontext(), _source(opened, progress, stage) as source:
        model = lay_out(geometry, held, plan.dtype, vision=plan.packing.vision)
        fill(model, source, plan.packing, plan.device, copy)
        if copy is not None:
            copy.finish()
    return model


def _source(opened: OpenCheckpoint, progress: Report | None, stage: str) -> "Files | GgufSource":
    if opened.gguf is None:
        return Files(opened, progress, stage)
    from dgtui.model.gguf_source import GgufSource

    return GgufSource(opened.gguf, progress, stage)


def _copy(folder: quantized.Folder, opened: OpenCheckpoint, packing: Packing, notes: list[str]) -> "_Copy | None":
    """The copy to write, if the disk has room for it."""
    needed, free = quantized.stored_size(opened.tensors, packing), quantized.room(folder.target)
    if needed + _DISK_RESERVE <= free:
        return _Copy(folder, notes)
    notes.append(f"no 4-bit copy is kept: it takes {gigabytes(needed)}, but only {gigabytes(free)} are free")
    return None


class _Copy:
    """The packed copy that a load writes as it goes. If it cannot be written, the load continues without it."""

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

    def add_weight(self, name: str, weight: QuantizedWeight) -> None:
        """See `weights.Keep`."""
        self._try(lambda: self._folder.add_weight(name, weight))

    def finish(self) -> None:
        """Makes the copy visible, or notes why there is none."""
        self._try(self._folder.finish)
        if not self._failed:
            place = shown(self._folder.target)
            self._notes.append(f"a 4-bit copy is kept in {place} for the next load (--no-keep to prevent this)")

    def _try(self, work: Callable[[], object]) -> None:
        if self._failed:
            return
        try:
            work()
        except RunFailed as error:  # e.g. the disk is full, or another dgtui is writing the copy
            self._failed = True
            self._open.close()
            self._notes.append(f"no 4-bit copy is kept: {error.message}")


def _suffix(plan: Plan, opened: OpenCheckpoint) -> str:
    """Marks weights that were packed here: their values differ from the checkpoint's own."""
    if not plan.packing.nf4 or opened.quant_method == quantized.METHOD:
        return ""
    return f"-nf4{quantized.suffix(plan.packing)}"


def _check_vocabulary(entries: int, vocab_size: int) -> None:
    """Reject a tokenizer that does not match the model.

    A model may have more ids than the tokenizer has entries: embeddings are padded to multiples of 64 or 128. Noise is
    drawn from all ids, so padding ids occur in drafts and decode to nothing. Up to 128 extra ids, or 1%, count as
    padding; more means that the tokenizer belongs to another model.
    """
    if entries > vocab_size or vocab_size - entries > max(128, vocab_size // 100):
        raise VocabularyMismatch(
            f"the tokenizer has {entries:,} entries, but the model has {vocab_size:,}",
            hint="tokenizer.json and config.json belong to different models: download the checkpoint again",
        )
