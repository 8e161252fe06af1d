"""What is asked of a run: plain data, checked once when it is made. A wrong value is a `BadJob` that names it."""

from dataclasses import dataclass, field

from dgtui.diffusion.events import Action
from dgtui.diffusion.image import Image
from dgtui.diffusion.settings import BadJob, SamplerSettings

__all__ = ["Amendment", "BadJob", "Fork", "Job", "SamplerSettings", "Start"]


@dataclass(frozen=True, slots=True)
class Start:
    """How the first block is laid out; the default is pure noise.

    `ids` are what the canvas held before, and needed where anything is pinned or strength is below 1. Of the free
    positions a fraction `strength` in (0, 1] becomes noise and the loop is entered at step strength·N.
    """

    ids: tuple[int, ...] | None = None
    pinned: frozenset[int] = frozenset()
    strength: float = 1.0
    noised: bool = False
    "the ids are a canvas from inside a run, its noise in it: none is added"

    def __post_init__(self) -> None:
        if not 0 < self.strength <= 1:
            raise BadJob(f"strength is {self.strength}: it must be above 0 and at most 1")
        if self.ids is None and (self.pinned or self.strength < 1 or self.noised):
            raise BadJob("pins, or a strength below 1, need the ids of the canvas")


@dataclass(frozen=True, slots=True)
class Amendment:
    """Something to do to a position between two steps; `token` None pins what the draft has there."""

    position: int
    action: Action
    token: int | None = None
    candidate: int = 0
    block: int | None = None
    "the block it is meant for, dropped if that is over when it comes; None: whichever runs"


@dataclass(frozen=True, slots=True)
class Fork:
    """The part of another run that this one repeats before it goes its own way.

    `rng` is the generator state at the block's start; `amendments` are (step, amendment) in order; `reseeds` are
    (step, seed): after that many steps the generator starts again from that seed.
    """

    rng: bytes
    amendments: tuple[tuple[int, Amendment], ...]
    reseeds: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Job:
    """A run: continue `prompt_ids` (and `blocks`, finished canvases that open the reply) block by block."""

    id: str
    prompt_ids: tuple[int, ...]
    seed: int
    max_tokens: int = 256
    settings: SamplerSettings = field(default_factory=SamplerSettings)
    candidates: int = 1
    "canvases refined at once over one prefix; more than one ends after its first block"
    start: Start = field(default_factory=Start)
    "of every candidate"
    blocks: tuple[tuple[int, ...], ...] = ()
    fork: Fork | None = None
    starts: tuple[Start, ...] = ()
    "in place of `start`: one a candidate, all of one strength, for they share the schedule"
    suppressed: frozenset[int] = frozenset()
    "ids that are written at no free position, as `suppress_tokens` in transformers"
    likelihood: bool = False
    "finished canvases are read from left to right, and say how likely that is: see `BlockFinished.log_probs`"
    images: tuple[Image, ...] = ()
    "those that the prompt has places for, in order"

    def __post_init__(self) -> None:
        for wrong, message in (
            (not self.prompt_ids, "the prompt has no tokens"),
            (self.max_tokens < 1, f"max_tokens is {self.max_tokens}: it must be 1 or more"),
            (self.candidates < 1, f"candidates is {self.candidates}: it must be 1 or more"),
            (not 0 <= self.seed < 2**63, f"seed is {self.seed}: it must be from 0 to 2^63 - 1"),
            (self.fork is not None and self.candidates > 1, "a fork has one candidate"),
            (
                len(self.starts) not in (0, self.candidates),
                f"{self.candidates} candidates cannot have {len(self.starts)} starts: it must be one each, or none",
            ),
            (
                len({s.strength for s in self.starts}) > 1,
                "the strengths of the starts differ: it must be one, for the candidates share the schedule",
            ),
            (bool(self.starts) and self.start != Start(), "start and starts are both given: it must be one of them"),
            (
                sum(image.tokens for image in self.images) > len(self.prompt_ids),
                f"a prompt of {len(self.prompt_ids)} tokens has no room for its images",
            ),
        ):
            if wrong:
                raise BadJob(message)

    def start_of(self, candidate: int) -> Start:
        """How a candidate's first block is laid out."""
        return self.starts[candidate] if self.starts else self.start
