"""The versions of a reply as a tree of lines: each version below its parent, with the changed words."""

from collections.abc import Callable, Iterator
from difflib import SequenceMatcher
from typing import Final

from dgtui.steering.drafts import Draft, Version

_MOST_WORDS: Final = 8
"""Most words to show of a change."""
_MOST_CHANGES: Final = 3


def version_tree(draft: Draft, text_of: Callable[[Version], str]) -> Iterator[tuple[int, bool, str]]:
    """For each version: its number, whether it is current, and a line that describes it."""
    children: dict[Version | None, list[Version]] = {}
    for version in draft.versions:
        children.setdefault(version.parent, []).append(version)

    def below(parent: Version | None, lead: str) -> Iterator[tuple[int, bool, str]]:
        versions = children.get(parent, [])
        for version in versions:
            is_last = version is versions[-1]
            branch = "" if parent is None else "└─ " if is_last else "├─ "
            said = changes(text_of(parent), text_of(version)) if parent else _cut(text_of(version).split())
            line = f"{lead}{branch}{version.number}  {version.kind} · seed {version.run.job.seed} · {said}"
            yield version.number, version is draft.current, line
            yield from below(version, lead if parent is None else lead + ("   " if is_last else "│  "))

    return below(None, "")


def changes(before: str, after: str) -> str:
    """A description of the changes: the old and the new words of each."""
    old, new = before.split(), after.split()
    matcher = SequenceMatcher(None, old, new, autojunk=False)
    changed = [
        f"{_cut(old[a:b]) or '(nothing)'} → {_cut(new[c:d]) or '(nothing)'}"
        for kind, a, b, c, d in matcher.get_opcodes()
        if kind != "equal"
    ]
    more = [f"{len(changed) - _MOST_CHANGES} more"] if len(changed) > _MOST_CHANGES else []
    return "; ".join([*changed[:_MOST_CHANGES], *more]) or "the same words"


def _cut(words: list[str]) -> str:
    return " ".join(words[:_MOST_WORDS]) + (" …" if len(words) > _MOST_WORDS else "")
