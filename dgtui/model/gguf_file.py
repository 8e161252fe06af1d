"""GGUF files: their tensors under the model's names, and their metadata as a config. Does not import torch.

Uses the `gguf` package of llama.cpp's authors. Such a file holds only the text model.
"""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import numpy as np

from dgtui.errors import CorruptCheckpoint, ModelUnloadable
from dgtui.model.formats import GGUF
from dgtui.model.gguf_header import ARCHITECTURE, is_whole
from dgtui.model.shards import shown
from dgtui.model.stored import Part, StoredTensor

_TOP: Final = {
    "token_embd.weight": "embed_tokens.weight",
    "output_norm.weight": "norm.weight",
    "self_cond_pre_norm.weight": "self_conditioning.pre_norm.weight",
    "self_cond_gate.weight": "self_conditioning.gate_proj.weight",
    "self_cond_up.weight": "self_conditioning.up_proj.weight",
    "self_cond_down.weight": "self_conditioning.down_proj.weight",
}
_LAYER: Final = {
    "attn_norm.weight": "input_layernorm.weight",
    "attn_q.weight": "self_attn.q_proj.weight",
    "attn_k.weight": "self_attn.k_proj.weight",
    "attn_v.weight": "self_attn.v_proj.weight",
    "attn_output.weight": "self_attn.o_proj.weight",
    "attn_q_norm.weight": "self_attn.q_norm.weight",
    "attn_k_norm.weight": "self_attn.k_norm.weight",
    "post_attention_norm.weight": "post_attention_layernorm.weight",
    "ffn_norm.weight": "pre_feedforward_layernorm.weight",
    "ffn_gate.weight": "mlp.gate_proj.weight",
    "ffn_up.weight": "mlp.up_proj.weight",
    "ffn_down.weight": "mlp.down_proj.weight",
    "pre_ffw_norm_2.weight": "pre_feedforward_layernorm_2.weight",
    "post_ffw_norm.weight": "post_feedforward_layernorm.weight",
    "post_ffw_norm_1.weight": "post_feedforward_layernorm_1.weight",
    "post_ffw_norm_2.weight": "post_feedforward_layernorm_2.weight",
    "ffn_gate_inp.weight": "router.proj.weight",
    "ffn_gate_inp.scale": "router.scale",
    "ffn_gate_up_exps.weight": "experts.gate_up_proj",
    "ffn_down_exps.weight": "experts.down_proj",
    "ffn_down_exps.scale": "router.per_expert_scale",
    "layer_output_scale": "layer_scalar",
    "layer_output_scale.weight": "layer_scalar",
}
_ENCODER: Final = {"enc_layer_output_scale", "enc_layer_output_scale.weight"}
PLAIN: Final = {"F64": "F64", "F32": "F32", "F16": "F16", "BF16": "BF16"}
"""GGUF's unquantized types → safetensors' names."""


class GgufFile:
    """An open GGUF file.

    Args:
        path: The file.

    Raises:
        ModelUnloadable: The `gguf` package is not installed, or the file is one of several.
        CorruptCheckpoint: The file cannot be read.
    """

    def __init__(self, path: Path) -> None:
        try:
            package: Any = import_module("gguf")
        except ImportError:
            raise ModelUnloadable(
                f"{shown(path.name)} is a GGUF file, but the package gguf is missing",
                hint="pip install 'dgtui[gguf]'",
            ) from None
        self.path, self._package = path, package
        try:
            if not is_whole(path):
                raise ValueError("its header is damaged or cut short")
            self._reader = package.GGUFReader(path)
            parts = int(self.value("split.count") or 1)
        except Exception as error:  # a damaged file makes it raise anything
            raise CorruptCheckpoint(
                f"{shown(path.name)} cannot be read: {shown(error)}", hint="download the file again"
            ) from error
        if parts > 1:
            raise ModelUnloadable(
                f"{shown(path.name)} is one of several files of a model", hint="join them with llama-gguf-split --merge"
            )
        self._stored = {name: tensor for tensor in self._reader.tensors if (name := model_name(tensor.name))}
        self.tensors: Mapping[str, StoredTensor] = {name: _described(t) for name, t in self._stored.items()}

    def value(self, key: str) -> Any:
        """The value of a key: the architecture's own, else the general one, else None."""
        fields = self._reader.fields
        field = fields.get(f"{ARCHITECTURE}.{key}") or fields.get(key)
        return None if field is None else field.contents()

    @property
    def header(self) -> bytes:
        """The bytes before the tensors."""
        with self.path.open("rb") as file:
            return file.read(min((int(t.data_offset) for t in self._reader.tensors), default=0))

    def raw(self, name: str) -> np.ndarray[Any, Any]:
        """A tensor by its name in the file, for tensors that have no name in the model. Raises `KeyError`."""
        return next(tensor.data for tensor in self._reader.tensors if tensor.name == name)

    def tensor(self, name: str) -> Any:
        """The package's description of one of the model's tensors."""
        return self._stored[name]

    def decode(self, data: np.ndarray[Any, Any], kind: Any) -> np.ndarray[Any, Any]:
        """The values in fp32, decoded by the package."""
        values: np.ndarray[Any, Any] = self._package.quants.dequantize(data, kind)
        return values


def model_name(name: str) -> str | None:
    """The model's name of a tensor; None if the model computes it itself."""
    if name in _TOP:
        return f"model.decoder.{_TOP[name]}"
    if name.startswith("blk."):
        number, _, own = name.removeprefix("blk.").partition(".")
        if own in _LAYER:
            return f"model.decoder.layers.{number}.{_LAYER[own]}"
        if own in _ENCODER:
            return f"model.encoder.language_model.layers.{number}.layer_scalar"
    return None if name.startswith("rope_freqs") else name


def _described(tensor: Any) -> StoredTensor:
    shape = tuple(int(size) for size in reversed(tensor.shape))
    kind = tensor.tensor_type.name
    form = GGUF.get(kind)
    if form is not None and not form.fits(shape[-1]):
        form = None
    part = Part(int(np.prod(shape[:-1], dtype=np.int64)), {"weight": tensor.name})
    return StoredTensor(PLAIN.get(kind, "F32"), shape, int(tensor.n_bytes), form, "gguf", (part,))


def config_of(file: GgufFile) -> dict[str, Any]:
    """The config.json that follows from the file's metadata and the shapes of its tensors.

    Raises:
        CorruptCheckpoint: A key or tensor that describes the model is missing.
    """

    def rows(layer: int, which: str) -> int:
        return file.tensors[f"model.decoder.layers.{layer}.self_attn.{which}_proj.weight"].shape[0]

    def need(key: str) -> int:
        value = file.value(key)
        if not isinstance(value, int):
            raise CorruptCheckpoint(f"{shown(file.path.name)} lacks the key {key}", hint="download the file again")
        return value

    layers, heads = need("block_count"), need("attention.head_count")
    try:
        # Full-attention layers use their keys as values
        full = [f"model.decoder.layers.{at}.self_attn.v_proj.weight" not in file.tensors for at in range(layers)]
        kinds = {is_full: at for at, is_full in enumerate(full)}
        sliding, whole = kinds.get(False, kinds.get(True, 0)), kinds.get(True, kinds.get(False, 0))
        head_dim, global_head_dim = rows(sliding, "q") // heads, rows(whole, "q") // heads
        text: dict[str, Any] = {
            "model_type": "diffusion_gemma_text",
            "vocab_size": file.tensors["model.decoder.embed_tokens.weight"].shape[0],
            "hidden_size": need("embedding_length"),
            "intermediate_size": file.tensors["model.decoder.layers.0.mlp.up_proj.weight"].shape[0],
            "num_hidden_layers": layers,
            "layer_types": ["full_attention" if is_full else "sliding_attention" for is_full in full],
            "num_attention_heads": heads,
            "num_key_value_heads": rows(sliding, "k") // head_dim,
            "head_dim": head_dim,
            "global_head_dim": global_head_dim,
            "num_global_key_value_heads": rows(whole, "k") // global_head_dim,
            "num_experts": file.value("expert_count"),
            "top_k_experts": file.value("expert_used_count"),
            "moe_intermediate_size": file.tensors["model.decoder.layers.0.experts.down_proj"].shape[-1],
            "max_position_embeddings": need("context_length"),
            "sliding_window": need("attention.sliding_window"),
            "rms_norm_eps": file.value("attention.layer_norm_rms_epsilon") or 1e-6,
            "final_logit_softcapping": file.value("final_logit_softcapping") or 30.0,
            "rope_parameters": _rope(file),
            "use_bidirectional_attention": "vision",
            "tie_word_embeddings": True,
        }
    except KeyError as error:
        raise CorruptCheckpoint(
            f"{shown(file.path.name)} lacks {shown(error.args[0])}", hint="download the file again"
        ) from None
    ids = {"bos": "bos_token_id", "eos": "eos_token_id", "padding": "pad_token_id"}
    text |= {own: file.value(f"tokenizer.ggml.{key}_token_id") for key, own in ids.items()}
    return {
        "model_type": "diffusion_gemma",
        "canvas_length": file.value("diffusion.canvas_length") or 256,
        "tie_word_embeddings": True,
        "text_config": {key: value for key, value in text.items() if value is not None},
    }


def _rope(file: GgufFile) -> dict[str, Any]:
    """Full-attention layers rotate a part of each head: the frequencies of the rest are divided by a huge number."""
    try:
        partial = float(np.mean(file.raw("rope_freqs.weight") < 1e9))
    except StopIteration:
        partial = 0.25
    return {
        "full_attention": {
            "rope_type": "proportional",
            "rope_theta": file.value("rope.freq_base") or 1e6,
            "partial_rotary_factor": partial,
        },
        "sliding_attention": {"rope_type": "default", "rope_theta": file.value("rope.freq_base_swa") or 1e4},
    }


def generation_of(file: GgufFile) -> dict[str, Any]:
    """The generation_config.json that follows from the file's metadata."""
    tokens = file.value("tokenizer.ggml.tokens") or []
    stops = {file.value(f"tokenizer.ggml.{key}_token_id") for key in ("eos", "eot")} - {None}
    stops |= {tokens.index("<turn|>")} if "<turn|>" in tokens else set()
    bound = file.value("diffusion.eb_entropy_bound")
    values = {
        "max_denoising_steps": file.value("diffusion.eb_max_steps"),
        "t_min": file.value("diffusion.eb_t_min"),
        "t_max": file.value("diffusion.eb_t_max"),
        "stability_threshold": file.value("diffusion.eb_stability_threshold"),
        "confidence_threshold": file.value("diffusion.eb_confidence_threshold"),
        "sampler_config": None if bound is None else {"entropy_bound": _short(bound)},
        "eos_token_id": sorted(int(stop) for stop in stops),
        "pad_token_id": file.value("tokenizer.ggml.padding_token_id"),
    }
    return {key: _short(value) for key, value in values.items() if value is not None}


def _short(value: Any) -> Any:
    """A number stored in 32 bits, as it was originally written: 0.1, not 0.10000000149."""
    return float(f"{value:.7g}") if isinstance(value, float) else value
