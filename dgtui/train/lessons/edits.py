"""Editing instructions on the model's own kinds of text: a passage is rewritten to fit the text around it.

The prompt is the instruction and the passage, as `steering.instructions` gives them to the embedded model. The text
around the passage is pinned on the canvas.
"""

import random
import re
from dataclasses import replace
from functools import cache

from dgtui.train.lessons import people, tales
from dgtui.train.lessons.example import DATA, Example, article, sentence

NAME = "edits"
_SWAPS = {"the": "teh", "and": "adn", "was": "wsa", "had": "hda", "with": "wiht", "they": "tehy", "said": "siad"}
_HOW = "tired|happy|late|at home|alone|ready|hungry|in the garden|very old|afraid|proud of it".split("|")


@cache
def tenses() -> list[tuple[str, str]]:
    """Sentences in the past and in the present tense."""
    rows = (DATA / "tenses.txt").read_text(encoding="utf-8").splitlines()
    return [(then, now) for then, _, now in (row.partition(" | ") for row in rows if row and row[0] != "#")]


@cache
def _verbs() -> list[tuple[tuple[str, str], tuple[str, str], list[str]]]:
    """What one does, what many do, each in the past and in the present tense; and what may follow."""
    rows = (DATA / "verbs.txt").read_text(encoding="utf-8").splitlines()
    found = []
    for past, she, they, ends in (row.split(" | ") for row in rows if row and row[0] != "#"):
        found.append(((past, she), (past, they), ends.split("; ")))
    return found


def _clause(rng: random.Random, many: bool) -> tuple[str, str]:
    """What one or many do, in the past and in the present tense."""
    kind = rng.random()
    one, all_of_them, ends = rng.choice(_verbs())
    end = rng.choice(ends)
    if kind < 0.15:
        how = rng.choice(_HOW)
        return (f"were {how}", f"are {how}") if many else (f"was {how}", f"is {how}")
    if kind < 0.25:
        plain = all_of_them[1]
        return f"did not {plain} {end}", f"{'do' if many else 'does'} not {plain} {end}"
    then, now = all_of_them if many else one
    return f"{then} {end}", f"{now} {end}"


def both_tenses(rng: random.Random, tale: tales.Tale) -> tuple[str, str]:
    """A sentence in the past and in the present tense."""
    if rng.random() < 0.3:
        then, now = rng.choice(tenses())
    else:
        many = rng.random() < 0.3
        who = rng.choice(
            ("They", "We", "{A} and {B}") if many else ("{A}", "{A}", "{A}", "She", "He", "The {s}", "Everybody")
        )
        clauses = [_clause(rng, many) for _ in range(rng.choice((1, 1, 2)))]
        then, now = (f"{who} {' and '.join(tense)}." for tense in zip(*clauses, strict=True))
    one, other = people.names(rng, 2)
    for mark, value in (("{A}", one), ("{B}", other), ("{s}", tale.subject)):
        then, now = then.replace(mark, value), now.replace(mark, value)
    return then, now


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


def _drawn(rng: random.Random, tale: tales.Tale, told: list[str], at: int) -> tuple[str, str, str, int]:
    """An instruction, the old and the new passage, and how many lines of the tale it replaces, from `at` on."""
    kind = rng.choice(("fix", "shorten", "expand", "tense", "rename"))
    if kind == "fix":
        ask = rng.choice(("fix", "fix", "fix the grammar", "correct this", "correct the spelling", "fix the typo"))
        return ask, _slip(rng, told[at]), told[at], 1
    if kind in ("shorten", "expand") and at + 1 < len(told):  # an optional line goes or comes
        whole = f"{told[at]} {told[at + 1]}"
        if kind == "shorten":
            return rng.choice(("shorten", "shorten", "make this shorter")), whole, told[at], 2
        return rng.choice(("expand", "expand", "make this longer")), told[at], whole, 2
    if kind == "tense":
        then, now = both_tenses(rng, tale)
        if rng.random() < 0.5:
            then, now, ask = now, then, rng.choice(("put this in the past tense", "change the tense to past"))
        else:
            ask = rng.choice(("put this in the present tense", "change the tense to present"))
        return ask, then, now, 1
    old, name = tale.people[0], people.names(rng, 1)[0]
    ask = rng.choice(("rename {o} to {n}", "replace {o} with {n}", "change {o} to {n}", "call {o} {n}"))
    if rng.random() < 0.4:
        old, name = tale.subject, rng.choice(tales.subjects().get(tale.plot.kind, ("lantern",)))
        ask = rng.choice(("make the {o} a {n}", "replace the {o} with a {n}", "make it a {n} instead of a {o}"))
        ask = ask.replace("a {n}", article(name)).replace("a {o}", article(old))
    new = re.sub(rf"\ban? (?={re.escape(old)}\b)", f"{article(name).split()[0]} ", told[at])
    new = re.sub(rf"\b{re.escape(old)}\b", lambda _: name, new)
    return ask.replace("{o}", old).replace("{n}", name), told[at], sentence(new), 1


def _right(told: list[str], at: int, old: str, new: str) -> list[str]:
    """The new passages that follow an instruction. Shortened, two lines are one of them; expanded, a line has one or
    more of those that follow it."""
    two = told[at : at + 2]
    if old == " ".join(two) != told[at]:
        return two
    if new == " ".join(two) != told[at]:
        return [" ".join(told[at:end]) for end in range(at + 2, len(told) + 1)]
    return [new]


def make(rng: random.Random) -> Example:
    """An instruction and the new passage: alone, or inside the text around it, which is pinned.

    What the passage is about stands in one of them, so nobody has to guess it.
    """
    _, tale = tales.draw(rng)
    told = _told(tale)
    at = rng.randrange(len(told))
    ask, old, new, lines = _drawn(rng, tale, told, at)
    if old == new:
        return make(rng)
    prompt = f"{ask}: {old}"
    alone = rng.random() < 0.5
    before = [] if alone else told[max(0, at - rng.randint(0, 3)) : at]
    after = [] if alone else told[at + lines :][: rng.randint(0, 3)]
    known = " ".join([prompt, *before, *after])
    if any(word in new and word not in known for word in (*tale.people, tale.subject)):
        return make(rng)
    if alone:
        return Example(NAME, prompt, new, expect={"among": _right(told, at, old, new)})
    begin = sum(len(text) + 1 for text in before)
    text = " ".join([*before, new, *after])
    space = min(begin, 1)  # the one before it is written too, as by an `Infill`
    return Example(NAME, prompt, text, expect={"equal": text}, free=((begin - space, begin + len(new)),))
