"""The errors a person can do something about.

Raised where the cause is known, once, with what to do next in `hint`. The command line turns the class into an exit
code (`exit_code`, explained in `EXIT_CODES`), the screens turn it into a notice. Everything else that is raised is a
bug and keeps its traceback. Messages may quote files and models: pass them through `dgtui.text.sanitize` to show them.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar

EXIT_CODES: Mapping[int, str] = MappingProxyType(
    {
        0: "done",
        1: "failed while running",
        2: "wrong usage",
        3: "model missing or unloadable",
        4: "input refused (binary, undecodable, too large, bad span)",
        5: "out of memory",
        6: "not a terminal",
        130: "interrupted",
    }
)
"""Every exit code of the program and what it means. The classes below name the code they lead to."""


def reason(error: BaseException) -> str:
    """Why the system refused something, in its own words."""
    return (isinstance(error, OSError) and error.strerror) or str(error)


def out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out: the machine's, a GPU's, or what a GPU's libraries take for themselves.

    PyTorch has a class for the second only; the others are a `RuntimeError` with these words.
    """
    if not isinstance(error, RuntimeError):
        return isinstance(error, MemoryError)
    words = ("out of memory", "can't allocate memory", "not enough memory", "status_alloc_failed")
    return any(word in str(error).lower() for word in words)


class DgtuiError(Exception):
    """Base of all typed errors.

    Args:
        message: What happened, one sentence without a final full stop.
        hint: What to do next, or an empty string where there is nothing to advise.
    """

    exit_code: ClassVar[int] = 1
    """The key in `EXIT_CODES` the command line exits with."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class RunFailed(DgtuiError):
    """Something failed while running: a save, a generation, a folder that cannot be made."""

    exit_code = 1


class UsageError(DgtuiError):
    """The command was called wrongly: options that exclude each other, a value that cannot be."""

    exit_code = 2


class InvalidSettings(UsageError):
    """An option given for a setting is out of range, or contradicts another setting."""


class ModelNotFound(DgtuiError):
    """No checkpoint of that name in the catalog, the local cache or the file system."""

    exit_code = 3


class ModelUnfetchable(DgtuiError):
    """The checkpoint is not on this machine, and the hub does not give it: no connection, no access, no answer."""

    exit_code = 3


class ModelUnloadable(DgtuiError):
    """The checkpoint is there and cannot be used."""

    exit_code = 3


class WrongArchitecture(ModelUnloadable):
    """The checkpoint is for some other kind of model."""


class CorruptCheckpoint(ModelUnloadable):
    """Files are missing, cut short, or disagree with the checkpoint's own config."""


class UnsafeCheckpoint(ModelUnloadable):
    """The checkpoint would run code when loaded (pickled weights, remote code): refused."""


class VocabularyMismatch(ModelUnloadable):
    """Tokenizer and weights disagree about the vocabulary."""


class InputRefused(DgtuiError):
    """What was handed in cannot be worked on; it is left untouched."""

    exit_code = 4


class EmptyPrompt(InputRefused):
    """There is nothing to answer."""


class PromptTooLong(InputRefused):
    """The prompt does not fit the context."""


class DocumentRefused(InputRefused):
    """The file is binary, undecodable or too large, or a span lies outside of it."""


class ImageRefused(InputRefused):
    """The file is no image, damaged, animated or too large, or the model has no way to be told of it."""


class ModelBlind(InputRefused):
    """An image was given to a model that does not see."""


class RecordingRefused(InputRefused):
    """The file is not a recording, or one of a version this program does not read."""


class OutOfMemory(DgtuiError):
    """Neither the GPU nor the machine has the memory that the run needs."""

    exit_code = 5


class NotATerminal(DgtuiError):
    """A screen was asked for and there is no terminal to draw it on."""

    exit_code = 6


class Interrupted(DgtuiError):
    """The person pressed Ctrl+C."""

    exit_code = 130
