"""The description of a run: plain data, checked once on creation. A `BadJob` names the wrong value."""

from dataclasses import dataclass, field

from dgtui.diffusion.events import Action
from dgtui.diffusion.image import Image
from dgtui.diffusion.settings import BadJob, SamplerSettings

__all__ = ["Amendment", "BadJob", "Fork", "Job", "SamplerSettings", "Start"]


@dataclass(frozen=True, slots=True)
class Start:
    """How a candidate's first block is laid out. The default is pure noise. Raises `BadJob`."""

    ids: tuple[int, ...] | None = None
    "(C,) the previous canvas; required by the other fields"
    pinned: frozenset[int] = frozenset()
    "positions that keep their id"
    strength: float = 1.0
    "in (0, 1]: the fraction of free positions that becomes noise; N steps are entered at step strength·N"
    noised: bool = False
    "the ids are a canvas from inside a run, noise included: no noise is added"

    def __post_init__(self) -> None:
        if not 0 < self.strength <= 1:
            raise BadJob(f"strength is {self.strength}: it must be above 0 and at most 1")
        if self.ids is None and (self.pinned or self.strength < 1 or self.noised):
            raise BadJob("pins, or a strength below 1, need the ids of the canvas")


@dataclass(frozen=True, slots=True)
class Amendment:
    """A change to one position between two steps."""

    position: int
    action: Action
    token: int | None = None
    "the id to pin; None: the id in the draft"
    candidate: int = 0
    block: int | None = None
    "the block it is meant for: dropped if that block is over when it arrives; None: whichever block is running"


@dataclass(frozen=True, slots=True)
class Fork:
    """The part of another run that this one repeats before it diverges."""

    rng: bytes
    "the generator's state at the start of the block"
    amendments: tuple[tuple[int, Amendment], ...]
    "(step, amendment) in order: applied after that many steps"
    reseeds: tuple[tuple[int, int], ...]
    "(step, seed): after that many steps the generator restarts from the seed"


@dataclass(frozen=True, slots=True)
class Job:
    """A run: continue `prompt_ids` and `blocks` block by block. Raises `BadJob`."""

    id: str
    prompt_ids: tuple[int, ...]
    seed: int
    max_tokens: int = 256
    settings: SamplerSettings = field(default_factory=SamplerSettings)
    starts: tuple[Start, ...] = (Start(),)
    """One per candidate; the candidates' canvases are refined together on one prefix. All have the same strength,
    because they share the schedule. A run with more than one candidate ends after its first block."""
    blocks: tuple[tuple[int, ...], ...] = ()
    "finished canvases (C,) that open the reply"
    fork: Fork | None = None
    suppressed: frozenset[int] = frozenset()
    "ids that no free position may get, like `suppress_tokens` in transformers"
    likelihood: bool = False
    "compute the left-to-right log-probabilities of finished canvases: see `BlockFinished.log_probs`"
    images: tuple[Image, ...] = ()
    "in the order of their positions in the prompt"

    def __post_init__(self) -> None:
        for wrong, message in (
            (not self.prompt_ids, "the prompt has no tokens"),
            (self.max_tokens < 1, f"max_tokens is {self.max_tokens}: it must be 1 or more"),
            (not self.starts, "a job needs at least one start"),
            (not 0 <= self.seed < 2**63, f"seed is {self.seed}: it must be from 0 to 2^63 - 1"),
            (self.fork is not None and self.candidates > 1, "a fork must have exactly one candidate"),
            (
                len({start.strength for start in self.starts}) > 1,
                "the strengths of the starts differ: they must be equal, because candidates share the schedule",
            ),
            (
                sum(image.tokens for image in self.images) > len(self.prompt_ids),
                f"a prompt of {len(self.prompt_ids)} tokens has no room for its images",
            ),
        ):
            if wrong:
                raise BadJob(message)

    @property
    def candidates(self) -> int:
        """How many canvases are refined at once."""
        return len(self.starts)
