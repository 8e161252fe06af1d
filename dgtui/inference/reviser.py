"""The embedded model with its adapter for edits and follow-ups: which prompts it runs, and at which temperatures."""

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

_EDIT: Final = re.compile(
    r"(?!.*\bjson\b)(fix|correct|shorten|expand|rename|replace|change|call|put|make (it|this|the))\b[^:\n]*: ",
    re.IGNORECASE,
)
"""An instruction and the text that it changes, as `steering.instructions` words it."""


T_MIN, T_MAX = 0.4, 0.6
"""Instead of the model's own temperatures: as many replies are right, in about two thirds of the steps."""


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
    """See `dgtui.diffusion.stepper.Stepper`. Runs the prompts of one form.

    Args:
        own: The model's own settings. Temperatures that differ from them are the user's, and stay.
    """

    def __init__(self, inner: Stepper, prompt: RevisionPrompt, own: SamplerSettings) -> None:
        super().__init__(inner)
        self._prompt, self._own = prompt, own

    def takes(self, ids: Sequence[int]) -> bool:
        """Whether a prompt is of its form."""
        return self._prompt.matches(ids)

    def begin(self, starts: Sequence[Start], settings: SamplerSettings, suppressed: Collection[int] = ()) -> list[Ids]:
        """See `Stepper.begin`."""
        if (settings.t_min, settings.t_max) == (self._own.t_min, self._own.t_max):
            settings = replace(settings, t_min=T_MIN, t_max=T_MAX)
        return super().begin(starts, settings, suppressed)
