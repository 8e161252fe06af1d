"""The engine's interface to denoising steps: the `Stepper` protocol, and the report of a step.

Only plain Python values and small host arrays cross this boundary, so this module imports no torch. `reference` has the
stepper that runs PyTorch; a GPU stepper and one that uses a server are other implementations of the same protocol.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from dgtui.diffusion.events import Floats, Ids
    from dgtui.diffusion.image import Image
    from dgtui.diffusion.job import Amendment, SamplerSettings, Start

Scalar = TypeVar("Scalar", bound="np.generic")


@dataclass(frozen=True, slots=True, eq=False)
class CandidateStep:
    """What one step did to one candidate. Read-only host arrays; see `events.Frame` for their meaning."""

    candidate: int
    ids: Ids
    "(C,)"
    canvas: Ids
    "(C,)"
    entropy: Floats
    "(C,)"
    flags: npt.NDArray[np.uint8]
    "(C,)"
    top_ids: Ids
    "(C, K)"
    top_probs: Floats
    "(C, K)"
    mean_entropy: float
    temperature: float
    done: bool
    "stable and confident"
    cut: bool = False
    "the reply ends here because there is no more room, not because it is complete"


class Interrupted(Exception):  # not an error: the user stopped the run
    """A step was abandoned because the run was stopped; its result is lost."""


class Stepper(Protocol):
    """Runs the denoising steps of one model. It owns the prefix, the canvases of the running block and their noise.

    The engine calls it on one thread, always in this order, with B candidates, C = `canvas_length` positions and
    K = `settings.top_k` alternatives:

        1. `seed` for each candidate, then `encode` with the prompt and the blocks that are already finished.
        2. For each block: `rng_state` (after `restore_rng` in a fork), `begin`, then `step` until every candidate is
           done, the steps are used up, or the run is cancelled. `amend` and `seed` may come before any step.
        3. To proofread: `log_probs`, then `seed` for more candidates, `begin` and `step` again, any number of times.
        4. `log_probs` of the finished canvases if the job asks for it, then `commit` of the first candidate's canvas,
           if another block follows.

    A run may be abandoned after any call, also by an exception. The next run starts with `seed` and `encode` again and
    must not depend on what is left over. Other contracts:

    - A pinned position holds its id in `ids` and in `canvas` of every step, with `Flag.PINNED` and entropy 0, and does
      not use up the entropy bound. The engine checks the ids and the flag, and raises `PinViolated`.
    - Equal seeds, prefixes, starts, settings and amendments give equal steps on the same stepper, device and package
      versions. A candidate's steps do not depend on how many others run with it. A stepper that cannot promise this (a
      server that draws its own samples) must say so in its `name`, because recorded runs with the same name, weights,
      device and versions are repeated instead of approximated.
    - Failures: `MemoryError`, or PyTorch's own out-of-memory errors, when memory runs out (the worker then calls
      `release` and reports it); `BadJob` for input that does not fit the model; anything else ends the run and reaches
      the waiting caller. A `DgtuiError` reaches the user unchanged.
    """

    @property
    def name(self) -> str:
        """Short and stable, such as "reference". Recordings store it: a fork is exact only on the same stepper."""

    @property
    def canvas_length(self) -> int:
        """C, positions of a canvas."""

    @property
    def vocab_size(self) -> int:
        """V; ids are 0 to V - 1."""

    @property
    def stop_ids(self) -> frozenset[int]:
        """Ids that end a reply."""

    @property
    def max_context(self) -> int:
        """Most ids of prefix and canvas together."""

    @property
    def reads(self) -> bool:
        """Whether `log_probs` gives the probability of every id. If not, nothing is proofread."""

    def encode(self, ids: Sequence[int], images: Sequence[Image] = ()) -> None:
        """Makes `ids` the prefix; reuses what it shares with the current one.

        Raises `BadJob` unless the ids have positions for exactly these images, in this order.
        """

    def seed(self, candidate: int, seed: int) -> None:
        """Restarts a candidate's random stream from a seed in [0, 2^63)."""

    def rng_state(self, candidate: int) -> bytes:
        """The state of a candidate's random stream, in the stepper's own format. A fork restores it."""

    def restore_rng(self, candidate: int, state: bytes) -> None:
        """Restores a state that `rng_state` returned."""

    def begin(self, starts: Sequence[Start], settings: SamplerSettings, suppressed: Collection[int] = ()) -> list[Ids]:
        """Starts a block: one start per candidate, all of the same strength; returns their canvases (C,).

        Without ids a canvas is uniform noise. With ids, pinned positions are held; of the others a fraction `strength`
        becomes noise, and the temperature schedule is entered at `schedule.entry_step`. A candidate without a free
        position takes no step. Drafts have no `suppressed` id at a free position.
        """

    def step(self) -> list[CandidateStep]:
        """One denoising step of every candidate that is not done, in ascending order of candidate.

        Called at most `schedule.entry_step(strength, settings.steps)` times per block.
        """

    def amend(self, amendment: Amendment) -> int:
        """Pins or frees a position of a running candidate before the next step.

        Returns the id that is now held, or that was freed. `amendment.token` None pins the id of the newest draft.
        """

    def commit(self, ids: Ids) -> None:
        """Appends a finished canvas (C,) to the prefix."""

    def log_probs(self, canvases: Sequence[Ids]) -> list[Floats]:
        """Log-probabilities (C,) in nats of each canvas's ids, each given the prefix and the ids to its left.

        The first is 0. The prefix does not change.
        """

    def interrupt(self) -> None:
        """Ends a call that waits for another machine, with `Interrupted`. Called from any thread; local steppers
        finish their step instead."""

    def release(self) -> None:
        """Frees all memory that can be rebuilt: prefix, caches, the running block. The weights stay."""


def frozen(array: npt.NDArray[np.generic], dtype: type[Scalar]) -> npt.NDArray[Scalar]:
    """A read-only copy in another type, as events hold it."""
    out = array.astype(dtype)
    out.flags.writeable = False
    return out


def derived_seed(seed: int, candidate: int) -> int:
    """The seed of candidate i: the run's own for the first, a hash of (seed, i) for the others."""
    if candidate == 0:
        return seed
    digest = hashlib.blake2b(f"{seed}:{candidate}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1
