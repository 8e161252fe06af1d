"""The embedded model with one of its adapters: which prompts each of them runs, and at which temperatures."""

import itertools
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Final

from dgtui.diffusion.events import Ids
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


class PromptReader:
    """Reads what the user said from the ids of a prompt.

    Args:
        chat: A conversation → ids of the prompt.
        decode: Ids → text.
    """

    def __init__(self, chat: Callable[[Sequence[Message]], Sequence[int]], decode: Callable[[list[int]], str]) -> None:
        self._decode = decode
        one, other = ([*chat([Message("user", text)])] for text in "ab")
        self._opening = _common(one, other)[1:]
        "ids between BOS and the user's message"
        self._closing = _common(one[::-1], other[::-1])[::-1]
        "ids from its end to the model's reply"

    def read(self, ids: Sequence[int]) -> list[str]:
        """The user's messages in a prompt, oldest first; none if it is no conversation. More ids may follow it."""
        ids, found = [*ids], list[str]()
        end = _last(ids, self._closing, len(ids))
        while (begin := _last(ids, self._opening, end)) >= 0:
            found.append(self._decode(ids[begin + len(self._opening) : end]))
            end = _last(ids, self._closing, begin)
        return found[::-1]


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
    """

    def __init__(self, inner: Stepper, reader: PromptReader, name: str, own: SamplerSettings) -> None:
        super().__init__(inner)
        self._reader, self._name, self._own = reader, name, own

    def takes(self, ids: Sequence[int]) -> bool:
        """Whether it runs a prompt."""
        asked = self._reader.read(ids)
        return bool(asked) and adapter_for(asked) == self._name

    def begin(self, starts: Sequence[Start], settings: SamplerSettings, suppressed: Collection[int] = ()) -> list[Ids]:
        """See `Stepper.begin`."""
        if (settings.t_min, settings.t_max) == (self._own.t_min, self._own.t_max):
            t_min, t_max = TEMPERATURES[self._name]
            settings = replace(settings, t_min=t_min, t_max=t_max)
        return super().begin(starts, settings, suppressed)
