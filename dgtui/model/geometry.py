"""Builds transformers' config object from the keys of config.json that describe the architecture, and no others."""

from collections.abc import Mapping
from typing import Any, Final

from dgtui.errors import CorruptCheckpoint
from dgtui.model.shards import shown

_ARCHITECTURE: Final = {
    "model_type", "architectures", "transformers_version", "dtype", "text_config", "vision_config", "canvas_length",
    "boi_token_id", "eoi_token_id", "image_token_id", "initializer_range", "tie_word_embeddings",
}  # fmt: skip
# The keys of config.json that describe the model. The rest is dropped: some keys tell transformers where to find code,
# kernels or other weights.


def read_geometry(config: Mapping[str, Any]) -> Any:
    """The `DiffusionGemmaConfig` of a config.json. Raises `CorruptCheckpoint` if it cannot be one."""
    from transformers.models.diffusion_gemma.configuration_diffusion_gemma import DiffusionGemmaConfig

    def plain(values: Mapping[str, Any]) -> dict[str, Any]:
        return {
            key: plain(value) if isinstance(value, dict) else value
            for key, value in values.items()
            if key != "auto_map"
        }

    try:
        return DiffusionGemmaConfig.from_dict(plain({key: config[key] for key in _ARCHITECTURE & config.keys()}))
    except Exception as error:  # transformers checks types and values, and raises many kinds of errors
        raise CorruptCheckpoint(
            f"config.json cannot be used: {shown(error)}", hint="download the file again"
        ) from error
