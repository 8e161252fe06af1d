"""The run log out of a recording's arrays and JSON object; the way back from `run_pack`.

It believes nothing: every array, index and number is checked before it is used, and what does not fit is a
`Malformed`. Memory stays in proportion to the arrays, whatever the numbers in them say.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from dgtui.diffusion.events import Action, Amended, BlockFinished, BlockStarted, Event, Finished, Frame, StopReason
from dgtui.diffusion.image import Image
from dgtui.diffusion.job import Amendment, Fork, Job, SamplerSettings, Start
from dgtui.diffusion.log import RunLog
from dgtui.session.run_pack import ACTIONS, KINDS, Array

MOST_ENTRIES: Final = 2**20
"""Of whatever becomes Python objects, an array may have so many: a run has far fewer, and memory would go unnoticed."""

_INT: Final = 2**31 - 1
_LONG: Final = 2**63 - 1
_FLAGS: Final = 15


class Malformed(ValueError):
    """What is wrong with the contents of a recording, in a few words."""


class Contents:
    """The arrays of a recording, checked when taken; read-only from then on."""

    def __init__(self, arrays: Mapping[str, Array]) -> None:
        self._arrays = arrays

    def take(self, name: str, dtype: npt.DTypeLike, *shape: int | None, most: int | None = None) -> Array:
        """An array that must be there, of that type and shape (None: any length, within reason).

        Args:
            name: As in the file.
            dtype: Exactly this one.
            shape: One entry a dimension.
            most: Where given, values are from 0 to this.
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

    def take_ids(self, name: str) -> tuple[int, ...]:
        """Token ids, or positions."""
        ids: tuple[int, ...] = tuple(self.few(name, self.take(name, np.int32, None, most=_INT)).tolist())
        return ids

    def take_ragged(self, name: str, dtype: npt.DTypeLike, rows: int | None = None) -> list[Array]:
        """The rows of `ragged`, as views. Integers that are no bytes are token ids."""
        values = self.take(name, dtype, None, most=_INT)
        lengths = self.take(f"{name}.lengths", np.int64, rows, most=len(values))
        if sum(self.few(name, lengths).tolist()) != len(values):
            raise Malformed(f"{name} and its lengths disagree")
        ends = np.cumsum(lengths).tolist()
        return [values[end - n : end] for n, end in zip(lengths.tolist(), ends, strict=True)]

    def take_id_rows(self, name: str, rows: int | None = None) -> tuple[tuple[int, ...], ...]:
        """The rows of `ragged` token ids or positions, as Python's own."""
        taken = self.take_ragged(name, np.int32, rows)
        self.few(name, self._arrays[name])
        return tuple(tuple(row.tolist()) for row in taken)

    @staticmethod
    def few(name: str, array: Array) -> Array:
        """The array, if it may become Python objects."""
        if len(array) > MOST_ENTRIES:
            raise Malformed(f"{name} has {len(array)} entries")
        return array


def whole(value: Any, least: int = 0, most: int = _INT) -> int:
    """A whole number within bounds."""
    if type(value) is not int or not least <= value <= most:
        raise Malformed(f"expected a whole number from {least} to {most}")
    return value


def truth(value: Any) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise Malformed("expected true or false")
    return value


def real(value: Any) -> float:
    """A number."""
    if type(value) not in (int, float):
        raise Malformed("expected a number")
    return float(value)


def text(value: Any) -> str:
    """A string."""
    if not isinstance(value, str):
        raise Malformed("expected a string")
    return value


def fields(value: Any, *names: str) -> list[Any]:
    """The values of an object that has exactly these keys."""
    if not isinstance(value, dict) or value.keys() != set(names):
        raise Malformed(f"expected an object of {', '.join(names)}")
    return [value[name] for name in names]


def _rows(value: Any, width: int, count: int | None = None) -> list[list[Any]]:
    if not isinstance(value, list) or any(not isinstance(row, list) or len(row) != width for row in value):
        raise Malformed(f"expected rows of {width}")
    if count not in (None, len(value)):
        raise Malformed(f"expected {count} rows")
    return value


def unpack(arrays: Contents, facts: Any) -> RunLog:
    """The run that `pack` took apart: equal events in the same order.

    Raises `Malformed`, or another `ValueError` where job, action or reason cannot be.
    """
    job_facts, length, top_k, started, blocks, finished = fields(
        facts, "job", "canvas_length", "top_k", "started", "blocks", "finished"
    )
    job, length, top_k = _job(arrays, job_facts), whole(length), whole(top_k)
    order = arrays.few("order", arrays.take("order", np.uint8, None, most=len(KINDS) - 1))
    counts = [int((order == kind).sum()) for kind in range(len(KINDS))]
    if any(counts[:4]) and not length:
        raise Malformed("the canvas has no places")
    kinds = (
        _started(arrays, _rows(started, 4, counts[0]), job, length),
        _frames(arrays, counts[1], job, length, top_k),
        _amended(arrays, counts[2], job, length),
        _blocks(arrays, _rows(blocks, 6, counts[3]), job, length),
        _finished(arrays, _rows(finished, 3, counts[4]), job),
    )
    log = RunLog(job, (next(kinds[kind]) for kind in order.tolist()))
    _check_course(log)
    return log


def _check_course(log: RunLog) -> None:
    """A block is started once and before anything happens in it, and nothing follows the end."""
    begun: set[int] = set()
    for at, event in enumerate(log, 1):
        if isinstance(event, Finished):
            if at < len(log):
                raise Malformed("the run goes on after its end")
        elif isinstance(event, BlockStarted) == (event.block in begun):
            raise Malformed(f"block {event.block} is out of order")
        else:
            begun.add(event.block)


def _job(arrays: Contents, facts: Any) -> Job:
    names = ["id", "seed", "max_tokens", "candidates", "likelihood", "settings", "starts", "fork"]
    if isinstance(facts, dict) and "images" in facts:
        names.append("images")
    job_id, seed, max_tokens, candidates, likelihood, settings, starts, fork, *images = fields(facts, *names)
    known = asdict(SamplerSettings())
    values: dict[str, Any] = {
        name: whole(value, -1) if type(known[name]) is int else real(value)
        for name, value in zip(known, fields(settings, *known), strict=True)
    }
    return Job(
        id=text(job_id),
        prompt_ids=arrays.take_ids("job.prompt_ids"),
        seed=whole(seed, 0, _LONG),
        max_tokens=whole(max_tokens, 1, _LONG),
        settings=SamplerSettings(**values),
        likelihood=truth(likelihood),
        starts=tuple(_starts(arrays, _rows(starts, 3), whole(candidates, 1, MOST_ENTRIES))),
        suppressed=frozenset(arrays.take_ids("job.suppressed")),
        blocks=arrays.take_id_rows("job.blocks"),
        fork=None if fork is None else _fork(arrays, fork),
        images=tuple(_images(arrays, *images)) if images else (),
    )


def _images(arrays: Contents, tokens: Any) -> Iterator[Image]:
    if not isinstance(tokens, list):
        raise Malformed("expected a list of tokens")
    for i, count in enumerate(tokens):
        patches = arrays.take(f"job.images.{i}.patches", np.float32, None, None)
        positions = arrays.take(f"job.images.{i}.positions", np.int32, len(patches), 2)
        yield Image(patches, positions, whole(count, 1))


def _starts(arrays: Contents, facts: list[list[Any]], candidates: int) -> list[Start]:
    """A row for all candidates, or an unused one and then a row for each."""
    rows = [*_start_rows(arrays, facts)]
    if len(rows) == 1:
        return rows * candidates
    if len(rows) != 1 + candidates or rows[0] != Start():
        raise Malformed(f"{candidates} candidates do not have a start each")
    return rows[1:]


def _start_rows(arrays: Contents, facts: list[list[Any]]) -> Iterator[Start]:
    rows = zip(
        facts,
        arrays.take_id_rows("job.starts.ids", len(facts)),
        arrays.take_id_rows("job.starts.pinned", len(facts)),
        strict=True,
    )
    for (strength, noised, known), ids, pinned in rows:
        if pinned and max(pinned) >= len(ids):
            raise Malformed("a pin lies outside of the canvas")
        if ids and not truth(known):
            raise Malformed("a start of pure noise has ids")
        yield Start(ids if truth(known) else None, frozenset(pinned), real(strength), truth(noised))


def _fork(arrays: Contents, facts: Any) -> Fork:
    amendments, reseeds = fields(facts, "amendments", "reseeds")
    return Fork(
        arrays.take("job.fork.rng", np.uint8, None).tobytes(),
        tuple(
            (whole(step), Amendment(whole(at), Action(text(action)), None if token is None else whole(token), whole(c)))
            for step, at, action, token, c in _rows(amendments, 5)
        ),
        tuple((whole(step), whole(seed, 0, _LONG)) for step, seed in _rows(reseeds, 2)),
    )


def _started(arrays: Contents, facts: list[list[Any]], job: Job, length: int) -> Iterator[Event]:
    n, each = len(facts), job.candidates
    canvas = arrays.take("started.canvas", np.int32, n * each, length, most=_INT)
    pinned = arrays.take("started.pinned", np.uint8, n * each, length, most=1).astype(np.bool_)
    pinned.flags.writeable = False
    rng = arrays.take_ragged("started.rng", np.uint8, n * each)
    for i, (block, max_steps, remaining, seconds) in enumerate(facts):
        mine = range(i * each, (i + 1) * each)
        yield BlockStarted(
            job=job.id,
            block=whole(block),
            canvas=tuple(canvas[row] for row in mine),
            pinned=tuple(pinned[row] for row in mine),
            rng=tuple(rng[row].tobytes() for row in mine),
            max_steps=whole(max_steps, 1),
            remaining=whole(remaining, 0, max_steps),
            seconds=real(seconds),
        )


def _frames(arrays: Contents, n: int, job: Job, length: int, top_k: int) -> Iterator[Event]:
    numbers = arrays.take("frames.numbers", np.int32, n, 4, most=_INT)
    measures = arrays.take("frames.measures", np.float64, n, 3)
    ids = arrays.take("frames.ids", np.int32, n, length, most=_INT)
    canvas = arrays.take("frames.canvas", np.int32, n, length, most=_INT)
    entropy = arrays.take("frames.entropy", np.float32, n, length)
    flags = arrays.take("frames.flags", np.uint8, n, length, most=_FLAGS)
    top_ids = arrays.take("frames.top_ids", np.int32, n, length, top_k, most=_INT)
    top_probs = arrays.take("frames.top_probs", np.float32, n, length, top_k)
    for i in range(n):
        candidate, block, step, max_steps = numbers[i].tolist()
        mean_entropy, temperature, seconds = measures[i].tolist()
        yield Frame(
            job=job.id,
            candidate=whole(candidate, 0, job.candidates - 1),
            block=block,
            step=step,
            max_steps=whole(max_steps, 1),
            ids=ids[i],
            canvas=canvas[i],
            entropy=entropy[i],
            flags=flags[i],
            top_ids=top_ids[i],
            top_probs=top_probs[i],
            mean_entropy=mean_entropy,
            temperature=temperature,
            seconds=seconds,
        )


def _amended(arrays: Contents, n: int, job: Job, length: int) -> Iterator[Event]:
    for candidate, block, step, position, action, token in arrays.take("amended", np.int32, n, 6, most=_INT).tolist():
        yield Amended(
            job=job.id,
            candidate=whole(candidate, 0, job.candidates - 1),
            block=block,
            step=step,
            position=whole(position, 0, length - 1),
            action=ACTIONS[whole(action, 0, len(ACTIONS) - 1)],
            token=token,
        )


def _blocks(arrays: Contents, facts: list[list[Any]], job: Job, length: int) -> Iterator[Event]:
    ids = arrays.take("blocks.ids", np.int32, len(facts), length, most=_INT)
    known = sum(truth(known) for *_, known in facts)
    log_probs = iter(arrays.take("blocks.log_probs", np.float32, known, length))
    for i, (candidate, block, steps, settled, seconds, known) in enumerate(facts):
        yield BlockFinished(
            job=job.id,
            candidate=whole(candidate, 0, job.candidates - 1),
            block=whole(block),
            ids=ids[i],
            steps=whole(steps),
            settled=truth(settled),
            seconds=real(seconds),
            log_probs=next(log_probs) if known else None,
        )


def _finished(arrays: Contents, facts: list[list[Any]], job: Job) -> Iterator[Event]:
    token_ids = arrays.take_ragged("finished.token_ids", np.int32, len(facts) * job.candidates)
    for reason, steps, seconds in facts:
        if not isinstance(steps, list):
            raise Malformed("expected a list of steps")
        yield Finished(
            job.id, StopReason(text(reason)), tuple(token_ids), tuple(whole(s) for s in steps), real(seconds)
        )
