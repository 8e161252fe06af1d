"""The length search: how many tokens should the text in a gap have?

    1. `TRIED` lengths run in one batch for a few denoising steps. If no text was there to guess a length from, they are
       far apart, and more lengths around the best of them follow in a second batch.
    2. The lengths under which the whole text reads most likely are written to the end, the likeliest first.

A denoiser is sure of nearly any length that it has settled in. The wrong length shows when the text is read from left
to right, which is why finished canvases are ranked by their likelihood.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from dgtui.diffusion.events import BlockStarted, Floats, Ids
from dgtui.diffusion.job import Job, Start
from dgtui.diffusion.log import RunLog
from dgtui.model_info import ModelInfo

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

PROBE_STEPS: Final = 4
"""Denoising steps in which lengths are tried."""

PROBE_TEMPERATURE: Final = 0.8
"""The temperature while lengths are tried: at a low one every length looks certain."""

TRIED: Final = 11
"""Lengths that are tried in one batch."""

CANDIDATES: Final = 3
"""Canvases that are written to the end."""

LONGEST_GAP: Final = 24
"""Tokens that are tried at most where no text was there before."""


@dataclass(frozen=True, slots=True)
class GappedCanvas:
    """A canvas of text that is pinned, with gaps to write.

    `kept` is the text around the gaps, one list more than there are gaps. The text after the last gap moves with it and
    is cut where the canvas ends, except for its first `must_stay` ids.
    """

    kept: tuple[tuple[int, ...], ...]
    must_stay: int
    size: int
    "places of the canvas"
    fill_id: int
    ends: bool = True
    "the text ends on the canvas: what is left of the canvas is filled; otherwise it stays free"

    @property
    def room(self) -> int:
        """The most places that all gaps together can have."""
        return self.size - sum(map(len, self.kept[:-1])) - self.must_stay

    def start(self, lengths: Sequence[int]) -> tuple[Start, tuple[range, ...]]:
        """The canvas with gaps of these lengths, and the places of each gap."""
        ids: list[int] = []
        gaps = []
        for kept, length in zip(self.kept, lengths, strict=False):
            ids += kept
            gaps.append(range(len(ids), len(ids) + length))
            ids += [self.fill_id] * length
        ids += self.kept[-1]
        known = self.size if self.ends else min(len(ids), self.size)
        ids = (ids + [self.fill_id] * self.size)[: self.size]
        free = {place for gap in gaps for place in gap}
        return Start(tuple(ids), frozenset(range(known)) - free), tuple(gaps)


def open_gap(ids: Sequence[int], at: int, model: ModelInfo) -> GappedCanvas:
    """A canvas (C,) of a reply with a gap before place `at`.

    The text after the gap moves with it up to the end of the reply. The gap takes its places from the fill after that.
    """
    stop = next((place for place in range(at, len(ids)) if ids[place] in model.stop_ids), None)
    end = len(ids) if stop is None else stop + 1
    while stop is None and end > at and ids[end - 1] == model.fill_id:
        end -= 1
    return GappedCanvas((tuple(ids[:at]), tuple(ids[at:end])), end - at, len(ids), model.fill_id)


class LengthSearch:
    """A plan (see `search`) that fills the gaps of a canvas. `ranked` is its result, empty until it is over.

    Args:
        job: What all its jobs have in common.
        guesses: For each gap, the tokens of the text that was there; 0 for none.
        lengths: The tokens of each gap, if they are given: then nothing is tried. All together fit the canvas.
        candidates: How many canvases to write to the end.
    """

    def __init__(
        self, job: Job, canvas: GappedCanvas, guesses: Sequence[int], *, lengths: Sequence[int] | None = None,
        candidates: int = CANDIDATES,
    ) -> None:  # fmt: skip
        self.ranked: list[Ranked] = []
        self._job, self._canvas, self._candidates = job, canvas, candidates
        self._open = not all(guesses)
        "no text says how long a gap should be"
        self._tries = _tries(guesses, canvas.room) if lengths is None else [tuple(lengths)] * candidates
        "the lengths of the gaps in each candidate of the next job"
        self._gaps: list[tuple[range, ...]] = []

    @property
    def lengths(self) -> int:
        """How many different lengths the next job has."""
        return len(set(self._tries))

    @property
    def probing(self) -> bool:
        """The next job tries lengths and is not carried to the end."""
        return self.lengths > self._candidates

    def gaps(self, candidate: int) -> tuple[range, ...]:
        """The places that a candidate of the newest job writes."""
        return self._gaps[candidate]

    def best(self, log: RunLog) -> int:
        """The candidate to show. While lengths are tried it is the surest one, which may change with each step."""
        ranked = rank(log) if self.probing else []
        return ranked[0].candidate if len(ranked) == log.job.candidates else 0

    def job(self) -> Job | None:
        """The next job; None when the search is over."""
        if self.ranked:
            return None
        starts, gaps = zip(*map(self._canvas.start, self._tries), strict=True)
        self._gaps = list(gaps)
        job = replace(self._job, starts=tuple(starts), likelihood=len(starts) > 1)
        if self.probing:
            settings = replace(job.settings, t_min=PROBE_TEMPERATURE, t_max=PROBE_TEMPERATURE)
            job = replace(job, settings=replace(settings, steps=PROBE_STEPS, stability=-1))
        return job

    def take(self, log: RunLog) -> None:
        """Plans the next job from the log of the newest one, or ends the search with what that one wrote."""
        ranked = rank(log)
        if not self.probing:
            self.ranked = ranked
        elif self._open:
            self._open = False
            self._tries = _tries(self._tries[ranked[0].candidate], self._canvas.room)
        else:
            self._tries = [self._tries[r.candidate] for r in ranked[: self._candidates]]

    def stop(self, log: RunLog) -> None:
        """Ends the search with all candidates of a cancelled run, none if it took no step."""
        self.ranked = rank(log)


def _tries(guesses: Sequence[int], room: int) -> list[tuple[int, ...]]:
    """The lengths of all gaps in each candidate of a batch."""
    columns = []
    for guess in guesses:
        most = max(1, room - sum(guesses) + guess) if guess else min(LONGEST_GAP, room)
        columns.append(candidate_lengths(guess or None, most, TRIED))
    rows = (tuple(column[min(at, len(column) - 1)] for column in columns) for at in range(max(map(len, columns))))
    return [row for row in rows if sum(row) <= room]


def candidate_lengths(guess: int | None, room: int, count: int) -> tuple[int, ...]:
    """At most `count` different lengths from 1 to `room`, which is 1 or more.

    A guess comes first, then its neighbours, nearest first: all of them up to a guess of 15, wider apart beyond.
    Without a guess they are spread in equal ratios.
    """
    if guess is None:
        spread = {round(room ** (i / (count + 1))) for i in range(1, count + 1)}
        others = (n for n in range(1, room + 1) if n not in spread)
        return tuple(sorted([*spread, *others][:count]))
    middle = max(1, min(guess, room))
    apart = max(1, middle // 8)
    return tuple(
        sorted(range(1, room + 1), key=lambda n: ((n - middle) % apart != 0, abs(n - middle), n < middle))[:count]
    )


@dataclass(frozen=True, slots=True)
class Ranked:
    """A candidate of a run that fills gaps."""

    candidate: int
    tokens: int
    "places of its gaps"
    score: float
    "mean probability of the best id over those places, in its newest frame"
    likelihood: float
    "nats, see `likelihood`; -inf where the run does not say"


def rank(log: RunLog) -> list[Ranked]:
    """The candidates of a run that have taken a step, best first.

    The likeliest comes first, and the shortest of equally likely ones. Where the run does not say how likely they are
    (it goes on, was cancelled or was not asked), the surest comes first.
    """
    started = next((event for event in log if isinstance(event, BlockStarted)), None)
    if started is None:
        return []
    places = [_gap_places(pinned) for pinned in started.pinned]
    likelihoods = _likelihoods(log, places)
    ranked = [
        Ranked(candidate, len(at), float(frames[-1].top_probs[at, 0].mean()), likelihoods[candidate])
        for candidate, at in enumerate(places)
        if len(at) and (frames := log.frames(started.block, candidate))
    ]
    if -math.inf in likelihoods:
        return sorted(ranked, key=lambda r: (-r.score, r.tokens))
    return sorted(ranked, key=lambda r: (-r.likelihood, r.tokens, -r.score))


def _gap_places(pinned: npt.NDArray[np.bool_]) -> Ids:
    """The free places of a canvas (C,), without those after the end of a text that goes on beyond the canvas."""
    import numpy as np

    free = np.flatnonzero(~pinned).astype(np.int32)
    inside = free[free < max(np.flatnonzero(pinned), default=0)]
    return inside if len(inside) else free


def _likelihoods(log: RunLog, places: Sequence[Ids]) -> list[float]:
    """Of each candidate, up to what fills the end of its canvas; -inf of all where one of them was not read."""
    import numpy as np

    blocks = [next(iter(log.blocks(candidate)), None) for candidate in range(len(places))]
    read = [(block.ids, block.log_probs) for block in blocks if block is not None and block.log_probs is not None]
    if len(read) < len(places) or not all(map(len, places)):
        return [-math.inf] * len(places)
    length = sum(map(len, places)) / len(places)
    ends = (max(np.flatnonzero(ids != ids[-1]), default=-1) + 1 for ids, _ in read)
    follows = max(0, min(int(end) - 1 - int(at[-1]) for end, at in zip(ends, places, strict=True)))
    return [likelihood(log_probs, at, follows, length) for (_, log_probs), at in zip(read, places, strict=True)]


def likelihood(log_probs: Floats, places: Ids, follows: int, length: float) -> float:
    """Nats of the ids at some places, of those between them and of those after them.

    Args:
        log_probs: (C,) of a `BlockFinished`.
        places: The places of the gaps, in order.
        follows: How many places after the last gap count: the same for all that are compared, because a longer gap
            pushes more of the text off the canvas.
        length: How many places the gaps count for: the same for all that are compared, because in a plain sum the
            shortest would always win.
    """
    import numpy as np

    around = np.setdiff1d(np.arange(places[0], places[-1] + 1 + follows), places)
    return float(log_probs[places].mean() * length + log_probs[around].sum())
