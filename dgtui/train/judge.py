"""Judges whether a reply is right, wrong or noise, with the same checks for generated and hand-written prompts.

A prompt's `expect` names the conditions for a right reply; all of them must hold:

- `tale`: a tale of the known plots; `names`: people who must occur at least twice each; `words`: alternatives
  ("winter|snow") that must occur; `shorter`, `longer`: than the previous reply
- `json`: the object; `values`: values that an object must hold, and keys that the prompt names
- `asserts`: Python tests of the function "f"; `contains`: text that must occur
- `sudoku`: the puzzle's cells
- `equal`: the whole reply; `among`: one of these whole replies; `any`: one of these texts, whatever its case
"""

import itertools
import json
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from dgtui.sudoku import Puzzle
from dgtui.train.lessons import honest, tales

Verdict = Literal["right", "wrong", "noise"]
_SECONDS = 5.0
_MEMORY = 512 * 1024 * 1024
_RUNNER = """
import inspect, resource, sys
resource.setrlimit(resource.RLIMIT_AS, ({memory}, {memory}))
resource.setrlimit(resource.RLIMIT_CPU, (4, 4))
code, tests = sys.stdin.read().split(chr(0))
space = {{}}
exec(code, space)
found = [v for v in space.values() if inspect.isfunction(v)]
space["f"] = found[-1]
for test in tests.split(chr(10)):
    assert eval(test, space), test
"""


def right(expect: Mapping[str, Any], reply: str, before: str = "") -> bool:
    """Whether a reply satisfies all conditions; `before` is the reply of the previous turn."""
    text = reply.strip()
    return all(_CHECKS[name](value, text, before) for name, value in expect.items())


def verdict(expect: Mapping[str, Any], reply: str, before: str = "") -> Verdict:
    """Right, wrong but readable, or noise."""
    if right(expect, reply, before):
        return "right"
    return "noise" if is_noise(reply) else "wrong"


def is_noise(reply: str) -> bool:
    """Whether a text is not language: it has too many fragments, repeated words, or symbols."""
    words = re.findall(r"[^\W\d_]+", reply)
    if not reply.strip():
        return True
    if tales.read(reply) or reply.strip() in honest.REPLIES:
        return False
    if "```" in reply or reply.strip()[:1] in "{[" or re.fullmatch(r"[\d\s]+", reply):
        return False
    if not words:
        return True
    repeated = sum(a == b for a, b in itertools.pairwise(words)) / len(words)
    letters = sum(len(word) for word in words) / max(1, len(re.sub(r"\s", "", reply)))
    inside = len(re.findall(r"[a-z][A-Z]|[^\W\d_][^\w\s'’.,;:!?\"()-]+[^\W\d_]", reply)) / len(words)
    single = sum(len(word) == 1 and word.lower() not in "aiosté" for word in words) / len(words)
    return repeated > 0.05 or letters < 0.6 or inside > 0.05 or single > 0.1


def _tale(_: Any, text: str, __: str) -> bool:
    return tales.read(text) is not None


def _names(names: Sequence[str], text: str, _: str) -> bool:
    return all(len(re.findall(rf"(?<!\w){re.escape(name)}(?!\w)", text)) >= 2 for name in names)


def _words(words: Sequence[str], text: str, _: str) -> bool:
    return all(any(option.lower() in text.lower() for option in word.split("|")) for word in words)


def _json(value: Any, text: str, _: str) -> bool:
    return bool(_object(text) == value)


def _object(text: str) -> Any:
    fenced = re.fullmatch(r"```(?:json)?\n(.*)\n```", text, re.DOTALL)
    try:
        return json.loads(fenced[1] if fenced else text)
    except (ValueError, RecursionError):
        return None


def _leaves(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [leaf for key, inner in value.items() for leaf in (str(key).lower(), *_leaves(inner))]
    if isinstance(value, list):
        return [leaf for inner in value for leaf in _leaves(inner)]
    return [str(value).lower()]


def _values(values: Sequence[Any], text: str, _: str) -> bool:
    found = _object(text)
    return isinstance(found, dict | list) and all(_among(value, _leaves(found)) for value in values)


def _among(value: Any, leaves: Sequence[str]) -> bool:
    """Whether a number is one of the leaves, or a text is one or part of one: "Weiss" may be "Dr. Weiss"."""
    if not isinstance(value, str):
        return str(value).lower() in leaves
    whole = re.compile(rf"(?<!\w){re.escape(value)}(?!\w)", re.IGNORECASE)
    return any(whole.search(leaf) for leaf in leaves)


def _asserts(tests: Sequence[str], text: str, _: str) -> bool:
    """Runs the reply's function in a separate process, with limits on time and memory."""
    fenced = re.search(r"```(?:python)?\n(.*?)```", text, re.DOTALL)
    code = fenced[1] if fenced else text
    if "def " not in code:
        return False
    runner = _RUNNER.format(memory=_MEMORY)
    given = f"{code}\0{chr(10).join(tests)}"
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-c", runner], input=given, text=True, capture_output=True, timeout=_SECONDS
        )
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def _sudoku(cells: Sequence[int], text: str, _: str) -> bool:
    return Puzzle(tuple(cells)).solved_by(text)


_CHECKS: dict[str, Callable[[Any, str, str], bool]] = {
    "tale": _tale,
    "names": _names,
    "words": _words,
    "shorter": lambda _, text, before: len(text) < len(before),
    "longer": lambda _, text, before: len(text) > len(before),
    "json": _json,
    "values": _values,
    "asserts": _asserts,
    "contains": lambda parts, text, _: all(part in text for part in parts),
    "sudoku": _sudoku,
    "equal": lambda whole, text, _: text == whole,
    "among": lambda replies, text, _: text in replies,
    "any": lambda options, text, _: any(option.lower() in f" {text.lower()}" for option in options),
}
