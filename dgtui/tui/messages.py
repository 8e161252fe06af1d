"""Messages from a run to the screen, sent on the model's thread. Each names its run, so stale ones can be dropped."""

from textual.message import Message

from dgtui.backend import RunHandle
from dgtui.diffusion.settings import BadJob
from dgtui.errors import DgtuiError


class RunMessage(Message):
    """Something has happened in a run."""

    def __init__(self, run: RunHandle) -> None:
        super().__init__()
        self.run = run


class FramesReady(RunMessage):
    """The log of a run has grown. A newer message replaces an older one that is waiting."""

    def can_replace(self, message: Message) -> bool:
        return isinstance(message, FramesReady)


class BlockDone(RunMessage):
    """A block of a run is finished."""


class RunEnded(RunMessage):
    """A run has ended; `run.ended` says how."""


def tokens(count: int) -> str:
    """A number of tokens, in words."""
    return f"{count} token{'' if count == 1 else 's'}"


def explain(error: BaseException) -> str:
    """An error in words: what happened, and what to do."""
    if isinstance(error, DgtuiError):
        return f"{error.message}: {error.hint}" if error.hint else error.message
    if isinstance(error, BadJob):
        return str(error)
    return f"{type(error).__name__}: {error}"
