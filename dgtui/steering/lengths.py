"""The length search: finds how many tokens the text in a gap should have.

    1. `TRIED` lengths run in one batch for a few denoising steps. If no text was there to guess a length from, they are
       far apart, and lengths around the best two of them follow in more batches, until they are one token apart.
    2. The lengths that make the whole text most likely are written to the end, the most likely first. If there was no
       text before, so are the neighbours of the best one: a text that has not settled does not tell them apart.

A gap that is too long often ends with the beginning of the text after it. Repetitions read well, so such a length ranks
high, but the length without them is right. It replaces the other.

A denoiser becomes confident at nearly any length. A wrong length shows only when the text is read from left to right,
so finished canvases are ranked by their left-to-right likelihood.
"""

from __future__ import annotations

import itertools
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
"""Denoising steps for trying lengths."""

PROBE_LENGTH: Final = 8
"""Tokens per step while lengths of a long gap are tried: one that has not settled loses to a short one that makes no
sense. With 12 instead of 4 steps, 9 instead of 5 of 14 tales were right between two sentences."""

PROBE_TEMPERATURE: Final = 0.8
"""The temperature while lengths are tried: at a low one, every length looks certain."""

TRIED: Final = 11
"""Number of lengths to try in one batch."""

CANDIDATES: Final = 3
"""Number of canvases to write to the end."""

LONGEST_GAP: Final = 24
"""The greatest length to try if there was no text before."""

ECHO: Final = 4
"""Number of tokens from which the end of a gap counts as a repetition of what follows."""

UNLIKELY: Final = -4.0
"""Mean nats per token below which a text counts as unlike anything the model has seen. Chosen on the embedded model: 17
texts had means of -11.2 to -7.8 outside its world and -0.31 to -0.26 inside. `certainty_table unlikely` measures it."""


@dataclass(frozen=True, slots=True)
class GappedCanvas:
    """A canvas of pinned text with gaps to write.

    `kept` is the text around the gaps: one list more than there are gaps. The text after the last gap moves with it and
    is cut at the end of the canvas, but its first `must_stay` ids must fit.
    """

    kept: tuple[tuple[int, ...], ...]
    must_stay: int
    size: int
    "positions of the canvas"
    fill_id: int
    ends: bool = True
    "the text ends on the canvas: the rest of the canvas is padded; otherwise it stays free"

    @property
    def room(self) -> int:
        """The most positions that all gaps together can have."""
        return self.size - sum(map(len, self.kept[:-1])) - self.must_stay

    def start(self, lengths: Sequence[int]) -> tuple[Start, tuple[range, ...]]:
        """The canvas with gaps of these lengths, and the positions of each gap."""
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

    def typed(self, at: int, ids: Sequence[int], gaps: Sequence[range]) -> GappedCanvas:
        """The canvas with ids that are held at a place from now on: in a gap they divide it, in kept text they replace
        what is there.

        Args:
            gaps: Where the gaps are now.
        """
        starts = [0, *(gap.stop for gap in gaps)]
        part = max(number for number, start in enumerate(starts) if start <= at)
        kept, offset, new = self.kept[part], at - starts[part], tuple(ids)
        if offset < len(kept) or part == len(gaps):
            changed: tuple[tuple[int, ...], ...] = ((*kept[:offset], *new, *kept[offset + len(new) :]),)
        elif offset == len(kept):
            changed = ((*kept, *new),)
        else:
            changed = (kept, new)
        return replace(self, kept=(*self.kept[:part], *changed, *self.kept[part + 1 :]))


def open_gap(ids: Sequence[int], at: int, model: ModelInfo) -> GappedCanvas:
    """A canvas (C,) of a reply with a gap before position `at`.

    The text after the gap moves right, up to the end of the reply. The gap takes its positions from the padding after
    it.
    """
    stop = next((place for place in range(at, len(ids)) if ids[place] in model.stop_ids), None)
    end = len(ids) if stop is None else stop + 1
    while stop is None and end > at and ids[end - 1] == model.fill_id:
        end -= 1
    return GappedCanvas((tuple(ids[:at]), tuple(ids[at:end])), end - at, len(ids), model.fill_id)


class LengthSearch:
    """A plan (see `search`) that fills the gaps of a canvas. Its result is `ranked`, empty until it is over.

    Args:
        job: The common base of all its jobs.
        guesses: For each gap, the number of tokens of the previous text; 0 if there was none.
        lengths: The length of each gap, if given: then nothing is tried. Together they must fit the canvas.
        candidates: Number of canvases to write to the end.
        longest: Most tokens to try in a gap without previous text.
        may_be_empty: Also reads the text with nothing in its only gap, if there was no previous text.
    """

    def __init__(
        self, job: Job, canvas: GappedCanvas, guesses: Sequence[int], *, lengths: Sequence[int] | None = None,
        candidates: int = CANDIDATES, longest: int = LONGEST_GAP, may_be_empty: bool = False,
    ) -> None:  # fmt: skip
        self.ranked: list[Ranked] = []
        self._job, self.canvas, self._candidates, self._longest = job, canvas, candidates, longest
        self._apart = 1.0 if all(guesses) else math.inf
        "how far apart the lengths are that are tried; no text says how long a gap should be where this is above 1"
        self._unchecked = self._apart > 1 and lengths is None
        "the neighbours of the best length may still have to be written"
        self._may_be_empty = may_be_empty and canvas.ends and lengths is None and [*guesses] == [0]
        self._tries = _tries(guesses, canvas.room, longest) if lengths is None else [tuple(lengths)] * candidates
        "the lengths of the gaps in each candidate of the next job"
        self.probing = self.lengths > candidates
        "the next job tries lengths and is not carried to the end"
        self._gaps: list[tuple[range, ...]] = []

    @property
    def lengths(self) -> int:
        """Number of different lengths in the next job."""
        return len(set(self._tries))

    def gaps(self, candidate: int) -> tuple[range, ...]:
        """The positions that a candidate of the newest job writes."""
        return self._gaps[candidate]

    def typed(self, at: int, ids: Sequence[int], gaps: Sequence[range], seed: int) -> LengthSearch:
        """A search that begins again with ids held at a place of a candidate with these gaps. Every length has them."""
        canvas = self.canvas.typed(at, ids, gaps)
        guesses = [0] * (len(canvas.kept) - 1)
        job = replace(self._job, seed=seed)
        return LengthSearch(job, canvas, guesses, candidates=self._candidates, longest=self._longest)

    def best(self, log: RunLog) -> int:
        """The candidate to show. While lengths are tried, it is the most certain one, which may change every step."""
        ranked = rank(log) if self.probing else []
        return ranked[0].candidate if len(ranked) == log.job.candidates else 0

    def job(self) -> Job | None:
        """The next job; None when the search is over."""
        if self.ranked:
            return None
        tries = [*self._tries, *([(0,)] if self._may_be_empty and not self.probing else [])]
        starts, gaps = zip(*map(self.canvas.start, tries), strict=True)
        self._gaps = list(gaps)
        job = replace(self._job, starts=tuple(starts), likelihood=True)
        if self.probing:
            settings = replace(job.settings, t_min=PROBE_TEMPERATURE, t_max=PROBE_TEMPERATURE)
            steps = max(PROBE_STEPS, self._longest // PROBE_LENGTH) if self._unchecked else PROBE_STEPS
            job = replace(job, settings=replace(settings, steps=steps, stability=-1))
        return job

    def take(self, log: RunLog) -> None:
        """Plans the next job from the newest log, or ends the search with its canvases."""
        ranked = rank(log)
        best = [*dict.fromkeys(self._without_echo(r.candidate, log) for r in ranked)]
        if self.probing and self._apart > 1:
            apart = max(_apart(length) for row in best[:2] for length in row) if self._apart == math.inf else 1
            around = [_tries(row, self.canvas.room, apart=apart) for row in best[:2]]
            self._tries = [*dict.fromkeys(itertools.chain.from_iterable(zip(*around, strict=False)))][:TRIED]
            self._apart, self.probing = apart, self.lengths > self._candidates
        elif self.probing:
            self._tries, self.probing = best[: self._candidates], False
        elif self._unchecked and best and (near := self._near(best[0])):
            self._tries, self._unchecked = near, False
        else:
            self.ranked = self._with_nothing(ranked, log)

    def _without_echo(self, candidate: int, log: RunLog) -> tuple[int, ...]:
        """The lengths of a candidate's gaps, without the ends that repeat the text after them."""
        blocks = log.blocks(candidate)
        if not blocks:
            return self._tries[candidate]
        ids = blocks[0].ids.tolist()
        return tuple(
            len(gap) - _echo(ids[gap.start : gap.stop], after)
            for gap, after in zip(self._gaps[candidate], self.canvas.kept[1:], strict=True)
        )

    def _near(self, best: tuple[int, ...]) -> list[tuple[int, ...]]:
        """The best lengths and their neighbours; empty if all of them have been written."""
        near = _tries(best, self.canvas.room, apart=1)[: self._candidates]
        return near if set(near) - set(self._tries) else []

    def _with_nothing(self, ranked: list[Ranked], log: RunLog) -> list[Ranked]:
        """The candidates, and the gap that was left empty: last, or first if nothing that was written is likely."""
        if not self._may_be_empty:
            return ranked
        empty = Ranked(log.job.candidates - 1, 0, 1.0, -math.inf)
        unlikely = all(min(r.nats, r.gap_nats) < UNLIKELY for r in ranked)
        return [empty, *ranked] if unlikely else [*ranked, empty]

    def stop(self, log: RunLog) -> None:
        """Ends the search with all candidates of a cancelled run; with none if it took no step."""
        self.ranked = rank(log)


def _echo(written: list[int], after: Sequence[int]) -> int:
    """How many tokens at the end of a gap repeat the text after it: 0, or at least `ECHO` and not the whole gap."""
    longest = min(len(written) - 1, len(after))
    return next((n for n in range(longest, ECHO - 1, -1) if written[-n:] == [*after[:n]]), 0)


def _tries(
    guesses: Sequence[int], room: int, longest: int = LONGEST_GAP, apart: int | None = None
) -> list[tuple[int, ...]]:
    """The lengths of all gaps in each candidate of a batch."""
    columns = []
    for guess in guesses:
        most = max(1, room - sum(guesses) + guess) if guess else min(longest, room)
        columns.append(candidate_lengths(guess or None, most, TRIED, apart))
    rows = (tuple(column[min(at, len(column) - 1)] for column in columns) for at in range(max(map(len, columns))))
    return [row for row in rows if sum(row) <= room]


def candidate_lengths(guess: int | None, room: int, count: int, apart: int | None = None) -> tuple[int, ...]:
    """At most `count` different lengths from 1 to `room`, which is 1 or more.

    The guess comes first, then its neighbours, nearest first: `apart`, or consecutive up to a guess of 15 and further
    apart above. Without a guess, they are spread in equal ratios.
    """
    if guess is None:
        spread = {round(room ** (i / (count + 1))) for i in range(1, count + 1)}
        others = (n for n in range(1, room + 1) if n not in spread)
        return tuple(sorted([*spread, *others][:count]))
    middle = max(1, min(guess, room))
    apart = apart or _apart(middle)
    return tuple(
        sorted(range(1, room + 1), key=lambda n: ((n - middle) % apart != 0, abs(n - middle), n < middle))[:count]
    )


def _apart(guess: int) -> int:
    """How far apart the lengths are that are tried around a guess."""
    return max(1, guess // 8)


@dataclass(frozen=True, slots=True)
class Ranked:
    """A candidate of a run that fills gaps."""

    candidate: int
    tokens: int
    "positions of its gaps"
    score: float
    "mean probability of the best id over those positions, in its newest frame"
    likelihood: float
    "in nats, see `likelihood`; -inf if the run does not give it"
    nats: float = math.inf
    "of the whole text on the canvas, the mean over its tokens; inf if the run does not give it"
    gap_nats: float = math.inf
    "of the gaps"


def rank(log: RunLog) -> list[Ranked]:
    """The candidates of a run that have taken a step, best first.

    The most likely comes first; of equally likely ones, the shortest. If the run does not give likelihoods (it is not
    finished, was cancelled, or was not asked for them), the most certain comes first.
    """
    started = next((event for event in log if isinstance(event, BlockStarted)), None)
    if started is None:
        return []
    places = [_gap_places(pinned) for pinned in started.pinned]
    likelihoods = _likelihoods(log, places)
    ranked = [
        Ranked(
            candidate,
            len(at),
            float(frames[-1].top_probs[at, 0].mean()),
            likelihoods[candidate],
            *_means(log, candidate, at),
        )
        for candidate, at in enumerate(places)
        if len(at) and (frames := log.frames(started.block, candidate))
    ]
    if -math.inf in (r.likelihood for r in ranked):
        return sorted(ranked, key=lambda r: (-r.score, r.tokens))
    return sorted(ranked, key=lambda r: (-r.likelihood, r.tokens, -r.score))


def _gap_places(pinned: npt.NDArray[np.bool_]) -> Ids:
    """The free positions of a canvas (C,), except those at the end of a text that continues beyond the canvas."""
    import numpy as np

    free = np.flatnonzero(~pinned).astype(np.int32)
    inside = free[free < max(np.flatnonzero(pinned), default=0)]
    return inside if len(inside) else free


def _likelihoods(log: RunLog, places: Sequence[Ids]) -> list[float]:
    """Of each candidate, up to what fills the end of its canvas; -inf of all where one of them was not read."""
    written = {candidate: at for candidate, at in enumerate(places) if len(at)}
    read = {candidate: found for candidate in written if (found := _read(log, candidate)) is not None}
    if not read or len(read) < len(written):
        return [-math.inf] * len(places)
    length = sum(map(len, written.values())) / len(written)
    follows = max(0, min(read[candidate][1] - 1 - int(at[-1]) for candidate, at in written.items()))
    return [
        likelihood(read[candidate][0], at, follows, length) if candidate in written else -math.inf
        for candidate, at in enumerate(places)
    ]


def _read(log: RunLog, candidate: int) -> tuple[Floats, int] | None:
    """The log-probabilities (C,) of a candidate, and where its text ends and the fill begins; None: it was not read."""
    import numpy as np

    block = next(iter(log.blocks(candidate)), None)
    if block is None or block.log_probs is None:
        return None
    return block.log_probs, int(max(np.flatnonzero(block.ids != block.ids[-1]), default=-1)) + 1


def _means(log: RunLog, candidate: int, gaps: Ids) -> tuple[float, float]:
    """The mean nats of a candidate's text, and of its gaps; inf where it was not read."""
    read = _read(log, candidate)
    if read is None or read[1] < 2:
        return math.inf, math.inf
    log_probs, end = read
    inside = gaps[(gaps > 0) & (gaps < end)]
    return float(log_probs[1:end].mean()), float(log_probs[inside].mean()) if len(inside) else math.inf


def is_unlikely(log: RunLog, candidate: int) -> bool:
    """Whether a candidate's text, read from left to right, is none that the model has seen; False: or was not read."""
    import numpy as np

    return _means(log, candidate, np.empty(0, np.int32))[0] < UNLIKELY


def likelihood(log_probs: Floats, places: Ids, follows: int, length: float) -> float:
    """Log-likelihood in nats of the ids in the gaps, between them and after them.

    Args:
        log_probs: (C,) of a `BlockFinished`.
        places: The positions of the gaps, in order.
        follows: How many positions after the last gap count: the same in all comparisons, because a longer gap
            pushes more of the text off the canvas.
        length: How many positions the gaps count for: the same in all comparisons, because in a plain sum the
            shortest would always win.
    """
    import numpy as np

    around = np.setdiff1d(np.arange(places[0], places[-1] + 1 + follows), places)
    return float(log_probs[places].mean() * length + log_probs[around].sum())
