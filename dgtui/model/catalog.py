"""Finds checkpoints by name: the embedded one, those in the local hub cache, and any folder.

Never fetches anything: `resolve` finds a folder, `open_checkpoint` reads it. Imports nothing heavy.
"""

import difflib
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from dgtui.errors import CorruptCheckpoint, DgtuiError, ModelNotFound
from dgtui.model import gguf_header
from dgtui.model.shards import INDEX, SINGLE, read_json, shard_names, shown
from dgtui.paths import cache_dir, embedded_dir, typed_path

EMBEDDED: Final = "embedded"
"""The name of the checkpoint that ships with the program."""
REAL: Final = "google/diffusiongemma-26B-A4B-it"
"""The published checkpoint."""
SOLVER: Final = "sudoku"
"""The folder of the model for 9×9 Sudoku in the folder of the embedded one."""
EDITS, TALES = "edits", "tales"
"""The folders in it of the adapters for edits and follow-ups, and for tales."""
MODEL_TYPE: Final = "diffusion_gemma"

HUB_ID: Final = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
"""A hub id: owner/name."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A folder with weights, and its name."""

    name: str
    """As a user would type it: "embedded", a hub id or a path."""
    path: Path
    source: Literal["embedded", "hub", "folder"]


@dataclass(frozen=True, slots=True)
class Nf4Copy:
    """A folder with the NF4 copy of a checkpoint, written by its first load."""

    name: str
    """The name in `dgtui model list` and `dgtui model remove`: "nf4/" and the name of the folder."""
    path: Path
    of: str | None
    """The name of the checkpoint it was made from; None if the copy is incomplete or does not say."""


def resolve(name: str) -> Checkpoint:
    """The checkpoint with this name: "embedded", a folder that exists, or a hub id in the local cache.

    The folder is not checked: see `open_checkpoint`.

    Raises:
        ModelNotFound: There is no such checkpoint on this machine. Nothing is downloaded.
    """
    if name == EMBEDDED:
        return Checkpoint(EMBEDDED, embedded_dir(), "embedded")
    path = typed_path(name)
    if str(path).startswith("~") and not exists(path):  # no such user
        raise ModelNotFound(f"there is no folder {shown(name)}")
    if name and exists(path):
        return Checkpoint(name, path, "folder")
    if HUB_ID.fullmatch(name):
        snapshot = _snapshot(name) or next((copy.path for copy in copies() if copy.name == name), None)
        if snapshot is not None:
            return Checkpoint(name, snapshot, "hub")
    elif os.sep in name:
        raise ModelNotFound(
            f"there is no folder {shown(name)}", hint="run dgtui model list to see the available models"
        )
    raise ModelNotFound(f"there is no model {shown(name)} on this machine", hint=_advice(name))


def solver_of(checkpoint: Checkpoint) -> Checkpoint | None:
    """The model for 9×9 Sudoku in a checkpoint's folder; None if it has none. See `specialists`."""
    path = checkpoint.path / SOLVER
    return Checkpoint(f"{checkpoint.name}/{SOLVER}", path, checkpoint.source) if path.is_dir() else None


def cached(name: str) -> Checkpoint | None:
    """The checkpoint of a hub id in the hub cache; None if there is none."""
    snapshot = _snapshot(name)
    return None if snapshot is None else Checkpoint(name, snapshot, "hub")


def listing() -> list[Checkpoint]:
    """The embedded checkpoint and every DiffusionGemma in the hub cache, by name. Some may not open."""
    checkpoints = []
    if (embedded_dir() / "config.json").is_file():
        checkpoints.append(Checkpoint(EMBEDDED, embedded_dir(), "embedded"))
    try:
        folders = sorted(hub_cache().glob("models--*--*"))
    except OSError:
        return checkpoints
    for folder in folders:
        checkpoint = cached("/".join(folder.name.split("--", 2)[1:]))
        if checkpoint is not None and is_ours(checkpoint.path):
            checkpoints.append(checkpoint)
    return checkpoints


def is_ours(folder: Path) -> bool:
    """Whether a folder holds a DiffusionGemma, by its config.json or a GGUF file; False if they cannot be read."""
    if any(gguf_header.architecture(file) == gguf_header.ARCHITECTURE for file in folder.glob("*.gguf")):
        return True
    try:
        return read_json(folder / "config.json").get("model_type") == MODEL_TYPE
    except CorruptCheckpoint:
        return False


def hub_cache() -> Path:
    """The hub cache folder, by the same rules as huggingface_hub; reads the environment on every call."""
    home = os.environ.get("HF_HOME") or f"{os.environ.get('XDG_CACHE_HOME') or '~/.cache'}/huggingface"
    folder = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE") or f"{home}/hub"
    return Path(os.path.expandvars(folder)).expanduser()


def hub_folder(name: str) -> Path:
    """Where the hub cache keeps all versions of a hub id: `blobs`, and `snapshots` of links into them."""
    return hub_cache() / f"models--{name.replace('/', '--')}"


def copies() -> list[Nf4Copy]:
    """The NF4 copies in dgtui's own cache, by name, including incomplete ones."""
    try:
        folders = sorted(entry for entry in copies_dir().iterdir() if entry.is_dir() and not entry.is_symlink())
    except (OSError, DgtuiError):
        return []
    return [Nf4Copy(f"nf4/{folder.name}", folder, _copied_from(folder)) for folder in folders]


def copies_dir() -> Path:
    """The folder of the NF4 copies; it need not exist. Raises `RunFailed` if the cache folder cannot be created."""
    return cache_dir() / "nf4"


def _copied_from(folder: Path) -> str | None:
    try:
        quantization = read_json(folder / "config.json").get("quantization_config")
    except CorruptCheckpoint:
        return None
    source = quantization.get("source") if isinstance(quantization, dict) else None
    name = source.get("name") if isinstance(source, dict) else None
    return name if isinstance(name, str) else None


def disk_size(folder: Path) -> int:
    """Bytes of all files under a folder; a file with several links is counted once."""
    sizes: dict[tuple[int, int], int] = {}
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                status = Path(parent, name).stat()
            except OSError:  # a broken link, or deleted meanwhile
                continue
            sizes[status.st_dev, status.st_ino] = status.st_size
    return sum(sizes.values())


def left_over(name: str) -> int:
    """Bytes that interrupted downloads of a hub id left in the cache; the next download continues from them."""
    return sum(path.lstat().st_size for path in (hub_folder(name) / "blobs").glob("*.incomplete"))


def unfinished(checkpoint: Checkpoint) -> bool:
    """Whether this checkpoint of the hub cache lacks files that it should have."""
    return checkpoint.source == "hub" and any(not (checkpoint.path / name).is_file() for name in _needed(checkpoint))


def _needed(checkpoint: Checkpoint) -> Iterator[str]:
    if any(checkpoint.path.glob("*.gguf")):
        return
    yield "config.json"
    if (checkpoint.path / SINGLE).is_file():
        return
    yield INDEX
    with suppress(CorruptCheckpoint):
        yield from shard_names(read_json(checkpoint.path / INDEX))


def _snapshot(name: str) -> Path | None:
    """The folder of a hub id in the cache: the commit that `main` points to, else the newest one."""
    folder = hub_folder(name)
    try:
        commit = (folder / "refs" / "main").read_text("ascii").strip()
    except (OSError, ValueError):
        commit = ""
    if re.fullmatch(r"\w+", commit) and (folder / "snapshots" / commit).is_dir():
        return folder / "snapshots" / commit
    try:
        return max(
            (entry for entry in (folder / "snapshots").iterdir() if entry.is_dir()),
            key=lambda entry: (entry.stat().st_mtime, entry.name),
            default=None,
        )
    except OSError:
        return None


def exists(path: Path) -> bool:
    """Whether a path exists. False for invalid paths."""
    try:
        return path.exists()
    except (OSError, ValueError):  # the name is too long, or has a null byte
        return False


def _advice(name: str) -> str:
    names = [checkpoint.name for checkpoint in listing()]
    by_case = {known.lower(): known for known in [*names, *(known.rpartition("/")[2] for known in names)]}
    near = difflib.get_close_matches(name.lower(), by_case, n=3, cutoff=0.5)
    full = list(dict.fromkeys(next(known for known in names if known.endswith(by_case[match])) for match in near))
    start = f"did you mean {' or '.join(map(shown, full))}? " if full else ""
    fetch = f"run dgtui model pull {shown(name)} to download it, or " if HUB_ID.fullmatch(name) else "run "
    return f"{start}{fetch}dgtui model list to see the available models"
