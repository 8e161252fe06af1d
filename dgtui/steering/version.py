"""A version of a reply: a run, and what is pinned in it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from dgtui.backend import RunHandle
from dgtui.diffusion.events import BlockFinished, BlockStarted, Frame, Ids
from dgtui.errors import DgtuiError
from dgtui.steering.doubts import Doubt
from dgtui.steering.lengths import LengthSearch, is_unlikely
from dgtui.steering.search import Search

Kind = Literal["reply", "continue", "between", "fork", "re-diffuse", "polish", "gap", "pick", "type", "pin"]


class Refused(DgtuiError):
    """The change cannot be made to this canvas now. The message says why."""


@dataclass(slots=True, eq=False)
class Version:
    """A state of the reply. `pins` are the positions that the user pinned, by block."""

    number: int
    kind: Kind
    run: RunHandle
    parent: Version | None = None
    candidate: int = 0
    span: tuple[int, int] | None = None
    "the positions that the run may change; versions with the same parent and span are proposals for it"
    pins: dict[int, frozenset[int]] = field(default_factory=dict)
    left: Version | None = None
    "the child that undo came from"
    doubts: dict[int, dict[int, Doubt]] = field(default_factory=dict)
    "the alternatives in the finished text, by block and position, as far as the model was asked"
    search: Search[LengthSearch] | None = None
    "the search that fills its gap, run by run; None if there is none or it is over"

    @property
    def running(self) -> bool:
        """Whether its run or its search is still going on."""
        return self.search is not None or not self.run.ended.done()

    def stop(self) -> None:
        """Ends its run within a denoising step. The text so far is kept."""
        (self.search.stop if self.search else self.run.control.cancel)()

    @property
    def unlikely(self) -> bool:
        """Whether the model has not seen such text, as far as the run has read it."""
        return not self.running and is_unlikely(self.run.log, self.candidate)

    @property
    def block(self) -> int:
        """The newest block."""
        newest = len(self.run.job.blocks)
        for event in self.run.log:
            if isinstance(event, BlockStarted):
                newest = event.block
        return newest

    def ids(self, block: int) -> Ids | None:
        """The current canvas of a block, or None before its first step."""
        import numpy as np

        before = self.run.job.blocks
        if block < len(before):
            return np.asarray(before[block], dtype=np.int32)
        newest: Ids | None = None
        for event in self.run.log:
            if isinstance(event, (Frame, BlockFinished)) and (event.block, event.candidate) == (block, self.candidate):
                newest = event.ids
        return newest

    def frames(self) -> list[Frame]:
        """All frames of its candidate, block after block."""
        return self.run.log.frames(candidate=self.candidate)

    def reply_ids(self, stop_ids: frozenset[int], before: int | None = None) -> tuple[int, ...]:
        """The current reply, up to the first stop id; only the blocks `before` one, if that is given."""
        ids: list[int] = []
        for block in range(self.block + 1 if before is None else before):
            canvas = self.ids(block)
            ids += canvas.tolist() if canvas is not None else []
        stops = (at for at, token in enumerate(ids) if token in stop_ids)
        return tuple(ids[: min(next(stops, len(ids)), self.run.job.max_tokens)])
