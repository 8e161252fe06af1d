"""Meters: computes the speed of a run from its log, and the two lines that show it.

Every number has its own label. Seconds come from the log: wall clock without pauses. Only the run's own tokens count,
not the blocks it was given or the positions that were pinned from the start.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from dgtui.diffusion.events import BlockFinished, BlockStarted, Finished, Flag, Frame, Ids
from dgtui.diffusion.log import RunLog
from dgtui.text import cell_width, sanitize, truncate
from dgtui.tui.frames import View

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Mask: TypeAlias = "npt.NDArray[np.bool_]"

_ENDS = {"eos": "end of reply", "length": "out of room", "cancelled": "stopped"}


@dataclass(frozen=True, slots=True)
class Measures:
    """The figures of a run so far. None means not known yet."""

    tokens: int
    "tokens written, up to the end of the reply; in a running block, those accepted in the newest step"
    tokens_per_second: float | None
    "`tokens` by wall-clock seconds since the start of the run"
    tokens_per_step: float | None
    "`tokens` by denoising steps"
    ms_per_step: float | None
    "mean duration of a denoising step"
    first_frame_s: float | None
    "from the start of the run to its first frame"
    memory: str
    "in the format of `memory`"
    reason: str
    "why the run ended (`StopReason`); empty while it runs"
    proposal: str = ""
    "the number of the shown proposal, if there are several"
    slow: str = ""
    "why steps do not run in the fastest way; empty if they do"


def measure(
    log: RunLog,
    *,
    stop_ids: frozenset[int],
    candidate: int = 0,
    memory: str = "",
    proposal: str = "",
    slow: str = "",
) -> Measures:
    """The figures of a run, finished or not.

    Args:
        log: Its log, which may grow meanwhile.
        stop_ids: The ids that end a reply.
        candidate: Which of the canvases that are denoised together.
        memory: Passed through, as are `proposal` and `slow`.
    """
    count = _Count(log, stop_ids, candidate)
    return Measures(
        tokens=count.tokens,
        tokens_per_second=count.tokens / count.seconds if count.frames and count.seconds > 0 else None,
        tokens_per_step=count.tokens / count.frames if count.frames else None,
        ms_per_step=1000 * count.stepping / count.frames if count.frames else None,
        first_frame_s=count.first,
        memory=memory,
        reason=count.reason,
        proposal=proposal,
        slow=slow,
    )


class _Count:
    """One pass over a log."""

    def __init__(self, log: RunLog, stop_ids: frozenset[int], candidate: int) -> None:
        import numpy as np

        self.tokens = self.frames = 0
        self.seconds = self.stepping = 0.0
        self.first: float | None = None
        self.reason = ""
        self._stop_ids = list(stop_ids)
        self._room = log.job.max_tokens - sum(map(len, log.job.blocks))
        if any(i in stop_ids for block in log.job.blocks for i in block):
            self._room = 0
        newest: Frame | None = None
        free: Mask = np.empty(0, np.bool_)
        step_began = 0.0
        for index in range(len(log)):
            event = log[index]
            if isinstance(event, BlockStarted):
                self.seconds = event.seconds
                step_began, free, newest = event.seconds, ~event.pinned[candidate], None
            elif isinstance(event, Frame):
                self.seconds = event.seconds
                if event.candidate == candidate:
                    if self.first is None:
                        self.first = event.seconds
                    self.frames += 1
                    self.stepping += event.seconds - step_began
                    step_began, newest = event.seconds, event
            elif isinstance(event, BlockFinished):
                self.seconds = event.seconds
                if event.candidate == candidate:
                    self._write(event.ids, free)
                    newest = None
            elif isinstance(event, Finished):
                self.seconds, self.reason = event.seconds, str(event.reason)
        if newest is not None:
            self._write(newest.ids, free, (newest.flags & (Flag.ACCEPTED | Flag.PINNED)).astype(np.bool_))

    def _write(self, ids: Ids, free: Mask, certain: Mask | None = None) -> None:
        """Counts the free positions of a block up to the end of the reply, if both are `certain` (None: all are)."""
        import numpy as np

        stop = np.isin(ids, self._stop_ids)
        if certain is not None:
            stop, free = stop & certain, free & certain
        stops = np.flatnonzero(stop)
        end = int(stops[0]) if len(stops) else len(ids)
        self.tokens += int(free[: max(0, min(end, self._room))].sum())
        self._room = 0 if len(stops) else self._room - len(ids)


def memory(size: int, kind: str) -> str:
    """Bytes in powers of ten and their kind: "15.4 GB GPU". Empty for 0, which means unknown."""
    if size <= 0:
        return ""
    amount = f"{size / 1e9:.1f} GB" if size >= 950_000_000 else f"{size / 1e6:.0f} MB"
    return f"{amount} {kind}"


def status(frame: Frame, view: View, seed: int, fixed: str = "") -> str:
    """`block 2 · step 9/48 · 61% settled · mean entropy 0.41 · t 0.71 · seed 4711`, over the whole canvas.

    Nothing can have settled in the first step of a block: there it is the share of what was accepted.
    `fixed` is that of the model's facts: of text that a server sent nothing else is known.
    """
    if fixed:
        return f"part {frame.block + 1} · seed {seed}"
    accepted = (view.flags & (Flag.ACCEPTED | Flag.PINNED)) != 0
    places, state = (accepted, "decided") if frame.step == 1 else (view.settled, "settled")
    share = int(100 * places.mean()) if len(places) else 0  # rounded down: 100% means all
    return (
        f"block {frame.block + 1} · step {frame.step}/{frame.max_steps} · {share}% {state} · "
        f"mean entropy {frame.mean_entropy:.2f} · t {frame.temperature:.2f} · seed {seed}"
    )


def line(measures: Measures, width: int) -> str:
    """The meters in one line of at most `width` cells. Without room, the least important ones are left out first."""
    of = measures
    parts = [  # importance, text
        (2, "" if of.tokens_per_second is None else f"{_number(of.tokens_per_second)} tok/s wall"),
        (3, "" if of.tokens_per_step is None else f"{_number(of.tokens_per_step)} tok/step"),
        (4, "" if of.ms_per_step is None else f"{_number(of.ms_per_step)} ms/step"),
        (6, "" if of.first_frame_s is None else f"first frame {of.first_frame_s:.2f} s"),
        (7, of.memory),
        (8, f"{of.tokens:,} token{'s' if of.tokens > 1 else ''}" if of.tokens else ""),
        (5, of.proposal),
        (9, of.slow),
        (1, _ENDS.get(of.reason, of.reason)),
    ]
    shown = [(rank, sanitize(text, newlines=False, tabs="replace")) for rank, text in parts if text]
    while len(shown) > 1 and cell_width(_joined(shown)) > width:
        shown.remove(max(shown))
    return truncate(_joined(shown), width)


def _joined(parts: list[tuple[int, str]]) -> str:
    return " · ".join(text for _, text in parts)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 99.95 else f"{value:.1f}"
