"""Converts a run log to named arrays and a small JSON object, and back, using the tables of `run_schema`.

Reading trusts nothing. Every array, index and number is checked before use; invalid ones raise `Malformed`. Memory use
is proportional to the size of the arrays, whatever numbers they contain.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt

from dgtui.diffusion.events import Action, BlockStarted, Event, Finished, Frame, Ids
from dgtui.diffusion.image import Image
from dgtui.diffusion.job import Amendment, Fork, Job, SamplerSettings, Start
from dgtui.diffusion.log import RunLog
from dgtui.diffusion.settings import SAMPLER
from dgtui.session.run_schema import (
    INT,
    JOB,
    KINDS,
    LONG,
    MOST_ENTRIES,
    Array,
    Column,
    Kind,
    Malformed,
    Sizes,
    typed,
    whole,
)  # fmt: skip

_TOKENS = ("ids", "canvas", "top_ids", "token", "token_ids")
"""The fields of events that are token ids."""


def occurring_ids(log: RunLog) -> Ids:
    """(N,) all token ids in a log, including alternatives and noise, ascending."""
    job = log.job
    found: list[Any] = [job.prompt_ids, *job.blocks, *(start.ids or () for start in {*job.starts})]
    if job.fork:
        found.append([a.token for _, a in job.fork.amendments if a.token is not None])
    for event in log:
        for name in _TOKENS:
            value = getattr(event, name, ())
            found += value if isinstance(value, tuple) else [value]
    return np.unique(np.concatenate([np.unique(np.asarray(ids, dtype=np.int32)) for ids in found]))


def ragged(rows: Sequence[Any], dtype: npt.DTypeLike) -> tuple[Array, Array]:
    """Rows of different lengths as values (N,) and lengths (rows,)."""
    arrays = [np.frombuffer(r, np.uint8) if isinstance(r, bytes) else np.asarray(r, dtype=dtype) for r in rows]
    return np.concatenate([np.zeros(0, dtype=dtype), *arrays]), np.array([len(a) for a in arrays], dtype=np.int64)


def _stacked(rows: Sequence[Any], shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
    stacked = np.zeros((len(rows), *shape), dtype=dtype)
    for at, row in enumerate(rows):
        if np.shape(row) != shape:  # numpy would broadcast it
            raise ValueError(f"an array of a run has shape {np.shape(row)} where others have {shape}")
        stacked[at] = row
    return stacked


def pack(log: RunLog) -> tuple[dict[str, Array], dict[str, Any]]:
    """The arrays of a run by name, and its other data in JSON types.

    Raises `ValueError` for events of different runs: another job's id, or canvases of different lengths.
    """
    events, job = list(log), log.job
    if any(event.job != job.id for event in events):
        raise ValueError(f"an event is not of job {job.id!r}")
    started = [e for e in events if isinstance(e, BlockStarted)]
    frame = next((e for e in events if isinstance(e, Frame)), None)
    if any({len(e.canvas), len(e.pinned), len(e.rng)} != {job.candidates} for e in started):
        raise ValueError(f"a block does not have {job.candidates} candidates")
    sizes = Sizes(job.candidates, len(started[0].canvas[0]) if started else 0, frame.top_ids.shape[1] if frame else 0)
    arrays, job_facts = _pack_job(job)
    facts: dict[str, Any] = {"job": job_facts, "canvas_length": sizes.places, "top_k": sizes.top_k}
    numbers = {kind.event: number for number, kind in enumerate(KINDS)}
    arrays["order"] = np.array([numbers[type(event)] for event in events], dtype=np.uint8)
    for kind in KINDS:
        own = [event for event in events if isinstance(event, kind.event)]
        for rows in kind.rows:
            table = [[value.write(getattr(event, value.field)) for value in rows.values] for event in own]
            if rows.dtype is None:
                facts[rows.name] = table
            else:
                arrays[rows.name] = _stacked(table, (len(rows.values),), rows.dtype)
        for column in kind.columns:
            _pack_column(arrays, column, [getattr(event, column.field) for event in own], sizes)
    return arrays, facts


def _pack_column(arrays: dict[str, Array], column: Column, values: list[Any], sizes: Sizes) -> None:
    if column.per_candidate:
        values = [array for candidates in values for array in candidates]
    if column.optional:
        values = [array for array in values if array is not None]
    if column.shape is None:
        arrays[column.name], arrays[f"{column.name}.lengths"] = ragged(values, column.dtype)
    else:
        arrays[column.name] = _stacked(values, column.shape(sizes), column.dtype)


def _pack_job(job: Job) -> tuple[dict[str, Array], dict[str, Any]]:
    fork = job.fork
    # One row if all candidates have the same start, else a default start and then one row per candidate
    starts = job.starts[:1] if len({*job.starts}) == 1 else (Start(), *job.starts)
    arrays: dict[str, Array] = {
        "job.prompt_ids": np.array(job.prompt_ids, dtype=np.int32),
        "job.suppressed": np.array(sorted(job.suppressed), dtype=np.int32),
    }
    for name, rows in (
        ("job.blocks", job.blocks),
        ("job.starts.ids", [start.ids or () for start in starts]),
        ("job.starts.pinned", [sorted(start.pinned) for start in starts]),
    ):
        arrays[name], arrays[f"{name}.lengths"] = ragged(rows, np.int32)
    if fork:
        arrays["job.fork.rng"] = np.frombuffer(fork.rng, dtype=np.uint8)
    for i, image in enumerate(job.images):
        arrays |= {f"job.images.{i}.patches": image.patches, f"job.images.{i}.positions": image.positions}
    facts = {value.field: getattr(job, value.field) for value in JOB} | {
        "settings": {name: value for name, value in asdict(job.settings).items() if value or name != "proofread"},
        "starts": [[start.strength, start.noised, start.ids is not None] for start in starts],
        "fork": fork
        and {
            "amendments": [[step, a.position, a.action.value, a.token, a.candidate] for step, a in fork.amendments],
            "reseeds": [list(reseed) for reseed in fork.reseeds],
        },
    }
    return arrays, facts | ({"images": [image.tokens for image in job.images]} if job.images else {})


# -- reading -----------------------------------------------------------------------------------------------------------


class Contents:
    """The arrays of a recording: checked when taken, then read-only."""

    def __init__(self, arrays: Mapping[str, Array]) -> None:
        self._arrays = arrays

    def take(self, name: str, dtype: npt.DTypeLike, *shape: int | None, most: int | None = None) -> Array:
        """A required array of this type and shape (None: any length).

        `most`: if given, all values must be from 0 to this.
        """
        array = self._arrays.get(name)
        if array is None:
            raise Malformed(f"{name} is missing")
        fits = array.ndim == len(shape) and all(s in (None, n) for s, n in zip(shape, array.shape, strict=True))
        if array.dtype != np.dtype(dtype) or not fits:
            raise Malformed(f"{name} is {array.dtype} of shape {array.shape}")
        if most is not None and array.size and not (array.min() >= 0 and array.max() <= most):
            raise Malformed(f"{name} has a value outside 0 to {most}")
        array.flags.writeable = False
        return array

    def take_list(self, name: str, dtype: npt.DTypeLike, *shape: int | None, most: int | None = None) -> list[Any]:
        """The same as Python objects. Also raises `Malformed` for an array that is too long for that."""
        array = self.take(name, dtype, *shape, most=most)
        if len(array) > MOST_ENTRIES:
            raise Malformed(f"{name} has {len(array)} entries")
        values: list[Any] = array.tolist()
        return values

    def take_ids(self, name: str) -> tuple[int, ...]:
        """Token ids, or positions."""
        return tuple(self.take_list(name, np.int32, None, most=INT))

    def take_ragged(self, name: str, dtype: npt.DTypeLike, rows: int | None = None) -> list[Array]:
        """The rows of `ragged`, as views. No value is negative."""
        values = self.take(name, dtype, None, most=INT)
        lengths = self.take_list(f"{name}.lengths", np.int64, rows, most=len(values))
        if sum(lengths) != len(values):
            raise Malformed(f"{name} does not match its lengths")
        ends = np.cumsum(lengths, dtype=np.int64).tolist()
        return [values[end - length : end] for length, end in zip(lengths, ends, strict=True)]

    def take_id_rows(self, name: str, rows: int | None = None) -> tuple[tuple[int, ...], ...]:
        """The rows of `ragged` token ids or positions, as Python objects."""
        taken = self.take_ragged(name, np.int32, rows)
        self.take_ids(name)
        return tuple(tuple(row.tolist()) for row in taken)


def fields(value: Any, *names: str) -> list[Any]:
    """The values of an object that has exactly these keys."""
    if not isinstance(value, dict) or value.keys() != set(names):
        raise Malformed(f"expected an object of {', '.join(names)}")
    return [value[name] for name in names]


def _rows(value: Any, width: int, count: int | None = None) -> list[list[Any]]:
    rows: list[list[Any]] = typed(value, list)
    if any(not isinstance(row, list) or len(row) != width for row in rows) or count not in (None, len(rows)):
        raise Malformed(f"expected {count or ''} rows of {width}")
    return rows


def unpack(arrays: Contents, facts: Any) -> RunLog:
    """Rebuild the run from the output of `pack`: equal events in the same order.

    Raises `Malformed`, or another `ValueError` if a job, an action or a reason is impossible.
    """
    in_json = [rows.name for kind in KINDS for rows in kind.rows if rows.dtype is None]
    job_facts, places, top_k, *_ = fields(facts, "job", "canvas_length", "top_k", *in_json)
    job = _unpack_job(arrays, job_facts)
    sizes = Sizes(job.candidates, whole(places), whole(top_k))
    order = arrays.take_list("order", np.uint8, None, most=len(KINDS) - 1)
    counts = [order.count(number) for number in range(len(KINDS))]
    if any(counts[:-1]) and not places:
        raise Malformed("the canvas has no positions")
    events = [_events(arrays, facts, kind, count, job.id, sizes) for kind, count in zip(KINDS, counts, strict=True)]
    log = RunLog(job, (next(events[number]) for number in order))
    _check_order(log)
    return log


def _events(arrays: Contents, facts: Any, kind: Kind, count: int, job: str, sizes: Sizes) -> Iterator[Event]:
    """The events of one kind. All of them are checked before this returns."""
    fields: dict[str, list[Any]] = {}
    for rows in kind.rows:
        width = len(rows.values)
        if rows.dtype is None:
            table = _rows(facts[rows.name], width, count)
        else:
            table = arrays.take_list(rows.name, rows.dtype, count, width)
        for at, value in enumerate(rows.values):
            fields[value.field] = [value.read(row[at], sizes) for row in table]
    for column in kind.columns:
        fields[column.field] = _unpack_column(arrays, column, count, sizes, fields.get(column.field, []))
    values = zip(*fields.values(), strict=True)
    return iter([kind.event(job=job, **dict(zip(fields, row, strict=True))) for row in values])


def _unpack_column(arrays: Contents, column: Column, count: int, sizes: Sizes, present: list[bool]) -> list[Any]:
    each = sizes.candidates
    stored = sum(present) if column.optional else count * each if column.per_candidate else count
    if column.shape is None:
        values = [*map(column.read, arrays.take_ragged(column.name, column.dtype, stored))]
    else:
        shape = column.shape(sizes)
        values = [*map(column.read, arrays.take(column.name, column.dtype, stored, *shape, most=column.most))]
    if column.per_candidate:
        return [tuple(values[at : at + each]) for at in range(0, stored, each)]
    remaining = iter(values)
    return [next(remaining) if known else None for known in present] if column.optional else values


def _check_order(log: RunLog) -> None:
    """Checks the order of events: a block starts once, before its other events, and nothing follows the end."""
    begun: set[int] = set()
    for at, event in enumerate(log, 1):
        if isinstance(event, Finished):
            if at < len(log):
                raise Malformed("the run continues after its end")
        elif isinstance(event, BlockStarted) == (event.block in begun):
            raise Malformed(f"block {event.block} is out of order")
        else:
            begun.add(event.block)
            if isinstance(event, BlockStarted) and event.remaining > event.max_steps:
                raise Malformed(f"block {event.block} has too many steps")


def _unpack_job(arrays: Contents, facts: Any) -> Job:
    optional = ["images"] if isinstance(facts, dict) and "images" in facts else []
    names = [value.field for value in JOB]
    settings, starts, fork, *more = fields(facts, "settings", "starts", "fork", *names, *optional)
    plain = {value.field: value.read(given, Sizes(0)) for value, given in zip(JOB, more, strict=False)}
    return Job(
        starts=tuple(_starts(arrays, _rows(starts, 3), plain.pop("candidates"))),
        **plain,
        prompt_ids=arrays.take_ids("job.prompt_ids"),
        settings=_settings(settings),
        suppressed=frozenset(arrays.take_ids("job.suppressed")),
        blocks=arrays.take_id_rows("job.blocks"),
        fork=None if fork is None else _fork(arrays, fork),
        images=tuple(_images(arrays, typed(more[-1], list))) if optional else (),
    )


def _settings(facts: Any) -> SamplerSettings:
    given = {"proofread": 0, **typed(facts, dict)}  # as in older recordings, it is there only if it is used
    *values, top_k = fields(given, *(spec.name for spec in SAMPLER), "top_k")
    known = {spec.name: spec.read(value) for spec, value in zip(SAMPLER, values, strict=True)}
    return SamplerSettings(**known, top_k=whole(top_k, 1))  # type: ignore[arg-type]  # each in its own type


def _images(arrays: Contents, tokens: list[Any]) -> Iterator[Image]:
    for i, count in enumerate(tokens):
        patches = arrays.take(f"job.images.{i}.patches", np.float32, None, None)
        positions = arrays.take(f"job.images.{i}.positions", np.int32, len(patches), 2)
        yield Image(patches, positions, whole(count, 1))


def _starts(arrays: Contents, facts: list[list[Any]], candidates: int) -> list[Start]:
    """One row for all candidates, or a default start and then one row for each."""
    ids = arrays.take_id_rows("job.starts.ids", len(facts))
    pins = arrays.take_id_rows("job.starts.pinned", len(facts))
    starts = []
    for (strength, noised, known), canvas, pinned in zip(facts, ids, pins, strict=True):
        if pinned and max(pinned) >= len(canvas):
            raise Malformed("a pin is outside the canvas")
        if canvas and not known:
            raise Malformed("a start from pure noise has ids")
        ids_of_canvas = canvas if typed(known, bool) else None
        starts.append(Start(ids_of_canvas, frozenset(pinned), typed(strength, float), typed(noised, bool)))
    if len(starts) == 1:
        return starts * candidates
    if len(starts) != 1 + candidates or starts[0] != Start():
        raise Malformed(f"the starts do not match {candidates} candidates")
    return starts[1:]


def _fork(arrays: Contents, facts: Any) -> Fork:
    amendments, reseeds = fields(facts, "amendments", "reseeds")
    return Fork(
        arrays.take("job.fork.rng", np.uint8, None).tobytes(),
        tuple(
            (whole(step), Amendment(whole(at), Action(action), None if token is None else whole(token), whole(c)))
            for step, at, action, token, c in _rows(amendments, 5)
        ),
        tuple((whole(step), whole(seed, 0, LONG)) for step, seed in _rows(reseeds, 2)),
    )
