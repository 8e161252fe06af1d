"""Spans of a text as jobs for the model, and what comes back as text. Loads no model, opens no file.

A text comes in parts: what is held, what is to be written, what is held, and so on. What is held is pinned on the
canvas, as far to the left and right as it fits; what lies further left goes into the prefix. Each part is encoded by
itself, so that a cut inside a word stays a cut, and nothing that is held is ever decoded again. Only a blank at a cut
is lent to the part behind it, for that is how tokens are made: " word" is one, "word" often none.

`Infill` hands out one job at a time (`job`) and takes its log back (`take`, or `stop` for a run that was cut short):

    1. lengths are tried, all in one batch and for a few denoising steps, where none is given; and again around the best
       of them where no text was there to guess from;
    2. those under which the whole text reads most likely are carried to the end and become the proposals, likeliest
       first.

A part that is longer than a canvas is written block by block, its end together with what follows it.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

import numpy as np

from dgtui.diffusion.events import Frame
from dgtui.diffusion.job import Job, SamplerSettings, Start
from dgtui.diffusion.log import RunLog
from dgtui.errors import InputRefused, RunFailed
from dgtui.model_info import ModelInfo
from dgtui.steering.lengths import candidate_lengths, likelihood

LEFT_SHARE: Final = 4
"""One place of so many holds what is left of the gap: seen from both sides, not from the prefix alone."""

LEFT_MOST: Final = 4096
"""Tokens of the text on the left that the prefix holds, if the context has room for them."""

RIGHT_LEAST: Final = 32
"""Places that are kept for what follows, if there is so much."""

PROBE_STEPS: Final = 4
"""Denoising steps in which lengths are tried."""

PROBE_TEMPERATURE: Final = 0.8
"""The temperature meanwhile: in the cold every length looks sure of itself."""

TRIED: Final = 11
"""Lengths that are tried at once."""

CARRIED: Final = 3
"""Lengths that are carried to the end."""

LONGEST_GAP: Final = 24
"""Tokens that are tried where there was no text before."""

CHARACTERS_A_TOKEN: Final = 16
"""More than a token has, by far: what is further away than so many a place is not encoded."""

LONGEST_SPAN: Final = 200_000
"""Characters that are written anew at most, which are hundreds of canvases."""


class Tokens(Protocol):
    """What a tokenizer has to offer."""

    def encode(self, text: str) -> list[int]: ...

    def pieces(self, ids: Sequence[int]) -> list[bytes]: ...


@dataclass(frozen=True, slots=True)
class Proposal:
    """Something to write: one text for each part that was asked for."""

    texts: tuple[str, ...]
    score: float
    "mean probability of the tokens that were written, as the model saw them at the end"
    likelihood: float
    "nats, of text and what follows it, read from left to right: what ranks them; -inf where that is not known"
    tokens: int
    steps: int


@dataclass(frozen=True, slots=True)
class _Window:
    """A canvas: `fixed` has one list more than there are gaps; the last one is cut where the canvas ends."""

    prompt_ids: tuple[int, ...]
    fixed: tuple[tuple[int, ...], ...]
    ends: bool
    "nothing follows the last of them"

    def room(self, canvas: int) -> int:
        """The most places that its gaps can have together."""
        held = sum(map(len, self.fixed[:-1])) + min(len(self.fixed[-1]), RIGHT_LEAST)
        return canvas - held

    def start(self, lengths: Sequence[int], info: ModelInfo) -> tuple[Start, tuple[range, ...]]:
        """The canvas with gaps of these lengths, and where they are."""
        ids: list[int] = []
        gaps = []
        for fixed, length in zip(self.fixed, lengths, strict=False):
            ids += fixed
            gaps.append(range(len(ids), len(ids) + length))
            ids += [info.fill_id] * length
        ids += self.fixed[-1]
        ids += [info.turn_end_id] if self.ends else []
        # Behind a text that goes on, places stay free: there is something, and it is not known
        written = min(len(ids), info.canvas_length)
        known = info.canvas_length if self.ends else written
        ids = (ids + [info.fill_id] * info.canvas_length)[: info.canvas_length]
        free = {place for gap in gaps for place in gap}
        return Start(tuple(ids), frozenset(range(known)) - free), tuple(gaps)


def check(parts: Sequence[str], info: ModelInfo) -> None:
    """Looks whether the parts of a text can be written at all, before they are encoded, which takes its time.

    Raises:
        InputRefused: They cannot.
    """
    longest = max(map(len, parts[1::2]))
    if longest > LONGEST_SPAN:
        raise InputRefused(
            f"a span of {longest:,} characters is too long to be written anew",
            hint=f"take {LONGEST_SPAN:,} at a time, at most",
        )
    if sum(map(len, parts[2:-1])) > CHARACTERS_A_TOKEN * info.canvas_length:
        raise InputRefused(
            f"the spans and what is between them do not fit one canvas of {info.canvas_length} places",
            hint="take fewer spans at a time, or shorter ones",
        )


class Infill:
    """See the module.

    Args:
        parts: Of the text: held, to be written, held, …; an odd count. What is to be written says what is there now,
            from which a length is guessed; it may be empty.
        prompt_ids: What the model reads before the text; None: nothing but the beginning of a text.
        length: Of every gap, in tokens; None: found by trying.
        candidates: How many proposals to make.

    Raises:
        InputRefused: The parts are too far apart, or too long, for one canvas.
    """

    def __init__(
        self, parts: Sequence[str], tokens: Tokens, info: ModelInfo, settings: SamplerSettings, seed: int, *,
        prompt_ids: Sequence[int] | None = None, length: int | None = None, candidates: int = CARRIED,
    ) -> None:  # fmt: skip
        self._tokens, self._info, self._settings, self._seed = tokens, info, settings, seed
        self._candidates = candidates
        self.proposals: list[Proposal] = []
        "best first; empty until the last job has been taken"
        self.written: tuple[int, ...] = ()
        "what earlier canvases hold of a part that is longer than one"
        alone = info.turn_end_id if info.bos_id is None else info.bos_id
        self._prompt = (alone,) if prompt_ids is None else (*prompt_ids,)
        reach = CHARACTERS_A_TOKEN
        check(parts, info)
        parts, self.lent = _lend(parts)
        "of each gap: a blank, or none, that its tokens begin with though it is before the gap; what they lack behind"
        self._left = tuple(tokens.encode(parts[0][-reach * (LEFT_MOST + info.canvas_length) :]))
        inner = tuple(tuple(tokens.encode(part)) for part in parts[2:-1:2])
        after = parts[-1][: reach * info.canvas_length]
        self._inner_right = (*inner, tuple(tokens.encode(after)))
        self._ends = len(after) == len(parts[-1])
        self._open_end = len(parts) == 3 and not after.strip()
        self._old = [len(tokens.encode(part)) if part.strip() else 0 for part in parts[1::2]]
        self._open = not all(self._old)
        "nothing says how long a gap should be: lengths around the best of the first try are tried, too"
        self._length = length
        self._tries: list[tuple[int, ...]] = []
        "lengths of the gaps, one for each candidate of the next job; none: it writes a whole canvas"
        self._gaps: list[tuple[range, ...]] = []
        self._follows = 0
        "places behind the last gap that every candidate has"
        self._plan()

    @property
    def lengths(self) -> int:
        """How many lengths the next job tries; 0 where it writes a whole canvas."""
        return len(set(self._tries))

    def gaps(self, candidate: int) -> tuple[range, ...]:
        """The places of a candidate's canvas that are written in the job that was handed out last."""
        return self._gaps[candidate]

    def best(self, log: RunLog) -> int:
        """The candidate that looks best so far. While lengths are tried it may be another one after each step."""
        count = len(self._tries)
        if not self.probing or any(not log.frames(candidate=candidate) for candidate in range(count)):
            return 0
        return max(range(count), key=lambda candidate: self._score(log, candidate))

    def _window(self) -> _Window:
        info = self._info
        left = (*self._left, *self.written)
        inside = left[-(info.canvas_length // LEFT_SHARE) :]
        before = left[: len(left) - len(inside)]
        room = info.max_context - info.canvas_length - len(self._prompt)
        if room < 0:
            raise InputRefused("the instruction does not fit the context", hint="shorten it, or raise --context")
        prompt = (*self._prompt, *before[max(0, len(before) - min(room, LEFT_MOST)) :])
        return _Window(prompt, (inside, *self._inner_right), self._ends)

    def _plan(self) -> None:
        """What the next job tries."""
        window, canvas = self._window(), self._info.canvas_length
        room = window.room(canvas)
        wanted = tuple(max(1, (self._length or old) - len(self.written)) for old in self._old)
        self._tries = []
        if sum(wanted) > room:
            if len(wanted) == 1:
                return  # a whole canvas of its beginning first
            raise InputRefused(
                f"the spans and what is between them need {canvas - room + sum(wanted)} places, a canvas has {canvas}",
                hint="take fewer spans at a time, or shorter ones",
            )
        if self._length or self.written:
            self._tries = [wanted] * self._candidates
            return
        found = []
        for old in self._old:
            most = max(1, room - sum(self._old) + old) if old else min(LONGEST_GAP, room)
            found.append(candidate_lengths(old or None, most, TRIED))
        self._tries = [
            tuple(lengths[min(at, len(lengths) - 1)] for lengths in found) for at in range(max(map(len, found)))
        ]
        self._tries = [t for t in self._tries if sum(t) <= room]

    def job(self) -> Job | None:
        """The next job; None once the proposals are there."""
        if self.proposals:
            return None
        window, info = self._window(), self._info
        # A text may end early only where nothing follows it
        no_text = info.special_ids - info.stop_ids if self._open_end else info.special_ids | info.stop_ids
        job = Job("infill", window.prompt_ids, self._seed, info.canvas_length, self._settings, suppressed=no_text)
        if not self._tries:
            inside = window.fixed[0]
            ids = (*inside, *[info.fill_id] * (info.canvas_length - len(inside)))
            self._gaps = [(range(len(inside), info.canvas_length),)]
            return replace(job, starts=(Start(ids, frozenset(range(len(inside)))),))
        starts, gaps = zip(*(window.start(lengths, info) for lengths in self._tries), strict=True)
        self._gaps = list(gaps)
        follows = len(window.fixed[-1]) + 1 if window.ends else info.canvas_length
        self._follows = min(follows, *(info.canvas_length - gap[-1].stop for gap in gaps))
        if self.probing:
            warm = replace(self._settings, t_min=PROBE_TEMPERATURE, t_max=PROBE_TEMPERATURE)
            job = replace(job, settings=replace(warm, steps=PROBE_STEPS, stability=-1))
        return replace(job, starts=tuple(starts), likelihood=True)

    @property
    def probing(self) -> bool:
        """The next job tries lengths; it is not carried to the end."""
        return len(set(self._tries)) > self._candidates

    def take(self, log: RunLog) -> None:
        """Takes the log of the job that was handed out last, after its end.

        Raises:
            RunFailed: Nothing of what was written is text.
        """
        if not self._tries:
            (gap,) = self._gaps[0]
            self.written += tuple(log.blocks()[-1].ids[gap.start :].tolist())
            self._plan()
        elif self.probing:
            likely = [self._likelihood(log, candidate) for candidate in range(len(self._tries))]
            order = sorted(range(len(likely)), key=lambda at: (-likely[at], sum(self._tries[at])))
            if self._open:  # what was tried lies far apart
                self._old, self._open = [*self._tries[order[0]]], False
                self._plan()
            else:
                self._tries = [self._tries[at] for at in order[: self._candidates]]
        else:
            self._propose(log)

    def stop(self, log: RunLog) -> None:
        """Takes the log of a run that was stopped: what is there becomes the proposals, none if there is nothing.

        Raises:
            RunFailed: What is there is no text.
        """
        if log.blocks():
            self._propose(log)
        elif self.written and (texts := self._texts([()])) is not None:
            self.proposals = [Proposal(texts, 0.0, -math.inf, len(self.written), 0)]

    def _propose(self, log: RunLog) -> None:
        found: dict[tuple[str, ...], Proposal] = {}
        for whole_words in (True, False):
            for candidate, gaps in enumerate(self._gaps):
                ids: list[int] = log.blocks(candidate)[-1].ids.tolist()
                texts = self._texts([ids[gap.start : gap.stop] for gap in gaps], whole_words)
                score, likely = self._score(log, candidate), self._likelihood(log, candidate)
                if texts is not None and (texts not in found or found[texts].likelihood < likely):
                    tokens = sum(map(len, gaps)) + len(self.written)
                    found[texts] = Proposal(texts, score, likely, tokens, len(log.frames(candidate=candidate)))
            if found:
                break
        else:
            raise RunFailed("what the model wrote is no text", hint="let it go on longer, or try another seed")
        self.proposals = sorted(found.values(), key=lambda p: (-p.likelihood, -p.score))[: self._candidates]

    def _score(self, log: RunLog, candidate: int) -> float:
        """Mean probability of the best id over the gaps of a candidate, in its newest frame."""
        frame: Frame = log.frames(candidate=candidate)[-1]
        return float(np.mean([frame.top_probs[place, 0] for gap in self._gaps[candidate] for place in gap]))

    def _likelihood(self, log: RunLog, candidate: int) -> float:
        """Nats of a candidate's gaps and what follows them; -inf where the log does not say."""
        log_probs = log.blocks(candidate)[-1].log_probs
        if log_probs is None:
            return -math.inf
        length = sum(map(sum, self._tries)) / len(self._tries)
        return likelihood(log_probs, self._gaps[candidate], self._follows, length)

    def _texts(self, gaps: Iterable[Sequence[int]], whole_words: bool = False) -> tuple[str, ...] | None:
        """Each gap's ids as text, up to a stop id; None where they are not UTF-8, or lack a blank that was lent though
        they are to be whole words: without it they go on with the word before."""
        found = []
        for gap, (lead, tail) in zip(gaps, self.lent, strict=True):
            ids = [*self.written, *gap]
            end = next((at for at, token in enumerate(ids) if token in self._info.stop_ids), len(ids))
            data = b"".join(self._tokens.pieces(ids[:end]))
            try:
                text = data.decode()
            except UnicodeDecodeError:
                return None
            if whole_words and text and not text.startswith(lead):
                return None
            found.append(text.removeprefix(lead) + tail)
        return tuple(found)


def _lend(parts: Sequence[str]) -> tuple[list[str], list[tuple[str, str]]]:
    """The parts with a blank at a cut in the part behind it; what each gap's text has to begin with, to be taken off,
    and what is to be put at its end, so that all other text stays where it was."""
    lent, moved = list(parts), []
    for at in range(1, len(lent), 2):
        before, gap, after = lent[at - 1 : at + 2]
        lead = tail = ""
        if before.endswith(" ") and not (gap or after)[:1].isspace():
            before, lead = before[:-1], " "
            gap, after, tail = ("", " " + after, " ") if after and not gap else (" " + gap, after, "")
        if gap.strip() and gap.endswith(" ") and after and not after[0].isspace():
            gap, after, tail = gap[:-1], " " + after, " "
        lent[at - 1 : at + 2] = before, gap, after
        moved.append((lead, tail))
    return lent, moved
