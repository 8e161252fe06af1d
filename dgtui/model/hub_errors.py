"""What huggingface_hub raises, as errors that say what to do."""

import errno
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from huggingface_hub import constants, errors

from dgtui.errors import DgtuiError, ModelNotFound, ModelUnfetchable, RunFailed, UsageError, reason
from dgtui.model import catalog
from dgtui.model.shards import shown

AGAIN: Final = "the same command continues where it stopped"
LOGIN: Final = "hf auth login, or set HF_TOKEN"
NetworkError: Final[Any] = errors.HfHubHTTPError.__bases__[0]
"""HTTPError of the client that huggingface_hub uses: httpx, or, in later versions, a fork of it."""


@contextmanager
def clear_errors(name: str, revision: str) -> Iterator[None]:
    """Turns whatever huggingface_hub raises into an error that says what to do."""
    if constants.HF_HUB_OFFLINE:
        raise ModelUnfetchable(
            "nothing is fetched: HF_HUB_OFFLINE (or TRANSFORMERS_OFFLINE) is set", hint="unset it, then try again"
        )
    try:
        yield
    except DgtuiError:
        raise
    except (OSError, ValueError, NetworkError) as error:
        raise _clear(_cause(error), name, revision) from error


def _cause(error: BaseException) -> BaseException:
    """huggingface_hub says "not found here" for any reason that a file could not be asked for; this is the reason."""
    while isinstance(error, errors.LocalEntryNotFoundError) and error.__cause__ is not None:
        error = error.__cause__
    return error


def _clear(error: BaseException, name: str, revision: str) -> DgtuiError:
    if isinstance(error, errors.GatedRepoError):
        return ModelUnfetchable(
            f"{name} is gated: access is given to those who accept its licence",
            hint=f"accept it on {constants.ENDPOINT}/{name}, then {LOGIN}, and try again",
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return ModelNotFound(f"the hub has no model {name}, or keeps it private", hint=f"if it is private: {LOGIN}")
    if isinstance(error, errors.RevisionNotFoundError):
        return ModelNotFound(f"{name} has no revision {revision}", hint="without --revision, main is fetched")
    if isinstance(error, errors.HfHubHTTPError):
        return _refused(error.response.status_code, name)
    if isinstance(error, errors.HFValidationError):
        return UsageError(f"{shown(name)} is no name on the hub", hint=f"name it as owner/name, such as {catalog.REAL}")
    if isinstance(error, NetworkError):
        return ModelUnfetchable(
            f"no connection to the hub, or it broke: {shown(error)}", hint=f"look at network and proxy; {AGAIN}"
        )
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return no_space("the disk of the hub cache is full")
    if isinstance(error, OSError) and error.errno is not None:
        return RunFailed(f"{shown(error.filename or catalog.hub_cache())} cannot be written: {reason(error)}")
    return ModelUnfetchable(f"{name} could not be fetched: {shown(error)}", hint=AGAIN)


def _refused(status: int, name: str) -> ModelUnfetchable:
    hints: Mapping[int, str] = {
        401: f"the token is not accepted: {LOGIN}",
        403: f"if it needs a licence, accept it on {constants.ENDPOINT}/{name}; then {LOGIN}",
        429: "too many requests: wait some minutes",
    }
    trouble = "it has troubles of its own: try later" if status >= 500 else "try again"
    return ModelUnfetchable(f"the hub answers {status} for {name}", hint=f"{hints.get(status, trouble)}; {AGAIN}")


def no_space(what: str) -> RunFailed:
    return RunFailed(
        what, hint=f"free some (dgtui model remove), or set HF_HUB_CACHE to a folder on another disk; {AGAIN}"
    )
