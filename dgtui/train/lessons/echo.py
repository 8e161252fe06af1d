"""Text to repeat: names, numbers, sentences.

Every token of the reply is copied from the prompt, which is a quick way to learn to copy names of several tokens.
"""

import random

from dgtui.train.lessons import facts, people
from dgtui.train.lessons.example import Example, typed

NAME = "echo"
_ASKS = (
    "Repeat: {x}", "Repeat after me: {x}", "Say: {x}", "Just say: {x}", "Write: {x}", "Copy this: {x}", "echo {x}",
    "Please repeat: {x}", "Write down: {x}", "Say this again: {x}", "Repeat this, word for word: {x}", "Type {x}",
)  # fmt: skip
_TIMES = {"twice": 2, "three times": 3, "four times": 4}


def _text(rng: random.Random) -> str:
    kind = rng.random()
    if kind < 0.3:
        return facts.draw(rng)[0]
    names = people.names(rng, rng.randint(1, 4))
    if kind < 0.45:
        return ", ".join(f"{name} {rng.randint(1, 9999)}" for name in names)
    if kind < 0.5:
        return f"{people.invented(rng)}@example.org"
    return people.together(names)


def make(rng: random.Random) -> Example:
    """A request to repeat a text, or a name several times."""
    if rng.random() < 0.25:
        name, (times, count) = people.name(rng), rng.choice(list(_TIMES.items()))
        ask = rng.choice(("Write {x} {t}.", "Say {x} {t}.", "Repeat {x} {t}.", "Write the name {x} {t}."))
        prompt, text = typed(rng, ask.replace("{x}", name).replace("{t}", times)), ", ".join([name] * count)
    else:
        text = _text(rng)
        prompt = rng.choice(_ASKS).replace("{x}", text)
    return Example(NAME, prompt, text, expect={"equal": text})
