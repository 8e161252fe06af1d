"""A recording as a row of steps: what was on the canvas after each, what was known of the run then, and when it was.

Works without a model. A recording does not say which ids end a reply; how its run ended does. Times and numbers of a
file may be anything: here they go forwards, and every string is safe to show.
"""

import math
from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise
from typing import Final

import numpy as np

from dgtui.diffusion.events import BlockFinished, BlockStarted, Event, Finished, Frame, Ids, StopReason
from dgtui.diffusion.lengths import rank
from dgtui.diffusion.log import RunLog
from dgtui.errors import RecordingRefused
from dgtui.session.recording import Recording
from dgtui.text import decode_utf8, sanitize, truncate
from dgtui.tui.frames import view_at
from dgtui.tui.widgets import meters
from dgtui.tui.widgets.canvas_view import View

IDLE: Final = 2.0
"""Seconds that a film waits for a step at most: nobody wants to see a coffee break again."""

_LONGEST: Final = 3600.0  # seconds between steps that are believed
_MOST_RANKED: Final = 64


class Course:
    """The denoising steps of one candidate of a recorded run, over all blocks. Steps are counted from 0 here."""

    def __init__(self, recording: Recording, candidate: int | None = None) -> None:
        """`candidate` None: the one that a length search would propose first.

        Raises:
            RecordingRefused: The candidate took no step.
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
            raise RecordingRefused("the recording holds no denoising step: there is nothing to show")
        self.seconds = _forwards([frame.seconds for frame in self.frames])
        "when each step was done, since the run's start; never decreasing"
        self.pace = _shortened(self.seconds)
        "the same with no wait longer than `IDLE`, and none before the first step"
        self._seen: dict[int, View] = {}

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def candidates(self) -> int:
        """How many canvases were refined together."""
        return self.recording.log.job.candidates

    @cached_property
    def entropies(self) -> tuple[float, ...]:
        """Mean entropy of each step, in nats."""
        return tuple(frame.mean_entropy for frame in self.frames)

    @cached_property
    def block_ends(self) -> tuple[int, ...]:
        """The last step of each block."""
        last = {frame.block: at for at, frame in enumerate(self.frames)}
        return tuple(sorted(last.values()))

    def pieces(self, ids: Sequence[int]) -> list[bytes]:
        """The bytes of each of some ids."""
        known = self.recording.pieces
        return [known.get(i, b"") for i in ids]

    def view(self, at: int) -> View:
        """The canvas after a step."""
        if at not in self._seen:
            if len(self._seen) > 64:
                self._seen.clear()
            self._seen[at] = view_at(self._window(at), self.frames[at].block, None, self.candidate, self.pieces,
                                     self.stop_ids)[1]  # fmt: skip
        return self._seen[at]

    def _window(self, at: int) -> RunLog:
        """As much of the log as says what a step looked like."""
        frame, before = self.frames[at], self._before[at]
        events: list[Event] = [self._started[frame.block]]
        if before is not None:
            events.append(self.frames[before])
        events.append(frame)
        if at in self.block_ends and frame.block in self._finished:
            events.append(self._finished[frame.block])
        return RunLog(self.recording.log.job, events)

    @cached_property
    def _before(self) -> Sequence[int | None]:
        """The step before in the same block."""
        last: dict[int, int] = {}
        found: list[int | None] = []
        for at, frame in enumerate(self.frames):
            found.append(last.get(frame.block))
            last[frame.block] = at
        return found

    def status(self, at: int) -> str:
        """`block 2 · step 9/48 · …`."""
        line = meters.status(self.frames[at], self.view(at), self.recording.log.job.seed)
        if self.candidates > 1:
            line += f" · candidate {self.candidate + 1} of {self.candidates}"
        return truncate(sanitize(line, newlines=False), 200)

    def meters(self, at: int, width: int) -> str:
        """The meters as they stood then, in one line."""
        until = RunLog(self.recording.log.job, self._events[: self._upto[at]])
        return meters.line(meters.measure(until, now=None, stop_ids=self.stop_ids, candidate=self.candidate), width)

    @cached_property
    def _upto(self) -> Sequence[int]:
        """How far the log goes with each step: up to what begins the next one."""
        found: list[int] = []
        for index, event in enumerate(self._events):
            mine = isinstance(event, Frame) and event.candidate == self.candidate
            if (mine or isinstance(event, BlockStarted)) and found and found[-1] == len(self._events):
                found[-1] = index
            if mine:
                found.append(len(self._events))
        return found

    def earlier(self, at: int) -> tuple[bytes, ...]:
        """The pieces of the reply's blocks before the one of a step."""
        block = self.frames[at].block
        if block not in self._earlier:
            blocks = [*self.recording.log.job.blocks]
            blocks += [tuple(done.ids.tolist()) for n, done in sorted(self._finished.items()) if n < block]
            ids = [i for ids in blocks for i in ids]
            end = next((place for place, i in enumerate(ids) if i in self.stop_ids), len(ids))
            self._earlier[block] = tuple(self.pieces(ids[:end]))
        return self._earlier[block]

    @cached_property
    def _earlier(self) -> dict[int, tuple[bytes, ...]]:
        return {}

    def text(self, at: int, selection: tuple[int, int] | None = None) -> str:
        """The reply as it was after a step, or selected places of its canvas. Not sanitised."""
        view = self.view(at)
        if selection:
            return decode_utf8(b"".join(view.pieces[slice(*selection)]))
        return decode_utf8(b"".join((*self.earlier(at), *view.pieces[: view.end])))

    @cached_property
    def prompt(self) -> str:
        """What was last said to the model, as far as markup tells; else all of the prompt. Not sanitised."""
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
        """Steps spread evenly, the last one among them and, if there are two or more, the first."""
        last = len(self) - 1
        if count < 2:
            return [last]
        count = min(count, last + 1)
        return sorted({round(i * last / max(1, count - 1)) for i in range(count)})


def stop_ids(recording: Recording) -> frozenset[int]:
    """The ids that ended the replies of a run: what stands behind them, and what fills the canvas behind that."""
    log, special = recording.log, recording.special_ids
    job, found = log.job, set[int]()
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
            found.update(all_ids[len(ids) : len(ids) + 1])
    for ids in newest.values():
        found |= _fill(ids, special)
    return frozenset(found)


def _fill(ids: Ids, special: frozenset[int]) -> set[int]:
    """The markup that fills the end of a canvas, and the markup before that, which ended the reply."""
    fill = int(ids[-1]) if len(ids) else -1
    other = np.flatnonzero(ids != fill)
    first = int(other[-1]) + 1 if len(other) else 0
    if fill not in special or len(ids) - first < 2:
        return set()
    return {fill} | ({int(ids[first - 1])} & special if first else set())


def _best(log: RunLog) -> int:
    """The candidate that a length search proposes first; 0 for other runs."""
    if not 1 < log.job.candidates <= _MOST_RANKED or any(not f.top_probs.shape[1] for f in log.frames()[:1]):
        return 0
    ranked = rank(log)
    return ranked[0].candidate if ranked else 0


def _forwards(seconds: Sequence[float]) -> tuple[float, ...]:
    """Times that never go back and make no leap, whatever the file says."""
    now = last = 0.0
    found = []
    for time in seconds:
        if math.isfinite(time):
            now += min(max(0.0, time - last), _LONGEST)
            last = max(last, min(time, last + _LONGEST))
        found.append(now)
    return tuple(found)


def _shortened(seconds: Sequence[float]) -> tuple[float, ...]:
    now, found = 0.0, [0.0]
    for before, after in pairwise(seconds):
        now += min(after - before, IDLE)
        found.append(now)
    return tuple(found)
