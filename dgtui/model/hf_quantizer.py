"""Lets transformers load dgtui's NF4 folders: import this module, then call `from_pretrained(FOLDER)`.

    import dgtui.model.hf_quantizer
    model = DiffusionGemmaForBlockDiffusion.from_pretrained("nf4-folder")

dgtui itself does not load this way: it packs while loading and follows a memory plan (see `loader`).
"""

from typing import Any

from transformers.core_model_loading import WeightRenaming
from transformers.quantizers.auto import register_quantization_config, register_quantizer
from transformers.quantizers.base import HfQuantizer
from transformers.utils.quantization_config import QuantizationConfigMixin

from dgtui.model.parts import can_be_packed
from dgtui.model.skeleton import quantize_layers, share_layers
from dgtui.model.stored import NF4_METHOD as METHOD
from dgtui.model.stored import NF4_NAMES, nf4_folder


@register_quantization_config(METHOD)
class Nf4Config(QuantizationConfigMixin):
    """The `quantization_config` of an NF4 folder."""

    def __init__(self, **about: Any) -> None:
        self.quant_method = METHOD  # type: ignore[assignment]
        for key, value in about.items():
            if key != "quant_method":
                setattr(self, key, value)


@register_quantizer(METHOD)
class Nf4Quantizer(HfQuantizer):
    """Prepares the model for packed weights before they are read. Rejects unknown versions of the format."""

    requires_calibration = True  # it reads packed weights only; it does not pack

    def _process_model_before_weight_loading(self, model: Any, **kwargs: Any) -> None:
        about = {"quant_method": METHOD, **self.quantization_config.to_dict()}
        form, vision = nf4_folder({"quantization_config": about})
        weights = {f"model.decoder.{name}": w for name, w in model.model.decoder.named_parameters()}
        quantize_layers(model, {name: form for name, w in weights.items() if can_be_packed(name, tuple(w.shape))})
        if not vision:
            model.model.encoder.vision_tower = model.model.encoder.embed_vision = None
        for layer in model.model.encoder.language_model.layers:  # replaced by the decoder's once those are loaded
            for owner in (layer.self_attn, layer):
                for name, _ in list(owner.named_children()):
                    if name != "self_attn":
                        setattr(owner, name, None)
        names = model.state_dict().keys()
        tied = model.all_tied_weights_keys
        model.all_tied_weights_keys = {name: own for name, own in tied.items() if name in names}

    def get_weight_conversions(self) -> list[Any]:
        """The names on disk → the names in a `QuantizedWeight`."""
        pairs = ((disk, own) for own, disk in NF4_NAMES.items() if disk != own)
        return [WeightRenaming(rf"\.{disk}$", f".{own}") for disk, own in pairs]

    def _process_model_after_weight_loading(self, model: Any, **kwargs: Any) -> Any:
        share_layers(model)
        return model

    @property
    def is_trainable(self) -> bool:
        """True: gradients pass through packed weights to their inputs."""
        return True

    def is_serializable(self) -> bool:
        """False: `dgtui model quantize` writes such folders, `save_pretrained` does not."""
        return False
