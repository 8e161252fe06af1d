"""The embedded model with its adapter for edits and follow-ups: which prompts it runs."""

import itertools
import re
from collections.abc import Callable, Sequence
from typing import Final

from dgtui.diffusion.stepper import Stepper
from dgtui.inference.passing import PassingStepper
from dgtui.message import Message

_EDIT: Final = re.compile(
    r"(?!.*\bjson\b)(fix|correct|shorten|expand|rename|replace|change|call|put|make (it|this|the))\b[^:\n]*: ",
    re.IGNORECASE,
)
"""An instruction and the text that it changes, as `steering.instructions` words it."""


class RevisionPrompt:
    """Recognises a prompt whose last message is an instruction to change a text, or not the first one of the user.

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

    def matches(self, ids: Sequence[int]) -> bool:
        """Whether the prompt is such; more ids may follow it."""
        ids = [*ids]
        end = _last(ids, self._closing, len(ids))
        begin = _last(ids, self._opening, end) + len(self._opening)
        if not 0 < begin < end:
            return False
        is_later = _last(ids, self._opening, begin - len(self._opening)) >= 0
        return is_later or _EDIT.match(self._decode(ids[begin:end])) is not None


def _common(one: list[int], other: list[int]) -> list[int]:
    """The ids with which both begin."""
    return [i for i, _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False))]


def _last(ids: list[int], part: list[int], end: int) -> int:
    """Where `part` stands last before `end`; a negative number if nowhere."""
    size = len(part)
    return next((at for at in range(end - size, -1, -1) if ids[at : at + size] == part), -size)


class Reviser(PassingStepper):
    """See `dgtui.diffusion.stepper.Stepper`. Runs the prompts of one form."""

    def __init__(self, inner: Stepper, prompt: RevisionPrompt) -> None:
        super().__init__(inner)
        self._prompt = prompt

    def takes(self, ids: Sequence[int]) -> bool:
        """Whether a prompt is of its form."""
        return self._prompt.matches(ids)
