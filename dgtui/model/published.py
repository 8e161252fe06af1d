"""The published DiffusionGemmas that can be loaded, and the best one for a machine. Imports nothing heavy.

Sizes on disk are as reported by publishers or users; memory is computed from the layouts, with 8,192 tokens of
context. The quantized files themselves were not available: docs/models.md says how each was checked.
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Published:
    """One checkpoint on the hub."""

    name: str
    """Its hub id."""
    file: str
    """Part of the GGUF file's name; empty for a checkpoint in safetensors."""
    stored: str
    """The format of the stored weights."""
    disk_gb: float
    held: str
    """The format in memory if memory is short."""
    needs_gb: float
    """Memory in GB that this takes."""
    whole_gb: float
    """Memory in GB to hold them in their stored format."""
    sees: bool
    """Whether it has the vision tower."""


PUBLISHED: Final = (
    Published("google/diffusiongemma-26B-A4B-it", "", "bfloat16", 51.6, "NF4", 17.7, 53.0, True),
    Published("RedHatAI/diffusiongemma-26B-A4B-it-FP8-dynamic", "", "FP8", 27.2, "NF4", 17.7, 28.5, True),
    Published("nvidia/diffusiongemma-26B-A4B-it-NVFP4", "", "NVFP4 experts", 18.9, "NVFP4 and NF4", 17.7, 20.2, True),
    Published(
        "unsloth/diffusiongemma-26B-A4B-it-GGUF", "Q4_K_M", "GGUF Q4_K_M", 16.8, "Q4_K and NF4", 17.0, 19.5, False
    ),
)
"""From the most exact to the smallest download."""


def recommended(available: int) -> Published | None:
    """The recommended checkpoint for a device with this many bytes free; None if none fits.

    The smallest download with vision that fits in its stored format, because that is exact and loads fastest; else the
    smallest that fits when packed.
    """
    whole = [own for own in PUBLISHED if own.whole_gb * 1e9 <= available and own.sees]
    packed = [own for own in PUBLISHED if own.needs_gb * 1e9 <= available]
    return min(whole or packed, key=lambda own: own.disk_gb, default=None)
