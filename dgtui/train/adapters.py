"""The recipe of the embedded model's adapters: small matrices (LoRA) over its attention, dense MLP and
self-conditioning, which is the model's own for every other prompt.

    torchrun --nproc-per-node 2 -m dgtui.train.adapters edits --work runs/edits --steps 1310 --decay 300
    torchrun --nproc-per-node 2 -m dgtui.train.adapters tales --work runs/tales --steps 2000 --decay 600

"edits" is for edits and follow-ups; functions and JSON are among its lessons because follow-ups ask for them too.
"tales" is for tales and follow-ups to them. A run can begin with one that ships (`--start-from`).

What stands behind a reply is no part of it. So most canvases hold the whole reply and a lot of what follows its end, as
a canvas of 256 does.
"""

import random
from collections.abc import Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any, Final

from transformers import PreTrainedTokenizerFast

from dgtui.model.catalog import EDITS, TALES
from dgtui.paths import embedded_dir
from dgtui.train.embedded import LONG, PLACES
from dgtui.train.objective import USUAL_NOISE, Noise
from dgtui.train.packed import Pack, pack
from dgtui.train.recipe import Kind, Recipe, parser, run
from dgtui.train.small_model import SLIDING_WINDOW
from dgtui.train.taught import Encoder

SHARES: Final[Mapping[str, Mapping[str, int]]] = {
    EDITS: {"edits": 45, "turns": 25, "python": 25, "json": 5},
    TALES: {"tales": 62, "tale turns": 30, "about": 3, "other": 5},
}
NOISE: Final[Mapping[str, Noise]] = {TALES: Noise(rising_share=0.6, far_weight=0.3)}
"""A prompt decides its whole tale, so pure noise can be predicted."""
PADDING = (0, 8, 32, 64, 256)
OPEN_SHARE, CONTINUED_SHARE, ENCODER_SHARE = 0.1, 0.15, 0.25


@cache
def _encoder(folder: Path) -> Encoder:
    return Encoder(PreTrainedTokenizerFast.from_pretrained(folder), CONTINUED_SHARE)


def packs(shares: Mapping[str, int], folder: Path, recipe: Recipe, rank: int, step: int) -> list[Pack]:
    """The parts of a step; see `Kind.packs`. `shares` of the lessons."""
    encoder, rng = _encoder(folder), random.Random(f"{recipe.seed} {step} {rank}")
    items, tokenizer = encoder.items(rng, shares), encoder.tokenizer
    ids: tuple[Any, Any] = (tokenizer.pad_token_id, tokenizer.eos_token_id)
    shape = PLACES // LONG, LONG, *ids, SLIDING_WINDOW
    return [pack(items, *shape, None, rng, OPEN_SHARE, PADDING) for _ in range(recipe.parts)]


def kind(model: Path, name: str) -> Kind:
    """An adapter of this name for the model in a folder, with its tokenizer."""
    tokenizer = partial(PreTrainedTokenizerFast.from_pretrained, model)
    made = partial(packs, SHARES[name])
    noise = NOISE.get(name, USUAL_NOISE)
    return Kind(tokenizer, {}, made, 256, ENCODER_SHARE, proofread=0, noise=noise, adapts=model)


if __name__ == "__main__":
    options = parser(__doc__, parts=1)
    options.add_argument("adapter", choices=SHARES)
    recipe = vars(options.parse_args())
    made = kind(embedded_dir(), recipe.pop("adapter"))
    run(Recipe(**recipe), made)
