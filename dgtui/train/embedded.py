"""The recipe of the embedded model: lessons → tokenizer → training → the folder that ships in the package.

    python -m dgtui.train.embedded --work runs/embedded --steps 4000
    torchrun --nproc-per-node 2 -m dgtui.train.embedded --work runs/embedded --steps 4000

A stopped run continues from its last checkpoint in `--work`.
"""

import itertools
import random
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

from transformers import PreTrainedTokenizerFast

from dgtui.model.bound_names import BOUND_NAMES
from dgtui.train import tokenizer as tokenizers
from dgtui.train.lessons import EASY_SHARES, SHARES, facts, mixture, people, prose, tales
from dgtui.train.objective import ENCODER_SHARE
from dgtui.train.packed import Pack, pack
from dgtui.train.recipe import Kind, Recipe, options, run
from dgtui.train.small_model import SLIDING_WINDOW
from dgtui.train.taught import Encoder

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
"""8.5 million parameters."""


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


EMBEDDED = Kind(tokenizer, SIZES, packs, 256, ENCODER_SHARE, proofread=10)


if __name__ == "__main__":
    run(options(__doc__), EMBEDDED)
