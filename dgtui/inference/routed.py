"""Two models behind one stepper: a request to solve a 9×9 Sudoku goes to the model that was made for it."""

from collections.abc import Callable, Collection, Sequence
from typing import Final

from dgtui.diffusion.events import Floats, Ids
from dgtui.diffusion.image import Image
from dgtui.diffusion.job import Start
from dgtui.diffusion.settings import SamplerSettings
from dgtui.diffusion.stepper import Stepper
from dgtui.inference.passing import PassingStepper
from dgtui.message import Message
from dgtui.sudoku import Puzzle

GRID: Final = 90
"""Tokens of a grid: 81 cells, 8 line breaks, and the end of the turn."""


class GridPrompt:
    """Recognises a prompt that ends with the request to solve a 9×9 Sudoku, as `steering.puzzles` words it.

    Args:
        chat: A conversation → ids of the prompt.
    """

    def __init__(self, chat: Callable[[Sequence[Message]], Sequence[int]]) -> None:
        by_digit = [chat([Message("user", Puzzle((digit,) * 81).prompt())]) for digit in range(10)]
        self._form = [{*ids} for ids in zip(*by_digit, strict=True)]
        "the ids that each position may have"
        self._cells = [at for at, ids in enumerate(self._form) if len(ids) > 1]
        self.digits = [ids[self._cells[0]] for ids in by_digit]
        "the ids of 0 to 9"

    def grid(self, ids: Sequence[int]) -> list[int] | None:
        """BOS and the grid, cells and line breaks; None for another prompt."""
        ends = ids[-(len(self._form) - 1) :]
        if len(ends) < len(self._form) - 1 or any(i not in own for i, own in zip(ends, self._form[1:], strict=True)):
            return None
        return [ids[0], *ends[self._cells[0] - 1 : self._cells[-1]]]


class RoutedStepper(PassingStepper):
    """See `dgtui.diffusion.stepper.Stepper`. Prompt and start decide which model runs, so a fork has the same one."""

    def __init__(self, model: Stepper, solver: Stepper, prompt: GridPrompt) -> None:
        """
        Args:
            model: For everything that is not the solver's.
            solver: For 9×9 Sudokus: its prompt is BOS and the grid, and its reply one canvas. Same sizes, same ids.
            prompt: Recognises these.
        """
        super().__init__(model)
        self._model, self._solver, self._prompt = model, solver, prompt
        self._ids: list[int] = []

    def encode(self, ids: Sequence[int], images: Sequence[Image] = ()) -> None:
        """See `Stepper.encode`."""
        self._ids, grid = [*ids], None if images else self._prompt.grid(ids)
        self.inner = self._model if grid is None else self._solver
        self.inner.encode(ids if grid is None else grid, images)

    def begin(self, starts: Sequence[Start], settings: SamplerSettings, suppressed: Collection[int] = ()) -> list[Ids]:
        """See `Stepper.begin`. A part of a reply that is not the grid is written by the other model."""
        if self.inner is self._solver and any(
            (start.noised or start.strength < 1) and not start.pinned.issuperset(range(GRID, self.canvas_length))
            for start in starts
        ):
            self._to_the_model()
        return self.inner.begin(starts, settings, suppressed)

    def commit(self, ids: Ids) -> None:
        """See `Stepper.commit`. What follows the solver's canvas is the other model's."""
        if self.inner is self._solver:
            self._ids += ids.tolist()
            self._to_the_model()
        else:
            self.inner.commit(ids)

    def _to_the_model(self) -> None:
        self.inner = self._model
        self.inner.encode(self._ids)

    def seed(self, candidate: int, seed: int) -> None:
        """See `Stepper.seed`. Both get it: a run begins with this, before its model is known."""
        self._model.seed(candidate, seed)
        self._solver.seed(candidate, seed)

    def restore_rng(self, candidate: int, state: bytes) -> None:
        """See `Stepper.restore_rng`."""
        self._model.restore_rng(candidate, state)
        self._solver.restore_rng(candidate, state)

    def log_probs(self, canvases: Sequence[Ids]) -> list[Floats]:
        """See `Stepper.log_probs`. The solver has not learned to read."""
        if self.inner is self._solver:
            self._model.encode(self._ids)
        return self._model.log_probs(canvases)

    def release(self) -> None:
        """See `Stepper.release`."""
        self._model.release()
        self._solver.release()
