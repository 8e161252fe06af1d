"""A recording as a sequence of steps: the canvas after each step, the meters at that moment, and the time.

Works without a model. A recording does not name the ids that end a reply; they are inferred from the end of its run.
A file may contain any times and numbers: here times never decrease, and every string is safe to show.
"""

import math
from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise
from typing import Final

import numpy as np

from dgtui.diffusion.events import BlockFinished, BlockStarted, Event, Finished, Frame, Ids, StopReason
from dgtui.diffusion.log import RunLog
from dgtui.errors import RecordingRefused
from dgtui.session.recording import Recording
from dgtui.steering.lengths import rank
from dgtui.text import decode_utf8, sanitize, truncate
from dgtui.tui.frames import GLOW_STEPS, View, view_at
from dgtui.tui.widgets import meters
from dgtui.tui.widgets.timeline import Bar, bars_of

IDLE: Final = 2.0
"""Most seconds that a replay waits for a step: long pauses of the run are shortened."""

_LONGEST: Final = 3600.0  # seconds; a longer time between two steps is treated as wrong
_MOST_RANKED: Final = 64


class RecordedRun:
    """The denoising steps of one candidate of a recorded run, over all blocks. Steps are counted from 0 here."""

    def __init__(self, recording: Recording, candidate: int | None = None) -> None:
        """`candidate` None means the one that a length search would propose first.

        Raises:
            RecordingRefused: The candidate has no denoising step.
        """
        log = recording.log
        self.recording = recording
        self.candidate = _best(log) if candidate is None else candidate
        self.stop_ids = stop_ids(recording)
        self._events = list(log)
        self._started = {e.block: e for e in log if isinstance(e, BlockStarted)}
        self._finished = {e.block: e for e in log.blocks(self.candidate)}
        self.frames: Sequence[Frame] = log.frames(candidate=self.candidate)
        if not self.frames:
            raise RecordingRefused("the recording has no denoising steps, so there is nothing to show")
        self.seconds = _forwards([frame.seconds for frame in self.frames])
        """Seconds from the run's start to the end of each step; never decreasing."""
        self.pace = _shortened(self.seconds)
        """The same without waits longer than `IDLE`, and with the first step at 0."""
        self._views: dict[int, View] = {}
        self._earlier: dict[int, tuple[bytes, ...]] = {}

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def candidates(self) -> int:
        """Number of canvases that were denoised together."""
        return self.recording.log.job.candidates

    @cached_property
    def entropies(self) -> tuple[float, ...]:
        """Mean entropy of each step, in nats."""
        return tuple(frame.mean_entropy for frame in self.frames)

    @cached_property
    def bars(self) -> list[Bar]:
        """The steps, for the timeline."""
        return bars_of(self.frames, self.recording.log.amended(self.candidate))

    @cached_property
    def block_ends(self) -> tuple[int, ...]:
        """The last step of each block."""
        last = {frame.block: at for at, frame in enumerate(self.frames)}
        return tuple(sorted(last.values()))

    def pieces(self, ids: Sequence[int]) -> list[bytes]:
        """The bytes of each id."""
        known = self.recording.pieces
        return [known.get(i, b"") for i in ids]

    def view(self, at: int) -> View:
        """The canvas after a step."""
        if at not in self._views:
            if len(self._views) > 64:
                self._views.clear()
            self._views[at] = view_at(self._window(at), self.frames[at].block, None, self.candidate, self.pieces,
                                     self.stop_ids)[1]  # fmt: skip
        return self._views[at]

    def _window(self, at: int) -> RunLog:
        """The part of the log that is needed to show one step."""
        frame = self.frames[at]
        earlier = self.frames[max(0, at - GLOW_STEPS - 1) : at]
        events: list[Event] = [self._started[frame.block], *(f for f in earlier if f.block == frame.block), frame]
        if at in self.block_ends and frame.block in self._finished:
            events.append(self._finished[frame.block])
        return RunLog(self.recording.log.job, events)

    def status(self, at: int) -> str:
        """`block 2 · step 9/48 · …`."""
        line = meters.status(self.frames[at], self.view(at), self.recording.log.job.seed)
        if self.candidates > 1:
            line += f" · candidate {self.candidate + 1} of {self.candidates}"
        return truncate(sanitize(line, newlines=False), 200)

    def meters(self, at: int, width: int) -> str:
        """The meters after a step, in one line of at most `width` cells."""
        until = RunLog(self.recording.log.job, self._events[: self._upto[at]])
        return meters.line(meters.measure(until, stop_ids=self.stop_ids, candidate=self.candidate), width)

    @cached_property
    def _upto(self) -> Sequence[int]:
        """For each step, the number of events up to the start of the next step."""
        ends: list[int] = []
        for index, event in enumerate(self._events):
            mine = isinstance(event, Frame) and event.candidate == self.candidate
            if (mine or isinstance(event, BlockStarted)) and ends and ends[-1] == len(self._events):
                ends[-1] = index
            if mine:
                ends.append(len(self._events))
        return ends

    def earlier(self, at: int) -> tuple[bytes, ...]:
        """The pieces of the reply's earlier blocks."""
        block = self.frames[at].block
        if block not in self._earlier:
            blocks = [*self.recording.log.job.blocks]
            blocks += [tuple(done.ids.tolist()) for n, done in sorted(self._finished.items()) if n < block]
            ids = [i for ids in blocks for i in ids]
            end = next((place for place, i in enumerate(ids) if i in self.stop_ids), len(ids))
            self._earlier[block] = tuple(self.pieces(ids[:end]))
        return self._earlier[block]

    def text(self, at: int, selection: tuple[int, int] | None = None) -> str:
        """The reply after a step, or the selected positions of its canvas. Not sanitised."""
        view = self.view(at)
        if selection:
            return decode_utf8(b"".join(view.pieces[slice(*selection)]))
        return decode_utf8(b"".join((*self.earlier(at), *view.pieces[: view.end])))

    @cached_property
    def prompt(self) -> str:
        """The last user message if it can be found by the markup, else the whole prompt. Not sanitised."""
        parts: list[list[int]] = [[]]
        for token in self.recording.log.job.prompt_ids:
            if token in self.recording.special_ids:
                parts.append([])
            else:
                parts[-1].append(token)
        texts = [decode_utf8(b"".join(self.pieces(part))) for part in parts]
        asked = [text.partition("\n")[2] for text in texts if text.startswith("user\n")]
        return (asked[-1] if asked else " ".join(text.strip() for text in texts if text.strip())).strip()

    def chosen(self, count: int) -> list[int]:
        """Evenly spaced steps, always including the last one and, if there are two or more, the first."""
        last = len(self) - 1
        if count < 2:
            return [last]
        count = min(count, last + 1)
        return sorted({round(i * last / max(1, count - 1)) for i in range(count)})


def stop_ids(recording: Recording) -> frozenset[int]:
    """The ids that ended the replies of a run: the id after each reply, and the ids that fill the canvas after that."""
    log, special = recording.log, recording.special_ids
    job, stops = log.job, set[int]()
    finished = log.finished
    newest: dict[int, Ids] = {}
    written = [[i for block in job.blocks for i in block] for _ in range(min(job.candidates, _MOST_RANKED))]
    for event in log:
        if isinstance(event, Frame | BlockFinished) and event.candidate < len(written):
            newest[event.candidate] = event.ids
            if isinstance(event, BlockFinished):
                written[event.candidate] += event.ids.tolist()
    if isinstance(finished, Finished) and finished.reason is StopReason.EOS:
        for ids, all_ids in zip(finished.token_ids, written, strict=False):
            stops.update(all_ids[len(ids) : len(ids) + 1])
    for ids in newest.values():
        stops |= _fill(ids, special)
    return frozenset(stops)


def _fill(ids: Ids, special: frozenset[int]) -> set[int]:
    """The special id that fills the end of a canvas, and the special id before it, which ended the reply."""
    fill = int(ids[-1]) if len(ids) else -1
    other = np.flatnonzero(ids != fill)
    first = int(other[-1]) + 1 if len(other) else 0
    if fill not in special or len(ids) - first < 2:
        return set()
    return {fill} | ({int(ids[first - 1])} & special if first else set())


def _best(log: RunLog) -> int:
    """The candidate that a length search would propose first; 0 for other runs."""
    if not 1 < log.job.candidates <= _MOST_RANKED or any(not f.top_probs.shape[1] for f in log.frames()[:1]):
        return 0
    ranked = rank(log)
    return ranked[0].candidate if ranked else 0


def _forwards(seconds: Sequence[float]) -> tuple[float, ...]:
    """Times that never decrease and never jump, whatever the file says."""
    now = last = 0.0
    times = []
    for time in seconds:
        if math.isfinite(time):
            now += min(max(0.0, time - last), _LONGEST)
            last = max(last, min(time, last + _LONGEST))
        times.append(now)
    return tuple(times)


def _shortened(seconds: Sequence[float]) -> tuple[float, ...]:
    now, times = 0.0, [0.0]
    for before, after in pairwise(seconds):
        now += min(after - before, IDLE)
        times.append(now)
    return tuple(times)
