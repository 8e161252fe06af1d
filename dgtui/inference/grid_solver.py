"""A stepper for Sudokus: the canvas of a model, or a longer one around it, and a check of the rules.

A grid that breaks no rule is finished. One that breaks a rule, and has
settled or does not settle, is opened again: where it breaks the rule, and if that does not help, everywhere. The rules
only say where something is wrong. The model writes it.
"""

import hashlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from dgtui.diffusion.events import Action, Flag, Ids
from dgtui.diffusion.image import Image
from dgtui.diffusion.job import Amendment, Start
from dgtui.diffusion.schedule import entry_step
from dgtui.diffusion.settings import SamplerSettings
from dgtui.diffusion.stepper import CandidateStep, Stepper, derived_seed, frozen
from dgtui.inference.passing import PassingStepper
from dgtui.message import Message
from dgtui.sudoku import Puzzle, units

STEPS: Final = 24
STEPS_AGAIN: Final = 12
"""Most steps until a grid is opened again, the first time and later."""


class GridPrompt:
    """Recognises a prompt that ends with the request to solve a Sudoku of one size, as `steering.puzzles` words it.

    Args:
        chat: A conversation → ids of the prompt.
        size: 4 or 9.
    """

    def __init__(self, chat: Callable[[Sequence[Message]], Sequence[int]], size: int) -> None:
        by_digit = [chat([Message("user", Puzzle((digit,) * size**2).prompt())]) for digit in range(size + 1)]
        self._form = [{*ids} for ids in zip(*by_digit, strict=True)]
        "the ids that each position may have"
        self._cells = [at for at, ids in enumerate(self._form) if len(ids) > 1]
        self.size, self.digits = size, [ids[self._cells[0]] for ids in by_digit]
        "`digits`: the ids of 0 to 4, or 0 to 9"

    def grid(self, ids: Sequence[int]) -> list[int] | None:
        """BOS and the grid, cells and line breaks; None for another prompt."""
        ends = ids[-(len(self._form) - 1) :]
        if len(ends) < len(self._form) - 1 or any(i not in own for i, own in zip(ends, self._form[1:], strict=True)):
            return None
        return [ids[0], *ends[self._cells[0] - 1 : self._cells[-1]]]


@dataclass(slots=True)
class _Canvas:
    """A candidate's whole canvas, of which the model sees the beginning."""

    ids: Ids
    "(C,) the newest draft"
    pinned: set[int] = field(default_factory=set)
    "by the user"
    started: bool = False
    "`ids` are a draft, and no longer the noise at the beginning"


class GridSolver(PassingStepper):
    """See `dgtui.diffusion.stepper.Stepper`. Only a single candidate is checked."""

    reads = False

    def __init__(self, inner: Stepper, prompt: GridPrompt, canvas_length: int, fill: int, whole: bool = False) -> None:
        """
        Args:
            inner: The model's own stepper.
            prompt: The prompts that this is for.
            canvas_length: Positions of the whole canvas. The model's may be shorter.
            fill: The id that follows the end of a reply.
            whole: The model gets the whole prompt, instead of only BOS and the grid.
        """
        super().__init__(inner)
        self.canvas_length, self._prompt, self._fill, self._whole_prompt = canvas_length, prompt, fill, whole
        size = prompt.size
        self._places = [cell + cell // size for cell in range(size**2)]
        "of the cells on the canvas: a row is its cells and a line break"
        self.grid_length = size**2 + size
        "tokens of the grid and the end of the turn"
        self._value = {token: digit for digit, token in enumerate(prompt.digits) if digit}
        self._canvases: list[_Canvas] = []
        self._givens: list[int | None] = []
        self._seed = self._tries = self._left = self._most = 0

    def takes(self, ids: Sequence[int]) -> bool:
        """Whether a prompt is of its form."""
        return self._prompt.grid(ids) is not None

    def can_begin(self, start: Start) -> bool:
        """Whether a part of the grid is free, and what follows it is not to be written again."""
        after = range(self.grid_length, self.canvas_length)
        again = start.noised or start.strength < 1
        grid_is_free = not start.pinned.issuperset(range(self.grid_length))
        return grid_is_free and (not again or start.pinned.issuperset(after))

    def encode(self, ids: Sequence[int], images: Sequence[Image] = ()) -> None:
        """See `Stepper.encode`. The prompt must be of its form."""
        grid = self._prompt.grid(ids)
        assert grid is not None
        super().encode(ids if self._whole_prompt else grid, images)
        self._givens = [self._value.get(grid[1 + place]) for place in self._places]

    def seed(self, candidate: int, seed: int) -> None:
        """See `Stepper.seed`."""
        super().seed(candidate, seed)
        if candidate == 0:
            self._seed = seed

    def begin(self, starts: Sequence[Start], settings: SamplerSettings, suppressed: Collection[int] = ()) -> list[Ids]:
        """See `Stepper.begin`. After the grid, what is not pinned is the end of the reply."""
        self._settings, self._suppressed = settings, suppressed
        state = hashlib.blake2b(self.rng_state(0), digest_size=7).digest()  # which a fork restores
        self._seed, self._tries = int.from_bytes(state), 0
        self._left = entry_step(starts[0].strength, settings.steps)
        self._most = min(STEPS, self._left)
        self._canvases = []
        for start in starts:
            ids = np.full(self.canvas_length, self._fill, np.int32)
            pinned = {*start.pinned}
            if start.ids is not None:
                ids[: self.inner.canvas_length] = start.ids[: self.inner.canvas_length]
                ids[[*pinned]] = np.array(start.ids)[[*pinned]]
            self._canvases.append(_Canvas(ids, pinned))
        drawn = self.inner.begin([self._short(start) for start in starts], settings, suppressed)
        for canvas, ids in zip(self._canvases, drawn, strict=True):
            canvas.ids[: len(ids)] = ids
        return [frozen(canvas.ids, np.int32) for canvas in self._canvases]

    def _short(self, start: Start) -> Start:
        if start.ids is None:
            return start
        own, end = self.inner.canvas_length, self.grid_length
        ids = [i if at < end or at in start.pinned else self._fill for at, i in enumerate(start.ids[:own])]
        return replace(
            start, ids=tuple(ids), pinned=frozenset(range(end, own)) | {at for at in start.pinned if at < own}
        )

    def step(self) -> list[CandidateStep]:
        """See `Stepper.step`."""
        steps = [self._whole(step) for step in self.inner.step()]
        self._left, self._most = self._left - 1, self._most - 1
        if len(self._canvases) > 1:
            return steps
        (step,), (canvas,) = steps, self._canvases
        broken = self._broken(canvas.ids)
        again = broken - canvas.pinned
        if again and self._left and (step.done or not self._most):
            self._open(canvas, again)
            return [replace(step, done=False)]
        over = self._tries > 0 and not self._most and not again  # only pins break a rule
        return [replace(step, done=step.done or not broken or over)]

    def _broken(self, ids: Ids) -> set[int]:
        """The places of cells that break a rule: no digit, not the given one, or twice in a row, column or box."""
        values = [self._value.get(int(ids[place])) for place in self._places]
        found = {cell for cell, value in enumerate(values) if value is None or self._givens[cell] not in (None, value)}
        for _, unit in units(self._prompt.size):
            mine = [values[cell] for cell in unit]
            found.update(cell for cell in unit if mine.count(values[cell]) > 1)
        return {self._places[cell] for cell in found}

    def _open(self, canvas: _Canvas, free: set[int]) -> None:
        """Starts again with noise in these cells, or every second time in all that are not pinned."""
        self._tries += 1
        if self._tries % 2 == 0:
            free = {*self._places} - canvas.pinned
        self._most = min(STEPS_AGAIN, self._left)
        own = self.inner.canvas_length
        self.inner.seed(0, derived_seed(self._seed, self._tries))
        start = Start(tuple(canvas.ids[:own].tolist()), frozenset(range(own)) - free)
        self.inner.begin([start], replace(self._settings, steps=self._most), self._suppressed)

    def _whole(self, step: CandidateStep) -> CandidateStep:
        """The step, on the whole canvas. What comes after the model's is certain."""
        canvas = self._canvases[step.candidate]
        own, top = len(step.ids), step.top_ids.shape[1]
        ids, rest = canvas.ids.copy(), canvas.ids[own:]
        ids[:own] = step.ids
        pinned = np.zeros(len(ids), np.bool_)
        pinned[[*canvas.pinned]] = True
        accepted = np.ones(len(ids), np.bool_)
        accepted[:own] = (step.flags & (Flag.ACCEPTED | Flag.PINNED)).astype(np.bool_)
        flags = np.where(pinned, Flag.PINNED, np.where(accepted, Flag.ACCEPTED, Flag.RENOISED))
        flags = flags + np.where((ids != canvas.ids) & canvas.started, Flag.CHANGED, 0)
        certain = np.zeros((len(rest), top))
        certain[:, :1] = 1
        canvas.ids, canvas.started = ids, True
        return replace(
            step,
            ids=frozen(ids, np.int32),
            canvas=frozen(np.concatenate([step.canvas, rest]), np.int32),
            entropy=frozen(np.concatenate([step.entropy, np.zeros(len(rest))]), np.float32),
            flags=frozen(flags, np.uint8),
            top_ids=frozen(np.concatenate([step.top_ids, certain * rest[:, None]]), np.int32),
            top_probs=frozen(np.concatenate([step.top_probs, certain]), np.float32),
        )

    def amend(self, amendment: Amendment) -> int:
        """See `Stepper.amend`."""
        canvas, at = self._canvases[amendment.candidate], amendment.position
        if at < self.inner.canvas_length:
            canvas.ids[at] = super().amend(amendment)
        elif amendment.token is not None:
            canvas.ids[at] = amendment.token
        (canvas.pinned.add if amendment.action is Action.PIN else canvas.pinned.discard)(at)
        return int(canvas.ids[at])
