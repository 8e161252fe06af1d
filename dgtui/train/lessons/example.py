"""One lesson: a conversation, a right reply, and the conditions for any right reply.

A prompt belongs to the train or to the held-out side by a hash of its text. The two sides never share a prompt,
whatever the seeds.
"""

import hashlib
import json
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

from dgtui.message import Message

HELD_OUT_ONE_IN = 16
SHORT = 30
"""Most characters of a prompt that many people would write alike."""
DATA = Path(__file__).parent.parent / "data"

Split = Literal["train", "held-out"]
Turns = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Example:
    """A prompt and a right reply to it."""

    task: str
    """Name of the module that generated it."""
    prompt: str
    """The newest message of the user."""
    response: str
    """A right reply."""
    history: Turns = ()
    """Earlier (user, model) pairs, oldest first."""
    expect: Mapping[str, Any] = field(default_factory=dict)
    """What `judge.right` checks."""
    free: tuple[tuple[int, int], ...] = ()
    """Character ranges of `response` that the model writes; the rest is pinned. Empty: it writes everything."""

    @property
    def before(self) -> str:
        """The previous reply; empty in a first turn."""
        return self.history[-1][1] if self.history else ""

    def messages(self) -> list[Message]:
        """The conversation up to the reply; a bare document has none."""
        turns = [turn for user, model in self.history for turn in (Message("user", user), Message("model", model))]
        return [*turns, Message("user", self.prompt)] if self.prompt else turns


@cache
def _own_words() -> frozenset[str]:
    rows = (DATA / "own_words.jsonl").read_text(encoding="utf-8").splitlines()
    return frozenset(prompt for prompt in (json.loads(row)["prompt"] for row in rows) if len(prompt) > SHORT)


def split_of(prompt: str) -> Split:
    """The split of a prompt, by a hash of its text. What people asked in their own words is held out, unless it is as
    short as "hello"."""
    digest = hashlib.blake2b(prompt.encode(), digest_size=4).digest()
    held_out = int.from_bytes(digest, "big") % HELD_OUT_ONE_IN == 0 or prompt in _own_words()
    return "held-out" if held_out else "train"


def stream(make: Callable[[random.Random], Example], rng: random.Random, split: Split) -> Iterator[Example]:
    """An endless stream of examples of one split."""
    while True:
        example = make(rng)
        if split_of(example.prompt) == split:
            yield example


def first(rng: random.Random, values: list[Any], share: float = 0.7) -> Any:
    """A random choice that favours early values: each is taken with probability `share` of the remaining mass.

    Equally likely choices stay undecided for many denoising steps; a clear favourite settles.
    """
    for value in values[:-1]:
        if rng.random() < share:
            return value
    return values[-1]


def sentence(text: str) -> str:
    """The text with a capital first letter."""
    return text[:1].upper() + text[1:]


def article(noun: str) -> str:
    """The noun with its indefinite article."""
    return f"an {noun}" if noun[0].lower() in "aeiou" and not noun.startswith(("unicorn", "uni", "eu")) else f"a {noun}"


def typed(rng: random.Random, prompt: str) -> str:
    """A prompt as people type it: sometimes without capitals, without a full stop, or with a "please"."""
    dress = rng.random()
    if dress < 0.12:
        return prompt[:1].lower() + prompt[1:]
    if dress < 0.24:
        return prompt.rstrip(".?")
    if dress < 0.32:
        return prompt[:1].lower() + prompt[1:].rstrip(".?")
    if dress < 0.36:
        return f"Please {prompt[:1].lower()}{prompt[1:]}" if prompt.endswith(".") else prompt
    if dress < 0.40 and prompt[-1:] in ".?":
        return f"{prompt[:-1]}, please{prompt[-1]}"
    return prompt
