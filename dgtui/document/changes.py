"""What a proposal changes, word by word: for reading, and as hunks that are accepted one by one.

Old and new text have the same kind of line endings, or every ending is a change. Hunks count characters of the old text
and never touch each other, so that any of them, accepted in any order, give the same text.
"""

import re
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import accumulate
from typing import Final

_ALONE: Final = r"\u2e80-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"  # Chinese, Japanese: no blanks
_SIGNS: Final = r"\x00-/:-@\[-^`{-\xbf\u2000-\u2bff"
_WORDS: Final = re.compile(rf"\r?\n|[^\S\r\n]+|[^\s{_SIGNS}{_ALONE}]+|.", re.DOTALL)
"""A line break, blanks, a word with its accents, or any other character."""
_LINES: Final = re.compile(r"[^\n]*\n|[^\n]+")

_PAIRS: Final = 40_000_000
"""Old words times new words in a run of lines beyond which it is one hunk: lining them up would take too long."""


@dataclass(frozen=True, slots=True, order=True)
class Hunk:
    """A run that changed: `old`, from `start` to `end` in the old text, became `new`. Either may be empty."""

    start: int
    end: int
    old: str
    new: str


def hunks(old: str, new: str) -> list[Hunk]:
    """The runs that changed, in their order. None: the texts are the same."""
    found: list[Hunk] = []
    a, b = _LINES.findall(old), _LINES.findall(new)
    at = [*accumulate(map(len, a), initial=0)]
    for i, j, k, m in _runs(SequenceMatcher(str.isspace, a, b)):
        found += _words("".join(a[i:j]), "".join(b[k:m]), at[i])
    return found


def _words(old: str, new: str, offset: int) -> list[Hunk]:
    """The hunks between two runs of lines, of which the old one begins at `offset`."""
    a, b = _WORDS.findall(old), _WORDS.findall(new)
    if len(a) * len(b) > _PAIRS:
        return [Hunk(offset, offset + len(old), old, new)]
    runs: list[tuple[int, int, int, int]] = []
    for i, j, k, m in _runs(SequenceMatcher(_is_blank, a, b, autojunk=False)):
        if runs and _is_island("".join(a[runs[-1][1] : i])):
            i, _, k, _ = runs.pop()
        runs.append((i, j, k, m))
    at = [*accumulate(map(len, a), initial=offset)]
    return [Hunk(at[i], at[j], "".join(a[i:j]), "".join(b[k:m])) for i, j, k, m in runs]


def _runs(matcher: SequenceMatcher[str]) -> list[tuple[int, int, int, int]]:
    return [(i, j, k, m) for kind, i, j, k, m in matcher.get_opcodes() if kind != "equal"]


def _is_blank(word: str) -> bool:
    """Whether it is too common to line the texts up by."""
    return word.isspace() and word[-1] != "\n"


def _is_island(same: str) -> bool:
    """Whether it is too little to stay between two changes: they read better as one. Lines stay apart."""
    return "\n" not in same and sum(map(str.isalnum, same)) < 2
