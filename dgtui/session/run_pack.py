"""A run log taken apart into named arrays and a small JSON object: what is inside a recording.

Frames are stacked (F frames × C places × K alternatives), rows of unequal length lie end to end beside their lengths.
`run_unpack` is the way back.
"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from dgtui.diffusion.events import Action, Amended, BlockFinished, BlockStarted, Finished, Frame, Ids
from dgtui.diffusion.job import Job, Start
from dgtui.diffusion.log import RunLog

Array = npt.NDArray[Any]

KINDS: Final = (BlockStarted, Frame, Amended, BlockFinished, Finished)
"""The kinds of events, in the order of their numbers in a file. Never to be reordered."""
ACTIONS: Final = (Action.PIN, Action.UNPIN)
"""The same for actions."""


def occurring_ids(log: RunLog) -> Ids:
    """(N,) every token id that a log shows, alternatives and noise included, ascending."""
    job = log.job
    found: list[Any] = [job.prompt_ids, *job.blocks, *(start.ids or () for start in {*job.starts})]
    if job.fork:
        found.append([a.token for _, a in job.fork.amendments if a.token is not None])
    for event in log:
        match event:
            case BlockStarted():
                found += event.canvas
            case Frame():
                found += [event.ids, event.canvas, event.top_ids]
            case Amended():
                found.append([event.token])
            case BlockFinished():
                found.append(event.ids)
            case Finished():
                found += event.token_ids
    return np.unique(np.concatenate([np.unique(np.asarray(ids, dtype=np.int32)) for ids in found]))


def ragged(rows: Sequence[Any], dtype: npt.DTypeLike) -> tuple[Array, Array]:
    """Rows of any lengths as values (N,) and lengths (rows,)."""
    arrays = [np.asarray(row, dtype=dtype) for row in rows]
    return np.concatenate([np.zeros(0, dtype=dtype), *arrays]), np.array([len(a) for a in arrays], dtype=np.int64)


def as_bytes(data: bytes) -> Array:
    """(N,) uint8."""
    return np.frombuffer(data, dtype=np.uint8)


def _stacked(rows: Sequence[Any], shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
    stacked = np.zeros((len(rows), *shape), dtype=dtype)
    for at, row in enumerate(rows):
        if np.shape(row) != shape:  # numpy would broadcast it
            raise ValueError(f"an array of a run has shape {np.shape(row)} where others have {shape}")
        stacked[at] = row
    return stacked


def pack(log: RunLog) -> tuple[dict[str, Array], dict[str, Any]]:
    """The arrays of a run by name, and the rest of it as JSON can hold it.

    Raises `ValueError` for events that are not of one run: another job's id, canvases of several lengths.
    """
    events, job = list(log), log.job
    if any(event.job != job.id for event in events):
        raise ValueError(f"an event is not of job {job.id!r}")
    started = [e for e in events if isinstance(e, BlockStarted)]
    frames = [e for e in events if isinstance(e, Frame)]
    amended = [e for e in events if isinstance(e, Amended)]
    blocks = [e for e in events if isinstance(e, BlockFinished)]
    ends = [e for e in events if isinstance(e, Finished)]
    if any({len(e.canvas), len(e.pinned), len(e.rng)} != {job.candidates} for e in started):
        raise ValueError(f"a block does not have {job.candidates} candidates")
    length = len(started[0].canvas[0]) if started else 0
    top_k = frames[0].top_ids.shape[1] if frames else 0
    changes = [(e.candidate, e.block, e.step, e.position, ACTIONS.index(e.action), e.token) for e in amended]

    arrays: dict[str, Array] = {
        "order": np.array([KINDS.index(type(e)) for e in events], dtype=np.uint8),
        "started.canvas": _stacked([ids for e in started for ids in e.canvas], (length,), np.int32),
        "started.pinned": _stacked([mask for e in started for mask in e.pinned], (length,), np.uint8),
        "frames.numbers": _stacked([(e.candidate, e.block, e.step, e.max_steps) for e in frames], (4,), np.int32),
        "frames.measures": _stacked([(e.mean_entropy, e.temperature, e.seconds) for e in frames], (3,), np.float64),
        "frames.ids": _stacked([e.ids for e in frames], (length,), np.int32),
        "frames.canvas": _stacked([e.canvas for e in frames], (length,), np.int32),
        "frames.entropy": _stacked([e.entropy for e in frames], (length,), np.float32),
        "frames.flags": _stacked([e.flags for e in frames], (length,), np.uint8),
        "frames.top_ids": _stacked([e.top_ids for e in frames], (length, top_k), np.int32),
        "frames.top_probs": _stacked([e.top_probs for e in frames], (length, top_k), np.float32),
        "amended": _stacked(changes, (6,), np.int32),
        "blocks.ids": _stacked([e.ids for e in blocks], (length,), np.int32),
        "blocks.log_probs": _stacked([e.log_probs for e in blocks if e.log_probs is not None], (length,), np.float32),
    }
    for name, rows, dtype in (
        ("started.rng", [as_bytes(state) for e in started for state in e.rng], np.uint8),
        ("finished.token_ids", [ids for e in ends for ids in e.token_ids], np.int32),
        ("job.blocks", job.blocks, np.int32),
    ):
        arrays[name], arrays[f"{name}.lengths"] = ragged(rows, dtype)
    arrays |= _job_arrays(job)
    return arrays, {
        "job": _job_facts(job),
        "canvas_length": length,
        "top_k": top_k,
        "started": [[e.block, e.max_steps, e.remaining, e.seconds] for e in started],
        "blocks": [[e.candidate, e.block, e.steps, e.settled, e.seconds, e.log_probs is not None] for e in blocks],
        "finished": [[e.reason.value, list(e.steps), e.seconds] for e in ends],
    }


def _job_arrays(job: Job) -> dict[str, Array]:
    arrays: dict[str, Array] = {
        "job.prompt_ids": np.array(job.prompt_ids, dtype=np.int32),
        "job.suppressed": np.array(sorted(job.suppressed), dtype=np.int32),
    }
    starts = _start_rows(job)
    for name, rows in (
        ("job.starts.ids", [start.ids or () for start in starts]),
        ("job.starts.pinned", [sorted(start.pinned) for start in starts]),
    ):
        arrays[name], arrays[f"{name}.lengths"] = ragged(rows, np.int32)
    if job.fork:
        arrays["job.fork.rng"] = as_bytes(job.fork.rng)
    for i, image in enumerate(job.images):
        arrays |= {f"job.images.{i}.patches": image.patches, f"job.images.{i}.positions": image.positions}
    return arrays


def _start_rows(job: Job) -> tuple[Start, ...]:
    """One row if all candidates start alike, else a default start and then one row per candidate."""
    return job.starts[:1] if len({*job.starts}) == 1 else (Start(), *job.starts)


def _job_facts(job: Job) -> dict[str, Any]:
    fork = job.fork
    return {
        "id": job.id,
        "seed": job.seed,
        "max_tokens": job.max_tokens,
        "candidates": job.candidates,
        "likelihood": job.likelihood,
        "settings": asdict(job.settings),
        "starts": [[s.strength, s.noised, s.ids is not None] for s in _start_rows(job)],
        "fork": fork
        and {
            "amendments": [[step, a.position, a.action.value, a.token, a.candidate] for step, a in fork.amendments],
            "reseeds": [list(reseed) for reseed in fork.reseeds],
        },
    } | ({"images": [image.tokens for image in job.images]} if job.images else {})
