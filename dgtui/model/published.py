"""The published DiffusionGemmas that can be loaded, and which of them suits a machine. Imports nothing heavy.

Sizes on disk are those their publishers or readers report; memory is counted from the layouts, with 8,192 tokens of
context. No file of the quantized ones was at hand when this was written: see docs/models.md for how each was checked.
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Published:
    """One checkpoint on the hub."""

    name: str
    """Its hub id."""
    file: str
    """Part of the name of the GGUF file that is meant; empty for a checkpoint in safetensors."""
    stored: str
    """How its weights are stored."""
    disk_gb: float
    held: str
    """How they are held where memory is short."""
    needs_gb: float
    """Memory that this takes."""
    whole_gb: float
    """Memory that it takes to hold them as they are stored."""
    sees: bool
    """It has the vision tower."""


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
    """The one to take on a device with so many bytes free; None where none fits.

    The smallest download that sees and is held as it is stored, for that is exact and loads fastest; else the smallest
    that fits when it is packed.
    """
    whole = [own for own in PUBLISHED if own.whole_gb * 1e9 <= available and own.sees]
    packed = [own for own in PUBLISHED if own.needs_gb * 1e9 <= available]
    return min(whole or packed, key=lambda own: own.disk_gb, default=None)
