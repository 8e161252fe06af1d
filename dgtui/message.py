"""A turn of a conversation as text: what sessions keep and tokenizers render. Plain data that both sides may import."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from dgtui.diffusion.image import Image

Role = Literal["system", "user", "model"]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn. `content` is what was said and nothing else: markup that is typed in it stays text, and a thought
    that was folded away is not part of it."""

    role: Role
    content: str
    token_ids: tuple[int, ...] = ()
    """The ids that `content` was written as, so that a prompt holds them and not some other way to encode it."""
    images: tuple["Image", ...] = ()
    """What is shown to the model before `content`."""
