"""Short tales from a sentence grammar: one hero, one friend, one thing and one place, the same to the last word.

`make` draws a prompt and a tale that obeys it. `parse` reads a tale back into its variables and is exact: it accepts
every tale the grammar can write and nothing else, so that a model's tale can be judged. In a template `{name}` is a
variable. Grammar and lexicon are small on purpose: four million parameters have to learn all of it.
"""

import random
import re
from collections.abc import Mapping
from functools import cache

from dgtui.train.corpus import names
from dgtui.train.lessons.example import Example

NAME = "tales"


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_MORE_NAMES = _words(
    "Alice Amy Anton Anya Basil Bella Bob Cedric Charlie Daisy David Della Dov Edgar Ella Elsie Emma Eva Felix Grace "
    "Gus Harry Iris Jack Jane John Kip Leon Liam Lily Lucy Lukas Maria Marie Maud Ned Noah Nils Oliver Opal Oscar "
    "Peter Piet Poppy Quill Rusk Ruth Sarah Sela Signe Sophie Thea Thomas Tobin Tom Ulf Una Wim Willa Wren Yuri Zelda"
)
NAMES = (*names.GIVEN, *_MORE_NAMES)
KINDS = _words("badger baker bear cat fox gardener goat hare heron miller mouse otter owl robot sailor")
TRAITS = _words("brave careful cheerful curious patient quiet shy sleepy stubborn young")
THINGS = _words("basket bell boat clock cup drum flute hat key kite lantern map")
COLOURS = _words("blue golden green little red silver wooden yellow")
PLACES = {
    "the bridge": "by the bridge",
    "the forest": "in the forest",
    "the garden": "in the garden",
    "the harbour": "at the harbour",
    "the hill": "on the hill",
    "the lake": "by the lake",
    "the lighthouse": "at the lighthouse",
    "the market": "at the market",
    "the meadow": "in the meadow",
    "the old mill": "at the old mill",
    "the river": "by the river",
    "the sea": "by the sea",
    "the valley": "in the valley",
}
PLOTS = ("lost", "broken", "lonely")

# One template a sentence and plot: sentences of other lengths in its place would shift all that follows, and a model
# that writes everything at once would have to agree with itself on the shift first.
OPENING = "Once there was a {trait} {kind} named {hero}, who lived {near} and had a {colour} {thing}."
STORIES = {
    "lost": (
        "But one day {hero} looked under the bed, and the {thing} was gone.",
        "Then {friend} the {friend_kind} came along, and together they found the {thing}.",
        '"I lost a {thing}," {hero} said later, "but look what I found."',
    ),
    "broken": (
        "But the {thing} was broken, and {hero} was sad to look at it.",
        '"I will help you," said {friend} the {friend_kind}, and soon the {thing} was as good as new.',
        "Since that day {hero} and {friend} have had tea together every Sunday.",
    ),
    "lonely": (
        "In the evening {hero} sat beside the {thing} and wished for a friend.",
        "Then {friend} the {friend_kind} came to live next door, and {hero} held out the {thing}.",
        "Now the {thing} belongs to both of them, and so does every evening.",
    ),
}

# What a tale is drawn from where its prompt leaves it open: few values, one plot far ahead of the others, and hero and
# friend from apart. A model that writes all at once stays a mixture of plots that are equally likely, and draws the
# two kinds side by side.
FREE = {
    "hero": _words("Mira Otto Emil Clara Greta Jonas Lucy Tom"),
    "friend": _words("Ben Anna Kip Rosa Noah Selma Olaf Vera"),
    "kind": _words("badger fox hare"),
    "friend_kind": _words("mouse otter owl"),
    "trait": _words("brave careful curious quiet young"),
    "thing": _words("bell drum kite lantern map"),
    "colour": _words("blue green red yellow"),
    "place": ("the bridge", "the lake", "the river", "the sea"),
    "plot": ("lonely", "lonely", "lonely", "lonely", "lost", "broken"),
}

FRAMES = (
    "Write a short tale about {subject}.",
    "Write a short story about {subject}.",
    "Write a tale about {subject}.",
    "Write a story about {subject}.",
    "Write me a story about {subject}.",
    "Tell me a story about {subject}.",
    "Tell me a short story about {subject}.",
    "Tell me a tale about {subject}.",
    "Tell a short tale about {subject}.",
    "Please tell me a story about {subject}.",
    "Can you tell me a story about {subject}?",
    "I would like a short tale about {subject}.",
    "I want to hear a story about {subject}.",
    "Make up a story about {subject}.",
    "A short tale about {subject}, please.",
    "A story about {subject}.",
    "tell me a story about {subject}",
    "write a short tale about {subject}",
    "short story about {subject}",
)
SUBJECTS = {
    "{hero} and {friend}": 10,
    "{hero} the {kind} and {friend}": 3,
    "{hero} the {kind} and {friend} the {friend_kind}": 4,
    "{a_kind} named {hero} and {a_friend_kind} named {friend}": 4,
    "{a_kind} named {hero} and a friend called {friend}": 2,
    "{hero}, {friend} and {a_thing}": 3,
    "{hero}, {friend} and a {plot} {thing}": 3,
    "{hero}, {friend} and a {colour} {thing}": 3,
    "{hero} and {friend} {near}": 4,
    "{hero} the {kind}, who meets {friend} {near}": 2,
    "{a_kind} named {hero} and {a_thing}": 3,
    "{a_kind} named {hero} and a {plot} {thing}": 3,
    "{a_kind} named {hero} and a {colour} {thing}": 2,
    "{a_kind} named {hero}": 2,
    "{hero} the {kind}": 2,
    "{hero}": 2,
    "{a_kind} and {a_friend_kind}": 2,
    "{a_kind}": 2,
    "{a_kind} and {a_thing}": 1,
    "a {plot} {thing}": 1,
    "a {colour} {thing}": 1,
}
BARE = (
    "Tell me a story.",
    "Write a short tale.",
    "Write a short story.",
    "Tell me a short tale, please.",
    "Can you tell me a story?",
    "tell me a story",
    "write a story",
    "A story, please.",
)


def _article(noun: str) -> str:
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def _same(values: tuple[str, ...]) -> dict[str, str]:
    return {value: value for value in values}


def _with_article(values: tuple[str, ...]) -> dict[str, str]:
    return {_article(value): value for value in values}


_NAMED = ("hero", "friend")
# A field is what stands between braces: its variable, and every written form with the value that form means.
_FIELDS: dict[str, tuple[str, dict[str, str]]] = {
    "kind": ("kind", _same(KINDS)),
    "a_kind": ("kind", _with_article(KINDS)),
    "friend_kind": ("friend_kind", _same(KINDS)),
    "a_friend_kind": ("friend_kind", _with_article(KINDS)),
    "trait": ("trait", _same(TRAITS)),
    "thing": ("thing", _same(THINGS)),
    "a_thing": ("thing", _with_article(THINGS)),
    "colour": ("colour", _same(COLOURS)),
    "near": ("place", {near: place for place, near in PLACES.items()}),
    "plot": ("plot", {"lost": "lost", "broken": "broken"}),
}
_WRITTEN = {field: {value: form for form, value in forms.items()} for field, (_, forms) in _FIELDS.items()}
_MARK = re.compile(r"\{(\w+)\}")


def _write(template: str, bound: Mapping[str, str]) -> str:
    def form(mark: re.Match[str]) -> str:
        field = mark[1]
        return bound[field] if field in _NAMED else _WRITTEN[field][bound[_FIELDS[field][0]]]

    return _MARK.sub(form, template)


class _Pattern:
    """A template as a regular expression that yields the variables it found, or None where two places disagree."""

    def __init__(self, template: str) -> None:
        self._fields = _MARK.findall(template)
        source, at = "", 0
        for mark in _MARK.finditer(template):
            forms = "[A-Z][a-z]+" if mark[1] in _NAMED else "|".join(map(re.escape, _FIELDS[mark[1]][1]))
            source += f"{re.escape(template[at : mark.start()])}({forms})"
            at = mark.end()
        self._regex = re.compile(source + re.escape(template[at:]))

    def match(self, text: str, bound: Mapping[str, str]) -> dict[str, str] | None:
        found = self._regex.fullmatch(text)
        if found is None:
            return None
        merged = dict(bound)
        for field, form in zip(self._fields, found.groups(), strict=True):
            variable, value = (field, form) if field in _NAMED else (_FIELDS[field][0], _FIELDS[field][1][form])
            if merged.setdefault(variable, value) != value:
                return None
        return merged


def _tale(plot: str) -> str:
    return " ".join((OPENING, *STORIES[plot]))


@cache
def _tales() -> dict[str, _Pattern]:
    return {plot: _Pattern(_tale(plot)) for plot in PLOTS}


@cache
def _subjects() -> tuple[_Pattern, ...]:
    return tuple(map(_Pattern, SUBJECTS))


@cache
def _frames() -> tuple[tuple[str, str], ...]:
    return tuple((before, after) for before, _, after in (frame.partition("{subject}") for frame in FRAMES))


def _agrees(bound: Mapping[str, str]) -> bool:
    return bound["hero"] != bound["friend"] and bound["kind"] != bound["friend_kind"]


def parse(text: str, given: Mapping[str, str] | None = None) -> dict[str, str] | None:
    """The variables of a tale (`hero`, `kind`, `friend`, `friend_kind`, `place`, `thing`, `colour`, `trait`,
    `plot`), or None if the text is no tale of this grammar.

    With `given`, only a tale in which those variables have those values counts.
    """
    for plot, pattern in _tales().items():
        found = pattern.match(text, {"plot": plot, **(given or {})})
        if found is not None and found["plot"] == plot and _agrees(found):
            return found
    return None


def could_be_written(text: str) -> bool:
    """Whether the grammar can write this text, to the letter."""
    return parse(text) is not None


def read_prompt(prompt: str) -> dict[str, str] | None:
    """What a prompt fixes, as variables of `parse`: empty if it leaves all open, None if it is not of this task."""
    if prompt in BARE:
        return {}
    for before, after in _frames():
        if prompt.startswith(before) and prompt.endswith(after):
            subject = prompt[len(before) : len(prompt) - len(after)]
            for pattern in _subjects():
                found = pattern.match(subject, {})
                if found is not None:
                    return found
    return None


def write(given: Mapping[str, str], rng: random.Random) -> str:
    """A tale with these variables fixed and the others drawn."""
    bound = dict(given)
    others = {"hero": "friend", "friend": "hero", "kind": "friend_kind", "friend_kind": "kind"}
    for variable, values in FREE.items():
        if variable not in bound:
            bound[variable] = rng.choice([value for value in values if value != bound.get(others.get(variable, ""))])
    return _write(_tale(bound["plot"]), bound)


def make(rng: random.Random) -> Example:
    """A prompt that fixes some of the variables, and a tale that keeps to them."""
    if rng.random() < 0.04:
        return Example(NAME, rng.choice(BARE), write({}, rng))
    draw = names.invented if rng.random() < 0.03 else lambda rng: rng.choice(NAMES)
    bound = {"hero": draw(rng), "friend": draw(rng), "plot": rng.choice(("lost", "broken"))}
    if bound["hero"] == bound["friend"]:
        return make(rng)
    bound["kind"], bound["friend_kind"] = rng.sample(KINDS, 2)
    bound |= {"thing": rng.choice(THINGS), "colour": rng.choice(COLOURS), "place": rng.choice(tuple(PLACES))}
    template = rng.choices(list(SUBJECTS), list(SUBJECTS.values()))[0]
    subject = _write(template, bound)
    found = _Pattern(template).match(subject, {})
    if found is None:
        raise AssertionError(f"the subject {subject!r} does not read as it was written")
    return Example(NAME, rng.choice(FRAMES).replace("{subject}", subject), write(found, rng))


def check(example: Example, reply: str) -> bool:
    """Whether `reply` is a tale of the grammar that keeps to everything the prompt fixed."""
    given = read_prompt(example.prompt)
    return given is not None and parse(reply.strip(), given) is not None
