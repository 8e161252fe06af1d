"""The recipe of the model for 9×9 Sudoku that ships inside the embedded model.

    python -m dgtui.train.sudoku --work runs/sudoku --steps 4000 --decay 1500
    torchrun --nproc-per-node 2 -m dgtui.train.sudoku --work runs/sudoku --steps 4000 --decay 1500

It has a seventh of the embedded model's weights, so it sees far more grids in the same time. Its vocabulary is the
beginning of the embedded model's. Most examples have no prompt: with pinned givens, the canvas says everything.
"""

import random
from collections.abc import Iterator
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any, Final

from transformers import PreTrainedTokenizerFast

from dgtui.paths import embedded_dir
from dgtui.train.items import Item
from dgtui.train.lessons import grids, split_of
from dgtui.train.packed import Pack, pack
from dgtui.train.recipe import Kind, Recipe, options, run
from dgtui.train.small_model import SLIDING_WINDOW

SIZES: Final = {
    "vocab_size": 512,
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 6,
    "layer_types": [*["sliding_attention"] * 5, "full_attention"],
    "head_dim": 32,
    "global_head_dim": 64,
    "num_experts": 2,
    "top_k_experts": 1,
    "moe_intermediate_size": 64,
}
"""1.4 million parameters."""
BLANKS: Final = (28, 53)
PROMPT_SHARE: Final = 0.3
"""Share of the parts whose examples have their prompt. In the first `easy` steps it is a sixth of this."""
PLAIN_SHARE: Final = 0.6
"""Share of these whose givens are not pinned."""
ROWS: Final = 42
PROMPT: Final = 90
"""Tokens of a prompt: BOS and the grid."""
CANVAS: Final = 96
"""The grid, its end, and six end-of-sequence tokens: the whole canvas of this model."""


class Lessons:
    """Puzzles as token ids."""

    def __init__(self, folder: Path) -> None:
        """`folder` has the tokenizer."""
        self.tokenizer: Any = PreTrainedTokenizerFast.from_pretrained(folder)

    def items(self, rng: random.Random, prompt: bool) -> Iterator[Item]:
        """Endless items of the training side, with or without their prompt."""
        while True:
            puzzle, solution = grids.draw(rng, 9, rng.randint(*BLANKS))
            if split_of(puzzle.prompt()) != "train":
                continue
            texts = ["\n".join(grid.rows()) for grid in (puzzle, solution)]
            given, reply = self.tokenizer(texts, add_special_tokens=False)["input_ids"]
            blanks = [cell + cell // 9 for cell, value in enumerate(puzzle.cells) if not value]
            pinned = not prompt or rng.random() >= PLAIN_SHARE
            yield Item(
                (self.tokenizer.bos_token_id, *given) if prompt else (),
                (*reply, self.tokenizer.convert_tokens_to_ids("<turn|>")),
                tuple((at, at + 1) for at in blanks) if pinned else None,
            )

    def packs(self, rng: random.Random, parts: int, easy: bool) -> list[Pack]:
        """The parts of a step."""
        ids = self.tokenizer.pad_token_id, self.tokenizer.eos_token_id
        found = []
        for _ in range(parts):
            prompt = rng.random() < (PROMPT_SHARE / 6 if easy else PROMPT_SHARE)
            length = CANVAS + (PROMPT if prompt else 0)
            items = self.items(rng, prompt)
            made = pack(items, ROWS * CANVAS // length, length, *ids, SLIDING_WINDOW, CANVAS, rng)
            found.append(replace(made, weight=made.weight * made.free))
        return found


_lessons = cache(Lessons)


def packs(folder: Path, recipe: Recipe, rank: int, step: int) -> list[Pack]:
    """See `Kind.packs`."""
    return _lessons(folder).packs(random.Random(f"{recipe.seed} {step} {rank}"), recipe.parts, step < recipe.easy)


def kind(beside: Path) -> Kind:
    """The model for the folder of an embedded model, with its tokenizer."""
    tokenizer = partial(PreTrainedTokenizerFast.from_pretrained, beside)
    return Kind(tokenizer, SIZES, packs, CANVAS, encoder_share=0.0, proofread=0, beside=True)


def main() -> None:
    run(options(__doc__, parts=1, easy=1000), kind(embedded_dir()))


if __name__ == "__main__":
    main()
