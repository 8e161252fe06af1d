"""Names that the lessons share. Names have to be copied from the prompt, so most come from a large, open set."""

import random
from functools import cache

from dgtui.train.lessons.example import DATA

SPARE = 256
"""Number of the listed names that are spare tokens (see `bound_names`)."""

_ONSETS = "B D F G H J K L M N P R S T V W Z Br Ch Cl Dr Fl Gr Kr Ph Qu Sch Sh St Th Tr X Y Zh".split()
_MIDDLES = "a e i o u ai ee ia oo an el im or un ar en is ol ka mo ri sa to vu lli ndo xi zy bbe".split()
_ENDINGS = "a e o y an el in is ka lo mo ri ta vu wen dor bert ette ling ron bee more zz k rp x".split()
TITLES = (
    "Grandma Grandpa Uncle Aunt Captain Princess Prince King Queen Doctor Dr. Mr. Mrs. Ms. Mr Mrs Ms Professor Little "
    "Old Saint".split()
)


@cache
def given() -> tuple[str, ...]:
    """About 2,000 given names of many languages, in an order that mixes them."""
    names = (DATA / "names.txt").read_text(encoding="utf-8").split()
    return tuple(random.Random("names").sample(names, len(names)))


def invented(rng: random.Random) -> str:
    """A name that is not in any list."""
    middle = "".join(rng.choice(_MIDDLES) for _ in range(rng.choice((0, 1, 1, 2))))
    return rng.choice(_ONSETS) + middle + rng.choice(_ENDINGS)


def name(rng: random.Random) -> str:
    """A name: mostly from the list, sometimes invented, double, with a title, an apostrophe or a hyphen."""
    kind = rng.random()
    one = rng.choice(given())
    if kind < 0.5:
        return one
    if kind < 0.86:
        return invented(rng)
    if kind < 0.91:
        return f"{rng.choice(TITLES)} {one}"
    if kind < 0.95:
        return f"{one} {rng.choice(given())}"
    if kind < 0.98:
        return f"{one}-{rng.choice(given())}"
    return f"{rng.choice(('O', 'D', 'L'))}'{one}"


def names(rng: random.Random, count: int) -> list[str]:
    """Different names, none of which is part of another."""
    found: list[str] = []
    while len(found) < count:
        new = name(rng)
        if not any(new in old or old in new for old in found):
            found.append(new)
    return found


def together(names: list[str]) -> str:
    """The names as people list them: "Ada, Ben and Eva"."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
