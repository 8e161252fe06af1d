"""Finds the text files that a message attaches: each `@path` at the start of a word.

A path with blanks is quoted, as a shell and a drop on the terminal do it. Punctuation after a path may follow it. An
`@word` that names nothing is text, as are e-mail addresses, and an `@word` in backticks.
"""

import os
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

from dgtui.document import source
from dgtui.errors import DgtuiError, DocumentRefused, PromptTooLong
from dgtui.paths import typed_path
from dgtui.session.records import TextFile
from dgtui.text import byte_size

MOST_BYTES: Final = 256 * 2**10
"""Of all text files of a message together."""

LONGEST_PATH: Final = 1024
"""In characters."""
_START: Final = re.compile(r"(?<!\S)@(?=\S)")
_WORDS: Final = (
    re.compile(r"""(?:'[^'\n]*'|"(?:\\.|[^"\\\n])*"|\\.|[^\s\\'"])+"""),  # of a shell
    re.compile(r"\S+"),
    re.compile(r"""[^\s'"]+"""),  # before 's
)
_PUNCTUATION: Final = ".,;:!?)]}"
_HINT: Final = f"attach UTF-8 text of up to {byte_size(MOST_BYTES)}; in backticks, an @word is not read"


def attached(text: str, kept: Iterable[TextFile] = ()) -> tuple[TextFile, ...]:
    """Returns the files that a message names, in order, each once.

    Args:
        text: The message.
        kept: Files that are used as they are. Others are read from disk.

    Raises:
        DocumentRefused: A file cannot be read, is not UTF-8 text or not a regular file, or the files are larger than
            `MOST_BYTES`.
    """
    known = {file.path: file for file in kept}
    found: dict[str, TextFile] = {}
    starts = (text[start.end() : start.end() + LONGEST_PATH] for start in _START.finditer(text))
    for words in dict.fromkeys(map(_words, starts)):
        for word in words:
            name = str(path := typed_path(word))
            if name in known or _is_meant(path, word):
                if name not in found:
                    found[name] = known.get(name) or _read(path)
                break
    if sum(file.size for file in found.values()) > MOST_BYTES:
        raise DocumentRefused(f"the files of a message may have {byte_size(MOST_BYTES)} together", hint="attach fewer")
    return tuple(found.values())


def too_long(files: Sequence[TextFile], encode: Callable[[str], list[int]], error: PromptTooLong) -> PromptTooLong:
    """Returns the error for a message that does not fit, with the number of tokens of each of its files."""
    if not files:
        return error
    sizes = ", ".join(f"{file.path} has {len(encode(file.text)):,}" for file in files)
    return PromptTooLong(error.message, hint=f"{sizes}; attach a smaller file")


def _words(text: str) -> tuple[str, ...]:
    """The words at the start of `text` that may be a path, the longest of each kind first."""
    found = [match[0] for pattern in _WORDS if (match := pattern.match(text))]
    return tuple(dict.fromkeys(word for longest in found for word in (longest, longest.rstrip(_PUNCTUATION))))


def _is_meant(path: Path, word: str) -> bool:
    """Whether something has this name: a file, a link to nothing, or a folder if a slash says that it is meant."""
    is_folder = os.path.isdir(path)  # noqa: PTH112 (`Path.is_dir` raises for a link into a folder that cannot be read)
    return os.path.lexists(path) and (not is_folder or (word.endswith("/") and path.name not in ("", "..")))


def _read(path: Path) -> TextFile:
    try:
        found = source.read(path, limit=MOST_BYTES)
    except DgtuiError as error:
        raise DocumentRefused(error.message, hint=_HINT) from error
    return TextFile(str(path), source.plain(found.data, found.encoding))
