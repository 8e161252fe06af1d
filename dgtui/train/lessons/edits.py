"""Editing instructions on the model's own kinds of text: a passage is rewritten to fit the text around it.

The prompt is the instruction and the passage, as `steering.instructions` gives them to the embedded model. The text
around the passage is pinned on the canvas.
"""

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache

from dgtui.train.lessons import people, tales
from dgtui.train.lessons.example import DATA, Example, article, sentence

NAME = "edits"
_SWAPS = {
    "the": "teh", "and": "adn", "was": "wsa", "had": "hda", "with": "wiht", "they": "tehy", "said": "siad",
    "because": "becuase", "friend": "freind", "their": "thier", "until": "untill", "which": "wich", "again": "agian",
    "every": "evrey", "other": "ohter", "people": "poeple", "would": "woud", "before": "befor", "children": "childern",
    "always": "allways", "beautiful": "beatiful", "believed": "beleived", "really": "realy", "tomorrow": "tommorow",
}  # fmt: skip
_HOW = "tired|happy|late|at home|alone|ready|hungry|in the garden|very old|afraid|proud of it".split("|")
_PLACES = "market hill river garden house kitchen window door wall fence tree lake island road station street".split()
_OF_ME = {"were": "was", "are": "am"}
_TAILS = (
    "every day|every day",
    "slowly|slowly",
    "with a friend|with a friend",
    "again|again",
    "after dinner|after dinner",
    "because it was late|because it is late",
    "because there was no bread|because there is no bread",
    "because the bus did not come|because the bus does not come",
    "when the bell rang|when the bell rings",
    "before the rain came|before the rain comes",
    "although nobody asked|although nobody asks",
    "while the others were asleep|while the others are asleep",
    "until the sun went down|until the sun goes down",
    "when the children were at school|when the children are at school",
    "so that nobody was sad|so that nobody is sad",
    "because people always laughed|because people always laugh",
    "with the whole family|with the whole family",
    "although it was very cold|although it is very cold",
    "as soon as the rain stopped|as soon as the rain stops",
    "because the other one was broken|because the other one is broken",
    "like every summer|like every summer",
    "if there was time|if there is time",
    "which was really kind|which is really kind",
    "at the weekend|at the weekend",
)
"""What may follow a clause, in the past and in the present tense."""
_SPELLING = ("fix", "fix the typo", "correct this", "correct the spelling", "fix the spelling", "fix this")
_SHORTEN = ("shorten", "shorten", "make this shorter", "make it shorter", "shorten this", "make this sentence shorter")
_EXPAND = ("expand", "expand", "make this longer", "make it longer")
_TENSE = (
    "put this in the {t} tense", "change the tense to {t}", "change this to the {t} tense", "put it in the {t}",
    "rewrite this in the {t} tense", "rewrite in {t} tense", "{t} tense", "say this in the {t} tense",
)  # fmt: skip
_RENAME = (
    "rename {o} to {n}", "replace {o} with {n}", "change {o} to {n}", "call {o} {n}", "change the name {o} to {n}",
)  # fmt: skip
_EXCHANGE = (
    "make the {o} a {n}", "replace the {o} with a {n}", "make it a {n} instead of a {o}", "change the {o} to a {n}",
)  # fmt: skip


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


def _sentence(rng: random.Random) -> tuple[str, list[tuple[str, str]]]:
    """Who does something, and one or two clauses or a clause and its tail, in the past and in the present tense."""
    many = rng.random() < 0.3
    who = rng.choice(("They", "We", "{A} and {B}") if many else ("{A}", "{A}", "{A}", "She", "He", "I", "The {s}"))
    parts = [_clause(rng, many or who == "I")]
    if who == "I":
        parts = [(_of_me(then), _of_me(now)) for then, now in parts]
    kind = rng.random()
    if kind < 0.3 and who != "I":
        then, now = _clause(rng, many)
        parts.append((f"and {then}", f"and {now}"))
    elif kind < 0.7:
        then, _, now = rng.choice(_TAILS).partition("|")
        parts.append((then, now))
    return who, parts


def _of_me(clause: str) -> str:
    first, _, rest = clause.partition(" ")
    return f"{_OF_ME.get(first, first)} {rest}"


def _filled(text: str, tale: tales.Tale) -> str:
    one, other = (*tale.people, "Ben")[:2]
    return text.replace("{A}", one).replace("{B}", other).replace("{s}", tale.subject)


def both_tenses(rng: random.Random, tale: tales.Tale) -> tuple[str, str]:
    """A sentence about a person or the subject of a tale, in the past and in the present tense."""
    if rng.random() < 0.3:
        then, now = rng.choice(tenses())
    else:
        who, parts = _sentence(rng)
        then, now = (f"{who} {' '.join(tense)}." for tense in zip(*parts, strict=True))
    return _filled(then, tale), _filled(now, tale)


def _told(tale: tales.Tale) -> list[str]:
    """The sentences of the tale, one string per line of its plot."""
    kept = {"short": ("",), "usual": ("", "-"), "long": ("", "-", "+")}[tale.length]
    marks = [mark for mark, _ in tale.plot.lines if mark in kept]
    texts = []
    for i in range(len(marks)):
        one = replace(tale.plot, lines=tuple(line for line in tale.plot.lines if line[0] in kept)[i : i + 1])
        texts.append(replace(tale, plot=one).text())
    return texts


def _slip(rng: random.Random, text: str, slips: Callable[[random.Random, str], str | None]) -> str:
    """The text with one word that is wrong, if one of its words can have such a slip."""
    words = text.split(" ")
    for i in rng.sample(range(len(words)), len(words)):
        if (wrong := slips(rng, words[i])) is not None:
            return " ".join([*words[:i], wrong, *words[i + 1 :]])
    return text


def _misspelt(rng: random.Random, word: str) -> str | None:
    if word in _SWAPS:
        return _SWAPS[word]
    if len(word) <= 4 or not word.isalpha() or not word.islower():  # names are bound, so their letters are not seen
        return None
    at = rng.randint(1, len(word) - 2)
    swapped = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    wrong = rng.choice((word[:at] + word[at + 1 :], word[:at] + word[at] + word[at:], swapped))
    return None if wrong == word else wrong


@cache
def _numbers() -> dict[str, str]:
    """Words of one, and the words of many that are wrong in their place, and the reverse."""
    pairs = [("was", "were"), ("is", "are"), ("has", "have"), ("does", "do"), ("a", "an")]
    pairs += [(one[1], many[1]) for one, many, _ in _verbs() if one[0] != many[1]]  # "they put" may be the past
    return dict(pairs) | {many: one for one, many in pairs}


def _disagreeing(_: random.Random, word: str) -> str | None:
    return _numbers().get(word)


def _exchanged(rng: random.Random, text: str) -> tuple[str, str, str] | None:
    """A thing of the text, another one, and the text with that one."""
    nouns = {noun for many in tales.subjects().values() for noun in many} | set(_PLACES)
    there = [noun for noun in re.findall(r"\b(?:the|an?) (\w+)", text) if noun in nouns]
    if not there:
        return None
    old, new = rng.choice(there), rng.choice(sorted(nouns))
    if new == old:
        return None
    text = re.sub(rf"\ban? (?={old}\b)", f"{article(new).split()[0]} ", text)
    return old, new, re.sub(rf"\b{old}\b", lambda _: new, text)


@dataclass(frozen=True, slots=True)
class _Edit:
    """An instruction, the old passage and the new one; what is right too; how many lines of the tale it replaces."""

    ask: str
    old: str
    new: str
    too: Sequence[str] = ()
    lines: int = 1


def _lines(rng: random.Random, told: list[str], at: int) -> _Edit:
    """An optional line of a tale goes or comes."""
    whole = f"{told[at]} {told[at + 1]}"
    if rng.random() < 0.5:
        return _Edit(rng.choice(_SHORTEN), whole, told[at], [told[at + 1]], lines=2)
    longer = [" ".join(told[at:end]) for end in range(at + 3, len(told) + 1)]
    return _Edit(rng.choice(_EXPAND), told[at], whole, longer, lines=2)


def _shortened(rng: random.Random, tale: tales.Tale) -> _Edit:
    """The first clause stays."""
    who, parts = _sentence(rng)
    now = rng.randrange(2)
    tense = [part[now] for part in parts]
    return _Edit(rng.choice(_SHORTEN), _filled(f"{who} {' '.join(tense)}.", tale), _filled(f"{who} {tense[0]}.", tale))


def _in_tense(rng: random.Random, tale: tales.Tale) -> _Edit:
    then, now = both_tenses(rng, tale)
    if rng.random() < 0.5:
        return _Edit(rng.choice(_TENSE).replace("{t}", "past"), now, then)
    return _Edit(rng.choice(_TENSE).replace("{t}", "present"), then, now)


def _fixed(rng: random.Random, text: str) -> _Edit:
    if rng.random() < 0.35 and (old := _slip(rng, text, _disagreeing)) != text:
        return _Edit(rng.choice(("fix", "fix the grammar", "correct the grammar", "correct this")), old, text)
    return _Edit(rng.choice(_SPELLING), _slip(rng, text, _misspelt), text)


def _renamed(rng: random.Random, text: str, tale: tales.Tale) -> _Edit:
    if rng.random() < 0.5 and (found := _exchanged(rng, text)) is not None:
        old, name, new = found
        ask = rng.choice(_EXCHANGE).replace("a {n}", article(name)).replace("a {o}", article(old))
    else:
        old, name = tale.people[0], people.names(rng, 1)[0]
        ask, new = rng.choice(_RENAME), re.sub(rf"\b{re.escape(old)}\b", lambda _: name, text)
    return _Edit(ask.replace("{o}", old).replace("{n}", name), text, sentence(new))


def make(rng: random.Random) -> Example:
    """An instruction and the new passage: alone, or inside the text around it, which is pinned."""
    _, tale = tales.draw(rng)
    told = _told(tale)
    at, alone = rng.randrange(len(told)), rng.random() < 0.5
    kind, any_text = rng.choice(("fix", "rename", "tense", "length", "length")), rng.random() < 0.4
    text = rng.choice(both_tenses(rng, tale)) if alone and any_text else told[at]
    if kind == "fix":
        edit = _fixed(rng, text)
    elif kind == "tense":
        edit = _in_tense(rng, tale)
    elif kind == "length" and alone and any_text:
        edit = _shortened(rng, tale)
    elif kind == "length" and at + 1 < len(told):
        edit = _lines(rng, told, at)
    else:
        edit = _renamed(rng, text, tale)
    if edit.old == edit.new:
        return make(rng)
    prompt = f"{edit.ask if rng.random() < 0.7 else sentence(edit.ask)}: {edit.old}"
    if alone:
        return Example(NAME, prompt, edit.new, expect={"among": [edit.new, *edit.too]})
    before = told[max(0, at - rng.randint(0, 3)) : at]
    after = told[at + edit.lines :][: rng.randint(0, 3)]
    begin = sum(len(text) + 1 for text in before)
    text = " ".join([*before, edit.new, *after])
    return Example(NAME, prompt, text, expect={"equal": text}, free=((begin, begin + len(edit.new)),))
