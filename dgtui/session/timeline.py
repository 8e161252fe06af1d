"""Packs the steps of a stored reply into few bytes: enough to show its timeline, but not for an exact fork.

It holds ids, entropies and flags of one candidate, step by step, without prompt, alternatives and random states, packed
like a recording and compressed. Entropies are rounded to 1/64 nat, which is not visible in colours. If a run is too
large, every second step except the last ones is dropped until it fits.
"""

import json
import zlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

import numpy as np
import safetensors
import safetensors.numpy

from dgtui.diffusion.events import Amended, BlockFinished, BlockStarted, Event, Finished, Frame
from dgtui.diffusion.job import Job, Start
from dgtui.diffusion.log import RunLog
from dgtui.session.run_pack import Contents, pack, unpack
from dgtui.session.run_schema import Malformed

MOST_BYTES: Final = 2**18
"""Most bytes of a packed timeline."""
MOST_UNPACKED: Final = 2**25
"""Most bytes to unpack: 256 positions take about 5 kB per step."""
_LAST: Final = 3
"""Number of last steps of a block that are always kept: two are needed to tell which positions have settled."""
_GRAINS: Final = 64


def pack_timeline(log: RunLog, candidate: int = 0) -> bytes:
    """Packs the steps of a candidate. Empty for a run without steps, or one that cannot be made small enough.

    Args:
        log: Of a run, finished or not. Pass a copy if it still grows.
        candidate: Which of the canvases that were denoised together.
    """
    small = RunLog(_job(log.job, candidate), _events(log, candidate))
    for _ in range(8):
        if not small.frames():
            break
        arrays, facts = pack(small)
        if sum(array.nbytes for array in arrays.values()) <= MOST_UNPACKED:
            packed = zlib.compress(safetensors.numpy.save(arrays, {"json": json.dumps(facts)}), 6)
            if len(packed) <= MOST_BYTES:
                return packed
        small = RunLog(small.job, _thinned(small))
    return b""


def unpack_timeline(packed: bytes) -> RunLog:
    """Returns the steps as the log of a run without a prompt.

    Raises:
        Malformed: The bytes are damaged, or were not packed by `pack`.
    """
    try:
        inflate = zlib.decompressobj()
        data = inflate.decompress(packed, MOST_UNPACKED + 2**20)
        if not inflate.eof:
            raise Malformed("the timeline is cut short or too large")
        arrays = safetensors.numpy.load(data)
        size = int.from_bytes(data[:8], "little")
        facts = json.loads(json.loads(data[8 : 8 + size])["__metadata__"]["json"])
        return unpack(Contents(arrays), facts)
    except (zlib.error, safetensors.SafetensorError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise Malformed(f"the timeline is damaged: {error}") from error


def _job(job: Job, candidate: int) -> Job:
    start = job.starts[candidate] if len(job.starts) > candidate else Start()
    return replace(job, id="stored", prompt_ids=(0,), images=(), starts=(start,), fork=None)


def _events(log: RunLog, candidate: int) -> Iterator[Event]:
    """The events of one candidate, reduced to what the timeline shows."""
    none = np.zeros(0, np.int32)
    for event in log:
        if isinstance(event, BlockStarted):
            canvas = np.zeros_like(event.canvas[candidate])
            yield replace(event, job="stored", canvas=(canvas,), pinned=(event.pinned[candidate],), rng=(b"",))
        elif isinstance(event, Finished):
            ids = event.token_ids[candidate] if len(event.token_ids) > candidate else none
            yield replace(event, job="stored", token_ids=(ids,))
        elif event.candidate != candidate:
            continue
        elif isinstance(event, Frame):
            places = len(event.ids)
            yield replace(
                event, job="stored", candidate=0, canvas=np.zeros_like(event.ids),
                entropy=np.round(event.entropy * _GRAINS) / np.float32(_GRAINS),
                top_ids=np.zeros((places, 0), np.int32), top_probs=np.zeros((places, 0), np.float32),
            )  # fmt: skip
        elif isinstance(event, BlockFinished):
            yield replace(event, job="stored", candidate=0, log_probs=None)
        elif isinstance(event, Amended):
            yield replace(event, job="stored", candidate=0)


def _thinned(log: RunLog) -> Iterator[Event]:
    """The events with about half as many steps of each block."""
    last = {frame.block: len(log.frames(frame.block)) for frame in log.frames()}
    seen: dict[int, int] = {}
    for event in log:
        if isinstance(event, Frame):
            at = seen[event.block] = seen.get(event.block, 0) + 1
            if at % 2 == 0 and at <= last[event.block] - _LAST:
                continue
        yield event
