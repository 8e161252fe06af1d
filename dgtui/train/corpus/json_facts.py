"""JSON from a sentence: the facts of one sentence as an object with fixed keys."""

import json
import random
from collections.abc import Callable

from dgtui.train.corpus.names import name
from dgtui.train.lessons.example import Example

NAME = "json"

CITIES = (
    "Athens Berlin Bern Cairo Dakar Delhi Dublin Genoa Geneva Kyoto Lagos Lima Lisbon London Madrid Malmo Milan Oslo "
    "Paris Porto Prague Quito Riga Rome Sofia Tokyo Turin Vienna Warsaw Zurich"
).split()
JOBS = "baker doctor driver farmer gardener painter pilot sailor singer teacher writer".split()
COLOURS = "black blue brown green grey orange pink red white yellow".split()
GOODS = (
    "apples bells books bottles brushes candles chairs coats cups hats kites ladders lamps maps pears pens ropes"
).split()
PETS = "bird cat dog fish goat hamster horse mouse parrot rabbit turtle".split()
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()

Fact = tuple[str, dict[str, str | int]]


def _person(rng: random.Random) -> Fact:
    who, age, city = name(rng), rng.randint(2, 99), rng.choice(CITIES)
    text = rng.choice(
        (
            f"{who} is {age} years old and lives in {city}.",
            f"{who} lives in {city} and is {age} years old.",
            f"In {city} lives {who}, who is {age}.",
        )
    )
    return text, {"name": who, "age": age, "city": city}


def _worker(rng: random.Random) -> Fact:
    who, job, city = name(rng), rng.choice(JOBS), rng.choice(CITIES)
    text = rng.choice(
        (
            f"{who} works as a {job} in {city}.",
            f"{who} is a {job} from {city}.",
            f"The {job} {who} works in {city}.",
        )
    )
    return text, {"name": who, "job": job, "city": city}


def _order(rng: random.Random) -> Fact:
    who, count, colour, item = name(rng), rng.randint(2, 60), rng.choice(COLOURS), rng.choice(GOODS)
    text = rng.choice(
        (
            f"{who} bought {count} {colour} {item}.",
            f"{who} orders {count} {item} in {colour}.",
            f"Please send {count} {colour} {item} to {who}.",
        )
    )
    return text, {"customer": who, "count": count, "colour": colour, "item": item}


def _pet(rng: random.Random) -> Fact:
    who, pet, kind, colour = name(rng), name(rng), rng.choice(PETS), rng.choice(COLOURS)
    text = rng.choice(
        (
            f"{who} has a {colour} {kind} called {pet}.",
            f"The {colour} {kind} {pet} belongs to {who}.",
        )
    )
    return text, {"owner": who, "pet": pet, "kind": kind, "colour": colour}


def _meeting(rng: random.Random) -> Fact:
    one, two, day, hour = name(rng), name(rng), rng.choice(DAYS), rng.randint(1, 12)
    text = rng.choice(
        (
            f"{one} meets {two} on {day} at {hour}.",
            f"On {day} at {hour}, {one} meets {two}.",
        )
    )
    return text, {"day": day, "hour": hour, "people": f"{one}, {two}"}


_FACTS: tuple[Callable[[random.Random], Fact], ...] = (_person, _worker, _order, _pet, _meeting)
_ASKS = (
    "Turn this sentence into JSON: {}",
    "Write this as JSON: {}",
    "JSON please: {}",
    "Give me JSON for: {}",
)


def make(rng: random.Random) -> Example:
    """One sentence of facts, and its JSON object on one line."""
    sentence, facts = rng.choice(_FACTS)(rng)
    return Example(NAME, rng.choice(_ASKS).format(sentence), json.dumps(facts))


def check(example: Example, reply: str) -> bool:
    """The reply is well-formed JSON and holds the same facts."""
    try:
        got = json.loads(reply)
    except ValueError:
        return False
    return bool(got == json.loads(example.response))
