"""Reads a checkpoint's generation_config.json: the sampler's settings and special ids."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from dgtui.diffusion.job import BadJob, SamplerSettings
from dgtui.errors import CorruptCheckpoint
from dgtui.model.shards import shown

FILE: Final = "generation_config.json"


@dataclass(frozen=True, slots=True)
class Generation:
    """A checkpoint's own defaults."""

    settings: SamplerSettings
    stop_ids: frozenset[int]
    """Ids that end a reply."""
    pad_id: int


def read_generation(values: Mapping[str, Any], config: Mapping[str, Any], vocab_size: int) -> Generation:
    """Read the defaults. A missing or null value means that of the published checkpoint, as in transformers.

    Args:
        values: The checkpoint's generation_config.json.
        config: Its config.json, for the ids that generation_config.json does not give, and for dgtui's own setting:
            transformers rejects unknown names in generation_config.json.
        vocab_size: The model's vocabulary size.

    Raises:
        CorruptCheckpoint: A value cannot be used; the message names it.
    """
    sampler = values.get("sampler_config")
    given = {
        "steps": values.get("max_denoising_steps"),
        "t_min": values.get("t_min"),
        "t_max": values.get("t_max"),
        "entropy_bound": sampler.get("entropy_bound") if isinstance(sampler, dict) else None,
        "stability": values.get("stability_threshold"),
        "confidence": values.get("confidence_threshold"),
        "proofread": config.get("proofread"),
    }
    whole = ("steps", "stability", "proofread")
    for key, value in given.items():
        kinds = (int,) if key in whole else (int, float)
        if value is not None and (type(value) not in kinds or value < 0):
            file = "config.json" if key == "proofread" else FILE
            raise CorruptCheckpoint(f"{file}: {key} cannot be {shown(repr(value))}")
    try:
        settings = SamplerSettings(**{key: value for key, value in given.items() if value is not None})
    except BadJob as error:
        raise CorruptCheckpoint(f"{FILE}: {error}") from error

    def ids(key: str) -> list[int]:
        for source in (values, config["text_config"], config):
            value = source.get(key)
            if value is None:
                continue
            found = value if isinstance(value, list) else [value]
            for token in found:
                if type(token) is not int or not 0 <= token < vocab_size:
                    raise CorruptCheckpoint(f"{key} {shown(repr(token))} is not one of the model's {vocab_size:,} ids")
            return found
        return []

    return Generation(settings, frozenset(ids("eos_token_id")), (ids("pad_token_id") or [0])[0])


def for_generate(generation: Generation) -> Any:
    """The same for transformers' own `generate`, for comparisons: a `DiffusionGemmaGenerationConfig`.

    Built from checked values: transformers' own reader takes a class name from the file and calls that class.
    """
    from transformers.models.diffusion_gemma import generation_diffusion_gemma as transformers_generation

    settings = generation.settings
    make: Any = transformers_generation.DiffusionGemmaGenerationConfig  # untyped
    return make(
        eos_token_id=sorted(generation.stop_ids) or None,
        pad_token_id=generation.pad_id,
        max_new_tokens=256,
        max_denoising_steps=settings.steps,
        sampler_config=transformers_generation.EntropyBoundSamplerConfig(entropy_bound=settings.entropy_bound),
        t_min=float(settings.t_min),
        t_max=float(settings.t_max),
        stability_threshold=settings.stability,
        confidence_threshold=float(settings.confidence),
    )
