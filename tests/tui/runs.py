"""Logs made by hand: four places a block, and seconds that are known."""

from collections.abc import Sequence

import numpy as np

from dgtui.diffusion.events import BlockFinished, BlockStarted, Event, Finished, Flag, Frame, StopReason
from dgtui.diffusion.job import Job
from dgtui.diffusion.log import RunLog

CANVAS = 4
STOP = 9
STOP_IDS = frozenset({STOP, 8})
SURE = [Flag.ACCEPTED] * CANVAS


def log(*events: Event, max_tokens: int = 100, blocks: Sequence[tuple[int, ...]] = ()) -> RunLog:
    return RunLog(Job("run", (1,), 4711, max_tokens, blocks=tuple(blocks)), events)


def started(seconds: float, *, block: int = 0, pinned: Sequence[int] = (), candidates: int = 1) -> BlockStarted:
    mask = np.zeros(CANVAS, np.bool_)
    mask[list(pinned)] = True
    canvas = np.array([5, 6, 7, 5], np.int32)
    return BlockStarted(
        "run", block, (canvas,) * candidates, (mask,) * candidates, (b"",) * candidates, 48, 48, seconds
    )  # fmt: skip


def frame(
    seconds: float, step: int, ids: Sequence[int], flags: Sequence[int], *, block: int = 0, candidate: int = 0,
    entropy: float = 0.4,
) -> Frame:  # fmt: skip
    drafted = np.array(ids, np.int32)
    return Frame(
        "run", candidate, block, step, 48, drafted, drafted, np.full(CANVAS, entropy, np.float32),
        np.array(flags, np.uint8), drafted[:, None], np.ones((CANVAS, 1), np.float32), entropy, 0.714, seconds,
    )  # fmt: skip


def done(
    seconds: float, ids: Sequence[int], steps: int, *, block: int = 0, settled: bool = True, candidate: int = 0
) -> BlockFinished:
    return BlockFinished("run", candidate, block, np.array(ids, np.int32), steps, settled, seconds)


def finished(seconds: float, ids: Sequence[int], steps: Sequence[int], reason: StopReason = StopReason.EOS) -> Finished:
    return Finished("run", reason, (np.array(ids, np.int32),), tuple(steps), seconds)
