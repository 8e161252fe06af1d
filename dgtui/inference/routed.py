"""Two models behind one stepper: a request to solve a 9×9 Sudoku goes to the model that was made for it."""

from collections.abc import Callable, Collection, Sequence

from dgtui.diffusion.events import Floats, Ids
from dgtui.diffusion.image import Image
from dgtui.diffusion.job import Amendment, Start
from dgtui.diffusion.settings import SamplerSettings
from dgtui.diffusion.stepper import CandidateStep, Stepper
from dgtui.message import Message
from dgtui.sudoku import Puzzle


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

    def grid(self, ids: Sequence[int]) -> list[int] | None:
        """BOS and the grid, cells and line breaks; None for another prompt."""
        ends = ids[-(len(self._form) - 1) :]
        if len(ends) < len(self._form) - 1 or any(i not in own for i, own in zip(ends, self._form[1:], strict=True)):
            return None
        return [ids[0], *ends[self._cells[0] - 1 : self._cells[-1]]]


class RoutedStepper:
    """See `dgtui.diffusion.stepper.Stepper`. The prompt decides which model runs, so a fork has the same one."""

    def __init__(self, model: Stepper, solver: Stepper, prompt: GridPrompt) -> None:
        """
        Args:
            model: For all prompts but those of the solver.
            solver: For 9×9 Sudokus: its prompt is BOS and the grid, and its reply one canvas. Same ids, same sizes.
            prompt: Recognises these.
        """
        self._model, self._solver, self._prompt, self._now = model, solver, prompt, model
        self.name, self.canvas_length, self.vocab_size = model.name, model.canvas_length, model.vocab_size
        self.stop_ids, self.max_context = model.stop_ids, model.max_context
        self._ids: list[int] = []

    @property
    def reads(self) -> bool:
        """See `Stepper.reads`. The solver has not learned to read."""
        return self._now.reads and self._now is not self._solver

    def encode(self, ids: Sequence[int], images: Sequence[Image] = ()) -> None:
        """See `Stepper.encode`."""
        self._ids, grid = [*ids], self._prompt.grid(ids)
        self._now = self._model if grid is None or images else self._solver
        self._now.encode(ids if grid is None or images else grid, images)

    def commit(self, ids: Ids) -> None:
        """See `Stepper.commit`. What follows the solver's canvas is the other model's."""
        if self._now is self._solver:
            self.encode([*self._ids, *ids.tolist()])
        else:
            self._now.commit(ids)

    def seed(self, candidate: int, seed: int) -> None:
        """See `Stepper.seed`. A run begins with this, before its model is known."""
        for stepper in (self._model, self._solver):
            stepper.seed(candidate, seed)

    def rng_state(self, candidate: int) -> bytes:
        """See `Stepper.rng_state`."""
        return self._now.rng_state(candidate)

    def restore_rng(self, candidate: int, state: bytes) -> None:
        """See `Stepper.restore_rng`."""
        self._now.restore_rng(candidate, state)

    def begin(self, starts: Sequence[Start], settings: SamplerSettings, suppressed: Collection[int] = ()) -> list[Ids]:
        """See `Stepper.begin`."""
        return self._now.begin(starts, settings, suppressed)

    def step(self) -> list[CandidateStep]:
        """See `Stepper.step`."""
        return self._now.step()

    def amend(self, amendment: Amendment) -> int:
        """See `Stepper.amend`."""
        return self._now.amend(amendment)

    def log_probs(self, canvases: Sequence[Ids]) -> list[Floats]:
        """See `Stepper.log_probs`."""
        return self._now.log_probs(canvases)

    def interrupt(self) -> None:
        """See `Stepper.interrupt`."""
        self._now.interrupt()

    def release(self) -> None:
        """See `Stepper.release`."""
        self._model.release()
        self._solver.release()
