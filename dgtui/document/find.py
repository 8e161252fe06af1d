"""Finds a text in another text, regardless of case and of the encoding of accents."""

import unicodedata
from collections.abc import Callable

from dgtui.text import fold

Span = tuple[int, int]


def find(text: str, sought: str, span: Span, *, backwards: bool = False) -> Span | None:
    """Returns the next match after a span, or the previous one before it, in characters. The search wraps around.

    A search text without capitals matches any case, in every script. Composed and decomposed accents match each other.
    """
    form = _composed if any(sign.isupper() or sign.istitle() for sign in sought) else fold
    wanted, searched = form(sought), form(text)
    if not wanted:
        return None
    before, after = (len(form(text[:at])) for at in span)
    if backwards:
        ways = (searched.rfind(wanted, 0, max(0, before + len(wanted) - 1)), searched.rfind(wanted))
    else:
        ways = (searched.find(wanted, after), searched.find(wanted))
    at = next((way for way in ways if way >= 0), None)
    if at is None:
        return None
    end = at + len(wanted)
    if text.isascii():
        return at, end
    return _place(text, searched, at, form), _place(text, searched, end, form, end=True)


def _composed(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def _place(text: str, searched: str, at: int, form: Callable[[str], str], *, end: bool = False) -> int:
    """The position in the original text of the position `at` in its search form: the end of the characters before it.

    In the middle of a character, it is that character's start, or its end if `end`.
    """
    start = 0
    for _ in range(searched.count("\n", 0, at)):
        start = text.index("\n", start) + 1
    at -= searched.rfind("\n", 0, at) + 1
    stop = text.find("\n", start)
    line = text[start:] if stop < 0 else text[start:stop]
    low, high = 0, len(line)
    while low < high:
        middle = (low + high + 1) // 2
        if len(form(line[:middle])) <= at:
            low = middle
        else:
            high = middle - 1
    return start + low + (end and len(form(line[:low])) < at)
