"""The recipe of the embedded model's adapter for edits and follow-ups: small matrices (LoRA) over its attention, dense
MLP and self-conditioning, which is the model's own for every other prompt.

    torchrun --nproc-per-node 2 -m dgtui.train.edits_adapter --work runs/edits --steps 420 --decay 300

With `--start-from dgtui/model/embedded/edits` it continues from the adapter that ships. Functions and JSON are among
its lessons because follow-ups ask for them too.

An edit is short, and what follows it in the tale is not part of it. So most canvases hold the whole reply and a lot of
what follows its end, as a canvas of 256 does.
"""

import random
from functools import cache, partial
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerFast

from dgtui.paths import embedded_dir
from dgtui.train import embedded
from dgtui.train.embedded import LONG, PLACES, SLIDING_WINDOW, Recipe
from dgtui.train.packed import Pack, pack
from dgtui.train.taught import Encoder

SHARES = {"edits": 45, "turns": 25, "python": 25, "json": 5}
PADDING = (0, 8, 32, 64, 256)
OPEN_SHARE, CONTINUED_SHARE, ENCODER_SHARE = 0.1, 0.15, 0.25


@cache
def _encoder(folder: Path) -> Encoder:
    return Encoder(PreTrainedTokenizerFast.from_pretrained(folder), CONTINUED_SHARE)


def packs(folder: Path, recipe: Recipe, rank: int, step: int) -> list[Pack]:
    """The parts of a step; see `Kind.packs`."""
    encoder, rng = _encoder(folder), random.Random(f"{recipe.seed} {step} {rank}")
    items, tokenizer = encoder.items(rng, SHARES), encoder.tokenizer
    ids: tuple[Any, Any] = (tokenizer.pad_token_id, tokenizer.eos_token_id)
    shape = PLACES // LONG, LONG, *ids, SLIDING_WINDOW
    return [pack(items, *shape, None, rng, OPEN_SHARE, PADDING) for _ in range(recipe.parts)]


def kind(model: Path) -> embedded.Kind:
    """An adapter for the model in a folder, with its tokenizer."""
    tokenizer = partial(PreTrainedTokenizerFast.from_pretrained, model)
    return embedded.Kind(tokenizer, {}, packs, 256, ENCODER_SHARE, proofread=0, adapts=model)


if __name__ == "__main__":
    embedded.run(embedded.options(__doc__, parts=1), kind(embedded_dir()))
