"""Proofreading: finds words in a finished canvas that the model, reading from left to right, would not have written.

While a canvas settles, the text after a gap may settle first, one position too early or too late. What is left for the
gap is a word that is missing or stands twice, and the denoiser, which sees both sides, becomes certain of it. The
encoder reads from left to right and is not. So the text around the first such word is written again, with a position
less, the same number, and one more, and the most likely text is kept. See `_Block.proofread` in `engine`.
"""

from dataclasses import dataclass
from math import log
from typing import Final

import numpy as np

from dgtui.diffusion.events import Floats, Ids
from dgtui.diffusion.job import Start

UNLIKELY: Final = log(0.05)
"""Log-probability below which a token is written again."""

HOPELESS: Final = 2
"""A text with so many unlikely tokens per passage that may be written again is left as it is."""

AROUND: Final = 2
"""Number of tokens before the unlikely one, and from it on, that are written again."""

CHANGES: Final = (0, -1, 1)
"""By how much the number of these tokens may change."""

STEPS: Final = 8
"""Most denoising steps for them."""

GAIN: Final = 1.0
"""Nats by which a new text must be more likely than the old one."""


@dataclass(frozen=True, slots=True)
class Text:
    """A finished canvas, read from left to right."""

    ids: Ids
    "(C,)"
    log_probs: Floats
    "(C,) nats, of each id given those to its left; 0 for the first"
    end: int
    "the position of the first stop id; C if there is none"

    @classmethod
    def of(cls, ids: Ids, log_probs: Floats, stop_ids: frozenset[int]) -> "Text":
        """The text of a canvas, up to and with the first stop id."""
        stops = np.flatnonzero(np.isin(ids, list(stop_ids)))
        return cls(ids, log_probs, int(stops[0]) if len(stops) else len(ids))

    @property
    def nats(self) -> float:
        """The log-likelihood of the text."""
        return float(self.log_probs[: self.end + 1].sum())

    def unlikely(self) -> list[int]:
        """The positions of the unlikely tokens."""
        found: list[int] = np.flatnonzero(self.log_probs[: self.end + 1] < UNLIKELY).tolist()
        return found

    def openings(self, place: int) -> list[Start]:
        """The canvases in which the text around a position is noise, one for each new length of it.

        Only a text that ends on the canvas, with a position to spare, can become longer or shorter.
        """
        size = len(self.ids)
        first, stop = max(0, place - AROUND), min(self.end, place + AROUND)
        before, after = self.ids[:first].tolist(), self.ids[stop:].tolist()
        starts = []
        for change in CHANGES if self.end + 1 < size else (0,):
            length = stop - first + change
            if length > 0:
                ids = (before + [0] * length + after + after[-1:])[:size]
                pinned = frozenset(range(size)) - frozenset(range(first, first + length))
                starts.append(Start(tuple(ids), pinned))
        return starts
