"""A checkpoint into memory: everything cheap is checked before the first weight is read, and nothing is ever fetched.

What comes back is whole: every weight was in the checkpoint, none is left on the meta device, encoder and decoder share
one copy, and the tokenizer is the model's.
"""

import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import torch

from dgtui.diffusion.job import SamplerSettings
from dgtui.errors import CorruptCheckpoint, ModelUnloadable, OutOfMemory, VocabularyMismatch
from dgtui.model import devices
from dgtui.model.catalog import Checkpoint, check, read_config
from dgtui.model.generation import for_generate, read_generation
from dgtui.model.images import ImageReader
from dgtui.model.shards import fingerprint, shown
from dgtui.model.tokenizer import ModelTokenizer
from dgtui.model.weights import Progress, Report, loaded_size, read, tell, verify_shared

__all__ = ["LoadedModel", "Progress", "load"]

if TYPE_CHECKING:
    from transformers.models.diffusion_gemma.modeling_diffusion_gemma import DiffusionGemmaForBlockDiffusion

_ARCHITECTURE: Final = {
    "model_type", "architectures", "transformers_version", "dtype", "text_config", "vision_config", "canvas_length",
    "boi_token_id", "eoi_token_id", "image_token_id", "initializer_range", "tie_word_embeddings",
}  # fmt: skip
# The keys of config.json that say what the model is. Others are left out, as some tell transformers where to find code,
# kernels or other weights.


@dataclass(eq=False, slots=True)
class LoadedModel:
    """A model that is ready to run, and what goes with it."""

    checkpoint: Checkpoint
    model: "DiffusionGemmaForBlockDiffusion"
    """For inference: `eval()`, without gradients."""
    tokenizer: ModelTokenizer
    device: torch.device
    dtype: torch.dtype
    settings: SamplerSettings
    """The checkpoint's own sampler settings."""
    stop_ids: frozenset[int]
    """Ids that end a reply."""
    pad_id: int
    fingerprint: str
    """Tells checkpoints apart: see `shards.fingerprint`."""
    load_seconds: float
    images: ImageReader | None = None
    """None: it does not see; `images.seeing` says why."""


def load(
    checkpoint: Checkpoint,
    *,
    device: str = "auto",
    dtype: torch.dtype | None = None,
    progress: Report | None = None,
) -> LoadedModel:
    """Load a checkpoint for inference.

    Args:
        checkpoint: From `catalog.resolve`.
        device: "auto", "cpu", "mps", "cuda", "cuda:N".
        dtype: Of the weights; None for what suits the device.
        progress: Told how far it is, one call at a time, from several threads. What it raises ends the load.

    Raises:
        ModelNotFound, ModelUnloadable: What `catalog.check` raises, or a device that is not there.
        CorruptCheckpoint: Weights are missing, or of another shape than config.json says. Names some.
        VocabularyMismatch: Tokenizer and weights are not of one model.
        OutOfMemory: Before the first weight is read, where that can be known.
    """
    began = time.perf_counter()
    shards = check(checkpoint.path)
    config = read_config(checkpoint.path)
    if config.get("quantization_config"):
        raise ModelUnloadable(
            f"{shown(checkpoint.name)} is quantized by another program", hint="take the checkpoint in bfloat16"
        )
    if config.get("tie_word_embeddings") is False:
        raise ModelUnloadable(
            f"{shown(checkpoint.name)} keeps separate weights for encoder and decoder",
            hint="DiffusionGemma has one stack of weights for both: save it with tie_word_embeddings=True",
        )
    place = devices.choose_device(device)
    kind = dtype or devices.choose_dtype(place)

    os.environ["HF_HUB_OFFLINE"] = os.environ["TRANSFORMERS_OFFLINE"] = "1"  # read when transformers is imported
    from transformers.utils import logging

    silence: Any = logging  # untyped
    silence.set_verbosity_error()
    silence.disable_progress_bar()
    geometry = _geometry(config)
    vocab_size: int = geometry.text_config.vocab_size

    generation = read_generation(checkpoint.path, config, vocab_size)
    tokenizer = ModelTokenizer.load(checkpoint.path)
    _check_vocabulary(tokenizer.vocab_size, vocab_size)
    weights = loaded_size(shards, kind)
    devices.require(weights + devices.scratch(geometry.canvas_length, vocab_size), place)

    try:
        model: Any = read(geometry, shards, place, kind, progress)
        if place.type != "cpu":
            tell(progress, f"moving to {place}", 0, weights)
            model.to(place)
            verify_shared(model)
            tell(progress, f"moving to {place}", weights, weights)
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise OutOfMemory(
            f"the memory ran out while loading {shown(checkpoint.name)}, which needs {devices.gigabytes(weights)}",
            hint="close what else uses memory, or take a smaller model: --model embedded",
        ) from error
    model.generation_config = for_generate(generation)
    return LoadedModel(
        checkpoint=checkpoint,
        model=model,
        tokenizer=tokenizer,
        device=place,
        dtype=kind,
        settings=generation.settings,
        stop_ids=generation.stop_ids,
        pad_id=generation.pad_id,
        fingerprint=fingerprint(checkpoint.path, shards),
        load_seconds=time.perf_counter() - began,
        images=ImageReader.load(checkpoint.path, geometry.vision_config),
    )


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


def _geometry(config: dict[str, Any]) -> Any:
    """The model's config object, of what config.json says about the architecture and nothing else."""
    from transformers.models.diffusion_gemma.configuration_diffusion_gemma import DiffusionGemmaConfig

    def plain(values: dict[str, Any]) -> dict[str, Any]:
        return {
            key: plain(value) if isinstance(value, dict) else value
            for key, value in values.items()
            if key != "auto_map"
        }

    try:
        return DiffusionGemmaConfig.from_dict(plain({key: config[key] for key in _ARCHITECTURE & config.keys()}))
    except Exception as error:  # transformers checks types and values, each with an error of its own
        raise CorruptCheckpoint(f"config.json cannot be used: {shown(error)}", hint="fetch the file again") from error
