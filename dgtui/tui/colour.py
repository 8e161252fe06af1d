"""Colour arithmetic: mixing in OKLab and contrast according to WCAG. A colour is always "#rrggbb".

OKLab is by Björn Ottosson (https://bottosson.github.io/posts/oklab/): equal steps look equal, and mixtures do not turn
grey or dark. Contrast is the ratio of relative luminances of WCAG 2.2, from 1 to 21; text of normal size needs `AA`.
"""

import math
from collections.abc import Iterable, Sequence
from functools import cache, lru_cache
from typing import Final

from rich.color import Color as RichColor
from rich.color import ColorSystem

AA: Final = 4.5
"""The minimum contrast between text and its ground."""
FADED: Final = 0.45
"""The largest share of the other colour in a faded one."""

Lab = tuple[float, float, float]
"""OKLab: lightness 0 … 1, and two colour axes around 0."""


@lru_cache(4096)
def to_oklab(color: str) -> Lab:
    """An sRGB colour in OKLab."""
    red, green, blue = _linear(color)
    long = (0.4122214708 * red + 0.5363325363 * green + 0.0514459929 * blue) ** (1 / 3)
    medium = (0.2119034982 * red + 0.6806995451 * green + 0.1073969566 * blue) ** (1 / 3)
    short = (0.0883024619 * red + 0.2817188376 * green + 0.6299787005 * blue) ** (1 / 3)
    return (
        0.2104542553 * long + 0.7936177850 * medium - 0.0040720468 * short,
        1.9779984951 * long - 2.4285922050 * medium + 0.4505937099 * short,
        0.0259040371 * long + 0.7827717662 * medium - 0.8086757660 * short,
    )


def from_oklab(lab: Lab) -> str:
    """The sRGB colour, with each channel clipped to its range."""
    lightness, a, b = lab
    long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    medium = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    return "#" + "".join(
        f"{_channel(value):02x}"
        for value in (
            4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short,
            -1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short,
            -0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short,
        )
    )


def mix(first: str, second: str, share: float) -> str:
    """A mixture of two colours in OKLab; `share` 0 is the first, 1 the second."""
    if share <= 0 or first == second:
        return first
    if share >= 1:
        return second
    lightness, a, b = (
        one + (other - one) * share for one, other in zip(to_oklab(first), to_oklab(second), strict=True)
    )
    return from_oklab((lightness, a, b))


def on_ramp(stops: Sequence[str], position: float) -> str:
    """The colour at `position` (0 … 1, clipped) of evenly spaced stops."""
    if len(stops) == 1 or position <= 0:
        return stops[0]
    place = min(1.0, position) * (len(stops) - 1)
    at = min(int(place), len(stops) - 2)
    return mix(stops[at], stops[at + 1], place - at)


@lru_cache(4096)
def luminance(color: str) -> float:
    """The relative luminance (WCAG), from 0 (black) to 1 (white)."""
    red, green, blue = _linear(color)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(color: str, ground: str) -> float:
    """The contrast ratio (WCAG), from 1 to 21; the order does not matter."""
    low, high = sorted((luminance(color), luminance(ground)))
    return (high + 0.05) / (low + 0.05)


def least_contrast(color: str, grounds: Iterable[str]) -> float:
    """The lowest contrast of a colour on several grounds."""
    return min(contrast(color, ground) for ground in grounds)


def faded(color: str, toward: str, grounds: Sequence[str]) -> str:
    """The colour mixed with `toward`, at most by `FADED`, as far as its contrast stays at least `AA` on all grounds.

    A colour that starts with less contrast is returned unchanged.
    """
    low, high = 0.0, FADED
    if least_contrast(mix(color, toward, high), grounds) >= AA:
        return mix(color, toward, high)
    for _ in range(12):
        middle = (low + high) / 2
        low, high = (middle, high) if least_contrast(mix(color, toward, middle), grounds) >= AA else (low, middle)
    return mix(color, toward, low)


def readable(color: str, grounds: Sequence[str]) -> str:
    """The colour if its contrast is at least `AA` on all grounds, else the nearest mixture with black or white."""
    if least_contrast(color, grounds) >= AA:
        return color
    end = max(("#ffffff", "#000000"), key=lambda extreme: least_contrast(extreme, grounds))
    shares = (step / 64 for step in range(1, 65))
    mixes = (mix(color, end, share) for share in shares)
    return next((mixed for mixed in mixes if least_contrast(mixed, grounds) >= AA), end)


def in_256(color: str, grounds: Sequence[str] = (), *, without: Sequence[str] = ()) -> str:
    """The nearest colour of the xterm palette of 256 with a contrast of at least `AA` on all grounds.

    If there is none, the nearest colour. The first 16 colours (they vary between terminals) and `without` are excluded.
    """
    lab = to_oklab(color)
    choice = _readable_256(tuple(grounds)) or _palette_256()
    return min((other for other in choice if other not in without), key=lambda other: math.dist(lab, to_oklab(other)))


@lru_cache(64)
def _readable_256(grounds: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(color for color in _palette_256() if all(contrast(color, ground) >= AA for ground in grounds))


@cache
def _palette_256() -> tuple[str, ...]:
    """The colours of the palette that rich, which writes them, does not round to others. This excludes some greys."""
    steps = (0, 95, 135, 175, 215, 255)
    cube = [(red, green, blue) for red in steps for green in steps for blue in steps]
    grey = [(level, level, level) for level in range(8, 239, 10)]
    colors = [RichColor.from_rgb(*channels) for channels in (*cube, *grey)]
    return tuple(
        color.name for color in colors
        if color.downgrade(ColorSystem.EIGHT_BIT).get_truecolor() == color.get_truecolor()
    )  # fmt: skip


@lru_cache(4096)
def _linear(color: str) -> tuple[float, float, float]:
    """The linear intensity of the three channels, each 0 … 1."""
    channels = [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return red, green, blue


def _channel(linear: float) -> int:
    value = min(1.0, max(0.0, linear))
    return round(255 * (12.92 * value if value <= 0.0031308 else 1.055 * value ** (1 / 2.4) - 0.055))
