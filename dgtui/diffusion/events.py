"""The events of a run: frozen plain data, never a tensor. Arrays are small, on the host and read-only.

Order: for every block `BlockStarted`, then one `Frame` per candidate and denoising step, with `Amended` between them
where a user changed something, then one `BlockFinished` per candidate; at the end one `Finished`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag, StrEnum
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


Ids: TypeAlias = "npt.NDArray[np.int32]"
Floats: TypeAlias = "npt.NDArray[np.float32]"


class Flag(IntFlag):
    """State of a position in a frame."""

    PINNED = 1
    "pinned by the user"
    ACCEPTED = 2
    "certain enough in this step to keep its sample"
    RENOISED = 4
    "redrawn at random for the next step"
    CHANGED = 8
    "the draft differs from the previous step"


class Action(StrEnum):
    """What an amendment does to a position."""

    PIN = "pin"
    "pin the given token, or the one in the draft"
    UNPIN = "unpin"
    "free it"


class StopReason(StrEnum):
    """Why a run ended."""

    EOS = "eos"
    "an end-of-sequence id was written"
    LENGTH = "length"
    "max_tokens, or the context, is full"
    CANCELLED = "cancelled"
    "the user asked"


@dataclass(frozen=True, slots=True, eq=False)
class BlockStarted:
    """The canvases of a block were laid out. `canvas`, `pinned` and `rng` have one entry per candidate."""

    job: str
    block: int
    canvas: tuple[Ids, ...]
    pinned: tuple[npt.NDArray[np.bool_], ...]
    rng: tuple[bytes, ...]
    "the generator's state *before* the canvas was drawn"
    max_steps: int
    remaining: int
    "steps left when entering the loop: max_steps at full strength"
    seconds: float


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One denoising step of one candidate. Arrays over the C canvas positions."""

    job: str
    candidate: int
    block: int
    step: int
    "1 for the first step taken, even in a run that enters the schedule later"
    max_steps: int
    ids: Ids
    "(C,) argmax draft"
    canvas: Ids
    "(C,) what the model sees in the next step: accepted samples, noise, pins"
    entropy: Floats
    "(C,) nats, of the temperature-scaled distribution"
    flags: npt.NDArray[np.uint8]
    "(C,) combinations of Flag"
    top_ids: Ids
    "(C, K) most probable ids, best first"
    top_probs: Floats
    "(C, K) their probabilities"
    mean_entropy: float
    "mean entropy in nats, over the free positions"
    temperature: float
    seconds: float
    "seconds since the run started, without pauses"


@dataclass(frozen=True, slots=True)
class Amended:
    """The user pinned, typed or freed a position between two steps."""

    job: str
    candidate: int
    block: int
    step: int
    "the step after which it took effect; 0: before the first step"
    position: int
    action: Action
    token: int
    "the id that is now held, or that was freed"


@dataclass(frozen=True, slots=True, eq=False)
class BlockFinished:
    """A candidate's canvas is done: `ids` is the argmax canvas, pins included."""

    job: str
    candidate: int
    block: int
    ids: Ids
    steps: int
    settled: bool
    "stable and confident, rather than out of steps or cancelled"
    seconds: float
    log_probs: Floats | None = None
    """(C,) nats, of each id given the prefix and all ids to its left; 0 for the first. None: the job did not ask for
    it, or was cancelled."""


@dataclass(frozen=True, slots=True, eq=False)
class Finished:
    """The end of a run. `token_ids` of each candidate: up to and without the first stop id, at most `max_tokens`."""

    job: str
    reason: StopReason
    token_ids: tuple[Ids, ...]
    steps: tuple[int, ...]
    "denoising steps of each block, of the candidate that took the most"
    seconds: float


Event = BlockStarted | Frame | Amended | BlockFinished | Finished
