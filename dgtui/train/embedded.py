"""The recipe of the embedded model: lessons → tokenizer → training → the folder that ships in the package.

    python -m dgtui.train.embedded --work runs/embedded --steps 4000
    torchrun --nproc-per-node 2 -m dgtui.train.embedded --work runs/embedded --steps 4000

A stopped run continues from its last checkpoint in `--work`.
"""

import argparse
import itertools
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

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
from dgtui.model.bound_names import BOUND_NAMES
from dgtui.model.catalog import Checkpoint, resolve
from dgtui.model.open_checkpoint import open_checkpoint
from dgtui.train import tokenizer as tokenizers
from dgtui.train.ahead import Ahead
from dgtui.train.finetune import in_full, resumed
from dgtui.train.grow import grown
from dgtui.train.lessons import EASY_SHARES, SHARES, facts, mixture, people, prose, tales
from dgtui.train.lora import Lora
from dgtui.train.objective import ENCODER_SHARE, USUAL_NOISE, Losses, Noise, losses
from dgtui.train.packed import Pack, PackedPass, pack
from dgtui.train.taught import Encoder
from dgtui.train.trainer import Progress, Schedule, Trainer, processes

VOCAB_SIZE = 4608
PLACES = 4096
"""Positions of one part of a step, in rows of SHORT or LONG: attention costs less in short rows."""
SHORT, LONG = 256, 512
LONG_SHARE = 0.2
"""Share of the parts with long rows, which long examples need."""
FULL_CANVAS_SHARE = 0.06
"""Share of the parts whose canvases are all 256 positions long, as in inference."""

OPEN_SHARE = 0.85
"""Share of the replies that are cut where their noise ends: what is far behind it costs time and teaches little."""

SLIDING_WINDOW = 256
RANK = 8
"""Of an adapter."""
CALIBRATION_STEPS = 10
SPARE_SECONDS = 20.0
"""Of a run with a time limit, for starting and saving."""


SIZES: Final[Mapping[str, Any]] = {
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 6,
    "layer_types": [*["sliding_attention"] * 3, "full_attention", "sliding_attention", "full_attention"],
    "head_dim": 48,
    "global_head_dim": 96,
    "num_experts": 4,
    "top_k_experts": 2,
    "moe_intermediate_size": 192,
}


def config(
    tokenizer: PreTrainedTokenizerFast, sizes: Mapping[str, Any] = SIZES, canvas: int = 256
) -> DiffusionGemmaConfig:
    """A DiffusionGemma with all parts of the large one: sliding and full layers, experts next to a dense MLP,
    self-conditioning, a (minimal) vision tower. Of the default sizes, it has nine million parameters."""
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


def tokenizer() -> PreTrainedTokenizerFast:
    """The tokenizer, built from lessons and real prose. The people of the plots and the spare names are whole tokens;
    all other names are bound to the spare ones, so they are left out."""
    of_plots = dict.fromkeys(name for plot in tales.plots() for name in plot.people)
    spare = [name for name in people.given()[: people.SPARE] if name not in of_plots]
    lessons = itertools.islice(mixture(random.Random("tokenizer"), "train"), 40_000)
    texts = [text for example in lessons for text in (example.prompt, example.response)]
    cities = [part for city in facts.CITIES for part in city.split()]
    words = tokenizers.words(texts[::2], {*people.given(), *of_plots, *cities})
    nouns = [f" {noun}" for nouns in tales.subjects().values() for noun in nouns for _ in range(30)]
    prose_too = itertools.chain((tokenizers.nameless(text, words) for text in texts), nouns, prose.paragraphs())
    built = tokenizers.build(prose_too, VOCAB_SIZE, [*of_plots, *spare])
    built.init_kwargs[BOUND_NAMES] = {"spare": spare, "words": words}
    return built


def ship(model: DiffusionGemmaForBlockDiffusion, tokenizer: PreTrainedTokenizerFast, out: Path, kind: "Kind") -> None:
    """Writes the folder for the package: weights in NF4, config, generation config, tokenizer, chat template."""
    out.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as folder:
        plain, packed = Path(folder) / "plain", Path(folder) / "packed"
        weights: Any = model
        weights.config.proofread = kind.proofread
        weights.to(torch.bfloat16).save_pretrained(plain)
        generation_config(tokenizer).save_pretrained(plain)
        if not kind.beside:
            tokenizers.save(tokenizer, plain)
        quantized.quantize(open_checkpoint(Checkpoint("embedded", plain, "folder")), packed, device="cpu")
        for file in packed.iterdir():
            shutil.move(file, out / file.name)


@dataclass(frozen=True, slots=True)
class Recipe:
    """A run of the recipe."""

    work: Path
    """Folder of the tokenizer and the checkpoint."""
    out: Path | None = None
    """Folder to write the finished model to."""
    steps: int = 4000
    decay: int = 0
    """Steps of linear decay at the end."""
    parts: int = 2
    """Parts of a step, per process."""
    rate: float = 1.0
    """Factor for the peak rates."""
    packed_from: float = 1.0
    """Share of the run after which weights are NF4."""
    easy: int = 1500
    """Number of first steps that use the easy mixture."""
    start_from: Path | None = None
    """Folder of a smaller model, or of an adapter, whose weights the first checkpoint has; None: random weights."""
    seed: int = 20
    minutes: float | None = None
    """Time for everything, instead of `steps`: the last third decays, the last sixth has NF4 weights."""
    workers: int = 0
    """Processes that prepare the data; 0: this one does."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What differs between the models that are made so."""

    tokenizer: Callable[[], PreTrainedTokenizerFast]
    sizes: Mapping[str, Any]
    """Sizes for `config`."""
    packs: "Callable[[Path, Recipe, int, int], list[Pack]]"
    """(folder of the tokenizer, recipe, rank, step) → the parts of a step, a function of its arguments alone."""
    canvas: int
    """Positions of a canvas."""
    encoder_share: float
    """See `losses`."""
    proofread: int
    """Passages per block that the model writes again after reading them."""
    noise: Noise = USUAL_NOISE
    beside: bool = False
    """It ships in the folder of a model with the same tokenizer, and without one."""
    adapts: Path | None = None
    """Folder of a model that stays as it is. What is trained and ships is an adapter for it."""


def packs(folder: Path, recipe: Recipe, rank: int, step: int) -> list[Pack]:
    """The parts of a step of the embedded model; see `Kind.packs`."""
    encoder = _encoder(folder)
    tokenizer: Any = encoder.tokenizer
    rng = random.Random(f"{recipe.seed} {step} {rank}")
    items = encoder.items(rng, EASY_SHARES if step < recipe.easy else SHARES)
    found = []
    for _ in range(recipe.parts):
        draw = rng.random()
        length = LONG if draw < LONG_SHARE else SHORT
        canvas = 256 if draw < FULL_CANVAS_SHARE else None
        ids = tokenizer.pad_token_id, tokenizer.eos_token_id
        found.append(pack(items, PLACES // length, length, *ids, SLIDING_WINDOW, canvas, rng, OPEN_SHARE))
    return found


@cache
def _encoder(folder: Path) -> Encoder:
    return Encoder(PreTrainedTokenizerFast.from_pretrained(folder))


def step_losses(through: PackedPass, prepared: Callable[[int], list[Pack]], kind: Kind) -> Any:
    """(step, generator) → the losses of each part of the step."""
    device = next(iter(through.decoder.parameters())).device

    def of(step: int, noise: torch.Generator) -> Iterator[tuple[Losses, int]]:
        for packed in prepared(step):
            content = int(((packed.weight == 1.0) | ((packed.example >= 0) & ~packed.canvas)).sum())
            yield losses(through, packed.to(device), noise, kind.encoder_share, kind.noise), content

    return of


def parser(description: str | None, **defaults: Any) -> argparse.ArgumentParser:
    """Reads the fields of a `Recipe` from a command line."""
    given = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    given.add_argument("--work", type=Path, required=True, help="folder of the tokenizer and the checkpoint")
    given.add_argument("--out", type=Path, help="folder to write the finished model to")
    given.add_argument("--steps", type=int, default=4000)
    given.add_argument("--decay", type=int, default=0, help="steps of linear decay at the end")
    given.add_argument("--parts", type=int, default=2, help="parts of a step, per process")
    given.add_argument("--rate", type=float, default=1.0, help="factor for the peak rates")
    given.add_argument("--packed-from", type=float, default=1.0, help="share of the run after which weights are NF4")
    given.add_argument("--easy", type=int, default=1500, help="number of first steps with the easy mixture")
    given.add_argument("--start-from", type=Path, help="folder of a smaller model, or of an adapter, to begin with")
    given.add_argument("--seed", type=int, default=20)
    given.add_argument("--minutes", type=float, help="time for everything, instead of --steps")
    given.add_argument("--workers", type=int, default=0, help="processes that prepare the data")
    given.set_defaults(**defaults)
    return given


def options(description: str | None, **defaults: Any) -> Recipe:
    """The recipe that the command line asks for."""
    return Recipe(**vars(parser(description, **defaults).parse_args()))


def main() -> None:
    run(options(__doc__))


EMBEDDED = Kind(tokenizer, SIZES, packs, 256, ENCODER_SHARE, proofread=10)


def run(recipe: Recipe, kind: Kind = EMBEDDED) -> bool:
    """Trains, and writes the model to `out`. False: SIGTERM stopped it, and the next run continues."""
    began = time.monotonic()
    process = processes()
    torch.manual_seed(recipe.seed)
    torch.set_flush_denormal(True)  # late in a step, gradients have many of them, and products with them are slow
    recipe.work.mkdir(parents=True, exist_ok=True)
    folder = recipe.work / "tokenizer"
    if process.rank == 0 and not (folder / "tokenizer.json").exists():
        tokenizers.save(kind.tokenizer(), folder)
    if process.world > 1:
        torch.distributed.barrier()
    fast = PreTrainedTokenizerFast.from_pretrained(folder)
    checkpoint = recipe.work / "checkpoint"
    model, lora = _begun(recipe, kind, fast, checkpoint)
    on_gpu = torch.cuda.is_available()
    on: Any = model
    on.to("cuda" if on_gpu else "cpu")
    schedule = Schedule(
        recipe.steps, 0.02 * recipe.rate, 3e-3 * recipe.rate, decay=recipe.decay, packed_from=recipe.packed_from
    )
    prepared = Ahead(partial(kind.packs, folder, recipe, process.rank), recipe.workers)
    of = step_losses(PackedPass(model, low=on_gpu and lora is None), prepared, kind)
    trainer = Trainer(model, schedule, checkpoint, recipe.seed, of, process, lora)
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
        trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
        print(f"{trained} parameters, from step {trainer.step}", flush=True)
    try:
        if recipe.minutes is not None:
            _calibrate(trainer, recipe.minutes * 60 - SPARE_SECONDS - (time.monotonic() - began))
        trainer.train(report, stop=lambda: bool(stopped))
    finally:
        prepared.close()
    if recipe.out and process.rank == 0 and not stopped:
        if lora is not None:
            lora.save(recipe.out, torch.float8_e4m3fn)
        else:
            ship(model, fast, recipe.out, kind)
    return not stopped


def _begun(
    recipe: Recipe, kind: Kind, tokenizer: PreTrainedTokenizerFast, checkpoint: Path
) -> tuple[DiffusionGemmaForBlockDiffusion, Lora | None]:
    """The model as the last checkpoint left it, or as a run begins; and the adapter, if that is what is trained."""
    begun = (checkpoint / "progress.json").exists()
    if kind.adapts is not None:
        model = in_full(Checkpoint("embedded", kind.adapts, "folder"))
        lora = Lora(model, RANK, "embedded")
        if (saved := checkpoint if begun else recipe.start_from) is not None:
            lora.resume(saved)
        return model, lora
    if begun:
        return resumed(checkpoint), None
    if recipe.start_from:
        small = in_full(resolve(str(recipe.start_from)))
        of_small = PreTrainedTokenizerFast.from_pretrained(recipe.start_from)
        return grown(small, of_small, config(tokenizer, kind.sizes, kind.canvas), tokenizer), None
    return DiffusionGemmaForBlockDiffusion(config(tokenizer, kind.sizes, kind.canvas)), None


def _calibrate(trainer: Trainer, seconds: float) -> None:
    """Takes some steps, and sets the schedule to as many more as fit into the time."""
    begun = halfway = time.monotonic()
    for steps in (trainer.step + CALIBRATION_STEPS, trainer.step + 2 * CALIBRATION_STEPS):  # the first ones warm up
        halfway = time.monotonic()
        trainer.schedule = replace(trainer.schedule, steps=steps, decay=0, packed_from=2.0)
        trainer.train(lambda _: None)
    pace = (time.monotonic() - halfway) / CALIBRATION_STEPS
    whole = trainer.step + max(1, int((begun + seconds - time.monotonic()) / pace))
    trainer.schedule = replace(trainer.schedule, steps=whole, decay=whole // 3, packed_from=5 / 6)


if __name__ == "__main__":
    main()
