"""The format of a recording as data: where each field is stored, its type and its bounds.

Small values of an event form rows, stored as JSON or as one array. Array fields are stacked (events × C positions, or
4 × K alternatives), or concatenated with their lengths stored separately. `run_pack` reads and writes by these tables.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from dgtui.diffusion.events import Action, Amended, BlockFinished, BlockStarted, Finished, Frame, StopReason

Array = npt.NDArray[Any]

MOST_ENTRIES: Final = 2**20
"""Most entries of an array that become Python objects: a run has far fewer, and a forged file must not fill memory."""
INT: Final = 2**31 - 1
LONG: Final = 2**63 - 1


class Malformed(ValueError):
    """The contents of a recording are invalid; the message says how."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """The sizes that the bounds and shapes of a run's values depend on."""

    candidates: int
    places: int = 0
    "positions of a canvas"
    top_k: int = 0


def whole(value: Any, least: int = 0, most: int = INT) -> int:
    """A whole number within bounds."""
    if type(value) is not int or not least <= value <= most:
        raise Malformed(f"expected a whole number from {least} to {most}")
    return value


def typed(value: Any, kind: type[Any]) -> Any:
    """A value of a JSON type; an integer counts as a number too."""
    if type(value) is not kind and not (kind is float and type(value) is int):
        raise Malformed(f"expected {kind.__name__}")
    return kind(value)


@dataclass(frozen=True, slots=True)
class Value:
    """A field that is stored in a row. `read` checks a stored value and raises `ValueError`, mostly `Malformed`."""

    field: str
    read: Callable[[Any, Sizes], Any] = lambda value, sizes: whole(value)
    write: Callable[[Any], Any] = lambda value: value


@dataclass(frozen=True, slots=True)
class Rows:
    """Fields of one kind of event that are stored together, one row per event."""

    name: str
    values: tuple[Value, ...]
    dtype: type[np.generic] | None = None
    "of the array; None: in JSON"


@dataclass(frozen=True, slots=True)
class Column:
    """A field that is an array."""

    name: str
    field: str
    dtype: type[np.generic]
    most: int | None = None
    "values are from 0 to this"
    shape: Callable[[Sizes], tuple[int, ...]] | None = lambda sizes: (sizes.places,)
    "None: any length"
    per_candidate: bool = False
    "the field is a tuple with one array per candidate"
    optional: bool = False
    "the field may be None; a value of the same name in a row says whether it is present"
    read: Callable[[Array], Any] = lambda array: array


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of event."""

    event: type[Any]
    rows: tuple[Rows, ...]
    columns: tuple[Column, ...] = ()


def _real(field: str) -> Value:
    return Value(field, lambda value, sizes: typed(value, float))


def _alternatives(sizes: Sizes) -> tuple[int, ...]:
    return sizes.places, sizes.top_k


_ACTIONS: Final = (Action.PIN, Action.UNPIN)
"""In the order of their numbers in a file. Never reorder them."""

_CANDIDATE: Final = Value("candidate", lambda value, sizes: whole(value, 0, sizes.candidates - 1))
_POSITION: Final = Value("position", lambda value, sizes: whole(value, 0, sizes.places - 1))
_ACTION: Final = Value("action", lambda value, sizes: _ACTIONS[whole(value, 0, 1)], _ACTIONS.index)
_BLOCK, _STEP, _SECONDS = Value("block"), Value("step"), _real("seconds")
_MAX_STEPS: Final = Value("max_steps", lambda value, sizes: whole(value, 1))
_SETTLED: Final = Value("settled", lambda value, sizes: typed(value, bool))
_HAS_LOG_PROBS: Final = Value("log_probs", lambda value, sizes: typed(value, bool), lambda array: array is not None)
_REASON: Final = Value("reason", lambda value, sizes: StopReason(value), lambda reason: reason.value)
_STEPS: Final = Value("steps", lambda value, sizes: tuple(whole(steps) for steps in typed(value, list)), list)

KINDS: Final = (
    Kind(BlockStarted, (Rows("started", (_BLOCK, _MAX_STEPS, Value("remaining"), _SECONDS)),), (
        Column("started.canvas", "canvas", np.int32, INT, per_candidate=True),
        Column("started.pinned", "pinned", np.uint8, 1, per_candidate=True, read=lambda mask: mask.view(np.bool_)),
        Column("started.rng", "rng", np.uint8, shape=None, per_candidate=True, read=lambda state: state.tobytes()),
    )),
    Kind(Frame, (
        Rows("frames.numbers", (_CANDIDATE, _BLOCK, _STEP, _MAX_STEPS), np.int32),
        Rows("frames.measures", (_real("mean_entropy"), _real("temperature"), _SECONDS), np.float64),
    ), (
        Column("frames.ids", "ids", np.int32, INT),
        Column("frames.canvas", "canvas", np.int32, INT),
        Column("frames.entropy", "entropy", np.float32),
        Column("frames.flags", "flags", np.uint8, 15),
        Column("frames.top_ids", "top_ids", np.int32, INT, _alternatives),
        Column("frames.top_probs", "top_probs", np.float32, None, _alternatives),
    )),
    Kind(Amended, (Rows("amended", (_CANDIDATE, _BLOCK, _STEP, _POSITION, _ACTION, Value("token")), np.int32),)),
    Kind(BlockFinished, (Rows("blocks", (_CANDIDATE, _BLOCK, Value("steps"), _SETTLED, _SECONDS, _HAS_LOG_PROBS)),), (
        Column("blocks.ids", "ids", np.int32, INT),
        Column("blocks.log_probs", "log_probs", np.float32, optional=True),
    )),
    Kind(Finished, (Rows("finished", (_REASON, _STEPS, _SECONDS)),), (
        Column("finished.token_ids", "token_ids", np.int32, INT, None, per_candidate=True),
    )),
)  # fmt: skip
"""The kinds of events in the order of their numbers in a file. Never reorder them."""

JOB: Final = (
    Value("id", lambda value, sizes: typed(value, str)),
    Value("seed", lambda value, sizes: whole(value, 0, LONG)),
    Value("max_tokens", lambda value, sizes: whole(value, 1, LONG)),
    Value("candidates", lambda value, sizes: whole(value, 1, MOST_ENTRIES)),
    Value("likelihood", lambda value, sizes: typed(value, bool)),
)
"""The plain fields of a job, in JSON."""
