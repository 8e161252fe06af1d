"""Fetching a checkpoint from the hub into its cache: the one place that opens a connection, for `dgtui model pull`.

`look` asks what there is, refusing what could not be loaded before a byte of weights; `fetch` brings what is missing.
Everything goes through huggingface_hub, which knows the endpoint, proxies and tokens. Large files are appended to
`blobs/<sha256>.incomplete`, and the next run continues there. huggingface_hub itself discards unfinished files.
Their sha256 is checked, then huggingface_hub finds them in its cache and links them. The revision
points to the new version last of all: until then, an older one stays the one that is used.
"""

import errno
import hashlib
import io
import json
import re
import shutil
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

from huggingface_hub import HfApi, constants, errors, hf_hub_download, hf_hub_url
from huggingface_hub.file_download import http_get
from huggingface_hub.utils import WeakFileLock, build_hf_headers, disable_progress_bars, logging

from dgtui import __version__
from dgtui.atomic import replace_file
from dgtui.errors import (
    CorruptCheckpoint,
    DgtuiError,
    ModelNotFound,
    ModelUnfetchable,
    RunFailed,
    UsageError,
    reason,
)
from dgtui.model import catalog
from dgtui.model.open_checkpoint import check_names, open_checkpoint
from dgtui.model.shards import INDEX, SINGLE, shard_names, shown

_NAME: Final = re.compile(r"[A-Za-z0-9_][\w.-]*", re.ASCII)  # of a file that is fetched: no folders, nothing hidden
_SHA1: Final = re.compile(r"[0-9a-f]{40}")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_REVISION: Final = re.compile(r"[\w.+@-]+(/[\w.+@-]+)*", re.ASCII)
_TIMEOUT: Final = 10.0  # seconds
_PATIENCE: Final = (1.0, 2.0, 4.0)  # seconds between tries that bring nothing
_JSON_LIMIT: Final = 64_000_000  # bytes of a config or an index, which are read into memory
_AGAIN: Final = "the same command goes on where it stopped"
_LOGIN: Final = "hf auth login, or set HF_TOKEN"
_CLIENT: Final[dict[str, Any]] = {"library_name": "dgtui", "library_version": __version__}
_NetworkError: Final[Any] = errors.HfHubHTTPError.__bases__[0]
# HTTPError of the client that huggingface_hub uses: httpx, or, in later versions, a fork of it


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file of a repository that is needed."""

    name: str
    size: int
    """Bytes."""
    sha256: str | None
    """Of its content, where the hub says it: for all that is large."""


@dataclass(frozen=True, slots=True)
class Download:
    """What a checkpoint consists of on the hub, at one commit."""

    name: str
    """The hub id."""
    revision: str
    """The branch, tag or commit that was asked for."""
    commit: str
    files: tuple[RemoteFile, ...]

    @property
    def snapshot(self) -> Path:
        """The folder in which the files appear."""
        return catalog.hub_folder(self.name) / "snapshots" / self.commit

    @property
    def total(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    def here(self) -> int:
        """Bytes of them that are in the cache by now."""
        return sum(min(file.size, max(map(_size, self._places(file)))) for file in self.files)

    def blob(self, file: RemoteFile) -> Path:
        """Where the content of a large file is kept."""
        return catalog.hub_folder(self.name) / "blobs" / str(file.sha256)

    def _places(self, file: RemoteFile) -> Iterator[Path]:
        yield self.snapshot / file.name
        if file.sha256:
            blob = self.blob(file)
            yield blob
            yield from blob.parent.glob(f"{blob.name}*.incomplete")


def look(name: str, revision: str = "main") -> Download:
    """Ask the hub what a checkpoint consists of. Fetches a few kilobytes, and leaves nothing on this machine.

    Raises:
        UsageError: If `name` or `revision` is not one that could be on a hub.
        ModelNotFound: If the hub has no such model or revision.
        ModelUnfetchable: If it cannot be reached, or gives no access.
        ModelUnloadable: If what it has could not be loaded.
    """
    if not catalog.HUB_ID.fullmatch(name):
        raise UsageError(f"{shown(name)} is no name on the hub", hint=f"name it as owner/name, such as {catalog.REAL}")
    if not _REVISION.fullmatch(revision) or ".." in revision:
        raise UsageError(f"{shown(revision)} is no revision", hint="name a branch, a tag or a commit")
    _hush()
    with _clear_errors(name, revision):
        try:
            info = HfApi(**_CLIENT).model_info(name, revision=revision, files_metadata=True, timeout=_TIMEOUT)
            commit, found = str(info.sha), {file.rfilename: file for file in info.siblings or ()}
        except errors.HFValidationError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError):
            raise ModelUnfetchable(
                "the answer is not that of a hub",
                hint="is there a proxy or a login page in between? is HF_ENDPOINT right?",
            ) from None
        if not _SHA1.fullmatch(commit):
            raise ModelUnfetchable(f"the hub names no commit for {name}")
        at_top = {file: found[file] for file in found if _NAME.fullmatch(file)}

        def read(file: str) -> dict[str, Any]:
            if (found[file].size or 0) > _JSON_LIMIT:
                raise CorruptCheckpoint(f"{file} of {name} is far too large")
            return _json(name, commit, file)

        check_names(at_top, name, lambda: read("config.json"))
        wanted = _wanted(at_top, lambda: read(INDEX))
    return Download(name, revision, commit, tuple(_remote(found[file]) for file in wanted))


def _hush() -> None:
    """No telemetry, no logs, no bars: what there is to say is said here."""
    constants.HF_HUB_DISABLE_TELEMETRY = True
    logging.set_verbosity(logging.ERROR)
    disable_progress_bars()


def _wanted(names: Collection[str], index: Callable[[], dict[str, Any]]) -> list[str]:
    """What is loaded, and what goes with it: no pickles, no code, no second set of weights."""
    shards = [SINGLE] if SINGLE in names else shard_names(index())
    missing = [name for name in shards if name not in names]
    if missing:
        raise CorruptCheckpoint(f"the hub lacks {shown(missing[0])}, though {INDEX} lists it")
    beside = [name for name in names if name.endswith((".json", ".jinja")) or name == "tokenizer.model"]
    if SINGLE in names:
        beside = [name for name in beside if name != INDEX]
    return sorted(beside) + shards


def _remote(sibling: Any) -> RemoteFile:
    sha256 = str(sibling.lfs["sha256"]) if sibling.lfs else ""
    return RemoteFile(sibling.rfilename, sibling.size or 0, sha256 if _SHA256.fullmatch(sha256) else None)


def _json(name: str, commit: str, file: str) -> dict[str, Any]:
    content = io.BytesIO()
    _get(name, commit, file, content)
    try:
        value = json.loads(content.getvalue())
    except (ValueError, RecursionError):
        raise CorruptCheckpoint(f"{file} of {name} is not JSON") from None
    if not isinstance(value, dict):
        raise CorruptCheckpoint(f"{file} of {name} holds no JSON object")
    return value


def _get(name: str, commit: str, file: str, into: BinaryIO, **options: Any) -> None:
    """The content of a file, or the rest of it, at the end of `into`."""
    headers = build_hf_headers(**_CLIENT) | {"Accept-Encoding": "identity"}  # places in it are those of the content
    http_get(hf_hub_url(name, file, revision=commit), into, headers=headers, **options)


def require_space(download: Download) -> None:
    """Raise `RunFailed` unless what is missing of a checkpoint fits the disk of the hub cache."""
    folder = next(folder for folder in (catalog.hub_cache(), *catalog.hub_cache().parents) if folder.exists())
    needed, free = download.total - download.here(), shutil.disk_usage(folder).free
    if needed > free:
        raise _no_space(
            f"{download.name} needs {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free in {shown(folder)}"
        )


def fetch(download: Download, say: Callable[[str], None] = lambda stage: None) -> Path:
    """Bring what is missing of a checkpoint, and check it.

    Args:
        download: What `look` found.
        say: Told what is being done when that changes.

    Returns:
        Its folder in the cache.

    Raises:
        ModelUnfetchable: If the connection breaks, or access ends. What has come is kept.
        CorruptCheckpoint: If something else came than what the hub announced.
        RunFailed: If the disk is full or cannot be written, or another process fetches the same file.
    """
    with _clear_errors(download.name, download.revision):
        # Small ones first, and links before weights: what is not finished can be recognised as what it is.
        for file in sorted(download.files, key=lambda file: file.sha256 is not None):
            if file.sha256 and file.size <= constants.MAX_HTTP_DOWNLOAD_SIZE:
                say(f"fetching {file.name}")
                _fetch_blob(download, file, say)
            say(f"fetching {file.name}")
            hf_hub_download(
                download.name, file.name, revision=download.commit, cache_dir=catalog.hub_cache(), **_CLIENT
            )
        say("checking")
        open_checkpoint(catalog.Checkpoint(download.name, download.snapshot, "hub"))
        _point(download)
    return download.snapshot


def _fetch_blob(download: Download, file: RemoteFile, say: Callable[[str], None]) -> None:
    """A large file, from where an earlier run ended; it gets its name in the cache when its sha256 is right."""
    blob = download.blob(file)
    folder = catalog.hub_folder(download.name)
    lock = catalog.hub_cache() / ".locks" / folder.name / f"{blob.name}.lock"
    for parent in (blob.parent, lock.parent):
        parent.mkdir(parents=True, exist_ok=True)
    try:
        with WeakFileLock(lock, timeout=1):
            if _size(blob) == file.size:
                return
            part = blob.with_name(f"{blob.name}.incomplete")
            with part.open("ab") as out:
                if out.tell() > file.size:
                    out.seek(0)
                    out.truncate()
                _append(download, file, out)
            say(f"checking {file.name}")
            with part.open("rb") as whole:
                digest = hashlib.file_digest(whole, "sha256").hexdigest()
            if digest != file.sha256:
                part.unlink()
                raise CorruptCheckpoint(f"{file.name} came damaged and was thrown away", hint="fetch it again")
            part.replace(blob)
    except TimeoutError:
        raise RunFailed(f"another process is fetching {file.name}", hint="wait for it, or end it first") from None


def _append(download: Download, file: RemoteFile, out: BinaryIO) -> None:
    """Tries again as long as every try brings something, and a few times when nothing comes."""
    vain, afresh = 0, False
    while True:
        begin = out.tell()
        try:
            _get(download.name, download.commit, file.name, out, resume_size=begin, expected_size=file.size)
            return
        except (OSError, _NetworkError) as error:
            status = error.response.status_code if isinstance(error, errors.HfHubHTTPError) else None
            if begin and not afresh and (status == 416 or out.tell() > file.size):
                afresh = True  # the server cannot begin in the middle
                out.seek(0)
                out.truncate()
                continue
            vain = 0 if out.tell() > begin else vain + 1
            hopeless = status is not None or getattr(error, "errno", None) is not None or out.tell() > file.size
            if hopeless or vain == len(_PATIENCE):
                raise
            time.sleep(_PATIENCE[vain])


def _point(download: Download) -> None:
    """Make the revision lead to the commit, as huggingface_hub writes it."""
    if download.revision == download.commit:
        return
    ref = catalog.hub_folder(download.name) / "refs" / download.revision
    ref.parent.mkdir(parents=True, exist_ok=True)
    replace_file(ref, download.commit.encode(), mode=0o666)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


@contextmanager
def _clear_errors(name: str, revision: str) -> Iterator[None]:
    """Turns whatever huggingface_hub raises into an error that says what to do."""
    if constants.HF_HUB_OFFLINE:
        raise ModelUnfetchable(
            "nothing is fetched: HF_HUB_OFFLINE (or TRANSFORMERS_OFFLINE) is set", hint="unset it, then try again"
        )
    try:
        yield
    except DgtuiError:
        raise
    except (OSError, ValueError, _NetworkError) as error:
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
            hint=f"accept it on {constants.ENDPOINT}/{name}, then {_LOGIN}, and try again",
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return ModelNotFound(f"the hub has no model {name}, or keeps it private", hint=f"if it is private: {_LOGIN}")
    if isinstance(error, errors.RevisionNotFoundError):
        return ModelNotFound(f"{name} has no revision {revision}", hint="without --revision, main is fetched")
    if isinstance(error, errors.HfHubHTTPError):
        return _refused(error.response.status_code, name)
    if isinstance(error, errors.HFValidationError):
        return UsageError(f"{shown(name)} is no name on the hub", hint=f"name it as owner/name, such as {catalog.REAL}")
    if isinstance(error, _NetworkError):
        return ModelUnfetchable(
            f"no connection to the hub, or it broke: {shown(error)}", hint=f"look at network and proxy; {_AGAIN}"
        )
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return _no_space("the disk of the hub cache is full")
    if isinstance(error, OSError) and error.errno is not None:
        return RunFailed(f"{shown(error.filename or catalog.hub_cache())} cannot be written: {reason(error)}")
    return ModelUnfetchable(f"{name} could not be fetched: {shown(error)}", hint=_AGAIN)


def _refused(status: int, name: str) -> ModelUnfetchable:
    hints: Mapping[int, str] = {
        401: f"the token is not accepted: {_LOGIN}",
        403: f"if it needs a licence, accept it on {constants.ENDPOINT}/{name}; then {_LOGIN}",
        429: "too many requests: wait some minutes",
    }
    trouble = "it has troubles of its own: try later" if status >= 500 else "try again"
    return ModelUnfetchable(f"the hub answers {status} for {name}", hint=f"{hints.get(status, trouble)}; {_AGAIN}")


def _no_space(what: str) -> RunFailed:
    return RunFailed(
        what, hint=f"free some (dgtui model remove), or set HF_HUB_CACHE to a folder on another disk; {_AGAIN}"
    )
