"""A conversation of the chat screen: its turns, stored at every change, and the prompt for the model.

A conversation is stored from its first message on. Regenerated or edited turns are superseded in the store. Another
window may add turns to the same conversation: turns are addressed by their ids, and only those of this window change.
"""

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from dgtui.diffusion.settings import SAMPLER
from dgtui.errors import PromptTooLong
from dgtui.message import Message
from dgtui.session.store import Attachment, Conversation, Store, Turn

if TYPE_CHECKING:
    from dgtui.diffusion.image import Image


_NAMES: Final = {spec.name for spec in SAMPLER}


@dataclass(slots=True)
class Chat:
    """One conversation. `id` is None until it is stored."""

    store: Store
    model: str
    system: str = ""
    id: str | None = None
    turns: list[Turn] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    "sampler settings that differ from the model's own"
    _stored: list[int] = field(default_factory=list)
    _others: set[int] = field(default_factory=set)
    "ids of other windows' turns that were already reported"

    @classmethod
    def open(cls, store: Store, stored: Conversation, model: str) -> "Chat":
        """A stored conversation, to be continued."""
        turns = store.turns(stored.id)
        settings = {name: value for name, value in stored.settings.items() if name in _NAMES}
        return cls(store, model, stored.system, stored.id, [t.turn for t in turns], settings, [t.id for t in turns])

    def add(self, turn: Turn) -> None:
        """Appends a turn and stores it. The first one of a branch also stores the turns before it."""
        if self.id is None:
            self.id = self.store.create(self.model, self.system, self.settings)
            self._stored = [self.store.append(self.id, before) for before in self.turns]
        self.turns.append(turn)
        self._stored.append(self.store.append(self.id, turn))

    def revise(self, turn: Turn) -> None:
        """Updates the last turn, during a run and after steering."""
        self.turns[-1] = turn
        self.store.update(self._stored[-1], turn)

    def keep_timeline(self, steps: bytes) -> None:
        """Stores the packed steps of the last turn's run."""
        self.store.keep_timeline(self._stored[-1], steps)

    def timeline(self, position: int) -> bytes:
        """The packed steps of a turn's run; empty if none are stored."""
        return self.store.timeline(self._stored[position]) if position < len(self._stored) else b""

    def rewind(self, position: int) -> list[Turn]:
        """Supersedes this window's turns from `position` on, and returns them. Turns of other windows are kept.

        A conversation without turns and without its own title is no longer stored.
        """
        dropped, ids = self.turns[position:], self._stored[position:]
        if ids and self.id is not None and not self.store.supersede(self.id, ids):
            self.id = None
        del self.turns[position:], self._stored[position:]
        return dropped

    def branch(self, position: int) -> "Chat":
        """Another conversation with the turns before `position`. It is stored with its first new turn."""
        return Chat(self.store, self.model, self.system, None, self.turns[:position], dict(self.settings))

    def added_elsewhere(self) -> int:
        """How many turns other windows have added since the last call."""
        others = set(self.store.turn_ids(self.id)) - {*self._stored} if self.id else set()
        new = others - self._others
        self._others |= new
        return len(new)

    def instruct(self, system: str) -> None:
        """Sets the system prompt for the following replies."""
        self.system = system
        if self.id is not None:
            self.store.set_system(self.id, system)

    def set_settings(self, settings: Mapping[str, Any]) -> None:
        """Sets the sampler settings for the following replies."""
        self.settings = dict(settings)
        if self.id is not None:
            self.store.set_settings(self.id, self.settings)

    def images(self) -> list[Attachment]:
        """The images of all turns."""
        return [image for turn in self.turns for image in turn.images]

    def answer(self, at: int) -> tuple[Turn, Turn | None]:
        """A turn, and the turn that it answers."""
        return self.turns[at], self.turns[at - 1] if at else None

    def messages(
        self, see: "Callable[[Attachment], Image | None]" = lambda _: None, before: int | None = None
    ) -> list[Message]:
        """Returns the messages for the model: the system prompt and the turns (`before` one), without empty replies.

        `see` turns an image into the model's input, or returns None if that is not possible.
        """
        system = [Message("system", self.system)] if self.system.strip() else []
        return system + [
            Message(
                turn.role,
                turn.content,
                turn.token_ids if turn.role == "model" else (),
                tuple(image for attached in turn.images if (image := see(attached)) is not None),
            )
            for turn in self.turns[:before]
            if turn.text.strip() or turn.role == "user"
        ]


def prompt(
    messages: Sequence[Message], encode: Callable[[Sequence[Message]], list[int]], room: int
) -> tuple[list[int], int]:
    """Returns the ids of the newest messages that fit into `room` tokens, and the number of dropped turns.

    The system prompt stays. The oldest turns are dropped first, and the rest starts with a user's turn.

    Raises:
        PromptTooLong: Not even the last turn fits.
    """
    system = [m for m in messages[:1] if m.role == "system"]
    turns = list(messages[len(system) :])
    starts = [i for i, m in enumerate(turns) if m.role == "user"] or [0]

    def ids_from(start: int) -> list[int]:
        return encode([*system, *turns[start:]])

    ids = ids_from(starts[0])
    if len(ids) <= room:
        return ids, starts[0]
    if len(starts) > 1:
        ids = ids_from(starts[-1])
    if len(ids) > room:
        raise PromptTooLong(
            f"the message has {len(ids):,} tokens, but only {max(room, 0):,} fit",
            hint="shorten it, or start a new conversation with /new",
        )
    # Encoding takes a tenth of a second for a long file, so not every start is tried.
    at = bisect_left(starts, True, 1, len(starts) - 1, key=lambda start: len(ids_from(start)) <= room)
    return ids_from(starts[at]), starts[at]


def images_left(messages: Sequence[Message], dropped: int) -> "tuple[Image, ...]":
    """Returns the images of a prompt without its first `dropped` turns, in order."""
    turns = [m for m in messages if m.role != "system"]
    return tuple(image for message in turns[dropped:] for image in message.images)
