"""GGUF files of small DiffusionGemmas, written by the `gguf` package under the published names."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from checkpoints import opened
from safetensors.torch import load_file
from tokenizers import Tokenizer

from dgtui.model.gguf_file import model_name

Array = np.ndarray[Any, Any]
TYPES = gguf.GGMLQuantizationType
TOP = (
    "token_embd.weight",
    "output_norm.weight",
    *(f"self_cond_{n}.weight" for n in ("pre_norm", "gate", "up", "down")),
)
LAYER = (
    *(f"attn_{n}.weight" for n in ("norm", "q", "k", "v", "output", "q_norm", "k_norm")),
    *(f"ffn_{n}.weight" for n in ("norm", "gate", "up", "down", "gate_inp", "gate_up_exps", "down_exps")),
    *(f"{n}.weight" for n in ("post_attention_norm", "pre_ffw_norm_2", "post_ffw_norm", "post_ffw_norm_1")),
    "post_ffw_norm_2.weight", "ffn_gate_inp.scale", "ffn_down_exps.scale", "layer_output_scale",
    "enc_layer_output_scale",
)  # fmt: skip
NORMAL, CONTROL, USER_DEFINED = 1, 3, 4


def q4_k(values: Array) -> Array:
    """Values in Q4_K: the package reads that format and does not write it."""
    rows, columns = values.shape
    blocks = values.reshape(-1, 8, 32).astype(np.float32)
    low = np.minimum(blocks.min(-1), 0)
    step = (blocks.max(-1) - low) / 15
    d, dmin = (np.float16(np.maximum(each.max(-1), 1e-6) / 63) for each in (step, -low))
    scales = np.clip(np.round(step / d[:, None].astype(np.float32)), 0, 63).astype(np.uint8)
    minima = np.clip(np.round(-low / dmin[:, None].astype(np.float32)), 0, 63).astype(np.uint8)
    whole = scales * d[:, None].astype(np.float32)
    least = minima * dmin[:, None].astype(np.float32)
    codes = np.clip(np.round((blocks + least[..., None]) / np.maximum(whole, 1e-9)[..., None]), 0, 15).astype(np.uint8)
    packed = codes.reshape(-1, 4, 2, 32)
    packed = (packed[:, :, 0] | packed[:, :, 1] << 4).reshape(-1, 128)
    six = np.concatenate(
        [
            scales[:, :4] | (scales[:, 4:] >> 4) << 6,
            minima[:, :4] | (minima[:, 4:] >> 4) << 6,
            (scales[:, 4:] & 15) | (minima[:, 4:] & 15) << 4,
        ],
        1,
    )
    halves = np.stack([d, dmin], 1).view(np.uint8)
    return np.concatenate([halves, six, packed], 1).reshape(rows, columns // 256 * 144)


def write(source: Path, file: Path, types: dict[str, str], *, tokenizer: bool = True) -> dict[str, Array]:
    """Write a checkpoint in full as a GGUF file.

    Args:
        source: Its folder.
        file: The file to be.
        types: Part of a tensor's GGUF name → its type; what none fits is F32.
        tokenizer: Put its tokenizer into the file, as far as it is one with byte fallback.

    Returns:
        What each of the model's tensors stands for, by the package's own decoder.
    """
    checkpoint, tensors = opened(source), load_file(source / "model.safetensors")
    text = checkpoint.config["text_config"]
    writer = gguf.GGUFWriter(file, "diffusion-gemma")
    add_metadata(writer, checkpoint.config)
    if tokenizer:
        _add_tokenizer(writer, source)
    (wide,) = {own["head_dim"] for own in text["per_layer_config"].values()}  # of the full layers
    writer.add_tensor("rope_freqs.weight", frequencies(wide, text))
    values: dict[str, Array] = {}
    names = [*TOP, *(f"blk.{at}.{own}" for at in range(text["num_hidden_layers"]) for own in LAYER)]
    for name in names:
        own = model_name(name)
        if own not in tensors:
            continue
        array = tensors[own].float().numpy()
        kind = next((TYPES[kind] for part, kind in types.items() if part in name), TYPES.F32)
        if kind == TYPES.F32:
            writer.add_tensor(name, array)
            values[own] = array
            continue
        flat = array.reshape(-1, array.shape[-1])
        data = q4_k(flat) if kind == TYPES.Q4_K else gguf.quants.quantize(flat, kind)
        values[own] = gguf.quants.dequantize(data, kind).reshape(array.shape)
        data = data.reshape(*array.shape[:-1], -1)
        writer.add_tensor(name, data, raw_shape=data.shape, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return values


def add_metadata(writer: Any, config: Mapping[str, Any]) -> None:
    """The keys that say what the model is, of its config.json."""
    text = config["text_config"]
    writer.add_block_count(text["num_hidden_layers"])
    writer.add_context_length(text["max_position_embeddings"])
    writer.add_embedding_length(text["hidden_size"])
    writer.add_feed_forward_length(text["intermediate_size"])
    writer.add_head_count(text["num_attention_heads"])
    writer.add_sliding_window(text["sliding_window"])
    writer.add_layer_norm_rms_eps(text["rms_norm_eps"])
    writer.add_expert_count(text["num_experts"])
    writer.add_expert_used_count(text["top_k_experts"])
    rope = text["rope_parameters"]
    writer.add_rope_freq_base(rope["full_attention"]["rope_theta"])
    writer.add_rope_freq_base_swa(rope["sliding_attention"]["rope_theta"])
    writer.add_causal_attention(False)
    writer.add_uint32("diffusion.canvas_length", config["canvas_length"])
    for key, value in {"max_steps": 48, "stability_threshold": 1}.items():
        writer.add_uint32(f"diffusion.eb_{key}", value)
    for key, number in {"t_min": 0.4, "t_max": 0.8, "entropy_bound": 0.1, "confidence_threshold": 0.005}.items():
        writer.add_float32(f"diffusion.eb_{key}", number)
    for key, own in {"bos": "bos", "eos": "eos", "padding": "pad"}.items():
        writer.add_uint32(f"tokenizer.ggml.{key}_token_id", text[f"{own}_token_id"])


def frequencies(wide: int, text: Mapping[str, Any]) -> Array:
    """`rope_freqs` of heads so wide in the full layers."""
    turned = int(wide * text["rope_parameters"]["full_attention"]["partial_rotary_factor"]) // 2
    return np.where(np.arange(wide // 2) < turned, 1, 1e30).astype(np.float32)


def _add_tokenizer(writer: Any, source: Path) -> None:
    tokenizer = Tokenizer.from_file(str(source / "tokenizer.json"))
    entries = sorted(tokenizer.get_vocab(with_added_tokens=True).items(), key=lambda item: item[1])
    added = {token.content: token.special for token in tokenizer.get_added_tokens_decoder().values()}
    kinds = {None: NORMAL, True: CONTROL, False: USER_DEFINED}
    merges = json.loads((source / "tokenizer.json").read_text())["model"]["merges"]
    writer.add_tokenizer_model("gemma4")
    writer.add_token_list([entry for entry, _ in entries])
    writer.add_token_types([kinds[added.get(entry)] for entry, _ in entries])
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in merges])
    writer.add_chat_template((source / "chat_template.jinja").read_text())


def random_blocks(kind: str, rows: int, columns: int, seed: int = 0) -> Array:
    """Blocks of random bytes, their scales finite and small."""
    block, size = gguf.GGML_QUANT_SIZES[TYPES[kind]]
    draw = np.random.default_rng(seed)
    data = draw.integers(0, 256, (rows * columns // block, size), dtype=np.uint8)
    halves = {"Q6_K": [208], "Q4_0": [0], "Q5_0": [0], "Q8_0": [0]}.get(kind, [0, 2])
    for at in halves:
        scale = draw.normal(0, 0.01, len(data)).astype(np.float16)
        data[:, at : at + 2] = scale[:, None].view(np.uint8)
    return data.reshape(rows, -1)


def as_torch(array: Array) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array))
