"""Low-rank adaptation with PEFT: trains small matrices while the layers are frozen."""

import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import load_file, save_file

from dgtui.errors import UsageError
from dgtui.model.adapter import LAYERS, PREFIX, WEIGHTS

_DECODER: Final = "model.decoder."


class Lora:
    """An adapter being trained on a model.

    Args:
        model: Quantized or not; its own weights are frozen.
        rank: Of the matrices.
        name: Of the checkpoint, for the adapter's config.
    """

    def __init__(self, model: Any, rank: int, name: str) -> None:
        if find_spec("peft") is None:
            raise UsageError("--lora needs peft", hint="pip install 'dgtui[train]'")
        from peft import LoraConfig, inject_adapter_in_model
        from peft.tuners.lora import Linear

        from dgtui.model.quantized_layers import QuantizedLinear

        self._decoder = model.model.decoder
        self.config: Any = LoraConfig(
            r=rank, lora_alpha=2 * rank, target_modules=LAYERS.pattern.replace("model\\.decoder\\.", "", 1),
            base_model_name_or_path=name,
        )  # fmt: skip
        self.config._register_custom_module({QuantizedLinear: Linear})
        model.requires_grad_(False)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Unsupported layer type", UserWarning)  # sizes are all that it needs
            inject_adapter_in_model(self.config, self._decoder)

    def save(self, folder: Path, dtype: torch.dtype = torch.float32) -> None:
        """Writes the adapter in PEFT's format."""
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {
            f"{PREFIX}{_DECODER}{name.replace('.default.', '.')}": p.detach().to("cpu", dtype).contiguous()
            for name, p in self._decoder.named_parameters()
            if "lora_" in name
        }
        save_file(tensors, folder / WEIGHTS)
        self.config.target_modules = LAYERS.pattern
        self.config.save_pretrained(folder)

    def resume(self, folder: Path) -> None:
        """Loads the matrices from a folder that `save` wrote."""
        found = load_file(folder / WEIGHTS)
        for name, p in self._decoder.named_parameters():
            if "lora_" in name:
                p.data.copy_(found[f"{PREFIX}{_DECODER}{name.replace('.default.', '.')}"])
