"""A run that makes a small model or an adapter for one: what a recipe says, and its training from start to folder.

A stopped run continues from its last checkpoint in `Recipe.work`.
"""

import argparse
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import DiffusionGemmaForBlockDiffusion, PreTrainedTokenizerFast

from dgtui.model.catalog import Checkpoint, resolve
from dgtui.train import tokenizer as tokenizers
from dgtui.train.ahead import Ahead
from dgtui.train.finetune import in_full, resumed
from dgtui.train.grow import grown
from dgtui.train.lora import Lora
from dgtui.train.objective import USUAL_NOISE, Losses, Noise, losses
from dgtui.train.packed import Pack, PackedPass
from dgtui.train.small_model import config, ship
from dgtui.train.trainer import Progress, Schedule, Trainer, processes

RANK = 8
"""Of an adapter."""
CALIBRATION_STEPS = 10
SPARE_SECONDS = 20.0
"""Of a run with a time limit, for starting and saving."""


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
    packs: Callable[[Path, Recipe, int, int], list[Pack]]
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


def run(recipe: Recipe, kind: Kind) -> bool:
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
            ship(model, fast, recipe.out, kind.proofread, kind.beside)
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
