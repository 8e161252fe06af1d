"""A small DiffusionGemma: its config, its sampler settings and the folder that ships."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from transformers import (
    DiffusionGemmaConfig,
    DiffusionGemmaForBlockDiffusion,
    DiffusionGemmaTextConfig,
    Gemma4VisionConfig,
    PreTrainedTokenizerFast,
)
from transformers.models.diffusion_gemma import DiffusionGemmaGenerationConfig
from transformers.models.diffusion_gemma.generation_diffusion_gemma import EntropyBoundSamplerConfig

from dgtui.model import quantized
from dgtui.model.catalog import Checkpoint
from dgtui.model.open_checkpoint import open_checkpoint
from dgtui.train import tokenizer as tokenizers

SLIDING_WINDOW = 256


def config(tokenizer: PreTrainedTokenizerFast, sizes: Mapping[str, Any], canvas: int = 256) -> DiffusionGemmaConfig:
    """A DiffusionGemma with all parts of the large one: sliding and full layers, experts next to a dense MLP,
    self-conditioning, a (minimal) vision tower."""
    special: Any = tokenizer.convert_tokens_to_ids
    text_config: Any = DiffusionGemmaTextConfig  # accepts more than its annotations say
    text = text_config(
        **{"vocab_size": len(tokenizer), **sizes},
        num_attention_heads=4,
        num_key_value_heads=2,
        num_global_key_value_heads=1,
        sliding_window=SLIDING_WINDOW,
        max_position_embeddings=4096,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=tokenizer.bos_token_id,
        use_bidirectional_attention="vision",
    )
    vision = Gemma4VisionConfig(
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        num_key_value_heads=1,
        head_dim=8,
        position_embedding_size=64,
    )
    return DiffusionGemmaConfig(
        text_config=text,
        vision_config=vision,
        canvas_length=canvas,
        boi_token_id=special("<|image>"),
        eoi_token_id=special("<image|>"),
        image_token_id=special("<|image|>"),
        tie_word_embeddings=True,
    )


def generation_config(tokenizer: PreTrainedTokenizerFast) -> DiffusionGemmaGenerationConfig:
    """The published sampler settings, temperatures included, with this tokenizer's ids."""
    special: Any = tokenizer.convert_tokens_to_ids
    return DiffusionGemmaGenerationConfig(  # type: ignore[no-untyped-call]
        bos_token_id=tokenizer.bos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=[tokenizer.eos_token_id, special("<turn|>")],
        max_new_tokens=256,
        max_denoising_steps=48,
        sampler_config=EntropyBoundSamplerConfig(entropy_bound=0.1),
        t_min=0.4,
        t_max=0.8,
        stability_threshold=1,
        confidence_threshold=0.005,
    )


def ship(
    model: DiffusionGemmaForBlockDiffusion, tokenizer: PreTrainedTokenizerFast, out: Path, proofread: int, beside: bool
) -> None:
    """Writes the folder for the package: weights in NF4, config, generation config, tokenizer, chat template."""
    out.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as folder:
        plain, packed = Path(folder) / "plain", Path(folder) / "packed"
        weights: Any = model
        weights.config.proofread = proofread
        weights.to(torch.bfloat16).save_pretrained(plain)
        generation_config(tokenizer).save_pretrained(plain)
        if not beside:
            tokenizers.save(tokenizer, plain)
        quantized.quantize(open_checkpoint(Checkpoint("embedded", plain, "folder")), packed, device="cpu")
        for file in packed.iterdir():
            shutil.move(file, out / file.name)
