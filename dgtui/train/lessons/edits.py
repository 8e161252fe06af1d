"""Editing instructions on the model's own kinds of text: a passage is rewritten to fit the text around it.

The prompt is the instruction alone, as `steering.instructions` gives it to the embedded model; the text around the
passage is pinned on the canvas.
"""

import random
from dataclasses import replace

from dgtui.train.lessons import people, tales
from dgtui.train.lessons.example import Example, article, sentence

NAME = "edits"
_SWAPS = {"the": "teh", "and": "adn", "was": "wsa", "had": "hda", "with": "wiht", "they": "tehy", "said": "siad"}


def _told(tale: tales.Tale) -> list[str]:
    """The sentences of the tale, one string per line of its plot."""
    kept = {"short": ("",), "usual": ("", "-"), "long": ("", "-", "+")}[tale.length]
    marks = [mark for mark, _ in tale.plot.lines if mark in kept]
    texts = []
    for i in range(len(marks)):
        one = replace(tale.plot, lines=tuple(line for line in tale.plot.lines if line[0] in kept)[i : i + 1])
        texts.append(replace(tale, plot=one).text())
    return texts


def _slip(rng: random.Random, text: str) -> str:
    words = text.split(" ")
    for i in rng.sample(range(len(words)), len(words)):
        word = words[i]
        if word in _SWAPS:
            words[i] = _SWAPS[word]
        elif len(word) > 4 and word.isalpha() and word.islower():  # names are bound, so their letters are not seen
            at = rng.randint(1, len(word) - 2)
            words[i] = rng.choice((word[:at] + word[at + 1 :], word[:at] + word[at] + word[at:]))
        else:
            continue
        return " ".join(words)
    return text


def make(rng: random.Random) -> Example:
    """An instruction and the text with its passage rewritten."""
    _, tale = tales.draw(rng)
    told = _told(tale)
    at = rng.randrange(len(told))
    kind = rng.random()
    if kind < 0.3:  # the model sees the slip in the prompt only: the canvas holds the rest
        broken = _slip(rng, told[at])
        ask = rng.choice(
            ("fix the grammar: {}", "fix: {}", "correct this: {}", "correct the spelling: {}", "fix the typo: {}")
        )
        return Example(NAME, ask.replace("{}", broken), told[at], expect={"equal": told[at]})
    if kind < 0.55 and at + 1 < len(told):  # shorten or expand: an optional line goes or comes
        shorter = rng.random() < 0.5
        whole, part = f"{told[at]} {told[at + 1]}", told[at]
        old, new = (whole, part) if shorter else (part, whole)
        ask = rng.choice(
            ("shorten: {}", "make this shorter: {}") if shorter else ("expand: {}", "make this longer: {}")
        )
        return Example(NAME, ask.replace("{}", old), new, expect={"equal": new})
    if kind < 0.8:
        name = people.names(rng, 1)[0]
        old = tale.people[0]
        new = told[at].replace(old, name)
        if new == told[at]:
            return make(rng)
        ask = rng.choice(("rename {o} to {n}: {t}", "replace {o} with {n}: {t}", "change {o} to {n} in: {t}"))
        prompt = ask.replace("{o}", old).replace("{n}", name).replace("{t}", told[at])
        return Example(NAME, prompt, new, expect={"equal": new})
    noun = rng.choice(tales.subjects().get(tale.plot.kind, ("lantern",)))
    new = told[at].replace(article(tale.subject), article(noun)).replace(tale.subject, noun)
    if new == told[at]:
        return make(rng)
    prompt = f"make the {tale.subject} {article(noun)}: {told[at]}"
    return Example(NAME, prompt, sentence(new), expect={"equal": sentence(new)})
