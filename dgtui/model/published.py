"""The published DiffusionGemmas that can be loaded, and the best one for a machine. Imports nothing heavy.

Sizes on disk are as reported by publishers or users; memory is what `plan.estimate` computes for the layouts, with
8,192 tokens of context and two boundaries of a conversation. The quantized files themselves were not available:
docs/models.md says how each was checked.
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
    gpu_gb: tuple[float, float]
    """Memory in GB on a GPU: in their stored format, and packed. The other weights are in bfloat16."""
    cpu_gb: tuple[float, float]
    """The same on a CPU, where the other weights are in float32."""
    sees: bool
    """Whether it has the vision tower."""

    def takes_gb(self, cpu: bool) -> tuple[float, float]:
        """Memory on a CPU or else on a GPU: to hold it as it is stored, and packed."""
        return self.cpu_gb if cpu else self.gpu_gb


PUBLISHED: Final = (
    Published("google/diffusiongemma-26B-A4B-it", "", "bfloat16", 51.6, "NF4", (53.1, 17.9), (105.4, 21.3), True),
    Published(
        "RedHatAI/diffusiongemma-26B-A4B-it-FP8-dynamic", "", "FP8", 27.2, "NF4", (28.7, 17.9), (32.1, 21.3), True
    ),
    Published(
        "nvidia/diffusiongemma-26B-A4B-it-NVFP4", "", "NVFP4 experts", 18.9, "NVFP4 and NF4", (20.3, 17.9),
        (27.0, 21.3), True,
    ),
    Published(
        "unsloth/diffusiongemma-26B-A4B-it-GGUF", "Q4_K_M", "GGUF Q4_K_M", 16.8, "Q4_K and NF4", (19.4, 17.1),
        (21.6, 19.3), False,
    ),
)  # fmt: skip
"""From the most exact to the smallest download."""


def recommended(available: int, cpu: bool) -> Published | None:
    """The recommended checkpoint for a CPU or a GPU with this many bytes free; None if none fits.

    The smallest download with vision that fits in its stored format, because that is exact and loads fastest; else the
    smallest that fits when packed.
    """
    whole = [own for own in PUBLISHED if own.takes_gb(cpu)[0] * 1e9 <= available and own.sees]
    packed = [own for own in PUBLISHED if own.takes_gb(cpu)[1] * 1e9 <= available]
    return min(whole or packed, key=lambda own: own.disk_gb, default=None)
