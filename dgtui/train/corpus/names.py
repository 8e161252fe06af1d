"""Names, given and invented, that the generators share: a name has to be copied from the prompt, not recalled."""

import random

GIVEN = (
    "Ada Anna Bela Ben Carla Clara Dana Edda Elio Emil Enno Finn Freya Greta Hana Hugo Ida Ines Ivo Jana Jonas Juno "
    "Kai Karl Lars Lena Leo Lina Lola Luca Maja Mara Mateo Max Mia Milo Mira Nadia Nela Nico Nina Nora Olaf Olga Otto "
    "Paul Pia Quinn Rosa Ruben Sam Sara Selma Tara Theo Tilda Timo Uma Vera Viktor Wanda Yara Zoe"
).split()

_ONSETS = "B D F G H K L M N P R S T V Z Br Dr Kr Tr".split()
_RIMES = "a e i o u an el im or un ar en is ol ka mo ri sa to vu".split()


def invented(rng: random.Random) -> str:
    """A name of two or three syllables that no list holds."""
    return rng.choice(_ONSETS) + "".join(rng.choice(_RIMES) for _ in range(rng.randint(2, 3)))


def name(rng: random.Random) -> str:
    """A given name, or one time in five an invented one."""
    return rng.choice(GIVEN) if rng.random() < 0.8 else invented(rng)
