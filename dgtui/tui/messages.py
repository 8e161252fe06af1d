"""What other threads tell the screen. Messages are tagged with their run, so that a stale one can be dropped."""

from textual.message import Message

from dgtui.backend import Facts, RunHandle, Stage
from dgtui.diffusion.job import BadJob
from dgtui.errors import DgtuiError


class FramesReady(Message):
    """A run's log has grown. Only the newest counts, whichever run it is of: an older one waiting is replaced."""

    def __init__(self, run: RunHandle) -> None:
        super().__init__()
        self.run = run

    def can_replace(self, message: Message) -> bool:
        return isinstance(message, FramesReady)


class BlockDone(Message):
    """A block of a run is finished."""

    def __init__(self, run: RunHandle) -> None:
        super().__init__()
        self.run = run


class RunEnded(Message):
    """A run has ended; `run.ended` says how."""

    def __init__(self, run: RunHandle) -> None:
        super().__init__()
        self.run = run


class LoadProgress(Message):
    """How far a load is."""

    def __init__(self, stage: Stage) -> None:
        super().__init__()
        self.stage = stage

    def can_replace(self, message: Message) -> bool:
        return isinstance(message, LoadProgress)


class Loaded(Message):
    """A load has ended, well (`facts`) or not (`error`)."""

    def __init__(self, name: str | None, facts: Facts | None, error: BaseException | None) -> None:
        super().__init__()
        self.name, self.facts, self.error = name, facts, error


def explain(error: BaseException) -> str:
    """An error in a person's words: what happened, and what to do."""
    if isinstance(error, DgtuiError):
        return f"{error.message}: {error.hint}" if error.hint else error.message
    if isinstance(error, BadJob):
        return str(error)
    return f"{type(error).__name__}: {error}"
