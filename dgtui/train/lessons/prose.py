"""Real prose with a free licence: the docstrings of Python's standard library (PSF licence), as installed.

It gives the tokenizer ordinary English words and the model a few spans of text that no generator wrote.
"""

import ast
import random
import re
import sysconfig
from functools import cache
from pathlib import Path

from dgtui.train.lessons.example import Example

NAME = "prose"
LONGEST = 600


@cache
def paragraphs(files: str = "*.py") -> tuple[str, ...]:
    """Paragraphs of plain sentences in some files, in an order that depends on the Python version only."""
    found: list[str] = []
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).glob(files)):
        try:
            tree = ast.parse(path.read_text(encoding="utf-8"))
        except (SyntaxError, ValueError, OSError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                for part in (ast.get_docstring(node) or "").split("\n\n"):
                    text = re.sub(r"\s+", " ", part).strip()
                    if 60 <= len(text) <= LONGEST and re.fullmatch(r"[A-Z][\w ,.;:'\"()/-]+[.!?]", text):
                        found.append(text)
    return tuple(dict.fromkeys(found))


def make(rng: random.Random) -> Example:
    """A paragraph as a bare document: its prompt is empty, and spans of it are rewritten."""
    return Example(NAME, "", rng.choice(paragraphs()))
