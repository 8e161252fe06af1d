"""A turn of a conversation as text. Sessions store it and tokenizers render it. Plain data that both may import."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from dgtui.diffusion.image import Image

Role = Literal["system", "user", "model"]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str
    """The text alone. Markup typed in it stays text, and folded thoughts are not part of it."""
    token_ids: tuple[int, ...] = ()
    """The ids that the model wrote for `content`. A prompt reuses them: encoding the text may give other ids."""
    images: tuple["Image", ...] = ()
    """Images shown to the model before `content`."""
