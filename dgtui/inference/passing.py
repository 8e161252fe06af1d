"""A stepper that passes every call on to another one: the base of those that change some of them."""

from collections.abc import Collection, Sequence

from dgtui.diffusion.events import Floats, Ids
from dgtui.diffusion.image import Image
from dgtui.diffusion.job import Amendment, Start
from dgtui.diffusion.settings import SamplerSettings
from dgtui.diffusion.stepper import CandidateStep, Stepper


class PassingStepper:
    """See `dgtui.diffusion.stepper.Stepper` for all methods."""

    def __init__(self, inner: Stepper) -> None:
        self.inner = inner
        self.name, self.canvas_length, self.vocab_size = inner.name, inner.canvas_length, inner.vocab_size
        self.stop_ids, self.max_context = inner.stop_ids, inner.max_context

    @property
    def reads(self) -> bool:
        return self.inner.reads

    def encode(self, ids: Sequence[int], images: Sequence[Image] = ()) -> None:
        self.inner.encode(ids, images)

    def seed(self, candidate: int, seed: int) -> None:
        self.inner.seed(candidate, seed)

    def rng_state(self, candidate: int) -> bytes:
        return self.inner.rng_state(candidate)

    def restore_rng(self, candidate: int, state: bytes) -> None:
        self.inner.restore_rng(candidate, state)

    def begin(self, starts: Sequence[Start], settings: SamplerSettings, suppressed: Collection[int] = ()) -> list[Ids]:
        return self.inner.begin(starts, settings, suppressed)

    def step(self) -> list[CandidateStep]:
        return self.inner.step()

    def amend(self, amendment: Amendment) -> int:
        return self.inner.amend(amendment)

    def commit(self, ids: Ids) -> None:
        self.inner.commit(ids)

    def log_probs(self, canvases: Sequence[Ids]) -> list[Floats]:
        return self.inner.log_probs(canvases)

    def interrupt(self) -> None:
        self.inner.interrupt()

    def release(self) -> None:
        self.inner.release()
