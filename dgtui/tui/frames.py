"""From a run's log to what the canvas shows: the frame of a step, and which of its places have settled.

A place has settled when it was accepted, or held, in this step and the one before; all have once the block is finished
and stable. What lies behind a settled end of the reply is fill, and not shown.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from dgtui.diffusion.events import BlockFinished, BlockStarted, Flag, Frame, Ids
from dgtui.diffusion.log import RunLog
from dgtui.tui.widgets.canvas_view import View

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Pieces = Callable[[Sequence[int]], Sequence[bytes]]
"""The bytes of each of some ids."""

UNKNOWN_NATS: Final = 3.0
"""Entropy of a place that no step has looked at: the undecided end of the ramp."""


def view_at(
    log: RunLog, block: int, step: int | None, candidate: int, pieces_of: Pieces, stop_ids: frozenset[int]
) -> tuple[Frame | None, View]:
    """What a candidate's canvas held after a step.

    Args:
        log: The run; it may be going on.
        block: Index of the block, as in the frames.
        step: 1 for the first one taken, 0 for the canvas before it, None for the newest. For one that was not taken,
            the last that was.
        candidate: Which of the canvases that are refined together.
        pieces_of: The bytes of each of some ids.
        stop_ids: The ids that end a reply.

    Returns:
        The frame, None where no step was taken; and its view, empty while the block has not begun.
    """
    import numpy as np

    started, frames, finished = _course(log, block, candidate)
    at = len(frames) if step is None else max(0, min(step, len(frames)))
    ended = finished is not None and at == len(frames)
    if at:
        frame = frames[at - 1]
        settled = _kept(frame.flags) & (_kept(frames[at - 2].flags) if at > 1 else False)
        settled |= (frame.flags & Flag.PINNED).astype(np.bool_)
        ids, entropy, flags = frame.ids, frame.entropy, frame.flags
    elif started is not None:
        frame = None
        settled = started.pinned[candidate].copy()
        ids = finished.ids if finished and ended else started.canvas[candidate]
        entropy = np.where(settled, 0.0, UNKNOWN_NATS).astype(np.float32)
        flags = np.where(settled, np.uint8(Flag.PINNED), np.uint8(Flag.RENOISED))
    else:
        return None, View((), np.empty(0, np.float32), np.empty(0, np.uint8), np.empty(0, np.bool_), 0)
    if ended and finished and finished.settled:
        settled = np.ones(len(ids), dtype=np.bool_)
    end = _end(ids, settled | ended, stop_ids)
    return frame, View(tuple(pieces_of(ids.tolist())), entropy, flags, settled, end)


def _course(log: RunLog, block: int, candidate: int) -> tuple[BlockStarted | None, list[Frame], BlockFinished | None]:
    """What there is of a block so far. Read from the end: it is mostly the newest block that is asked for."""
    frames: list[Frame] = []
    finished: BlockFinished | None = None
    for index in range(len(log) - 1, -1, -1):
        event = log[index]
        if not isinstance(event, BlockStarted | Frame | BlockFinished) or event.block != block:
            continue
        if isinstance(event, BlockStarted):
            return event, frames[::-1], finished
        if event.candidate != candidate:
            continue
        if isinstance(event, Frame):
            frames.append(event)
        else:
            finished = event
    return None, [], None


def _kept(flags: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    import numpy as np

    return (flags & (Flag.ACCEPTED | Flag.PINNED)).astype(np.bool_)


def _end(ids: Ids, settled: npt.NDArray[np.bool_], stop_ids: frozenset[int]) -> int:
    """The first place where the reply's end has settled, or the canvas's length."""
    import numpy as np

    ends = np.flatnonzero(np.isin(ids, list(stop_ids)) & settled)
    return int(ends[0]) if len(ends) else len(ids)
