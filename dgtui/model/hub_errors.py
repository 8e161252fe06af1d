"""Turns huggingface_hub's exceptions into errors that say what to do."""

import errno
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from huggingface_hub import constants, errors

from dgtui.errors import DgtuiError, ModelNotFound, ModelUnfetchable, RunFailed, UsageError, reason
from dgtui.model import catalog
from dgtui.model.shards import shown

AGAIN: Final = "run the same command again: it continues where it stopped"
LOGIN: Final = "run hf auth login or set HF_TOKEN"
NetworkError: Final[Any] = errors.HfHubHTTPError.__bases__[0]
"""HTTPError of huggingface_hub's HTTP client: httpx, or a fork of it in later versions."""


@contextmanager
def clear_errors(name: str, revision: str) -> Iterator[None]:
    """Turns huggingface_hub's exceptions into errors that say what to do."""
    if constants.HF_HUB_OFFLINE:
        raise ModelUnfetchable(
            "nothing is downloaded: HF_HUB_OFFLINE (or TRANSFORMERS_OFFLINE) is set", hint="unset it and try again"
        )
    try:
        yield
    except DgtuiError:
        raise
    except (OSError, ValueError, NetworkError) as error:
        raise _clear(_cause(error), name, revision) from error


def _cause(error: BaseException) -> BaseException:
    """The cause of a failed request: huggingface_hub reports many of them as "not found"."""
    while isinstance(error, errors.LocalEntryNotFoundError) and error.__cause__ is not None:
        error = error.__cause__
    return error


def _clear(error: BaseException, name: str, revision: str) -> DgtuiError:
    if isinstance(error, errors.GatedRepoError):
        return ModelUnfetchable(
            f"{name} is gated: you have to accept its licence first",
            hint=f"accept it on {constants.ENDPOINT}/{name}, {LOGIN}, and try again",
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return ModelNotFound(f"the hub has no model {name}, or it is private", hint=f"if it is private, {LOGIN}")
    if isinstance(error, errors.RevisionNotFoundError):
        return ModelNotFound(f"{name} has no revision {revision}", hint="leave out --revision to download main")
    if isinstance(error, errors.HfHubHTTPError):
        return _refused(error.response.status_code, name)
    if isinstance(error, errors.HFValidationError):
        return UsageError(
            f"{shown(name)} is not a valid hub name", hint=f"use the form owner/name, such as {catalog.REAL}"
        )
    if isinstance(error, NetworkError):
        return ModelUnfetchable(
            f"the connection to the hub failed: {shown(error)}", hint=f"check the network and proxy, then {AGAIN}"
        )
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return no_space("the disk of the hub cache is full")
    if isinstance(error, OSError) and error.errno is not None:
        return RunFailed(f"{shown(error.filename or catalog.hub_cache())} cannot be written: {reason(error)}")
    return ModelUnfetchable(f"{name} could not be downloaded: {shown(error)}", hint=AGAIN)


def _refused(status: int, name: str) -> ModelUnfetchable:
    hints: Mapping[int, str] = {
        401: f"the token was rejected; {LOGIN}",
        403: f"if the model has a licence, accept it on {constants.ENDPOINT}/{name}; {LOGIN}",
        429: "too many requests; wait a few minutes",
    }
    trouble = "the server has a problem; wait a while" if status >= 500 else "wait a moment"
    return ModelUnfetchable(f"the hub answered {status} for {name}", hint=f"{hints.get(status, trouble)}, then {AGAIN}")


def no_space(what: str) -> RunFailed:
    return RunFailed(
        what, hint=f"free some space (dgtui model remove) or set HF_HUB_CACHE to a folder on another disk, then {AGAIN}"
    )
