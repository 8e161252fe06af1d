"""Turns typed search text into a query of SQLite's full-text index. Typed text is never read as query syntax."""

from typing import Final

from dgtui.document.find import find
from dgtui.text import whole

EXCERPT: Final = 160
"""Most characters of an excerpt."""
MOST_WORDS: Final = 100
"""Most words of a search. A pasted page must not block the screen."""


def match_expression(text: str) -> str:
    """Returns an FTS5 expression for all words in any order; the last may be incomplete. Empty without words."""
    words = [f'"{word}"' for word in text.replace('"', '""').replace("\0", " ").split()[:MOST_WORDS]]
    words[-1:] = [f"{word}*" for word in words[-1:]]
    return " ".join(dict.fromkeys(words))


def one_line(text: str, most: int = EXCERPT) -> str:
    """Returns the text on one line with single spaces, cut to `most` characters, at a space if one is near."""
    text = text.strip()
    head = text[: 4 * most]  # a reply is long, and an excerpt needs only its start
    line = " ".join(head.split())
    if len(line) <= most and len(head) == len(text):
        return line
    cut = line[: whole(line, most - 1)]
    blank = cut.rfind(" ", most // 2)
    return (cut[:blank] if blank > 0 and len(line) > len(cut) else cut) + "…"


def excerpt(text: str, wanted: str) -> str:
    """Returns the text around the first occurrence of `wanted`, on one line."""
    found = find(text, wanted.lower(), (0, 0))
    at = found[0] if found else 0
    start = max(0, at - EXCERPT // 4)
    return ("…" if start else "") + one_line(text[start:])
