"""A word-by-word diff: hunks for reading, each of which can be accepted alone.

Old and new text should use the same line endings; otherwise every ending is a change. Hunks use character offsets of
the old text and never touch each other, so the order in which they are accepted does not matter.
"""

import re
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import accumulate
from typing import Final

_ALONE: Final = r"\u2e80-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"  # Chinese, Japanese: no spaces
_SIGNS: Final = r"\x00-/:-@\[-^`{-\xbf\u2000-\u200b\u200e-\u2bff"  # words of some scripts have joiners in them
_WORDS: Final = re.compile(rf"\r?\n|[^\S\r\n]+|[^\s{_SIGNS}{_ALONE}]+|.", re.DOTALL)
"""A line break, a run of blanks, a word with its accents, or any other single character."""
_LINES: Final = re.compile(r"[^\n]*\n|[^\n]+")

_PAIRS: Final = 40_000_000
"""Largest product of old and new word counts that is diffed by words. Longer runs of lines become one hunk, as the
comparison would take too long."""


@dataclass(frozen=True, slots=True, order=True)
class Hunk:
    """One change: `old`, at `start` to `end` in the old text, became `new`. Either may be empty."""

    start: int
    end: int
    old: str
    new: str


def hunks(old: str, new: str) -> list[Hunk]:
    """Returns all changes in order. The list is empty if the texts are equal."""
    result: list[Hunk] = []
    a, b = _LINES.findall(old), _LINES.findall(new)
    at = [*accumulate(map(len, a), initial=0)]
    for i, j, k, m in _runs(SequenceMatcher(str.isspace, a, b)):
        result += _words("".join(a[i:j]), "".join(b[k:m]), at[i])
    return result


def _words(old: str, new: str, offset: int) -> list[Hunk]:
    """Returns the hunks between two runs of lines. The old run begins at character `offset`."""
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
    """Whether a word is too common to align the texts by."""
    return word.isspace() and word[-1] != "\n"


def _is_island(same: str) -> bool:
    """Whether the equal text between two changes is so short that they read better as one. Lines stay separate."""
    return "\n" not in same and sum(map(str.isalnum, same)) < 2
