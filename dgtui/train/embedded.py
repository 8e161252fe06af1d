"""The recipe of the embedded model: lessons → tokenizer → training → the folder that ships in the package.

    python -m dgtui.train.embedded --work runs/embedded --steps 4000
    torchrun --nproc-per-node 2 -m dgtui.train.embedded --work runs/embedded --steps 4000

A stopped run continues from its last checkpoint in `--work`.
"""

import argparse
import itertools
import random
import signal
from collections.abc import Iterator
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

from dgtui.train import tokenizer as tokenizers
from dgtui.train.lessons import EASY_SHARES, SHARES, mixture, people, prose, tales
from dgtui.train.objective import Losses, losses
from dgtui.train.packed import PackedPass, pack
from dgtui.train.taught import Encoder
from dgtui.train.trainer import Progress, Schedule, Trainer, processes

VOCAB_SIZE = 5120
PLACES = 4096
"""Positions of one part of a step, in rows of SHORT or LONG: attention costs less in short rows."""
SHORT, LONG = 256, 512
LONG_SHARE = 0.2
"""Share of the parts with long rows, which long examples need."""
FULL_CANVAS_SHARE = 0.1
"""Share of the parts whose canvases are all 256 positions long, as in inference."""

EASY_STEPS = 1500
"""The first steps use the easy mixture."""


def config(tokenizer: PreTrainedTokenizerFast) -> DiffusionGemmaConfig:
    """A DiffusionGemma of nine million parameters with all parts of the large one: sliding and full layers, experts
    next to a dense MLP, self-conditioning, a (minimal) vision tower."""
    special: Any = tokenizer.convert_tokens_to_ids
    text_config: Any = DiffusionGemmaTextConfig  # accepts more than its annotations say
    text = text_config(
        vocab_size=VOCAB_SIZE,
        hidden_size=256,
        intermediate_size=512,
        num_hidden_layers=6,
        layer_types=["sliding_attention", "sliding_attention", "full_attention"] * 2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=64,
        global_head_dim=128,
        num_global_key_value_heads=1,
        num_experts=4,
        top_k_experts=2,
        moe_intermediate_size=192,
        sliding_window=256,
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
        canvas_length=256,
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


def texts() -> Iterator[str]:
    """The text that the tokenizer is built from: lessons, common names often enough to become one token, real prose."""
    for example in itertools.islice(mixture(random.Random("tokenizer"), "train"), 40_000):
        yield example.prompt
        yield example.response
    for name in people.given()[: people.COMMON]:
        yield from itertools.repeat(name, 250)
    for nouns in tales.subjects().values():
        for noun in nouns:
            yield from itertools.repeat(f" {noun}", 30)
    yield from prose.paragraphs()


def ship(model: DiffusionGemmaForBlockDiffusion, tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    """Writes the folder for the package: bfloat16 weights, config, generation config, tokenizer, chat template."""
    out.mkdir(parents=True, exist_ok=True)
    weights: Any = model
    weights.to(torch.bfloat16).save_pretrained(out)
    generation_config(tokenizer).save_pretrained(out)
    tokenizers.save(tokenizer, out)


def step_losses(through: PackedPass, encoder: Encoder, seed: int, rank: int, parts: int) -> Any:
    """(step, generator) → the losses of each part of the step, drawn from the step's own stream."""
    tokenizer: Any = encoder.tokenizer
    window = int(through.config.sliding_window)
    device = next(iter(through.decoder.parameters())).device

    def of(step: int, noise: torch.Generator) -> Iterator[tuple[Losses, int]]:
        rng = random.Random(f"{seed} {step} {rank}")
        items = encoder.items(rng, EASY_SHARES if step < EASY_STEPS else SHARES)
        for _ in range(parts):
            draw = rng.random()
            length = LONG if draw < LONG_SHARE else SHORT
            canvas = 256 if draw < FULL_CANVAS_SHARE else None
            packed = pack(
                items, PLACES // length, length, tokenizer.pad_token_id, tokenizer.eos_token_id, window, canvas, rng
            )
            content = int(((packed.weight == 1.0) | ((packed.example >= 0) & ~packed.canvas)).sum())
            yield losses(through, packed.to(device), noise), content

    return of


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder of the tokenizer and the checkpoint")
    parser.add_argument("--out", type=Path, help="folder to write the finished model to")
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--decay", type=int, default=0, help="steps of linear decay at the end")
    parser.add_argument("--parts", type=int, default=2, help="parts of a step, per process")
    parser.add_argument("--rate", type=float, default=1.0, help="factor for the peak rates")
    parser.add_argument("--packed-from", type=float, default=1.0, help="share of the run after which weights are NF4")
    parser.add_argument("--seed", type=int, default=20)
    args = parser.parse_args()

    process = processes()
    torch.manual_seed(args.seed)
    torch.set_flush_denormal(True)  # late in a step, gradients have many of them, and products with them are slow
    args.work.mkdir(parents=True, exist_ok=True)
    folder = args.work / "tokenizer"
    if process.rank == 0 and not (folder / "tokenizer.json").exists():
        tokenizers.save(tokenizers.build(texts(), VOCAB_SIZE), folder)
    if process.world > 1:
        torch.distributed.barrier()
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    checkpoint = args.work / "checkpoint"
    if (checkpoint / "progress.json").exists():
        model = DiffusionGemmaForBlockDiffusion.from_pretrained(checkpoint, dtype=torch.float32)
    else:
        model = DiffusionGemmaForBlockDiffusion(config(tokenizer))
    device: Any = "cuda" if torch.cuda.is_available() else "cpu"
    model.to(device)
    schedule = Schedule(args.steps, 0.02 * args.rate, 3e-3 * args.rate, decay=args.decay, packed_from=args.packed_from)
    through = PackedPass(model)
    of = step_losses(through, Encoder(tokenizer), args.seed, process.rank, args.parts)
    trainer = Trainer(model, schedule, checkpoint, args.seed, of, process)
    trainer.resume()
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stopped.append(number))

    def report(now: Progress) -> None:
        if process.rank == 0:
            print(
                f"step {now.step}/{now.steps}  diffusion {now.diffusion:.3f}  encoder {now.encoder:.3f}  "
                f"corrupted right {now.right:.1%}  {now.tokens_per_second:.0f} tok/s  {now.seconds:.0f} s",
                flush=True,
            )

    if process.rank == 0:
        print(f"{sum(p.numel() for p in model.parameters())} parameters, from step {trainer.step}", flush=True)
    trainer.train(report, stop=lambda: bool(stopped))
    if args.out and process.rank == 0 and not stopped:
        ship(model, tokenizer, args.out)


if __name__ == "__main__":
    main()
