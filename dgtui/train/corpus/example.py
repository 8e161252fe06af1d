"""One training or test example: a user's message and the model's reply.

Every task module of this package offers `NAME`, `make(rng)` and `check(example, reply)`; `check` accepts each reply
that `make` could have written for that prompt and refuses others. A prompt belongs to the train or to the held-out
side by a hash of its text, so the two never share a prompt, whatever the seeds.
"""

import hashlib
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

HELD_OUT_ONE_IN = 16

Split = Literal["train", "held-out"]


@dataclass(frozen=True, slots=True)
class Example:
    """A prompt and a right reply to it; `task` is the `NAME` of the module that made it."""

    task: str
    prompt: str
    response: str


def split_of(prompt: str) -> Split:
    """The side a prompt belongs to, by a hash of its text."""
    digest = hashlib.blake2b(prompt.encode(), digest_size=4).digest()
    return "held-out" if int.from_bytes(digest, "big") % HELD_OUT_ONE_IN == 0 else "train"


def stream(make: Callable[[random.Random], Example], rng: random.Random, split: Split) -> Iterator[Example]:
    """Endless examples of one side."""
    while True:
        example = make(rng)
        if split_of(example.prompt) == split:
            yield example
