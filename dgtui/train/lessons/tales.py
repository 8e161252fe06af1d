"""Short tales: sixty plots in slotted sentences, with any names, about any subject, as long as asked.

`make` draws a prompt and a tale that obeys it. `read` recognises a tale of these plots and returns its variables; it
accepts nothing else, and with it a model's tale can be judged.
"""

import random
import re
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

from dgtui.train.lessons import people
from dgtui.train.lessons.example import DATA, Example, article, sentence, typed

NAME = "tales"
Length = Literal["short", "usual", "long"]
_SLOT = re.compile(r"\{(A\*|B\*|C\*|A|B|C|a s|s)\}")
_NAME_PART = r"(?:(?:Mrs?|Ms|Dr|St|Prof)\.|[^\s.,\"!?]+)"
_ADJECTIVES = (
    "old little tiny broken golden lost red blue green strange secret magic famous lonely wooden silver".split()
)


@dataclass(frozen=True, slots=True)
class Plot:
    """A plot: `lines` are (mark, sentence), a mark is "+" (only in a long tale), "-" (not in a short one) or ""."""

    name: str
    kind: str
    people: tuple[str, ...]
    subject: str
    lines: tuple[tuple[str, str], ...]

    @property
    def roles(self) -> int:
        """How many people the plot has."""
        return len(self.people)


@dataclass(frozen=True, slots=True)
class Tale:
    """Everything that determines a tale's text."""

    plot: Plot
    people: tuple[str, ...]
    intros: tuple[str, ...]
    """How each person is first mentioned; just the name if the prompt does not say more."""
    subject: str
    length: Length = "usual"

    def text(self) -> str:
        """The tale as one paragraph."""
        kept = {"short": ("",), "usual": ("", "-"), "long": ("", "-", "+")}[self.length]
        values = {"s": self.subject, "a s": article(self.subject)}
        for role, name, intro in zip("ABC", self.people, self.intros, strict=False):
            values |= {role: name, f"{role}*": intro}
        told = (_SLOT.sub(lambda m: values[m[1]], line) for mark, line in self.plot.lines if mark in kept)
        return " ".join(map(sentence, told))


@cache
def plots() -> tuple[Plot, ...]:
    """All plots, in the order of the file."""
    found: list[Plot] = []
    for line in (DATA / "plots.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("= "):
            name, kind, names, subject = (part.strip() for part in line[2:].split("|"))
            found.append(Plot(name, kind, tuple(names.split()), subject, ()))
        elif line.strip() and not line.startswith("#"):
            mark = line[0] if line[:2] in ("+ ", "- ") else ""
            found[-1] = replace(found[-1], lines=(*found[-1].lines, (mark, line[2:] if mark else line)))
    return tuple(found)


@cache
def subjects() -> dict[str, tuple[str, ...]]:
    """The nouns of each class of subject."""
    found: dict[str, list[str]] = {}
    for line in (DATA / "subjects.txt").read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            kind, _, nouns = line.partition(":")
            found.setdefault(kind, []).extend(noun.replace("-", " ") for noun in nouns.split())
    for plot in plots():
        if plot.kind in ("sky", "idea"):
            found.setdefault(plot.kind, []).append(plot.subject)
    return {kind: tuple(dict.fromkeys(nouns)) for kind, nouns in found.items()}


@cache
def _pattern(plot: Plot, length: Length) -> re.Pattern[str]:
    tale = Tale(plot, ("\0A", "\0B", "\0C"), ("\0D", "\0E", "\0F"), "\0S", length)
    source = re.escape(tale.text())
    for indefinite in ("a \0S", "A \0S"):
        source = source.replace(re.escape(indefinite), "\0T")
    seen: set[str] = set()

    def group(mark: re.Match[str]) -> str:
        name = mark[1]
        if name == "T":
            return r"(?:[Aa]n?)\ " + group(re.match("(S)", "S") or mark)
        body = r"[\w'’-]+(?: [\w'’-]+){0,2}" if name == "S" else rf"{_NAME_PART}(?: {_NAME_PART}){{0,5}}?"
        if name in seen:
            return f"(?P={name})"
        seen.add(name)
        return f"(?P<{name}>{body})"

    return re.compile(
        re.sub("\0([ABCDEFST])", group, source),
    )


@cache
def _landmark(plot: Plot) -> str:
    """The longest text without a slot that the plot has at every length."""
    return max((part for mark, line in plot.lines if not mark for part in re.split(r"\{[^}]*\}", line)), key=len)


def read(text: str) -> Tale | None:
    """The tale that produces exactly this text, or None."""
    for plot in plots():
        if _landmark(plot) not in text:
            continue
        for length in ("usual", "short", "long"):
            found = _pattern(plot, length).fullmatch(text.strip())
            if found is not None:
                got = found.groupdict()
                names = tuple(got.get(role) or got.get(intro) or "" for role, intro in zip("ABC", "DEF", strict=True))
                intros = tuple(got.get(intro) or got.get(role) or "" for role, intro in zip("ABC", "DEF", strict=True))
                tale = Tale(plot, names[: plot.roles], intros[: plot.roles], got.get("S") or plot.subject, length)
                if all(name.lower() in intro.lower() for name, intro in zip(tale.people, tale.intros, strict=True)):
                    return tale
    return None


def fits(kind: str | None, count: int, subject: str = "", turn: int = 0) -> list[Plot]:
    """The plots for a class of subject and a number of named people, the best one first; none if no plot fits.

    Nobody named: the plot's own people. Only the sky and ideas have plots of their own. For everything else `turn`
    chooses the best one, not the noun: a favourite that is easy to tell settles in few steps.
    """
    found = [plot for plot in plots() if kind is None or plot.kind == kind]
    if kind in ("sky", "idea"):
        found = [plot for plot in found if plot.subject == subject]
    if count:
        found = [plot for plot in found if count <= plot.roles <= count + 1]
    turn = turn % len(found) if found else 0
    return sorted(found[turn:] + found[:turn], key=lambda plot: count > 0 and plot.roles != count)


def _intro(rng: random.Random, name: str) -> str:
    kind = rng.random()
    noun = rng.choice(subjects()[rng.choice(("creature", "job"))])
    if " " in name or kind < 0.55:
        return name
    if kind < 0.75:
        return f"{name} the {noun}"
    if kind < 0.95:
        child = rng.choice(("girl", "boy", "woman", "man", "child", noun, noun))
        return f"{article(child)} {rng.choice(('called', 'named'))} {name}"
    return f"the {noun} {name}"


_FRAMES = (
    "Tell me a {l}story about {x}.", "Write a {l}story about {x}.", "Write me a {l}story about {x}.",
    "Tell me a {l}tale about {x}.", "Write a {l}tale about {x}.", "Can you tell me a {l}story about {x}?",
    "Could you write a {l}story about {x}?", "I would like a {l}story about {x}.", "I want a {l}tale about {x}.",
    "Make up a {l}story about {x}.", "A {l}story about {x}.", "{l}story about {x}", "Give me a {l}story about {x}.",
    "Tell a {l}story with {x} in it.", "Write a {l}bedtime story about {x}.", "Write a {l}fairy tale about {x}.",
    "Tell me about {x}, as a {l}story.", "{l}story: {x}", "Write something about {x}, like a {l}fairy tale.",
    "I'd love a {l}tale about {x}.", "May I have a {l}story about {x}?", "Invent a {l}tale with {x}.",
    "Do you know a {l}story about {x}?", "Once upon a time there was {x}. Go on!", "A {l}tale of {x}.",
    "Write about {x}.", "Tell us a {l}story about {x}.", "How about a {l}story about {x}?",
)  # fmt: skip
_BARE = (
    "Tell me a {l}story.", "Write a {l}tale.", "Write a {l}story.", "Can you tell me a {l}story?", "A {l}story.",
    "Tell me a {l}tale.", "I would like a {l}story.", "Do you know a {l}story?", "Make up a {l}story.", "Story time!",
    "Something to read, a {l}tale.", "{l}story",
)  # fmt: skip
_LENGTHS: dict[Length, tuple[str, ...]] = {
    "usual": ("", "", "", "short ", "little ", "nice ", "funny "),
    "short": ("very short ", "tiny ", "really short "),
    "long": ("long ", "longer ", "rather long "),
}
_TAILS = (
    "who could not {v}", "that would not {v}", "who wanted to {v}", "that learned to {v}", "that nobody had ever seen",
    "who had forgotten how to {v}", "nobody talks about", "that everybody wanted", "who hated {o}", "in {c}",
    "who was scared of {o}", "that stood in {o}", "with {o}", "with only one friend", "and {h} {n}", "with a secret",
    "who lived alone", "that was older than the town", "which arrived too early", "on a rainy day", "at night",
    "from {c}",
)  # fmt: skip
_VERBS = "sleep sing swim dance wait fly count laugh read whistle climb run speak rest paint sail".split()
_DOES = (
    "find{e} {o}", "lose{e} {o}", "build{e} {o}", "travel{e} to {c}", "go{es} to the market", "get{e} into trouble",
    "visit{e} {o}", "wake{e} up too early", "miss{es} the bus", "look{e} for {o}", "make{e} a mistake",
    "win{e} a prize",
)  # fmt: skip
_DOING = (
    "Write a {l}story in which {p} {d}.", "Tell me a {l}story where {p} {d}.", "{l}story: {p} {d}",
    "A {l}story about how {p} {d}.", "Tell me how {p} {d}, as a {l}story.", "Make up a {l}tale in which {p} {d}.",
    "{p} {d}: a {l}tale",
)  # fmt: skip
_ME = (
    "My name is {p}. {f}", "I am {p}. {f}", "I'm {p}. {f}", "Hi, I am {p}. {f}", "{f} My name is {p}.",
    "You can call me {p}. {f}", "{p} here. {f}",
)  # fmt: skip
_FOR = (
    "a {l}story for {x} about {p}", "a {l}tale for {x}, about {p}", "Read {x} a {l}story about {p}.",
    "Tell my {k} {x} a {l}story about {p}.", "a {l}bedtime story for {x} with {p} in it",
)  # fmt: skip
_KIN = "son daughter brother sister niece nephew friend grandmother grandson cousin class".split()
_WITH = ("{p} and {o}", "{p} and {o}", "{p} who find{e} {o}", "{p} with {o}", "{o} and {p}", "{p}, with {o} in it")


def _subject(rng: random.Random) -> tuple[str, str]:
    if rng.random() < 0.1:
        return "thing", people.invented(rng).lower()
    kind = rng.choices(("thing", "place", "creature", "job", "sky", "idea"), (30, 18, 24, 14, 7, 7))[0]
    noun = rng.choice(subjects()[kind])
    if kind in ("thing", "place", "creature") and rng.random() < 0.25:
        noun = f"{rng.choice(_ADJECTIVES)} {noun}"
    return kind, noun


def _mention(rng: random.Random, kind: str, noun: str) -> str:
    if kind == "sky":
        return noun if noun in ("winter", "autumn") else f"the {noun}"
    if kind == "idea":
        return noun
    return article(noun) if rng.random() < 0.85 else f"the {noun}"


def turn_of(prompt: str) -> int:
    """Which of three favourites a prompt asks for: it depends on its verb."""
    verbs = [verb for verb in ("tell", "write") if re.search(rf"\b{verb}\b", prompt, re.IGNORECASE)]
    return {"tell": 0, "write": 1}[verbs[0]] if verbs else 2


def draw(rng: random.Random) -> tuple[str, Tale]:
    """A prompt and the tale it asks for."""
    count = rng.choices((0, 1, 2, 3), (28, 27, 33, 12))[0]
    length: Length = rng.choices(("usual", "short", "long"), (80, 10, 10))[0]
    word = rng.choice(_LENGTHS[length])
    bare = count == 0 and rng.random() < 0.08
    frame = rng.choice(_BARE if bare else _FRAMES)
    names = people.names(rng, count)
    kind, noun = _subject(rng) if not bare and (count == 0 or rng.random() < 0.4) else (None, "")
    intros = [name if kind == "job" else _intro(rng, name) for name in names]
    subject = _mention(rng, kind, noun) if kind else ""
    if names and subject:
        shape = rng.choice(_WITH).replace("{e}", "s" if count == 1 else "")
        subject = shape.replace("{p}", people.together(intros)).replace("{o}", subject)
    elif names:
        subject = people.together(intros)
    if kind == "job" and not names and rng.random() < 0.2:
        prompt = f"Tell me {article(f'{word}{noun}')} story."
    elif other := _otherwise(rng, names, intros, subject, word):
        prompt = sentence(other)
    else:
        if kind not in (None, "idea") and rng.random() < 0.2:
            subject = f"{subject} {_detail(rng, rng.choice(_TAILS), 1)}"
        prompt = sentence(frame.replace("{l}", word).replace("{x}", subject)).replace("A old", "An old")
    fitting = fits(kind, count, noun, turn_of(prompt))
    plot = fitting[0] if fitting else plots()[0]
    cast = (*names, *plot.people[count:])
    if not fitting or len(set(cast)) < len(cast):
        return draw(rng)
    return typed(rng, prompt), Tale(plot, cast, (*intros, *plot.people[count:]), noun or plot.subject, length)


def _detail(rng: random.Random, text: str, count: int) -> str:
    """A phrase with its slots filled; the tale does not depend on it."""
    thing, place = rng.choice(subjects()["thing"]), rng.choice(subjects()["place"])
    place = rng.choice((article(place), f"the {place}"))
    values = {
        "v": rng.choice(_VERBS),
        "o": article(thing),
        "n": thing,
        "c": place,
        "h": rng.choice(("his", "her", "its")),
    }
    values |= {"e": "s", "es": "es"} if count == 1 else {"e": "", "es": ""}
    return text.format(**values)


def _otherwise(rng: random.Random, names: list[str], intros: list[str], subject: str, word: str) -> str | None:
    """Sometimes a request in another form: what the people do, about the user, for somebody."""
    kind = rng.random()
    if kind > 0.2 or not names or subject != (who := people.together(intros)):
        return None
    if kind < 0.1:
        does = _detail(rng, rng.choice(_DOES), len(names))
        return rng.choice(_DOING).replace("{l}", word).replace("{p}", who).replace("{d}", does)
    if kind < 0.15:
        listener = people.names(rng, 1)[0]
        ask = rng.choice(_FOR).replace("{l}", word).replace("{k}", rng.choice(_KIN))
        return None if listener in who or who in listener else ask.replace("{x}", listener).replace("{p}", who)
    if len(names) > 1 or intros != names:
        return None
    about = rng.choice(
        ("Tell me a {l}story about me.", "Write a {l}tale about me.", "Make up a {l}story with me in it.")
    )
    return rng.choice(_ME).replace("{f}", about).replace("{l}", word).replace("{p}", who)


def expectation(tale: Tale, count: int, about: bool) -> dict[str, object]:
    """What a reply must contain: the named people, and the subject if one was requested."""
    expect: dict[str, object] = {"tale": True, "names": list(tale.people[:count])}
    if about:
        expect["words"] = [tale.subject]
    return expect


def make(rng: random.Random) -> Example:
    """A prompt that fixes people, subject or length, and a tale that keeps to them."""
    prompt, tale = draw(rng)
    named = [name for name in tale.people if name in prompt]
    expect = expectation(tale, len(named), tale.subject.lower() in prompt.lower())
    return Example(NAME, prompt, tale.text(), expect=expect)
