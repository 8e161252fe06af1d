"""The stepper of the model for 9×9 Sudoku: a longer canvas around its own, and a check of the rules.

The model's canvas holds the grid and its end. A grid that breaks no rule is finished. One that breaks a rule, and has
settled or does not settle, is opened again: where it breaks the rule, and if that does not help, everywhere. The rules
only say where something is wrong. The model writes it.
"""

import hashlib
from collections.abc import Collection, Sequence
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
from dgtui.sudoku import units

PLACES: Final = tuple(cell + cell // 9 for cell in range(81))
"""The positions of the cells on the canvas: a row is nine cells and a line break."""
STEPS: Final = 24
STEPS_AGAIN: Final = 12
"""Most steps until a grid is opened again, the first time and later."""


@dataclass(slots=True)
class _Canvas:
    """A candidate's whole canvas, of which the model sees the beginning."""

    ids: Ids
    "(C,) the newest draft"
    pinned: set[int] = field(default_factory=set)
    "by the user"


class GridSolver(PassingStepper):
    """See `dgtui.diffusion.stepper.Stepper`. The prompt is BOS and the grid. Only a single candidate is checked."""

    reads = False

    def __init__(self, inner: Stepper, canvas_length: int, digits: Sequence[int], fill: int) -> None:
        """
        Args:
            inner: The model's own stepper.
            canvas_length: Positions of the whole canvas.
            digits: The ids of 0 to 9.
            fill: The id that follows the end of a reply.
        """
        super().__init__(inner)
        self.canvas_length, self._fill = canvas_length, fill
        self._value = {token: digit for digit, token in enumerate(digits) if digit}
        self._canvases: list[_Canvas] = []
        self._givens: list[int | None] = []
        self._seed = self._tries = self._left = self._most = 0

    def encode(self, ids: Sequence[int], images: Sequence[Image] = ()) -> None:
        """See `Stepper.encode`."""
        super().encode(ids, images)
        self._givens = [self._value.get(ids[1 + place]) for place in PLACES]

    def seed(self, candidate: int, seed: int) -> None:
        """See `Stepper.seed`."""
        super().seed(candidate, seed)
        if candidate == 0:
            self._seed = seed

    def begin(self, starts: Sequence[Start], settings: SamplerSettings, suppressed: Collection[int] = ()) -> list[Ids]:
        """See `Stepper.begin`. After the model's canvas, what is not pinned is the end of the reply."""
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
        own = self.inner.canvas_length
        return replace(start, ids=start.ids[:own], pinned=frozenset(at for at in start.pinned if at < own))

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
        return [replace(step, done=step.done or not broken)]

    def _broken(self, ids: Ids) -> set[int]:
        """The places of cells that break a rule: no digit, not the given one, or twice in a row, column or box."""
        values = [self._value.get(int(ids[place])) for place in PLACES]
        found = {cell for cell, value in enumerate(values) if value is None or self._givens[cell] not in (None, value)}
        for _, unit in units(9):
            mine = [values[cell] for cell in unit]
            found.update(cell for cell in unit if mine.count(values[cell]) > 1)
        return {PLACES[cell] for cell in found}

    def _open(self, canvas: _Canvas, free: set[int]) -> None:
        """Starts again with noise in these cells, or every second time in all that are not pinned."""
        self._tries += 1
        if self._tries % 2 == 0:
            free = {*PLACES} - canvas.pinned
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
        flags = flags + np.where(ids != canvas.ids, Flag.CHANGED, 0) * (self._left < self._settings.steps)
        certain = np.zeros((len(rest), top))
        certain[:, :1] = 1
        canvas.ids = ids
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
