"""Small DiffusionGemma checkpoints of random weights, as real ones lie on disk.

Every part of the large model is there: sliding and full attention, experts beside a dense MLP, self-conditioning, tied
encoder and decoder, a (minimal) vision tower, a tokenizer with the chat markup. The weights are wide enough that the
model has opinions: its distributions are far from uniform, and a wrong weight shows in the logits.
"""

import functools
import json
import shutil
from pathlib import Path
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
from transformers.utils import logging

from dgtui.model.catalog import EDITS, EMBEDDED, SOLVER, resolve
from dgtui.model.open_checkpoint import OpenCheckpoint, open_checkpoint
from dgtui.paths import embedded_dir
from dgtui.train import tokenizer as tokenizers
from dgtui.train.finetune import in_full

logging.disable_progress_bar()

SENTENCES = (
    "The quick brown fox jumps over the lazy dog.\n",
    "Once upon a time there was a small house at the edge of a wood, and in it lived a clever mouse.\n",
    "def add(first, second):\n    return first + second\n",
    '{"name": "Ada", "city": "London", "year": 1815}\n',
    "Größe, naïveté, 東京, 🙂 and 1234567890: every byte must survive.\n",
)
VOCAB = 320
"""Entries of the tokenizer, and of the model where nothing else is asked for: specials, 256 bytes, some merges."""


PROCESSOR = {
    "processor_class": "Gemma4Processor",
    "image_processor": {
        "image_processor_type": "Gemma4ImageProcessor",
        "patch_size": 16,
        "max_soft_tokens": 70,
        "pooling_kernel_size": 3,
        "do_convert_rgb": True,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": False,
        "do_resize": True,
        "resample": 3,
    },
}
"""Of the published checkpoint, but for the tokens of an image: 280 there."""

SEEING_TEMPLATE = """\
{{- bos_token -}}
{%- for message in messages -%}
    {{- '<|turn>' + ('model' if message['role'] == 'assistant' else message['role']) + '\\n' -}}
    {%- if message['content'] is string -%}
        {{- message['content'] | trim -}}
    {%- else -%}
        {%- for part in message['content'] -%}
            {{- '\\n\\n<|image|>\\n\\n' if part['type'] == 'image' else part['text'] | trim -}}
        {%- endfor -%}
    {%- endif -%}
    {{- '<turn|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|turn>model\\n' -}}{%- endif -%}
"""
"""With parts of a message, as Gemma 4's has them."""


@functools.cache
def tokenizer(vocab: int = VOCAB) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer with the chat markup. It has `vocab` entries if there are merges enough: see its `len`."""
    return tokenizers.build(SENTENCES, vocab)


def tiny_config(
    *,
    layers: int = 2,
    experts: int = 4,
    hidden: int = 64,
    canvas: int = 32,
    vocab: int = VOCAB,
    sliding_window: int = 32,
    context: int = 1024,
) -> DiffusionGemmaConfig:
    """A geometry in which no two widths are equal by accident. Every third layer, and the last, attends to all."""
    ids = tokenizer().convert_tokens_to_ids
    text = DiffusionGemmaTextConfig(
        vocab_size=vocab,
        hidden_size=hidden,
        intermediate_size=hidden * 3 // 2,
        num_hidden_layers=layers,
        layer_types=[
            "full_attention" if layer % 3 == 2 or layer == layers - 1 else "sliding_attention"
            for layer in range(layers)
        ],
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        global_head_dim=32,
        num_global_key_value_heads=1,
        num_experts=experts,
        top_k_experts=min(2, experts),
        moe_intermediate_size=hidden // 2,
        sliding_window=sliding_window,
        max_position_embeddings=context,
        pad_token_id=tokenizer().pad_token_id,
        eos_token_id=tokenizer().eos_token_id,
        bos_token_id=tokenizer().bos_token_id,
        use_bidirectional_attention="vision",
        initializer_range=0.3,
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
        boi_token_id=ids("<|image>"),
        eoi_token_id=ids("<image|>"),
        image_token_id=ids("<|image|>"),
        initializer_range=0.3,
        tie_word_embeddings=True,
    )


def altered(config: DiffusionGemmaConfig, **changes: object) -> DiffusionGemmaConfig:
    """The config with other values in its text part."""
    text = type(config.text_config)(**(config.text_config.to_dict() | changes))
    return DiffusionGemmaConfig(**(config.to_dict() | {"text_config": text}))


def tiny_model(config: DiffusionGemmaConfig, seed: int = 0) -> DiffusionGemmaForBlockDiffusion:
    """Random weights in fp32 for inference on the CPU; the global random state is left as it was."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = DiffusionGemmaForBlockDiffusion(config).eval().requires_grad_(False)
        for name, scalar in model.named_buffers():  # encoder and decoder keep their own: the one tensor not tied
            if name.endswith("layer_scalar"):
                scalar.uniform_(0.7, 1.0)
    model.set_experts_implementation("eager")
    return model


def generation_config(**changes: object) -> DiffusionGemmaGenerationConfig:
    """The published sampler settings with the ids of `tokenizer`; `changes` wins."""
    settings: dict[str, object] = {
        "bos_token_id": tokenizer().bos_token_id,
        "pad_token_id": tokenizer().pad_token_id,
        "eos_token_id": [tokenizer().eos_token_id, tokenizer().convert_tokens_to_ids("<turn|>")],
        "max_new_tokens": 64,
        "max_denoising_steps": 48,
        "sampler_config": EntropyBoundSamplerConfig(entropy_bound=0.1),
        "t_min": 0.4,
        "t_max": 0.8,
        "stability_threshold": 1,
        "confidence_threshold": 0.005,
    }
    return DiffusionGemmaGenerationConfig(**(settings | changes))


def tiny_checkpoint(
    folder: Path,
    *,
    layers: int = 2,
    experts: int = 4,
    hidden: int = 64,
    canvas: int = 32,
    vocab: int = VOCAB,
    sliding_window: int = 32,
    context: int = 1024,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    max_shard_size: str = "1GB",
    with_tokenizer: bool = True,
    sees: bool = False,
) -> Path:
    """Write a checkpoint to `folder` and return it.

    Args:
        folder: Made if missing.
        layers: Layers; of two, the first is sliding and the last full.
        experts: Experts of a layer, two of them active.
        hidden: Width, a multiple of 2; the experts have half of it.
        canvas: Positions of the canvas.
        vocab: Rows of the model's embedding. The tokenizer always has `VOCAB` entries.
        sliding_window: Positions that a sliding layer sees.
        context: Positions at most.
        seed: Of the weights.
        dtype: Of the weights on disk.
        max_shard_size: "20KB" makes several shards and an index.
        with_tokenizer: Also write tokenizer and chat template.
        sees: Also write the config of an image processor, and a chat template that has places for images.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = tiny_config(
        layers=layers,
        experts=experts,
        hidden=hidden,
        canvas=canvas,
        vocab=vocab,
        sliding_window=sliding_window,
        context=context,
    )
    tiny_model(config, seed).to(dtype).save_pretrained(folder, max_shard_size=max_shard_size)
    generation_config().save_pretrained(folder)
    if with_tokenizer:
        tokenizers.save(tokenizer(), folder)
    if sees:
        (folder / "processor_config.json").write_text(json.dumps(PROCESSOR))
        (folder / "chat_template.jinja").write_text(SEEING_TEMPLATE)
    return folder


def opened(name: str | Path) -> OpenCheckpoint:
    """A checkpoint by name or folder, open."""
    return open_checkpoint(resolve(str(name)))


def unpacked(folder: Path) -> Path:
    """The embedded model in a new folder, its weights in bfloat16 instead of NF4."""
    shutil.copytree(embedded_dir(), folder, ignore=shutil.ignore_patterns("SHA256SUMS", "*.safetensors", SOLVER, EDITS))
    model: Any = in_full(opened(EMBEDDED)).to(torch.bfloat16)
    model.save_pretrained(folder)
    return folder


def logits(model: torch.nn.Module) -> torch.Tensor:
    """(1, 32, V): what a model from `tiny_checkpoint` predicts for one prompt and one canvas of random ids."""
    draw = torch.Generator().manual_seed(5)
    prompt, canvas = (torch.randint(0, VOCAB, (1, n), generator=draw) for n in (20, 32))
    with torch.inference_mode():
        out: torch.Tensor = model(input_ids=prompt, decoder_input_ids=canvas).logits
    return out
