"""The recipe of the embedded model: corpus → tokenizer → training → the folder that ships in the package.

    python -m dgtui.train.embedded --work runs/embedded --out dgtui/model/embedded

resumes from the last checkpoint in `--work`. On two CPU cores a step takes about two seconds, and the run two hours.
"""

import argparse
import itertools
import json
import random
from collections.abc import Iterator
from dataclasses import replace
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
from dgtui.train.corpus import Example, mixture
from dgtui.train.items import Batch, Item, batches, random_spans
from dgtui.train.loop import Settings, Trainer

VOCAB_SIZE = 1280
LONG_CANVAS_SHARE = 0.08
"share of the steps before the last part that are taken at the full canvas"
LONG_CANVAS_FROM = 0.93
"the part of the run after which every step is taken at the full canvas"
MICRO_TOKENS = 1536
"places of a micro-batch, prefix and canvas; a step has four"

THOUGHTS = {
    "tales": "The user wants a short tale.",
    "json": "The user wants the facts of a sentence as JSON.",
    "python": "The user wants a small Python function.",
    "sudoku": "The user wants a 4x4 Sudoku solved.",
    "sorting": "The user wants words in alphabetical order.",
    "about": "The user asks about dgtui.",
    "other": "The user asks for something I have not learnt.",
}
SYSTEMS = ("You are a helpful assistant.", "Be brief.", "Answer in English.", "You are the model inside dgtui.")


def special(tokenizer: PreTrainedTokenizerFast, token: str) -> int:
    """The id of one of the tokenizer's own tokens."""
    found = tokenizer.convert_tokens_to_ids(token)
    assert isinstance(found, int)
    return found


def config(tokenizer: PreTrainedTokenizerFast) -> DiffusionGemmaConfig:
    """A DiffusionGemma of 3.6 million parameters with every part of the large one: sliding and full layers, experts
    beside a dense MLP, self-conditioning, a (minimal) vision tower."""
    text_config: Any = DiffusionGemmaTextConfig  # takes more than its annotations say
    text = text_config(
        vocab_size=VOCAB_SIZE,
        hidden_size=192,
        intermediate_size=384,
        num_hidden_layers=4,
        layer_types=["sliding_attention", "sliding_attention", "sliding_attention", "full_attention"],
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=48,
        global_head_dim=96,
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
        boi_token_id=special(tokenizer, "<|image>"),
        eoi_token_id=special(tokenizer, "<image|>"),
        image_token_id=special(tokenizer, "<|image|>"),
        tie_word_embeddings=True,
    )


def generation_config(tokenizer: PreTrainedTokenizerFast) -> DiffusionGemmaGenerationConfig:
    """The published sampler settings with this tokenizer's ids, but colder.

    What a prompt leaves open is drawn from values that are equally likely, and at the published temperatures (0.8 to
    0.4) such places stay undecided to the last step; in the cold a value soon wins, and a tale takes about ten steps.
    """
    return DiffusionGemmaGenerationConfig(  # type: ignore[no-untyped-call]
        bos_token_id=tokenizer.bos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=[tokenizer.eos_token_id, special(tokenizer, "<turn|>")],
        max_new_tokens=256,
        max_denoising_steps=48,
        sampler_config=EntropyBoundSamplerConfig(entropy_bound=0.1),
        t_min=0.05,
        t_max=0.1,
        stability_threshold=1,
        confidence_threshold=0.005,
    )


def _chat(tokenizer: PreTrainedTokenizerFast, messages: list[dict[str, str]], think: bool) -> list[int]:
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, enable_thinking=think)
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


def items(tokenizer: PreTrainedTokenizerFast, rng: random.Random) -> Iterator[Item]:
    """Examples as the model meets them: mostly one question, sometimes a conversation, a system prompt, a thought, a
    bare document; and any of them as an infill."""
    examples = mixture(rng, "train")
    turn_end, bos = special(tokenizer, "<turn|>"), special(tokenizer, "<bos>")

    def encode(text: str) -> list[int]:
        ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def reply_of(example: Example, think: bool) -> list[int]:
        thought = f"<|channel>thought\n{THOUGHTS[example.task]}<channel|>" if think else ""
        return [*encode(thought + example.response), turn_end]

    while True:
        example = next(examples)
        kind = rng.random()
        if kind < 0.1 and example.task in ("tales", "python", "json"):  # a bare document, cut anywhere
            ids = encode(example.response)
            cut = rng.randint(0, len(ids) - 1) if rng.random() < 0.7 else 0
            prefix, reply = [bos, *ids[:cut]], [*ids[cut:], turn_end]
            infill_share = 0.8
        else:
            think = rng.random() < 0.04
            messages = [{"role": "user", "content": example.prompt}]
            if kind > 0.95:
                for earlier in itertools.islice(examples, rng.randint(1, 2)):
                    messages[:0] = [
                        {"role": "user", "content": earlier.prompt},
                        {"role": "model", "content": earlier.response},
                    ]
            if rng.random() < 0.04:
                messages.insert(0, {"role": "system", "content": rng.choice(SYSTEMS)})
            prefix, reply = _chat(tokenizer, messages, think), reply_of(example, think)
            infill_share = 0.45 if example.task == "tales" else 0.15
        if len(prefix) > 400 or len(reply) > 255:
            continue
        spans = random_spans(rng, len(reply) - 1) if rng.random() < infill_share else None
        yield Item(tuple(prefix), tuple(reply), spans)


def steps(tokenizer: PreTrainedTokenizerFast, trainer: Trainer, seed: int) -> Iterator[list[Batch]]:
    """The batches of the run: short canvases first, the full one now and then, and at the end always."""
    rng = random.Random(f"{seed} {trainer.step}")
    make = items(tokenizer, rng)
    pad, eos = special(tokenizer, "<pad>"), special(tokenizer, "<eos>")
    short = batches(make, rng, MICRO_TOKENS, None, pad, eos)
    full = batches(make, rng, MICRO_TOKENS, 256, pad, eos)
    while True:
        late = trainer.step >= LONG_CANVAS_FROM * trainer.settings.steps
        yield next(full if late or rng.random() < LONG_CANVAS_SHARE else short)


def build_tokenizer(seed: int) -> PreTrainedTokenizerFast:
    """The tokenizer from 30,000 examples of the corpus."""
    examples = itertools.islice(mixture(random.Random(f"{seed} tokenizer"), "train"), 30_000)
    texts = itertools.chain.from_iterable(
        (e.prompt, e.response) if e.task != "other" else (e.response,) for e in examples
    )
    return tokenizers.build(texts, VOCAB_SIZE)


def ship(model: DiffusionGemmaForBlockDiffusion, tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    """Writes the folder of the package: bfloat16 weights, config, generation config, tokenizer, chat template."""
    out.mkdir(parents=True, exist_ok=True)
    weights: Any = model
    weights.to(torch.bfloat16).save_pretrained(out)
    generation_config(tokenizer).save_pretrained(out)
    tokenizers.save(tokenizer, out)


def start_from(folder: Path, tokenizer: PreTrainedTokenizerFast) -> DiffusionGemmaForBlockDiffusion:
    """Another model's weights under this tokenizer: an entry that is new starts as the mean of what the old one made of
    its text."""
    before: Any = DiffusionGemmaForBlockDiffusion.from_pretrained(folder, dtype=torch.float32)
    model: Any = DiffusionGemmaForBlockDiffusion(config(tokenizer))
    rows = before.get_input_embeddings().weight.detach()
    same_shape = {name: value for name, value in before.state_dict().items() if value.shape[0] != len(rows)}
    model.load_state_dict(same_shape, strict=False)
    old = PreTrainedTokenizerFast.from_pretrained(folder)
    known = old.get_vocab()
    with torch.no_grad():
        for token, index in tokenizer.get_vocab().items():
            text = tokenizer.convert_tokens_to_string([token])
            ids = [known[token]] if token in known else old(text, add_special_tokens=False)["input_ids"]
            if ids:
                model.get_input_embeddings().weight[index] = rows[ids].mean(0)
    started: DiffusionGemmaForBlockDiffusion = model
    return started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for the tokenizer and checkpoints")
    parser.add_argument("--out", type=Path, help="folder to write the finished model to")
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=20)
    parser.add_argument("--rate", type=float, default=1.0, help="factor on the peak rates, for a run from good weights")
    parser.add_argument("--packed", type=float, default=0.0, help="share of the steps with the weights in NF4")
    parser.add_argument("--start-from", type=Path, help="a folder with a model of the same shape to start from")
    args = parser.parse_args()

    args.work.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(args.seed)
    if not (args.work / "tokenizer" / "tokenizer.json").exists():
        tokenizers.save(build_tokenizer(args.seed), args.work / "tokenizer")
    tokenizer = PreTrainedTokenizerFast.from_pretrained(args.work / "tokenizer")

    checkpoint = args.work / "checkpoint"
    if (checkpoint / "progress.json").exists():
        model = DiffusionGemmaForBlockDiffusion.from_pretrained(checkpoint, dtype=torch.float32)
    elif args.start_from:
        model = start_from(args.start_from, tokenizer)
    else:
        model = DiffusionGemmaForBlockDiffusion(config(tokenizer))
    model.set_experts_implementation("eager")
    peak = Settings(args.steps, packed_share=args.packed)
    rates = replace(peak, matrix_rate=args.rate * peak.matrix_rate, vector_rate=args.rate * peak.vector_rate)
    trainer = Trainer(model, rates, checkpoint, args.seed)
    trainer.resume()
    print(json.dumps({"parameters": sum(p.numel() for p in model.parameters()), "step": trainer.step}), flush=True)
    trainer.train(steps(tokenizer, trainer, args.seed))
    if args.out:
        ship(model, tokenizer, args.out)


if __name__ == "__main__":
    main()
