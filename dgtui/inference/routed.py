"""Two models behind one stepper: a request to solve a 9×9 Sudoku goes to the model that was made for it."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from dgtui.diffusion.events import Action, Flag, Floats, Ids
from dgtui.diffusion.image import Image
from dgtui.diffusion.job import Amendment, Start
from dgtui.diffusion.settings import SamplerSettings
from dgtui.diffusion.stepper import CandidateStep, Stepper, frozen
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
    """See `dgtui.diffusion.stepper.Stepper`. Prompt and start decide which model runs, so a fork has the same one.

    The solver's canvas is shorter. What comes after it is certain from the beginning: pinned, or the end of the reply.
    """

    def __init__(self, model: Stepper, solver: Stepper, prompt: GridPrompt, fill: int) -> None:
        """
        Args:
            model: For everything that is not the solver's.
            solver: For 9×9 Sudokus: its prompt is BOS and the grid, and its reply one canvas. It has the same ids.
            prompt: Recognises these.
            fill: The id that follows the end of a reply.
        """
        self._model, self._solver, self._prompt, self._fill, self._now = model, solver, prompt, fill, model
        self.name, self.canvas_length, self.vocab_size = model.name, model.canvas_length, model.vocab_size
        self.stop_ids, self.max_context = model.stop_ids, model.max_context
        self._ids: list[int] = []
        self._rest: list[_Rest] = []
        "of each candidate"

    @property
    def reads(self) -> bool:
        """See `Stepper.reads`. A grid is not read: the program checks it."""
        return self._model.reads and self._now is self._model

    def encode(self, ids: Sequence[int], images: Sequence[Image] = ()) -> None:
        """See `Stepper.encode`."""
        self._ids, grid = [*ids], None if images else self._prompt.grid(ids)
        if grid is None:
            self._now = self._model
            self._model.encode(ids, images)
        else:
            self._now = self._solver
            self._solver.encode(grid)

    def commit(self, ids: Ids) -> None:
        """See `Stepper.commit`. What follows the solver's canvas is the other model's."""
        if self._now is self._model:
            self._model.commit(ids)
        else:
            self.encode([*self._ids, *ids.tolist()])

    def seed(self, candidate: int, seed: int) -> None:
        """See `Stepper.seed`. Both get it: a run begins with this, before its model is known."""
        self._model.seed(candidate, seed)
        self._solver.seed(candidate, seed)

    def rng_state(self, candidate: int) -> bytes:
        """See `Stepper.rng_state`."""
        return self._now.rng_state(candidate)

    def restore_rng(self, candidate: int, state: bytes) -> None:
        """See `Stepper.restore_rng`."""
        self._model.restore_rng(candidate, state)
        self._solver.restore_rng(candidate, state)

    def begin(self, starts: Sequence[Start], settings: SamplerSettings, suppressed: Collection[int] = ()) -> list[Ids]:
        """See `Stepper.begin`. A start with other free positions than the solver's is the other model's."""
        length = self._solver.canvas_length
        beyond = range(length, self.canvas_length)
        if self._now is self._solver and not all(s.ids is None or s.pinned.issuperset(beyond) for s in starts):
            self._now = self._model
            self._model.encode(self._ids)
        if self._now is self._model:
            return self._model.begin(starts, settings, suppressed)
        self._rest = [
            _Rest(np.array(start.ids[length:] if start.ids else [self._fill] * len(beyond), np.int32),
                  np.full(len(beyond), start.ids is not None))
            for start in starts
        ]  # fmt: skip
        short = [
            replace(start, ids=start.ids[:length], pinned=start.pinned.intersection(range(length)))
            if start.ids is not None
            else start
            for start in starts
        ]
        canvases = self._solver.begin(short, settings, suppressed)
        return [rest.after(canvas) for canvas, rest in zip(canvases, self._rest, strict=True)]

    def step(self) -> list[CandidateStep]:
        """See `Stepper.step`."""
        steps = self._now.step()
        return steps if self._now is self._model else [self._rest[step.candidate].padded(step) for step in steps]

    def amend(self, amendment: Amendment) -> int:
        """See `Stepper.amend`."""
        beyond = amendment.position - self._solver.canvas_length
        if self._now is self._model or beyond < 0:
            return self._now.amend(amendment)
        rest = self._rest[amendment.candidate]
        rest.pinned[beyond] = amendment.action is Action.PIN
        if amendment.action is Action.PIN and amendment.token is not None:
            rest.ids[beyond] = amendment.token
        return int(rest.ids[beyond])

    def log_probs(self, canvases: Sequence[Ids]) -> list[Floats]:
        """See `Stepper.log_probs`. The solver has not learned to read."""
        if self._now is self._solver:
            self._model.encode(self._ids)
        return self._model.log_probs(canvases)

    def interrupt(self) -> None:
        """See `Stepper.interrupt`."""
        self._now.interrupt()

    def release(self) -> None:
        """See `Stepper.release`."""
        self._model.release()
        self._solver.release()


@dataclass(slots=True)
class _Rest:
    """The positions after the solver's canvas."""

    ids: Ids
    pinned: npt.NDArray[np.bool_]

    def after(self, ids: Ids) -> Ids:
        return frozen(np.concatenate([ids, self.ids]), np.int32)

    def padded(self, step: CandidateStep) -> CandidateStep:
        """The step, with these positions: each holds its id with certainty."""
        count, top = len(self.ids), step.top_ids.shape[1]
        certain = np.zeros((count, top))
        certain[:, :1] = 1
        flags = np.where(self.pinned, int(Flag.PINNED), int(Flag.ACCEPTED))
        return replace(
            step,
            ids=self.after(step.ids),
            canvas=self.after(step.canvas),
            entropy=frozen(np.concatenate([step.entropy, np.zeros(count)]), np.float32),
            flags=frozen(np.concatenate([step.flags, flags]), np.uint8),
            top_ids=frozen(np.concatenate([step.top_ids, certain * self.ids[:, None]]), np.int32),
            top_probs=frozen(np.concatenate([step.top_probs, certain]), np.float32),
        )
