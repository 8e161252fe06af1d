"""Several steppers behind one: a request to solve a Sudoku goes to a stepper that is made for it."""

from collections.abc import Collection, Sequence

from dgtui.diffusion.events import Floats, Ids
from dgtui.diffusion.image import Image
from dgtui.diffusion.job import Start
from dgtui.diffusion.settings import SamplerSettings
from dgtui.diffusion.stepper import Stepper
from dgtui.inference.grid_solver import GridSolver
from dgtui.inference.passing import PassingStepper


class RoutedStepper(PassingStepper):
    """See `dgtui.diffusion.stepper.Stepper`. Prompt and start decide which one runs, so a fork has the same one."""

    def __init__(self, model: Stepper, solvers: Sequence[GridSolver]) -> None:
        """
        Args:
            model: For everything that is not a solver's.
            solvers: Each for one form of prompt. A reply is one canvas. All have the model's canvas length and ids.
        """
        super().__init__(model)
        self._model, self._solvers = model, solvers
        self._ids: list[int] = []

    def encode(self, ids: Sequence[int], images: Sequence[Image] = ()) -> None:
        """See `Stepper.encode`."""
        self._ids = [*ids]
        self.inner = next((own for own in self._solvers if not images and own.takes(ids)), self._model)
        self.inner.encode(ids, images)

    def begin(self, starts: Sequence[Start], settings: SamplerSettings, suppressed: Collection[int] = ()) -> list[Ids]:
        """See `Stepper.begin`. A part of a reply that is not the grid is written by the model."""
        if isinstance(self.inner, GridSolver) and not all(self.inner.can_begin(start) for start in starts):
            self._to_the_model()
        return self.inner.begin(starts, settings, suppressed)

    def commit(self, ids: Ids) -> None:
        """See `Stepper.commit`. What follows a solver's canvas is the model's."""
        if self.inner is self._model:
            self.inner.commit(ids)
        else:
            self._ids += ids.tolist()
            self._to_the_model()

    def _to_the_model(self) -> None:
        self.inner = self._model
        self.inner.encode(self._ids)

    def seed(self, candidate: int, seed: int) -> None:
        """See `Stepper.seed`. All get it: a run begins with this, before its stepper is known."""
        for stepper in (self._model, *self._solvers):
            stepper.seed(candidate, seed)

    def restore_rng(self, candidate: int, state: bytes) -> None:
        """See `Stepper.restore_rng`."""
        for stepper in (self._model, *self._solvers):
            stepper.restore_rng(candidate, state)

    def log_probs(self, canvases: Sequence[Ids]) -> list[Floats]:
        """See `Stepper.log_probs`. The Sudoku model has not learned to read."""
        if self.inner is not self._model:
            self._model.encode(self._ids)
        return self._model.log_probs(canvases)

    def release(self) -> None:
        """See `Stepper.release`."""
        for stepper in (self._model, *self._solvers):
            stepper.release()
