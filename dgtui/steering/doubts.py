"""What a model doubts: the probabilities of each token of a finished canvas if that token were not known.

A denoiser that sees its own token is certain of it. So the place is renoised, everything else is pinned, and one step
is taken at temperature 1: the probabilities are those of the model, and nothing is written. Each place has a canvas of
its own. Many of them run in one batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from dgtui.diffusion.job import Job, SamplerSettings, Start
from dgtui.diffusion.log import RunLog
from dgtui.model_info import ModelInfo

BATCH: Final = 32
"""Canvases of one job."""

TOGETHER: Final = 4
"""Places that share a canvas when all of a reply are judged: they are far apart, and hide little from each other."""

DRAWS: Final = 2
"""How often one token is judged, each time with other noise."""

MOST: Final = 9
"""Alternatives of a place, one for each digit."""

DOUBTED: Final = 0.1
"""Nats above which a token counts as doubted: its probability is below 90%."""

DOUBTED_MOST: Final = 4.0
"""Nats of a token that the model would not write."""

_SETTINGS: Final = SamplerSettings(steps=1, t_min=1.0, t_max=1.0, stability=-1, top_k=MOST)


@dataclass(frozen=True, slots=True)
class Doubt:
    """What the model thinks of one place."""

    ids: tuple[int, ...]
    "the most probable ids, best first, `MOST` at most"
    probs: tuple[float, ...]

    def nats(self, token: int) -> float:
        """How much it doubts a token: minus the logarithm of its probability, `DOUBTED_MOST` at most."""
        rest = max(0.0, 1.0 - sum(self.probs))
        p = self.probs[self.ids.index(token)] if token in self.ids else min(rest, self.probs[-1])
        return min(DOUBTED_MOST, -math.log(max(p, math.exp(-DOUBTED_MOST))))


class Doubts:
    """A plan (see `search`) that renoises places of a canvas. `found` is its result, by place; it grows job by job.

    Args:
        job: A run of the same prompt and the same earlier blocks; its seed draws the noise.
        canvas: (C,) ids.
        places: Which places to judge.
        draws: How often each is judged, each time with other noise: a draw may be a word that fits.
    """

    def __init__(
        self, job: Job, canvas: Sequence[int], places: Sequence[int], model: ModelInfo, draws: int = 1
    ) -> None:
        markup = model.special_ids - model.stop_ids
        self._job = replace(
            job, settings=_SETTINGS, suppressed=markup, fork=None, likelihood=False, max_tokens=model.max_context
        )  # fmt: skip
        self._canvas = tuple(canvas)
        count = -(-len(places) // TOGETHER)
        self._open = [tuple(places[at::count]) for at in range(count) for _ in range(draws)]
        "the places of each canvas that has not run"
        self._draws: dict[int, list[dict[int, float]]] = {}
        self.found: dict[int, Doubt] = {}

    def job(self) -> Job | None:
        """The next job; None once every place has been judged."""
        if not self._open:
            return None
        everywhere = frozenset(range(len(self._canvas)))
        starts = [Start(self._canvas, everywhere.difference(places)) for places in self._open[:BATCH]]
        return replace(self._job, starts=tuple(starts))

    def take(self, log: RunLog) -> None:
        """Reads the places of the newest job."""
        for number, places in enumerate(self._open[:BATCH]):
            frame = log.frames(candidate=number)[0]
            for place in places:
                probs = dict(zip(frame.top_ids[place].tolist(), frame.top_probs[place].tolist(), strict=True))
                self._draws.setdefault(place, []).append(probs)
                self.found[place] = _mean(self._draws[place])
        del self._open[:BATCH]

    def stop(self, log: RunLog) -> None:
        """Keeps what earlier jobs have found."""
        self._open.clear()


def _mean(draws: Sequence[dict[int, float]]) -> Doubt:
    """The mean of the probabilities in some draws."""
    mean: dict[int, float] = {}
    for probs in draws:
        for token, p in probs.items():
            mean[token] = mean.get(token, 0.0) + p / len(draws)
    best = sorted(mean, key=lambda token: -mean[token])[:MOST]
    return Doubt(tuple(best), tuple(mean[token] for token in best))
