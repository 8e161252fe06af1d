"""What the chat starts with."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

MOST_TOKENS: Final = 2048
"""A reply that does not end by itself is cut there."""


@dataclass(frozen=True, slots=True)
class Opening:
    """The options of a chat."""

    model: str | None = None
    conversation: str | None = None
    "id of a stored conversation to continue"
    system: str = ""
    seed: int | None = None
    think: bool = False
    record: Path | None = None
    images: tuple[Path, ...] = ()
    "for the first message"
    max_tokens: int = MOST_TOKENS
    "of a reply"
