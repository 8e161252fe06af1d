"""Lists to sort: three to eight words, alphabetically."""

import random

from dgtui.train.lessons.example import Example

NAME = "sorting"

WORDS = (
    "acorn anchor apple arrow badge basket bear bell berry boat book bottle bridge brush bucket button candle carrot "
    "castle cat chair cherry clock cloud coat coin cup daisy desk dog door drum eagle egg elm engine feather fern fig "
    "fish flute forest fox frog garden gate ghost glove goat grape hammer harp hat hill honey horse ink iron island "
    "ivy jacket jar jewel juice kettle key king kite ladder lake lamp leaf lemon lily map maple mint mirror moon nail "
    "nest night nut oak ocean olive onion orange owl paper peach pear pen piano plum pond queen quilt rabbit rain "
    "ribbon ring river robin rope rose salt sand sea shell ship silk snow sock spoon star stone sugar sun table tea "
    "tent tiger tower train tree tulip turtle valley vase violin wagon wall water whale wheel wind window wolf wood "
    "yard zebra"
).split()

_ASKS = (
    "Sort these words: {}",
    "Sort alphabetically: {}",
    "Put these words in order: {}",
    "Please sort this list: {}",
)


def make(rng: random.Random) -> Example:
    """Three to eight different words in random order, and the same in alphabetical order."""
    words = rng.sample(WORDS, rng.randint(3, 8))
    return Example(NAME, rng.choice(_ASKS).format(", ".join(words)), ", ".join(sorted(words)))


def check(example: Example, reply: str) -> bool:
    """The reply is the same words in order."""
    return reply.strip() == example.response
