"""Several steppers behind one: Sudokus, tales, edits and follow-ups go to steppers that are made for them."""

from collections.abc import Collection, Sequence

from dgtui.diffusion.events import Floats, Ids
from dgtui.diffusion.image import Image
from dgtui.diffusion.job import Start
from dgtui.diffusion.settings import SamplerSettings
from dgtui.diffusion.stepper import Stepper
from dgtui.inference.adapted import Adapted
from dgtui.inference.grid_solver import GridSolver
from dgtui.inference.passing import PassingStepper


class RoutedStepper(PassingStepper):
    """See `dgtui.diffusion.stepper.Stepper`. Prompt and start decide which one runs, so a fork has the same one."""

    def __init__(self, model: Stepper, specialists: Sequence[GridSolver | Adapted]) -> None:
        """
        Args:
            model: For everything that is not a specialist's.
            specialists: Each for one form of prompt; all have the model's canvas length and ids. A solver's reply is
                one canvas.
        """
        super().__init__(model)
        self._model, self._specialists = model, specialists
        self._ids: list[int] = []

    def encode(self, ids: Sequence[int], images: Sequence[Image] = ()) -> None:
        """See `Stepper.encode`."""
        self._ids = [*ids]
        self.inner = next((own for own in self._specialists if not images and own.takes(ids)), self._model)
        self.inner.encode(ids, images)

    def begin(self, starts: Sequence[Start], settings: SamplerSettings, suppressed: Collection[int] = ()) -> list[Ids]:
        """See `Stepper.begin`. A part of a reply that is not the grid is written by the model."""
        if isinstance(self.inner, GridSolver) and not all(map(self.inner.can_begin, starts)):
            self._to_the_model()
        return self.inner.begin(starts, settings, suppressed)

    def commit(self, ids: Ids) -> None:
        """See `Stepper.commit`. What follows a solver's canvas is the model's."""
        if isinstance(self.inner, GridSolver):
            self._ids += ids.tolist()
            self._to_the_model()
        else:
            self.inner.commit(ids)

    def _to_the_model(self) -> None:
        self.inner = self._model
        self.inner.encode(self._ids)

    def seed(self, candidate: int, seed: int) -> None:
        """See `Stepper.seed`. All get it: a run begins with this, before its stepper is known."""
        for stepper in (self._model, *self._specialists):
            stepper.seed(candidate, seed)

    def restore_rng(self, candidate: int, state: bytes) -> None:
        """See `Stepper.restore_rng`."""
        for stepper in (self._model, *self._specialists):
            stepper.restore_rng(candidate, state)

    def log_probs(self, canvases: Sequence[Ids]) -> list[Floats]:
        """See `Stepper.log_probs`. The Sudoku model has not learned to read."""
        if self.inner.reads:
            return self.inner.log_probs(canvases)
        self._model.encode(self._ids)
        return self._model.log_probs(canvases)

    def release(self) -> None:
        """See `Stepper.release`."""
        for stepper in (self._model, *self._specialists):
            stepper.release()
