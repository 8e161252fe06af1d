"""Tells whether a text is of the kind that the embedded model was trained on."""

import itertools
import re
from collections.abc import Callable, Iterable
from typing import Final

from dgtui.model_info import ModelInfo

NOTICE: Final = (
    "the embedded model only knows short tales: expect poor results on this text (use --model to load another)"
)
_LINES, _FEWEST, _MOST = 400, 12, 200
"""Most lines and words to check."""
_LEAST_KNOWN: Final = 0.93
"""Share of words in small letters that are one token each. In its tales 0.97 and more, in other prose 0.89 and less."""


def notice(lines: Iterable[str], encode: Callable[[str], list[int]], info: ModelInfo) -> str:
    """A warning for a text opened with the embedded model; empty for other models, and for texts that it knows."""
    if info.reads_marks:
        return ""
    found = itertools.chain.from_iterable(re.findall(r"[^\W\d_]{3,}", line) for line in itertools.islice(lines, _LINES))
    words = list(itertools.islice((word for word in found if word == word.lower()), _MOST))
    known = sum(len(encode(f" {word}")) == 1 for word in words)
    return NOTICE if len(words) >= _FEWEST and known < _LEAST_KNOWN * len(words) else ""
