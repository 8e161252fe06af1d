"""JSON from a sentence: free keys, many shapes of sentence, the facts in the order of the text."""

import json
import random
from dataclasses import dataclass

from dgtui.train.lessons import people
from dgtui.train.lessons.example import Example, typed
from dgtui.train.lessons.tales import subjects

NAME = "json"

CITIES = [
    city.replace("-", " ")
    for city in (
        "Athens Berlin Bern Cairo Dakar Delhi Dublin Genoa Geneva Kyoto Lagos Lima Lisbon London Madrid Malmo "
        "Milan Oslo Paris Porto Prague Quito Riga Rome Sofia Tokyo Turin Vienna Warsaw Zurich Hamburg Munich "
        "Cologne Bonn Graz Lyon Nice Lille Ghent Bruges Antwerp Utrecht Seville Naples Venice Florence "
        "Palermo Cracow Gdansk Brno Zagreb Split Tallinn Vilnius Helsinki Turku Bergen Aarhus Uppsala Cork "
        "Galway Leeds York Bath Glasgow Cardiff Boston Denver Austin Toronto Quebec Bogota Havana Santiago "
        "Manila Hanoi Seoul Osaka Mumbai Nairobi Accra Tunis Rabat Cape-Town Sydney Perth Auckland"
    ).split()
]
_JOBS = (
    "nurse teacher doctor baker driver farmer gardener painter pilot sailor singer writer engineer lawyer cook waiter "
    "carpenter plumber dentist librarian journalist architect programmer student mechanic tailor judge actor scientist"
).split()
_COLOURS = "black blue brown green grey orange pink red white yellow purple silver golden turquoise beige".split()
_GOODS = (
    "apples bells books bottles brushes candles chairs coats cups hats kites ladders lamps maps pears pens ropes eggs "
    "shirts socks tables tickets towels plates forks knives spoons stamps cables batteries screws bags boxes"
).split()
_THINGS = (
    "lamp car chair bicycle phone table coat watch camera guitar sofa tent kettle radio laptop book desk bag".split()
)
_PETS = "bird cat dog fish goat hamster horse mouse parrot rabbit turtle donkey pony kitten puppy snake lizard".split()
_DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
_MONTHS = "January February March April May June July August September October November December".split()
_INSTRUMENTS = "violin piano flute guitar drums trumpet cello harp clarinet".split()
_EVENTS = "meeting concert lecture wedding party exam workshop match picnic rehearsal auction festival".split()
_UNITS = ("euros", "dollars", "pounds", "francs")
_TITLES = (
    "The Old House,Winter Light,Seven Doors,Dune,A Quiet Year,The Map,Under the Bridge,Salt,Three Sisters,North".split(
        ","
    )
)


def _draw(kind: str, rng: random.Random) -> str | int | float:
    match kind:
        case "name":
            return people.name(rng)
        case "age":
            return rng.randint(1, 99)
        case "count":
            return rng.randint(2, rng.choice((9, 60, 400)))
        case "hour":
            return rng.randint(0, 23)
        case "price":
            return rng.choice((rng.randint(1, 99), rng.randint(100, 9900), rng.randint(10, 999) / 10))
        case "number":
            return rng.randint(1, rng.choice((20, 200, 9999)))
        case "year":
            return rng.randint(1700, 2026)
        case "temperature":
            return rng.randint(-20, 40)
        case "percent":
            return rng.randint(1, 100)
        case "email":
            first = rng.choice(("", f"{rng.choice('abcdefghijklmnoprstw')}.", f"{people.invented(rng).lower()}."))
            return f"{first}{people.invented(rng).lower()}@example.{rng.choice(('org', 'com', 'net'))}"
        case _:
            return rng.choice(_LISTS[kind])


_LISTS: dict[str, list[str]] = {
    "city": CITIES, "job": _JOBS, "colour": _COLOURS, "goods": _GOODS, "thing": _THINGS, "pet": _PETS, "day": _DAYS,
    "month": _MONTHS, "instrument": _INSTRUMENTS, "event": _EVENTS, "currency": list(_UNITS), "title": _TITLES,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Shape:
    """Keys with the kinds of their values, and sentences that say them; "{key}" is a value."""

    keys: dict[str, str]
    sentences: tuple[str, ...]


_SHAPES = (
    Shape({"name": "name", "age": "age", "city": "city"}, (
        "{name} is {age} years old and lives in {city}.", "{name} lives in {city} and is {age} years old.",
        "{name}, {age}, lives in {city}.", "My friend {name} is {age} and comes from {city}.", "{name}, {age}, {city}",
        "In {city} lives {name}, who is {age}.", "My name is {name}, I am {age} and I live in {city}.",
    )),
    Shape({"name": "name", "age": "age", "job": "job", "city": "city"}, (
        "{name} is {age} and works as a {job} in {city}.", "My sister {name} is {age} and works as a {job} in {city}.",
        "{name}, {age}, is a {job} from {city}.", "{name}, {age}, {job}, {city}",
        "The {job} {name} is {age} years old and lives in {city}.",
    )),
    Shape({"name": "name", "job": "job", "age": "age"}, (
        "{name} is a {job} and is {age} years old.", "{name} works as a {job} and is {age}.", "{name}, {job}, {age}",
    )),
    Shape({"name": "name", "job": "job", "city": "city"}, (
        "{name} works as a {job} in {city}.", "{name} is a {job} from {city}.", "The {job} {name} works in {city}.",
    )),
    Shape({"customer": "name", "count": "count", "colour": "colour", "item": "goods"}, (
        "{customer} bought {count} {colour} {item}.", "{customer} orders {count} {colour} {item}.",
        "{customer} would like {count} {colour} {item}.",
    )),
    Shape({"customer": "name", "count": "count", "colour": "colour", "item": "goods", "day": "day"}, (
        "{customer} bought {count} {colour} {item} on {day}.", "{customer} needs {count} {colour} {item} by {day}.",
    )),
    Shape({"order": "number", "count": "count", "item": "goods", "customer": "name"}, (
        "Order {order}: {count} {item} for {customer}.", "Order {order} is {count} {item} for {customer}.",
    )),
    Shape({"owner": "name", "colour": "colour", "kind": "pet", "name": "name"}, (
        "{owner} has a {colour} {kind} called {name}.", "{owner} owns a {colour} {kind} named {name}.",
    )),
    Shape({"name": "name", "age": "age", "kind": "pet", "city": "city"}, (
        "{name} is a {age} year old {kind} from {city}.", "{name}, a {age} year old {kind}, lives in {city}.",
    )),
    Shape({"owner": "name", "count": "count", "kind": "goods"}, (
        "{owner} owns {count} {kind}.", "{owner} has {count} {kind}.",
    )),
    Shape({"event": "event", "day": "day", "hour": "hour", "room": "number"}, (
        "The {event} is on {day} at {hour} in room {room}.", "On {day} at {hour} there is the {event} in room {room}.",
    )),
    Shape({"event": "event", "day": "day", "hour": "hour", "city": "city"}, (
        "The {event} is on {day} at {hour} in {city}.", "There will be one {event} in {city}, on {day}, at {hour}.",
    )),
    Shape({"first": "name", "second": "name", "day": "day", "hour": "hour"}, (
        "{first} meets {second} on {day} at {hour}.", "{first} and {second} meet on {day} at {hour}.",
    )),
    Shape({"colour": "colour", "item": "thing", "price": "price", "currency": "currency"}, (
        "The {colour} {item} costs {price} {currency}.", "A {colour} {item} is {price} {currency}.",
    )),
    Shape({"product": "thing", "price": "price"}, (
        "The {product} costs {price} euros.", "The price of the {product} is {price}.", "{product}, {price} dollars",
    )),
    Shape({"title": "title", "author": "name", "year": "year"}, (
        "{title} was written by {author} in {year}.", "The book {title} by {author} is from {year}.",
        "title is {title}, author is {author}, year {year}",
    )),
    Shape({"city": "city", "temperature": "temperature", "humidity": "percent"}, (
        "In {city} it is {temperature} degrees, humidity {humidity}.",
        "city {city}, temperature {temperature}, humidity {humidity}",
    )),
    Shape({"flight": "number", "from": "city", "departure": "hour", "to": "city", "arrival": "hour"}, (
        "Flight {flight} leaves {from} at {departure} and arrives in {to} at {arrival}.",
        "Flight {flight} goes from {from} at {departure} to {to} at {arrival}.",
    )),
    Shape({"train": "number", "from": "city", "to": "city", "hour": "hour"}, (
        "Train {train} goes from {from} to {to} at {hour}.", "Train {train}, {from} to {to}, leaves at {hour}.",
    )),
    Shape({"name": "name", "instrument": "instrument", "city": "city"}, (
        "{name} plays the {instrument} and lives in {city}.", "{name} from {city} plays the {instrument}.",
    )),
    Shape({"first_name": "name", "last_name": "name", "email": "email"}, (
        "first name {first_name}, last name {last_name}, email {email}", "{first_name} {last_name}, {email}",
    )),
    Shape({"opens": "hour", "closes": "hour", "price": "price"}, (
        "The museum opens at {opens}, closes at {closes}, and the ticket is {price} euros.",
        "We open at {opens} and close at {closes}; a ticket costs {price} euros.",
    )),
    Shape({"day": "day", "name": "name", "count": "count", "city": "city"}, (
        "On {day} {name} sees {count} patients in {city}.", "On {day}, {name} has {count} guests in {city}.",
    )),
    Shape({"name": "name", "birthday": "age", "month": "month"}, ("{name} was born on {birthday} {month}.",)),
    Shape({"team": "city", "goals": "count", "opponent": "city", "against": "count"}, (
        "{team} beat {opponent} {goals} to {against}.",
    )),
)  # fmt: skip
_ASKS = (
    "Turn this into JSON: {}", "Turn this sentence into JSON: {}", "Write this as JSON: {}", "JSON please: {}",
    "Give me JSON for: {}", "Convert to JSON: {}", "Convert this to json: {}", "Extract the facts as JSON. {}",
    "Extract the facts as JSON: {}", "Make JSON out of: {}", "I need this sentence as JSON: {}", "json: {}",
    "Please give me a JSON object for this: {}", "Parse: '{}' into JSON", "turn \"{}\" into json",
    "as json please - {}",
    "Give me only JSON. {}", "Could you write the following as a JSON object? {}", "Transform into JSON: {}",
    "Here is a sentence, make it JSON: {}", "Structure this: {} JSON.", "What would this look like in JSON? {}",
    "{} As JSON, please.", "JSON object for the following: {}", "Sentence to JSON: {}", "{}\nTurn it into JSON.",
    "Put this in JSON:\n{}", "Can you make JSON from this? {}",
)  # fmt: skip
_FREE_KEYS = (
    "name age city country colour size weight price count author title year month day hour email phone street room "
    "floor width height speed team score level language animal food drink fruit tree river planet model brand owner id "
    "code status kind material temperature humidity distance duration rating pages players seats wheels legs"
).split()


def _free(rng: random.Random) -> tuple[str, dict[str, object]]:
    """Keys and values as the prompt lists them."""
    keys = rng.sample(_FREE_KEYS, rng.randint(2, 4))
    facts: dict[str, object] = {}
    for key in keys:
        facts[key] = _draw(rng.choice(("name", "count", "city", "colour", "number", "thing")), rng)
    pairs = list(facts.items())
    shape = rng.choice(("{k} is {v}", "{k}: {v}", "{k} {v}", "{k} = {v}", "the {k} is {v}"))
    texts = [shape.format(k=k, v=v) for k, v in pairs]
    joined = ", ".join(texts) if rng.random() < 0.5 else f"{', '.join(texts[:-1])} and {texts[-1]}"
    return joined, facts


def _goods(rng: random.Random) -> tuple[str, dict[str, object]]:
    items = _GOODS if rng.random() < 0.4 else [f"{thing}s" for thing in (*subjects()["thing"], *_PETS, *_THINGS)]
    facts: dict[str, object] = {item: _draw("count", rng) for item in rng.sample(items, rng.randint(2, 4))}
    return rng.choice(
        (", ".join(f"{k} {v}" for k, v in facts.items()), ", ".join(f"{v} {k}" for k, v in facts.items()))
    ), facts


def draw(rng: random.Random) -> tuple[str, dict[str, object]]:
    """A sentence and its facts, in the order in which the sentence says them."""
    kind = rng.random()
    if kind < 0.15:
        return _free(rng)
    if kind < 0.22:
        return _goods(rng)
    shape = rng.choice(_SHAPES)
    drawn = {key: _draw(value, rng) for key, value in shape.keys.items()}
    text = rng.choice(shape.sentences)
    order = sorted(drawn, key=lambda key: text.index("{" + key + "}"))
    if rng.random() < 0.1 and "thing" in shape.keys.values():
        key = next(key for key, value in shape.keys.items() if value == "thing")
        drawn[key] = rng.choice(subjects()["thing"])
    return text.format(**drawn), {key: drawn[key] for key in order}


def make(rng: random.Random) -> Example:
    """A request for JSON, and the object on one line."""
    text, facts = draw(rng)
    ask = rng.choice(_ASKS)
    if rng.random() < 0.12:
        keys = list(facts)
        ask = f"Write JSON with the keys {', '.join(keys[:-1])} and {keys[-1]}: {{}}"
    return Example(
        NAME, typed(rng, ask.replace("{}", text)), json.dumps(facts, ensure_ascii=False), expect={"json": facts}
    )
