"""What a person types to find a conversation, made into a question to SQLite's full-text index; never its syntax."""

from typing import Final

EXCERPT: Final = 160
"""Characters of an excerpt at most."""
MOST_WORDS: Final = 100
"""Words of a search that count: a page that was pasted must not hold up the screen."""


def match_expression(text: str) -> str:
    """An FTS5 expression for: all these words, in any order, the last one perhaps only begun. Empty for no words."""
    words = [f'"{word}"' for word in text.replace('"', '""').replace("\0", " ").split()[:MOST_WORDS]]
    words[-1:] = [f"{word}*" for word in words[-1:]]
    return " ".join(dict.fromkeys(words))


def one_line(text: str, most: int = EXCERPT) -> str:
    """The text on one line, blanks and line breaks as single spaces; cut to `most` characters, at a blank if near."""
    text = text.strip()
    head = text[: 4 * most]  # a reply is long, a line of a list is not
    line = " ".join(head.split())
    if len(line) <= most and len(head) == len(text):
        return line
    cut = line[: most - 1]
    blank = cut.rfind(" ", most // 2)
    return (cut[:blank] if blank > 0 and len(line) > len(cut) else cut) + "…"


def excerpt(text: str, wanted: str) -> str:
    """The part of a text around the first place where `wanted` stands, on one line."""
    at = max(0, text.lower().find(wanted.lower()))
    start = max(0, at - EXCERPT // 4)
    return ("…" if start else "") + one_line(text[start:])
