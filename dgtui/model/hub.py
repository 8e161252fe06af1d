"""Downloads a checkpoint from the hub into the hub cache, for `dgtui model pull`. Only this module contacts the hub.

`look` asks the hub what a checkpoint consists of, and rejects what cannot be loaded before any weights are downloaded;
`fetch` downloads the missing files.
Everything goes through huggingface_hub, which knows the endpoint, proxies and tokens. Large files are appended to
`blobs/<sha256>.incomplete`, and the next run continues there. huggingface_hub itself (as of 2.4) discards
unfinished files and starts over.
Their sha256 is checked, then huggingface_hub finds them in its cache and links them. The revision is pointed at the new
version last: until then, an older version stays in use.
"""

import hashlib
import re
import shutil
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

from huggingface_hub import HfApi, constants, errors, hf_hub_download
from huggingface_hub.utils import WeakFileLock, disable_progress_bars, logging

from dgtui.atomic import replace_file
from dgtui.errors import (
    CorruptCheckpoint,
    ModelNotFound,
    ModelUnfetchable,
    RunFailed,
    UsageError,
)
from dgtui.model import catalog, gguf_header
from dgtui.model.generation import FILE as GENERATION
from dgtui.model.hub_errors import NetworkError, clear_errors, no_space
from dgtui.model.hub_files import CLIENT, Repository
from dgtui.model.open_checkpoint import (
    OpenCheckpoint,
    check_architecture,
    check_names,
    of_parts,
    open_checkpoint,
)
from dgtui.model.shards import INDEX, SINGLE, parse_json, shard_names, shown
from dgtui.model.tokenizer import ModelTokenizer

TOKENIZER_FILES: Final[tuple[str, ...]] = (
    "config.json",
    "generation_config.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "tokenizer.json",
)
"""What a model on a server needs on this machine. A repository may lack the template's file."""
_NAME: Final = re.compile(r"[A-Za-z0-9_][\w.-]*", re.ASCII)  # of a downloaded file: no folders, no hidden files
_SHA1: Final = re.compile(r"[0-9a-f]{40}")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_REVISION: Final = re.compile(r"[\w.+@-]+(/[\w.+@-]+)*", re.ASCII)
_SPLIT: Final = re.compile(r"-\d+-of-\d+\.gguf$", re.IGNORECASE)  # one of several files of a model
_TOKENIZER: Final = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
_TIMEOUT: Final = 10.0  # seconds
_PATIENCE: Final = (1.0, 2.0, 4.0)  # seconds between tries that bring nothing


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file to download."""

    name: str
    size: int
    """Bytes."""
    sha256: str | None
    """Of its content, if the hub gives it: it does for all large files."""


@dataclass(frozen=True, slots=True)
class Download:
    """The files of a checkpoint on the hub, at one commit."""

    repository: Repository
    revision: str
    """The branch, tag or commit that was requested."""
    files: tuple[RemoteFile, ...]
    opened: OpenCheckpoint | None
    """From its config and headers; None for a GGUF file or a tokenizer alone."""
    tokenizer_only: bool = False
    """No weights: only the files needed to use the model on a server."""

    @property
    def name(self) -> str:
        """The hub id."""
        return self.repository.name

    @property
    def commit(self) -> str:
        """The resolved commit."""
        return self.repository.commit

    @property
    def path(self) -> Path:
        """The path of the downloaded checkpoint: the folder, or the GGUF file in it."""
        gguf = [file.name for file in self.files if file.name.lower().endswith(".gguf")]
        return self.snapshot / gguf[0] if gguf else self.snapshot

    @property
    def snapshot(self) -> Path:
        """The folder that the files are linked into."""
        return catalog.hub_folder(self.name) / "snapshots" / self.commit

    @property
    def total(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    def here(self) -> int:
        """Bytes already in the cache."""
        return sum(min(file.size, max(map(_size, self._places(file)))) for file in self.files)

    def blob(self, file: RemoteFile) -> Path:
        """Where the content of a large file is stored."""
        return catalog.hub_folder(self.name) / "blobs" / str(file.sha256)

    def _places(self, file: RemoteFile) -> Iterator[Path]:
        yield self.snapshot / file.name
        if file.sha256:
            blob = self.blob(file)
            yield blob
            yield from blob.parent.glob(f"{blob.name}*.incomplete")


def look(
    name: str, revision: str = "main", file: str | None = None, *, tokenizer_only: bool = False
) -> Download:  # fmt: skip
    """Ask the hub what a checkpoint consists of. Downloads only config and headers, and writes nothing to disk.

    Args:
        name: The hub id.
        revision: A branch, a tag or a commit.
        file: Which GGUF file, for a repository that holds several.
        tokenizer_only: No weights: only the files needed to use the model on a server.

    Raises:
        UsageError: `name`, `revision` or `file` is not valid, or none of several GGUF files is named.
        ModelNotFound: The hub has no such model, revision or file.
        ModelUnfetchable: The hub cannot be reached, or denies access.
        ModelUnloadable: The checkpoint could not be loaded.
    """
    if not catalog.HUB_ID.fullmatch(name):
        raise UsageError(
            f"{shown(name)} is not a valid hub name", hint=f"use the form owner/name, such as {catalog.REAL}"
        )
    if not _REVISION.fullmatch(revision) or ".." in revision:
        raise UsageError(f"{shown(revision)} is not a valid revision", hint="name a branch, a tag or a commit")
    _hush()
    with clear_errors(name, revision):
        repository = _repository(name, revision)
        if tokenizer_only:
            here = [name for name in TOKENIZER_FILES if name in repository.files]
            return Download(repository, revision, tuple(_remote(repository.files[f]) for f in here), None, True)
        if not {SINGLE, INDEX} & repository.files.keys() and _gguf_files(repository):
            return _look_at_gguf(repository, revision, file)
        if file is not None:
            raise UsageError(f"{name} is not a repository of GGUF files", hint="leave out --file")
        return _look_at_safetensors(repository, revision)


def _repository(name: str, revision: str) -> Repository:
    try:
        info = HfApi(**CLIENT).model_info(name, revision=revision, files_metadata=True, timeout=_TIMEOUT)
        commit, files = str(info.sha), {file.rfilename: file for file in info.siblings or ()}
    except errors.HFValidationError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ModelUnfetchable(
            "the answer does not come from a hub",
            hint="check for a proxy or a login page in between, and check HF_ENDPOINT",
        ) from None
    if not _SHA1.fullmatch(commit):
        raise ModelUnfetchable(f"the hub gives no commit for {name}")
    return Repository(name, commit, {file: files[file] for file in files if _NAME.fullmatch(file)})


def _look_at_safetensors(repository: Repository, revision: str) -> Download:
    data = b""

    def config() -> dict[str, Any]:
        nonlocal data
        data = repository.read("config.json")
        return parse_json(data, f"config.json of {repository.name}")

    checked = check_names(repository.files, repository.name, config)
    wanted = _wanted(repository.files, lambda: repository.json(INDEX))
    generation = repository.json(GENERATION) if GENERATION in repository.files else {}
    shards = [repository.shard(file) for file in wanted if file.endswith(".safetensors")]
    checkpoint = catalog.Checkpoint(repository.name, _snapshot(repository), "hub")
    opened = of_parts(checkpoint, data, checked, generation, shards)
    return _download(repository, revision, wanted, opened)


def _look_at_gguf(repository: Repository, revision: str, file: str | None) -> Download:
    """One of the GGUF files, with the tokenizer beside it if there is one."""
    files = _gguf_files(repository)
    if file is None and len(files) > 1:
        sizes = ", ".join(f"{own} ({repository.size(own) / 1e9:.1f} GB)" for own in files)
        raise UsageError(
            f"{repository.name} holds {len(files)} GGUF files: {shown(sizes)}", hint="choose one with --file FILE"
        )
    file = files[0] if file is None else file
    if file not in files:
        raise ModelNotFound(
            f"{repository.name} has no GGUF file {shown(file)}", hint=f"choose one of {shown(', '.join(files))}"
        )
    start = gguf_header.read_start(repository.start(file)) or {}
    check_architecture(start.get("general.architecture"), f"{repository.name}/{file}")
    beside = [own for own in _TOKENIZER if own in repository.files]
    return _download(repository, revision, [*beside, file], None)


def _gguf_files(repository: Repository) -> list[str]:
    """The files that hold a whole text model, by name."""
    names = (name for name in repository.files if name.lower().endswith(".gguf") and not name.startswith("mmproj"))
    return sorted(name for name in names if not _SPLIT.search(name))


def _snapshot(repository: Repository) -> Path:
    return catalog.hub_folder(repository.name) / "snapshots" / repository.commit


def _download(repository: Repository, revision: str, files: Collection[str], opened: OpenCheckpoint | None) -> Download:
    wanted = tuple(_remote(repository.files[file]) for file in files)
    return Download(repository, revision, wanted, opened)


def _hush() -> None:
    """Turns off huggingface_hub's telemetry, logs and progress bars."""
    constants.HF_HUB_DISABLE_TELEMETRY = True
    logging.set_verbosity(logging.ERROR)
    disable_progress_bars()


def _wanted(names: Collection[str], index: Callable[[], dict[str, Any]]) -> list[str]:
    """The files that are needed to load it: no pickles, no code, no second set of weights."""
    shards = [SINGLE] if SINGLE in names else shard_names(index())
    missing = [name for name in shards if name not in names]
    if missing:
        raise CorruptCheckpoint(f"{INDEX} lists {shown(missing[0])}, but the hub does not have it")
    beside = [name for name in names if name.endswith((".json", ".jinja")) or name == "tokenizer.model"]
    if SINGLE in names:
        beside = [name for name in beside if name != INDEX]
    return sorted(beside) + shards


def _remote(sibling: Any) -> RemoteFile:
    sha256 = str(sibling.lfs["sha256"]) if sibling.lfs else ""
    return RemoteFile(sibling.rfilename, sibling.size or 0, sha256 if _SHA256.fullmatch(sha256) else None)


def require_space(download: Download) -> None:
    """Raise `RunFailed` unless the missing files fit on the disk of the hub cache."""
    folder = next(folder for folder in (catalog.hub_cache(), *catalog.hub_cache().parents) if folder.exists())
    needed, free = download.total - download.here(), shutil.disk_usage(folder).free
    if needed > free:
        raise no_space(
            f"{download.name} needs {needed / 1e9:.1f} GB, but {shown(folder)} has only {free / 1e9:.1f} GB free"
        )


def fetch(download: Download, say: Callable[[str], None] = lambda stage: None) -> Path:
    """Download and check the missing files of a checkpoint.

    Args:
        download: What `look` found.
        say: Called with the current activity whenever it changes.

    Returns:
        `download.path`: its folder in the cache, or the GGUF file in it.

    Raises:
        ModelUnfetchable: The connection breaks or access ends. What has arrived is kept.
        CorruptCheckpoint: The content is not what the hub announced.
        RunFailed: The disk is full or cannot be written, or another process downloads the same file.
    """
    with clear_errors(download.name, download.revision):
        # Small files first, and links before weights, so an unfinished download can be recognised.
        for file in sorted(download.files, key=lambda file: file.sha256 is not None):
            if file.sha256 and file.size <= constants.MAX_HTTP_DOWNLOAD_SIZE:
                say(f"downloading {file.name}")
                _fetch_blob(download, file, say)
            say(f"downloading {file.name}")
            hf_hub_download(download.name, file.name, revision=download.commit, cache_dir=catalog.hub_cache(), **CLIENT)
        say("checking")
        if download.tokenizer_only:
            ModelTokenizer.load(download.path)
        else:
            open_checkpoint(catalog.Checkpoint(download.name, download.path, "hub"))
        _point(download)
    return download.path


def _fetch_blob(download: Download, file: RemoteFile, say: Callable[[str], None]) -> None:
    """Continues a large file where an earlier run ended; it gets its name in the cache once its sha256 is verified."""
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
                raise CorruptCheckpoint(
                    f"{file.name} arrived damaged and was discarded", hint="run the same command again"
                )
            part.replace(blob)
    except TimeoutError:
        raise RunFailed(
            f"another process is downloading {file.name}", hint="wait for it to finish, or stop it"
        ) from None


def _append(download: Download, file: RemoteFile, out: BinaryIO) -> None:
    """Retries as long as each try brings data, and a few times when none arrives."""
    vain, afresh = 0, False
    while True:
        begin = out.tell()
        try:
            download.repository.append(file.name, out, resume_size=begin, expected_size=file.size)
            return
        except (OSError, NetworkError) as error:
            status = error.response.status_code if isinstance(error, errors.HfHubHTTPError) else None
            if begin and not afresh and (status == 416 or out.tell() > file.size):
                afresh = True  # the server cannot start in the middle of a file
                out.seek(0)
                out.truncate()
                continue
            vain = 0 if out.tell() > begin else vain + 1
            hopeless = status is not None or getattr(error, "errno", None) is not None or out.tell() > file.size
            if hopeless or vain == len(_PATIENCE):
                raise
            time.sleep(_PATIENCE[vain])


def _point(download: Download) -> None:
    """Point the revision at the commit, in huggingface_hub's format."""
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
