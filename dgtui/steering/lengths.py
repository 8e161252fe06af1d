"""Span-length search: how long should the text in a gap be? Candidate lengths run in one batch and are ranked.

    1. `gap_room` is the longest gap that fits, `candidate_lengths` are the lengths to try.
    2. `gap_starts` lays out one canvas a length: the `starts` of a job.
    3. `rank` puts the candidates of that job's log in order: by how likely the whole text is, read from left to right,
       and before that is known by how sure the model is of the gap after two steps.

A gap shifts what is right of it, and uses up or extends the fill behind the end of the reply.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from dgtui.diffusion.events import BlockFinished, BlockStarted, Floats, Frame, Ids
from dgtui.diffusion.job import BadJob, Start
from dgtui.diffusion.log import RunLog

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

STEPS: Final = 2
"""Denoising steps after which lengths are compared: the first sees but noise, the second also the model's own guess."""


class NoRoom(BadJob):
    """A gap that would push text off the canvas; `room` is the length of the longest that fits."""

    def __init__(self, length: int, room: int) -> None:
        places = f"{room or 'no'} place{'s' if room != 1 else ''}"
        super().__init__(f"a gap of {length} does not fit: the canvas has {places} left for it")
        self.room = room


@dataclass(frozen=True, slots=True, eq=False)
class Ranked:
    """A candidate of a length search."""

    candidate: int
    length: int
    "of its gap"
    score: float
    "its `likelihood`; as long as that is not known of all, the mean `confidence` of the candidates of its length"
    ids: Ids
    "(C,) its result, or as yet its newest draft"


def gap_room(
    ids: Sequence[int],
    at: int,
    replaced: int,
    fill_id: int,
    stop_ids: Collection[int],
    free: frozenset[int] = frozenset(),
) -> int:
    """The longest gap that fits in place of `replaced` ids from `at` on; see `gap_starts` for the arguments."""
    return replaced + _tail(ids, at + replaced, fill_id, stop_ids, free)[0]


def gap_starts(
    ids: Sequence[int],
    at: int,
    replaced: int,
    lengths: Sequence[int],
    fill_id: int,
    stop_ids: Collection[int],
    free: frozenset[int] = frozenset(),
) -> tuple[Start, ...]:
    """The canvas with a gap of each length in place of some of its ids; all else is pinned, what is right is shifted.

    Behind the first stop id right of the gap everything may be pushed off the canvas; without one, fill and free
    places at its very end. Places that open at the end are pinned fill where the reply ends, and free where it goes on.

    Args:
        ids: The canvas (C,).
        at: The first place of the gap.
        replaced: How many ids the gap takes the place of; 0 opens it before `at`.
        lengths: Of the gaps, in places.
        fill_id: What follows the end of a reply up to the end of the canvas.
        stop_ids: What ends a reply.
        free: Places outside of the gap that stay free, wherever they move.

    Raises:
        NoRoom: A gap does not fit.
        BadJob: The gap lies outside of the canvas, or a length is below 1.
    """
    canvas, after = len(ids), at + replaced
    if at < 0 or replaced < 0 or after > canvas:
        raise BadJob(f"a gap in place of {replaced} ids from {at} on is outside the canvas of {canvas}")
    if not lengths or min(lengths) < 1:
        raise BadJob("a gap needs a length of 1 or more")
    spare, ends = _tail(ids, after, fill_id, stop_ids, free)
    if max(lengths) > replaced + spare:
        raise NoRoom(max(lengths), replaced + spare)
    starts = []
    for length in lengths:
        moved = length - replaced
        kept = range(after, canvas - max(0, moved))
        opened = range(canvas + min(0, moved), canvas)
        gap = (*ids[at:after], *[fill_id] * length)[:length]
        loose = {p for p in free if p < at} | {p + moved for p in free if p in kept} | {*range(at, at + length)}
        if not ends:
            loose |= {*opened}
        moved_ids = (*ids[:at], *gap, *(ids[p] for p in kept), *[fill_id] * len(opened))
        starts.append(Start(moved_ids, frozenset(range(canvas)) - loose))
    return tuple(starts)


def _tail(
    ids: Sequence[int], after: int, fill_id: int, stop_ids: Collection[int], free: frozenset[int]
) -> tuple[int, bool]:
    """How many places at the end of the canvas may be pushed off it, and whether the reply ends right of the gap."""
    right = range(after, len(ids))
    stop = next((p for p in right if ids[p] in stop_ids and p not in free), None)
    if stop is not None:
        return len(ids) - stop - 1, True
    tail = list(itertools.takewhile(lambda p: ids[p] == fill_id or p in free, reversed(right)))
    return len(tail), any(p not in free for p in tail)


def candidate_lengths(guess: int | None, room: int, count: int) -> tuple[int, ...]:
    """At most `count` different lengths from 1 to `room`.

    With a guess it comes first, then its neighbours, nearest first: all of them up to a guess of 15, wider apart
    beyond. Without one they are spread in equal ratios.

    Raises:
        NoRoom: There is no room for a gap of 1.
        BadJob: `count` is below 1.
    """
    if count < 1:
        raise BadJob(f"the count of lengths is {count}: it must be 1 or more")
    if room < 1:
        raise NoRoom(1, 0)
    if guess is None:
        spread = {round(room ** (i / (count + 1))) for i in range(1, count + 1)}
        others = (n for n in range(1, room + 1) if n not in spread)
        return tuple(sorted([*spread, *others][:count]))
    middle = max(1, min(guess, room))
    apart = max(1, middle // 8)
    return tuple(
        sorted(range(1, room + 1), key=lambda n: ((n - middle) % apart != 0, abs(n - middle), n < middle))[:count]
    )


def confidence(frame: Frame, places: Sequence[int]) -> float:
    """Mean probability of the best id over `places`; a mean, so that long gaps compare with short ones.

    The score of CAL (arXiv 2602.00476), there of a mask model's first step, without its fitted bias by length.
    """
    return float(frame.top_probs[list(places), 0].mean())


def likelihood(log_probs: Floats, gaps: Sequence[range], behind: int, length: float) -> float:
    """Nats of the ids in the gaps, of what is between them and of as many places behind them.

    The denoiser is sure of nearly any length that it has settled in; a text of the wrong length reads wrong from left
    to right. All gaps together count as if they had `length` places: in a plain sum, short ones would always win.

    Args:
        log_probs: (C,) of a `BlockFinished`.
        gaps: Their places, in order.
        behind: The same for all that are compared, or else what is pushed off a canvas would count for it.
        length: The same for all that are compared, such as their mean.
    """
    inside = [place for gap in gaps for place in gap]
    held = sorted({*range(gaps[0].start, gaps[-1].stop + behind)}.difference(inside))
    return float(log_probs[inside].mean() * length + log_probs[held].sum())


def _likelihoods(blocks: Sequence[BlockFinished], gaps: Sequence[range]) -> list[float]:
    """Of each finished candidate, up to what fills the end of its canvas; empty where one of them was not read."""
    import numpy as np

    read = [block.log_probs for block in blocks if block.log_probs is not None]
    if not read or len(read) < len(gaps):
        return []
    length = sum(map(len, gaps)) / len(gaps)
    ends = (max(np.flatnonzero(block.ids != block.ids[-1]), default=-1) + 1 for block in blocks)
    behind = max(0, min(int(end) - gap.stop for end, gap in zip(ends, gaps, strict=True)))
    return [likelihood(row, [gap], behind, length) for row, gap in zip(read, gaps, strict=True)]


def _open_run(pinned: npt.NDArray[np.bool_], first: int) -> range:
    """The places from `first` to the next pinned one."""
    import numpy as np

    walls = np.flatnonzero(pinned[first:])
    return range(first, first + int(walls[0]) if len(walls) else len(pinned))


def rank(log: RunLog, at: int | None = None) -> list[Ranked]:
    """The candidates of a length search that have taken a step, best first.

    By confidence, candidates of one length are several draws of it: they share the mean, and stand in the order of
    their own.

    Args:
        log: Of a run with `gap_starts`, finished or not; its first block counts.
        at: The first place of the gap, which reaches to the next pinned place; None: the first free place.
    """
    started = next((e for e in log if isinstance(e, BlockStarted)), None)
    if started is None:
        return []
    blocks = {e.candidate: e for e in log if isinstance(e, BlockFinished) and e.block == started.block}
    found: list[tuple[int, range, float, Ids]] = []
    for candidate, pinned in enumerate(started.pinned):
        frames = log.frames(started.block, candidate)
        gap = _open_run(pinned, int(pinned.argmin()) if at is None else at)
        if frames and gap:
            own = confidence(frames[:STEPS][-1], gap)
            ids = blocks[candidate].ids if candidate in blocks else frames[-1].ids
            found.append((candidate, gap, own, ids))
    draws: dict[int, list[float]] = {}
    for _, gap, own, _ in found:
        draws.setdefault(len(gap), []).append(own)
    scores = [sum(draws[len(gap)]) / len(draws[len(gap)]) for _, gap, _, _ in found]
    if all(candidate in blocks for candidate, *_ in found):
        scores = _likelihoods([blocks[c] for c, *_ in found], [gap for _, gap, *_ in found]) or scores
    ranked = sorted(zip(scores, found, strict=True), key=lambda f: (-f[0], len(f[1][1]), -f[1][2], f[1][0]))
    return [Ranked(candidate, len(gap), score, ids) for score, (candidate, gap, _, ids) in ranked]
