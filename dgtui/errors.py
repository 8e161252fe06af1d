"""Errors that the user can act on.

They are raised once, where the cause is known, with advice in `hint`. The command line maps the class to an exit code
(`exit_code`, explained in `EXIT_CODES`) and the screens show it as a notice. Any other exception is a bug and keeps its
traceback. Messages may quote files and models, so pass them through `dgtui.text.sanitize` before showing them.
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
        4: "input missing or rejected (binary, undecodable, too large, invalid span)",
        5: "out of memory",
        6: "not a terminal",
        130: "interrupted",
    }
)
"""Every exit code and its meaning. Each class below has one of these codes."""


def reason(error: BaseException) -> str:
    """Returns the system's own words for an error."""
    return (isinstance(error, OSError) and error.strerror) or str(error)


def out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out: on the machine, on a GPU, or inside a GPU library.

    PyTorch has a class for the GPU only. The other cases are a `RuntimeError` with one of these phrases.
    """
    if not isinstance(error, RuntimeError):
        return isinstance(error, MemoryError)
    words = ("out of memory", "can't allocate memory", "not enough memory", "status_alloc_failed")
    return any(word in str(error).lower() for word in words)


class DgtuiError(Exception):
    """Base class of all typed errors.

    Args:
        message: What happened, in one sentence without a final full stop.
        hint: What to do next. Empty if there is no advice.
    """

    exit_code: ClassVar[int] = 1
    """The exit code of the command line, a key of `EXIT_CODES`."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class RunFailed(DgtuiError):
    """Something failed while running: a save, a generation, the creation of a folder."""

    exit_code = 1


class UsageError(DgtuiError):
    """The command was called wrongly: conflicting options, or an invalid value."""

    exit_code = 2


class InvalidSettings(UsageError):
    """A setting is out of range or conflicts with another setting."""


class ModelNotFound(DgtuiError):
    """There is no checkpoint of that name in the catalog, the local cache or the file system."""

    exit_code = 3


class ModelUnfetchable(DgtuiError):
    """The checkpoint is not on this machine, and downloading it failed: no connection, no access or no answer."""

    exit_code = 3


class ModelUnloadable(DgtuiError):
    """The checkpoint exists but cannot be used."""

    exit_code = 3


class WrongArchitecture(ModelUnloadable):
    """The checkpoint belongs to another kind of model."""


class CorruptCheckpoint(ModelUnloadable):
    """Files of the checkpoint are missing, cut short, or disagree with its config."""


class UnsafeCheckpoint(ModelUnloadable):
    """Loading the checkpoint would run its code (pickled weights, remote code)."""


class VocabularyMismatch(ModelUnloadable):
    """Tokenizer and weights have different vocabularies."""


class InputRefused(DgtuiError):
    """The input cannot be processed. It is left untouched."""

    exit_code = 4


class EmptyPrompt(InputRefused):
    """The prompt is empty."""


class PromptTooLong(InputRefused):
    """The prompt does not fit the context."""


class DocumentRefused(InputRefused):
    """The file is missing, binary, undecodable or too large, or a span lies outside it."""


class ImageRefused(InputRefused):
    """The file is not an image, is damaged, animated or too large, or the model has no markup for images."""


class ModelBlind(InputRefused):
    """An image was given to a model without a vision tower."""


class RecordingRefused(InputRefused):
    """The file is not a recording, or its version is not supported."""


class OutOfMemory(DgtuiError):
    """The run needs more memory than the GPU or the machine has."""

    exit_code = 5


class NotATerminal(DgtuiError):
    """A screen command was started without a terminal."""

    exit_code = 6


class Interrupted(DgtuiError):
    """The user pressed Ctrl+C."""

    exit_code = 130
