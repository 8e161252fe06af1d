"""The records of a history, as plain data and as table rows.

Token ids are a blob of little-endian int32, settings and paths are JSON, times are seconds since 1970. Characters that
UTF-8 cannot encode (unpaired surrogates, from bytes of another encoding) become U+FFFD. Reading trusts nothing: a row
that these functions did not write raises `Malformed`.
"""

import hashlib
import json
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, get_args

from dgtui.message import Role
from dgtui.text import sanitize

Row = dict[str, Any]
"""Column → value."""

TURN_COLUMNS: Final = (
    "role, text, token_ids, thought, seed, steps, stop_reason, seconds, finished, images, image_digests, files"
)


class Malformed(ValueError):
    """A row with invalid values."""


@dataclass(frozen=True, slots=True)
class Attachment:
    """An image that was sent with a message. The file is not copied and may disappear or change."""

    path: str
    digest: str = ""
    """SHA-256 of the file in hexadecimal. Empty if unknown."""


@dataclass(frozen=True, slots=True)
class TextFile:
    """A text file that was sent with a message. Its text is stored: the file may change or disappear."""

    path: str
    """As the user typed it, without quotes."""
    text: str

    @property
    def digest(self) -> str:
        """SHA-256 of the text in hexadecimal."""
        return hashlib.sha256(storable(self.text).encode()).hexdigest()

    @property
    def size(self) -> int:
        """Bytes of the text in UTF-8."""
        return len(storable(self.text).encode())

    def fenced(self) -> str:
        """The name and the text as Markdown. The fence is longer than any in the text."""
        longest = max(map(len, re.findall("`+", self.text)), default=0)
        fence = "`" * max(3, longest + 1)
        end = "" if self.text.endswith("\n") or not self.text else "\n"
        return f"File {sanitize(self.path, newlines=False, tabs='replace')}:\n\n{fence}\n{self.text}{end}{fence}"


@dataclass(frozen=True, slots=True)
class Turn:
    """One message and how it was made."""

    role: Role
    text: str
    token_ids: tuple[int, ...] = ()
    """The ids of `text`. Tokenizing the text again could give other ids and break the common prefix."""
    thought: str = ""
    seed: int | None = None
    steps: int = 0
    """Denoising steps of all blocks."""
    stop_reason: str = ""
    seconds: float = 0.0
    finished: bool = True
    """False for the draft of a running or stopped run."""
    images: tuple[Attachment, ...] = ()
    files: tuple[TextFile, ...] = ()

    @property
    def content(self) -> str:
        """What the model reads: the attached text files, then `text`."""
        return "\n\n".join([*(file.fenced() for file in self.files), self.text])


@dataclass(frozen=True, slots=True)
class Stored:
    """A stored turn."""

    id: int
    """Never reused for another turn."""
    position: int
    """Position in the conversation, from 0."""
    turn: Turn
    created: datetime


@dataclass(frozen=True, slots=True)
class Conversation:
    """A conversation without its turns."""

    id: str
    """Short enough to type."""
    title: str
    """The start of the first message, until it is renamed. Empty without a message."""
    created: datetime
    updated: datetime
    model: str
    system: str
    settings: Mapping[str, object]
    turns: int
    """Number of listed turns, without superseded ones."""


@dataclass(frozen=True, slots=True)
class Hit:
    """One match of a search."""

    conversation: Conversation
    snippet: str
    """One line of plain text without markup, not sanitised."""
    turn_id: int | None
    """None if the title matched."""


def storable(text: str) -> str:
    """Returns the text without characters that UTF-8 cannot encode. A surrogate pair becomes its character."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def turn_row(turn: Turn) -> Row:
    """Returns the columns `TURN_COLUMNS` of a turn."""
    return {
        "role": turn.role,
        "text": storable(turn.text),
        "token_ids": struct.pack(f"<{len(turn.token_ids)}i", *turn.token_ids),
        "thought": storable(turn.thought),
        "seed": turn.seed,
        "steps": turn.steps,
        "stop_reason": turn.stop_reason,
        "seconds": turn.seconds,
        "finished": int(turn.finished),
        "images": json.dumps([image.path for image in turn.images]),
        "image_digests": json.dumps([image.digest for image in turn.images]),
        "files": json.dumps([[file.path, file.digest] for file in turn.files]),
    }


def texts_of(turn: Turn) -> dict[str, str]:
    """Returns the texts of the files of a turn by their digests."""
    return {file.digest: storable(file.text) for file in turn.files}


def turn_of(row: Row, texts: Mapping[str, str]) -> Stored:
    """Returns a turn from the columns `id, position, created` and `TURN_COLUMNS`, and the texts of its files by their
    digests. Raises `Malformed`."""
    try:
        if row["role"] not in get_args(Role):
            raise ValueError("unknown role")
        turn = Turn(
            role=row["role"],
            text=text_in(row["text"]),
            token_ids=struct.unpack(f"<{len(row['token_ids']) // 4}i", row["token_ids"]),
            thought=text_in(row["thought"]),
            seed=None if row["seed"] is None else int(row["seed"]),
            steps=int(row["steps"]),
            stop_reason=text_in(row["stop_reason"]),
            seconds=float(row["seconds"]),
            finished=bool(row["finished"]),
            images=_images(_json(row["images"], list), _json(row["image_digests"], list)),
            files=tuple(TextFile(text_in(path), text_in(texts[digest])) for path, digest in _json(row["files"], list)),
        )
        return Stored(int(row["id"]), int(row["position"]), turn, _time(row["created"]))
    except (ValueError, TypeError, LookupError, OverflowError, OSError, RecursionError, struct.error) as error:
        raise Malformed(f"turn {row.get('id')}: {error}") from error


def _images(paths: list[Any], digests: list[Any]) -> tuple[Attachment, ...]:
    digests = digests or [""] * len(paths)  # rows of version 1 have no digests
    return tuple(Attachment(text_in(path), text_in(digest)) for path, digest in zip(paths, digests, strict=True))


def settings_text(settings: Mapping[str, object]) -> str:
    """Returns settings in their stored form."""
    return json.dumps(settings, default=dict)


def conversation_of(row: Row) -> Conversation:
    """Returns a conversation from its columns and the number of `turns`. Raises `Malformed`."""
    try:
        return Conversation(
            id=text_in(row["id"]),
            title=text_in(row["title"]),
            created=_time(row["created"]),
            updated=_time(row["updated"]),
            model=text_in(row["model"]),
            system=text_in(row["system"]),
            settings=_json(row["settings"], dict),
            turns=int(row["turns"]),
        )
    except (ValueError, TypeError, LookupError, OverflowError, OSError, RecursionError) as error:
        raise Malformed(f"conversation {row.get('id')}: {error}") from error


def text_in(value: Any) -> str:
    """The value of a text column. SQLite keeps any type in any column. Raises `Malformed`."""
    if not isinstance(value, str):
        raise Malformed("expected text")
    return value


def _json(value: Any, kind: type[list[Any]] | type[dict[str, Any]]) -> Any:
    content = json.loads(text_in(value))
    if not isinstance(content, kind):
        raise TypeError("expected other JSON")
    return content


def _time(seconds: Any) -> datetime:
    return datetime.fromtimestamp(float(seconds), UTC)
