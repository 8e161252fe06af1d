"""Computes what the canvas shows from the log of a run: the frame of a denoising step, and the settled positions.

A position has settled when it was accepted or pinned in this step and the one before; all have settled when the block
has ended and is stable. Positions after a settled end of the reply are padding and are not shown.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from dgtui.diffusion.events import BlockFinished, BlockStarted, Flag, Floats, Frame, Ids
from dgtui.diffusion.log import RunLog
from dgtui.text import decode_utf8

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Pieces = Callable[[Sequence[int]], Sequence[bytes]]
"""The bytes of each of some ids."""

HELD: Final = 16
"""A flag in addition to `events.Flag`: pinned for one run, but not by the user."""

GLOW_STEPS: Final = 3
"""Number of steps for which a newly settled position glows."""

UNKNOWN_NATS: Final = 3.0
"""Entropy that is shown before the first step: the undecided end of the ramp."""


UNSETTLED: Final = "…".encode()
"""What stands for tokens that have not settled."""


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """What is on the canvas. Arrays have one entry per position."""

    pieces: tuple[bytes, ...]
    "the bytes of each token, possibly a part of a character"
    entropy: Floats
    "nats"
    flags: npt.NDArray[np.uint8]
    "combinations of `events.Flag` and `HELD`"
    settled: npt.NDArray[np.bool_]
    "settled positions, where blanks and line breaks take effect"
    end: int
    "positions from here on are padding after the end of the reply, and are not drawn"
    glow: npt.NDArray[np.uint8] | None = None
    "`GLOW_STEPS` where a position settled in this step, one less for each step since, down to 0; None: nothing glows"


def view_at(
    log: RunLog, block: int, step: int | None, candidate: int, pieces_of: Pieces, stop_ids: frozenset[int]
) -> tuple[Frame | None, View]:
    """The canvas of a candidate after a step.

    Args:
        log: The run, which may still be running.
        block: Index of the block, as in the frames.
        step: 1 for the first, 0 for the canvas before it, None for the newest. The last one for a step that was not
            taken.
        candidate: Which of the canvases that are denoised together.
        pieces_of: The bytes of each of some ids.
        stop_ids: The ids that end a reply.

    Returns:
        The frame, None before the first step; and its view, empty before the block has started.
    """
    import numpy as np

    started, frames, finished = _events_of(log, block, candidate)
    at = len(frames) if step is None else max(0, min(step, len(frames)))
    ended = finished is not None and at == len(frames)
    glow = None
    if at:
        frame = frames[at - 1]
        settled = _settled(frames, at)
        glow = np.zeros(len(settled), np.uint8)
        for ago in range(GLOW_STEPS, 0, -1):
            before = _settled(frames, at - ago) if at > ago else (frame.flags & Flag.PINNED).astype(np.bool_)
            glow[settled & ~before] = GLOW_STEPS + 1 - ago
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
        # No step follows, so what the last one would have redrawn is part of the result, and not noise.
        settled, glow, flags = np.ones(len(ids), dtype=np.bool_), None, flags & ~np.uint8(Flag.RENOISED)
    end = _end(ids, settled | ended, stop_ids)
    return frame, View(tuple(pieces_of(ids.tolist())), entropy, flags, settled, end, glow)


def settled_text(view: View) -> str:
    """The settled text of a canvas, with a sign for each part that has not settled."""
    pieces: list[bytes] = []
    for piece, settled in zip(view.pieces[: view.end], view.settled, strict=False):
        if settled or pieces[-1:] != [UNSETTLED]:
            pieces.append(piece if settled else UNSETTLED)
    return decode_utf8(b"".join(pieces))


def with_pins(view: View, pins: frozenset[int], *, others: bool) -> View:
    """The view with the user's pins marked; `others`: other positions that the run pins are marked `HELD`."""
    import numpy as np

    flags = view.flags & ~np.uint8(Flag.PINNED)
    if others:
        flags[(view.flags & Flag.PINNED).astype(np.bool_)] = HELD
    if len(flags):
        flags[list(pins)] |= np.uint8(Flag.PINNED)
    return replace(view, flags=flags)


def _events_of(
    log: RunLog, block: int, candidate: int
) -> tuple[BlockStarted | None, list[Frame], BlockFinished | None]:
    """The events of a block so far. Read from the end, because the newest block is needed most often."""
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


def _settled(frames: Sequence[Frame], count: int) -> npt.NDArray[np.bool_]:
    """The settled positions after the first `count` frames of a block."""
    import numpy as np

    frame = frames[count - 1]
    kept = _kept(frame.flags) & (_kept(frames[count - 2].flags) if count > 1 else False)
    return kept | (frame.flags & Flag.PINNED).astype(np.bool_)


def _kept(flags: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    import numpy as np

    return (flags & (Flag.ACCEPTED | Flag.PINNED)).astype(np.bool_)


def _end(ids: Ids, settled: npt.NDArray[np.bool_], stop_ids: frozenset[int]) -> int:
    """The first position with a settled stop id, or the length of the canvas."""
    import numpy as np

    ends = np.flatnonzero(np.isin(ids, list(stop_ids)) & settled)
    return int(ends[0]) if len(ends) else len(ids)
