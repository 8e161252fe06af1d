"""Exports a conversation to a file: Markdown for reading, JSON for programs.

In Markdown every turn is one section, whatever it contains: Markdown and code stay unchanged, and a code fence or HTML
comment that a turn leaves open is closed. Control characters become visible symbols, which cannot affect a terminal.
JSON contains everything as stored.
"""

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from dgtui.atomic import write_private
from dgtui.errors import RunFailed, reason
from dgtui.session.records import Conversation, Stored, Turn, storable
from dgtui.text import byte_size

if TYPE_CHECKING:
    from markdown_it.token import Token

FORMAT: Final = "dgtui.conversation"
VERSION: Final = 1

_SPEAKERS: Final = {"system": "System", "user": "You", "model": "Model"}


class FileExists(RunFailed):
    """A file of that name already exists."""


def to_markdown(conversation: Conversation, turns: Sequence[Stored]) -> str:
    """Returns the conversation as CommonMark: one section per turn, thoughts folded in `<details>`."""
    about = [conversation.model, conversation.created.strftime("%Y-%m-%d %H:%M UTC"), f"conversation {conversation.id}"]
    parts = [f"# {_inline(conversation.title) or 'Conversation'}", " · ".join(_inline(part) for part in about if part)]
    if conversation.system.strip():
        parts += ["## System", _block(conversation.system)]
    for stored in turns:
        parts += _turn(stored.turn)
    return "\n\n".join(part for part in parts if part.strip()) + "\n"


def to_json(conversation: Conversation, turns: Sequence[Stored]) -> dict[str, Any]:
    """Returns the conversation as JSON values. Times are in ISO 8601."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "id": conversation.id,
        "title": conversation.title,
        "created": conversation.created.isoformat(),
        "updated": conversation.updated.isoformat(),
        "model": conversation.model,
        "system": conversation.system,
        "settings": dict(conversation.settings),
        "turns": [
            {
                "role": stored.turn.role,
                "text": stored.turn.text,
                "thought": stored.turn.thought,
                "token_ids": list(stored.turn.token_ids),
                "seed": stored.turn.seed,
                "steps": stored.turn.steps,
                "stop_reason": stored.turn.stop_reason,
                "seconds": stored.turn.seconds,
                "finished": stored.turn.finished,
                "images": [image.path for image in stored.turn.images],
                "image_digests": [image.digest for image in stored.turn.images],
                "files": [{"path": file.path, "digest": file.digest, "text": file.text} for file in stored.turn.files],
                "created": stored.created.isoformat(),
            }
            for stored in turns
        ],
    }


def write(path: Path, text: str, *, overwrite: bool = False) -> None:
    """Writes a private file atomically.

    Args:
        path: In an existing folder. Links are followed.
        text: Written as UTF-8.
        overwrite: Replace an existing file.

    Raises:
        FileExists: The file exists and must not be overwritten.
        RunFailed: The file could not be written. An existing one is unchanged.
    """
    write_bytes(path, storable(text).encode(), overwrite=overwrite)


def write_bytes(path: Path, data: bytes, *, overwrite: bool = False) -> None:
    """The same for a file that is not text."""
    if overwrite:
        write_private(path, data)
        return
    try:
        path = path.resolve()
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))  # claims the name
    except FileExistsError as error:
        raise FileExists(f"{path} already exists", hint="choose another name") from error
    except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: a loop of links; ValueError: a NUL in the name
        raise RunFailed(
            f"{path} could not be written: {reason(error)}", hint="choose another folder or name"
        ) from error
    try:
        write_private(path, data)
    except BaseException:
        path.unlink(missing_ok=True)
        raise


# -- Markdown ----------------------------------------------------------------------------------------------------------


def _turn(turn: Turn) -> Iterator[str]:
    yield f"## {_SPEAKERS[turn.role]}"
    for image in turn.images:
        yield f"Image: {_inline(image.path)}"
    for file in turn.files:
        yield f"File: {_inline(file.path)} ({byte_size(file.size)}, SHA-256 {file.digest})"
    if turn.thought.strip():
        yield "<details>\n<summary>Thought</summary>"
        yield _block(turn.thought)
        yield "</details>"
    yield _block(turn.text)
    if turn.role == "model":
        notes = [] if turn.finished else ["a draft"]
        notes += [f"seed {turn.seed}"] if turn.seed is not None else []
        notes += [f"{turn.steps} denoising steps"] if turn.steps else []
        notes += [f"{turn.seconds:.1f} s"] if turn.seconds else []
        notes += [f"stop: {_inline(turn.stop_reason)}"] if turn.stop_reason else []
        yield f"*{' · '.join(notes)}*" if notes else ""


_PICTURES: Final = {code: 0x2400 + code for code in range(0x20) if chr(code) not in "\t\n"} | {
    0x7F: 0x2421,
    **dict.fromkeys(range(0x80, 0xA0), 0xFFFD),
}


def _printable(text: str) -> str:
    return storable(text).replace("\r\n", "\n").translate(_PICTURES)


def _inline(text: str) -> str:
    """Returns text on one line, with markup escaped."""
    return re.sub(r"([\\`*_\[\]<>#|~&])", r"\\\1", " ".join(_printable(text).split()))


_CLOSING: Final = {
    "<!--": "-->",
    "<?": "?>",
    "<![cdata[": "]]>",
    "<!": ">",
    "<script": "</script>",
    "<pre": "</pre>",
    "<style": "</style>",
    "<textarea": "</textarea>",
}
"""Start and end of the kinds of raw HTML that do not end at a blank line (CommonMark 4.6, kinds 1 to 5)."""


def _block(text: str) -> str:
    """Returns Markdown with all open blocks closed, so later text does not become part of them."""
    text = _printable(text).strip("\n")
    if (open_block := _left_open(text)) is None:
        return text
    if open_block.type == "fence":
        closing = open_block.markup
    else:
        beginning = open_block.content.lstrip().lower()
        closing = next((end for start, end in _CLOSING.items() if beginning.startswith(start)), "")
    closed = f"{text}\n{closing}"
    if _left_open(closed) is None:
        return closed
    return "\n".join(f"> {line}" for line in text.split("\n"))  # a quote closes all blocks in it when it ends


def _left_open(text: str) -> "Token | None":
    """Returns the open block that would include a heading after this text."""
    from markdown_it import MarkdownIt  # 40 ms

    *_, last = MarkdownIt("commonmark").disable("inline").parse(f"{text}\n\n# Next")
    return None if (last.type, last.level) == ("heading_close", 0) else last
