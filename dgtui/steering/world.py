"""Whether a text is of the kind that the embedded model has learned."""

import itertools
import re
from collections.abc import Callable, Iterable
from typing import Final

from dgtui.model_info import ModelInfo

NOTICE: Final = (
    "the embedded model knows only its own short tales: expect little of it on this text (--model loads another)"
)
_LINES, _FEWEST, _MOST = 400, 12, 200
"""Lines and words that are looked at."""
_LEAST_KNOWN: Final = 0.6
"""Share of words that are one token each. In its tales 0.8 and more, in README 0.5, in other prose 0.3."""


def notice(lines: Iterable[str], encode: Callable[[str], list[int]], info: ModelInfo) -> str:
    """What to tell a person who opens a text with the embedded model; empty for other models, and for its own world."""
    if info.reads_marks:
        return ""
    found = itertools.chain.from_iterable(re.findall(r"[^\W\d_]{3,}", line) for line in itertools.islice(lines, _LINES))
    words = list(itertools.islice(found, _MOST))
    known = sum(len(encode(f" {word}")) == 1 for word in words)
    return NOTICE if len(words) >= _FEWEST and known < _LEAST_KNOWN * len(words) else ""
