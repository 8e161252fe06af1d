"""The embedded model with one of its adapters: which prompts each of them runs, at which temperatures, and from where.

A reply that changes a text starts from that text, not from noise: the first step sees what is to stay where it should
be. The text is the one to edit, or the last reply.
"""

import itertools
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from dgtui.diffusion.events import Ids
from dgtui.diffusion.image import Image
from dgtui.diffusion.job import Start
from dgtui.diffusion.settings import SamplerSettings
from dgtui.diffusion.stepper import Stepper
from dgtui.inference.passing import PassingStepper
from dgtui.message import Message
from dgtui.model.catalog import EDITS, TALES

TEMPERATURES: Final = {EDITS: (0.4, 0.6), TALES: (0.4, 0.65)}
"""The lowest and the highest for each adapter, instead of the model's own."""

_EDIT: Final = re.compile(
    r"(?!.*\bjson\b)(fix|correct|shorten|expand|rename|replace|change|call|put|make (it|this|the))\b[^:\n]*: ",
    re.IGNORECASE,
)
"""An instruction and the text that it changes, as `steering.instructions` words it."""
_TOPIC: Final = re.compile(
    r"\b((?P<tale>stor(y|ies)|tales?|once upon a time|write (something )?about)|json|python|function|sudoku)\b",
    re.IGNORECASE,
)
_MORE: Final = re.compile(
    r"(please |and |ok,? |now |then )*(an?|(this )?(one|time)|with|about|make it|call|change the name|do it for|then)\b"
    r"|(please )?(and|now) (?-i:(\w+ ){0,2}[A-ZÀ-Þ])"
    r"|.*\b(another|more|again|next|too (long|short)|longer|shorter|shorten|same|instead|fewer|continue|go(es)? on|"
    r"happen(s|ed)|rename|replace|different|should be called)\b",
    re.IGNORECASE,
)
"""What people say to change a tale or to get the next one."""


_NO_SPACE_AFTER: Final = ("", "\n", "(", "[", "“", "‘")


def adapter_for(asked: Sequence[str]) -> str | None:
    """The folder of the adapter that writes the reply to the user's messages, oldest first; None: the model alone."""
    last = asked[-1]
    if _EDIT.match(last):
        return EDITS
    if _TOPIC.search(last) or _MORE.match(last):
        topic = next(filter(None, map(_TOPIC.search, reversed(asked))), None)
        if topic is not None and topic["tale"]:
            return TALES
    return EDITS if len(asked) > 1 else None


class Conversation(NamedTuple):
    """What a prompt says."""

    asked: list[str]
    "the user's messages, oldest first; none if it is no conversation"
    answered: list[int]
    "ids of the last reply; none before a first one"
    written: list[int]
    "ids of the new reply that are already there"


class PromptReader:
    """Reads a conversation from the ids of a prompt.

    Args:
        chat: A conversation → ids of the prompt.
        decode: Ids → text.
        encode: Text → ids.
    """

    def __init__(
        self,
        chat: Callable[[Sequence[Message]], Sequence[int]],
        decode: Callable[[list[int]], str],
        encode: Callable[[str], list[int]],
    ) -> None:
        self.decode, self.encode = decode, encode
        one, other = ([*chat([Message("user", text)])] for text in "ab")
        self._opening = _common(one, other)[1:]
        "ids between BOS and the user's message"
        self._closing = _common(one[::-1], other[::-1])[::-1]
        "ids from its end to the model's reply"

    def read(self, ids: Sequence[int]) -> Conversation:
        """The conversation in a prompt."""
        ids, asked, answered = [*ids], list[str](), list[int]()
        end = _last(ids, self._closing, len(ids))
        written = ids[end + len(self._closing) :]
        while (begin := _last(ids, self._opening, end)) >= 0:
            asked.append(self.decode(ids[begin + len(self._opening) : end]))
            end = _last(ids, self._closing, begin)
            if len(asked) == 1 and end >= 0:
                reply = ids[end + len(self._closing) : begin]
                answered = [*itertools.takewhile(lambda i: i != self._closing[0], reply)]
        return Conversation(asked[::-1], answered, written)


def _common(one: list[int], other: list[int]) -> list[int]:
    """The ids with which both begin."""
    return [i for i, _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False))]


def _last(ids: list[int], part: list[int], end: int) -> int:
    """Where `part` stands last before `end`; a negative number if nowhere."""
    size = len(part)
    return next((at for at in range(end - size, -1, -1) if ids[at : at + size] == part), -size)


class Adapted(PassingStepper):
    """See `dgtui.diffusion.stepper.Stepper`. A model with an adapter, for the prompts that it is made for.

    Args:
        name: The folder of its adapter.
        own: The model's own settings. Temperatures that differ from them are the user's, and stay.
        ends: The id that ends a text, and the one that fills the canvas behind it.
    """

    def __init__(
        self, inner: Stepper, reader: PromptReader, name: str, own: SamplerSettings, ends: tuple[int, int]
    ) -> None:
        super().__init__(inner)
        self._reader, self._name, self._own, self._ends = reader, name, own, ends
        self._conversation: Conversation | None = None
        "of a run that has not begun"

    def takes(self, ids: Sequence[int]) -> bool:
        """Whether it runs a prompt."""
        asked = self._reader.read(ids).asked
        return bool(asked) and adapter_for(asked) == self._name

    def encode(self, ids: Sequence[int], images: Sequence[Image] = ()) -> None:
        """See `Stepper.encode`."""
        super().encode(ids, images)
        self._conversation = self._reader.read(ids)

    def begin(self, starts: Sequence[Start], settings: SamplerSettings, suppressed: Collection[int] = ()) -> list[Ids]:
        """See `Stepper.begin`."""
        if (settings.t_min, settings.t_max) == (self._own.t_min, self._own.t_max):
            t_min, t_max = TEMPERATURES[self._name]
            settings = replace(settings, t_min=t_min, t_max=t_max)
        if self._conversation is not None and self._conversation.asked:
            starts = [self._from_text(start, self._conversation) for start in starts]
        self._conversation = None
        return super().begin(starts, settings, suppressed)

    def _from_text(self, start: Start, conversation: Conversation) -> Start:
        """The start with the text to change where it would be noise: on a new canvas, or in the gap of an infill."""
        end, fill = self._ends
        free = [place for place in range(self.canvas_length) if place not in start.pinned]
        given = [fill] * self.canvas_length if start.ids is None else [*start.ids]
        text: list[int] = []
        if start.noised or start.strength < 1 or {given[place] for place in free} != {fill}:
            return start
        if _EDIT.match(asked := conversation.asked[-1]):
            before = self._reader.decode([*conversation.written, *given[: free[0]]])
            space = "" if before[-1:] in _NO_SPACE_AFTER else " "
            text = self._reader.encode(space + asked.partition(": ")[2])
        elif start.ids is None:
            text = conversation.answered
        if not text or (start.ids is None and conversation.written):
            return start
        for place, token in zip(free, (*text, end, *[fill] * len(free)), strict=False):
            given[place] = token
        return Start(tuple(given), start.pinned, noised=True)
