"""Names and the checkpoints they stand for: the embedded one, the local hub cache, any folder.

Looks, and never fetches. `resolve` finds a folder, `check` says early, cheaply and with the cause why a folder cannot
be loaded, `describe` reads what it is. Only headers and JSON are read, and nothing heavy is imported, except that
`resolve(None)` asks torch about the GPU where the real checkpoint is in the cache.
"""

import difflib
import os
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from dgtui.errors import (
    CorruptCheckpoint,
    DgtuiError,
    ModelNotFound,
    ModelUnloadable,
    OutOfMemory,
    UnsafeCheckpoint,
    WrongArchitecture,
)
from dgtui.model.parts import is_packed, parameters_of
from dgtui.model.shards import INDEX, SINGLE, Shard, read_json, read_shards, shard_names, shown
from dgtui.paths import cache_dir, embedded_dir

EMBEDDED: Final = "embedded"
"""The name of the checkpoint that ships with the program."""
REAL: Final = "google/diffusiongemma-26B-A4B-it"
"""The published checkpoint."""
MODEL_TYPE: Final = "diffusion_gemma"

HUB_ID: Final = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
"""A name on the hub: owner/name."""
_PICKLES: Final = (".bin", ".pt", ".pth", ".pkl", ".ckpt")
_DTYPES: Final = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "U8": "uint8", "NF4": "NF4"}
_SILENT: Final = {"canvas_length": 256, "vocab_size": 262_144, "num_hidden_layers": 30, "hidden_size": 2304}
# transformers' defaults: what a config.json that does not say means.


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A folder with weights, and the name it goes by."""

    name: str
    """As a person would write it: "embedded", a hub id, a path."""
    path: Path
    source: Literal["embedded", "hub", "folder"]


@dataclass(frozen=True, slots=True)
class Copy:
    """A folder with the NF4 copy of a checkpoint, kept by its first load."""

    name: str
    """As `dgtui model list` shows it and `dgtui model remove` takes it: "nf4/" and the name of the folder."""
    path: Path
    of: str | None
    """The name of the checkpoint it was made from; None where the copy is not complete, or does not say."""


@dataclass(frozen=True, slots=True)
class Description:
    """What a checkpoint is, by its config and its headers."""

    size: int
    """Bytes of its safetensors files."""
    parameters: int
    """Numbers in them; encoder and decoder share theirs, and are counted once."""
    dtype: str
    """The type most of them have: "bfloat16", "float32", …"""
    canvas_length: int
    vocab_size: int
    layers: int
    hidden_size: int
    experts: int
    """Experts of a layer; 0 for a dense model."""


def resolve(name: str | None) -> Checkpoint:
    """The checkpoint of a name: "embedded", a folder that exists, a hub id in the local cache, or None.

    None is what is used where nobody asked: the real checkpoint if it is in the cache and fits the GPU, else the
    embedded one. The folder is found, not checked: see `check`.

    Raises:
        ModelNotFound: If there is no such checkpoint on this machine. Nothing is fetched.
    """
    if name is None:
        return _default()
    if name == EMBEDDED:
        return Checkpoint(EMBEDDED, embedded_dir(), "embedded")
    path = Path(name)
    if name.startswith("~"):
        try:
            path = path.expanduser()
        except RuntimeError:  # no such user
            raise ModelNotFound(f"there is no folder {shown(name)}") from None
    if name and _exists(path):
        return Checkpoint(name, path, "folder")
    if HUB_ID.fullmatch(name):
        snapshot = _snapshot(name) or next((copy.path for copy in copies() if copy.name == name), None)
        if snapshot is not None:
            return Checkpoint(name, snapshot, "hub")
    elif os.sep in name:
        raise ModelNotFound(f"there is no folder {shown(name)}", hint="dgtui model list shows what there is")
    raise ModelNotFound(f"there is no model {shown(name)} on this machine", hint=_advice(name))


def listing() -> list[Checkpoint]:
    """The embedded checkpoint and every DiffusionGemma in the hub cache, by name. Some may not pass `check`."""
    found = []
    if (embedded_dir() / "config.json").is_file():
        found.append(Checkpoint(EMBEDDED, embedded_dir(), "embedded"))
    try:
        folders = sorted(hub_cache().glob("models--*--*"))
    except OSError:
        return found
    for folder in folders:
        name = "/".join(folder.name.split("--", 2)[1:])
        snapshot = _snapshot(name)
        if snapshot is None:
            continue
        try:
            if read_json(snapshot / "config.json").get("model_type") != MODEL_TYPE:
                continue
        except CorruptCheckpoint:  # whose it is cannot be told
            continue
        found.append(Checkpoint(name, snapshot, "hub"))
    return found


def check(path: Path) -> list[Shard]:
    """Everything that can be known to be wrong with a checkpoint before a weight is read.

    Code that comes with a checkpoint (`auto_map`, *.py) is no error: it is never run.

    Returns:
        The headers of its weights.

    Raises:
        ModelNotFound: If there is no such folder.
        WrongArchitecture: If it is some other model.
        UnsafeCheckpoint: If its weights are pickled.
        ModelUnloadable: If its weights are in a format that is not read (GGUF), or `path` is a file.
        CorruptCheckpoint: If a file is missing, unreadable or damaged. Names it.
    """
    if not _exists(path):
        raise ModelNotFound(f"there is no folder {shown(path)}", hint="dgtui model list shows what there is")
    if not path.is_dir():
        raise ModelUnloadable(f"{shown(path)} is a file", hint=f"name a folder with config.json and {_WEIGHTS}")
    try:
        names = sorted(entry.name for entry in path.iterdir() if entry.exists())
    except OSError as error:
        raise ModelUnloadable(f"{shown(path)} cannot be read: {error.strerror or error}") from error
    check_names(names, shown(path), lambda: read_json(path / "config.json"))
    return read_shards(path)


_WEIGHTS: Final = "model.safetensors (or its index and shards)"


def check_names(names: Collection[str], where: str, config: Callable[[], dict[str, Any]]) -> None:
    """What the names of the files and the config.json among them tell: of a folder, or of what might be fetched.

    Args:
        names: All files at the top.
        where: Whose files they are, fit to be shown.
        config: Reads config.json; called only where it is there and matters.

    Raises:
        ModelUnloadable: Or the class of it that `check` names for the cause.
    """
    weights = SINGLE in names or INDEX in names
    if not weights and any(name.lower().endswith(".gguf") for name in names):
        raise ModelUnloadable(
            f"{where} holds GGUF files, which are for llama.cpp",
            hint=f"take the safetensors checkpoint, such as {REAL}",
        )
    if "config.json" not in names:
        raise _no_config(where)
    check_config(config(), where)
    if not weights:
        pickles = sorted(name for name in names if name.lower().endswith(_PICKLES))
        if pickles:
            raise UnsafeCheckpoint(
                f"the weights in {where} are pickled ({shown(pickles[0])}): loading them could run any code",
                hint="take a safetensors version of it, or make one where you trust the source: load it there with "
                "transformers, then model.save_pretrained(FOLDER)",
            )
        raise CorruptCheckpoint(f"{where} holds no weights", hint=f"{_WEIGHTS} is missing: fetch it again")


def check_config(config: dict[str, Any], where: str) -> dict[str, Any]:
    """The config of a DiffusionGemma, as it is. Raises `WrongArchitecture` or `CorruptCheckpoint`."""
    model_type = config.get("model_type")
    if model_type != MODEL_TYPE:
        what = f"a {shown(model_type)} model" if model_type else "a model that does not say its type"
        raise WrongArchitecture(
            f"{where} holds {what}, not a DiffusionGemma", hint="dgtui model list shows what can be loaded"
        )
    if not isinstance(config.get("text_config"), dict):
        raise CorruptCheckpoint("config.json has no text_config", hint="fetch the file again")
    return config


def read_config(path: Path) -> dict[str, Any]:
    """The config.json of a DiffusionGemma. Raises `CorruptCheckpoint` or `WrongArchitecture`."""
    if not _exists(path / "config.json"):
        raise _no_config(shown(path))
    return check_config(read_json(path / "config.json"), shown(path))


def _no_config(where: str) -> CorruptCheckpoint:
    return CorruptCheckpoint(
        f"{where} holds no config.json", hint=f"a checkpoint is a folder with config.json and {_WEIGHTS}"
    )


def describe(checkpoint: Checkpoint) -> Description:
    """Read what a checkpoint is. Raises what `check` raises."""
    shards = check(checkpoint.path)
    config = read_config(checkpoint.path)
    dtypes: Counter[str] = Counter()
    for shard in shards:
        for name, tensor in shard.tensors.items():
            dtypes["NF4" if is_packed(name) else tensor.dtype] += parameters_of(name, tensor.elements)
    (dtype, _), *_ = dtypes.most_common(1) or [("F32", 0)]
    values = _SILENT | config["text_config"] | {"canvas_length": config.get("canvas_length", 256)}

    def whole(key: str) -> int:
        value = values.get(key) or 0
        if type(value) is not int or value < 0:
            raise CorruptCheckpoint(f"config.json: {key} is {shown(repr(value))}", hint="fetch the file again")
        return value

    return Description(
        size=sum(shard.size for shard in shards),
        parameters=dtypes.total(),
        dtype=_DTYPES.get(dtype, dtype.lower()),
        canvas_length=whole("canvas_length"),
        vocab_size=whole("vocab_size"),
        layers=whole("num_hidden_layers"),
        hidden_size=whole("hidden_size"),
        experts=whole("num_experts"),
    )


def hub_cache() -> Path:
    """The folder of the hub cache, as huggingface_hub finds it, read from the environment at every call."""
    home = os.environ.get("HF_HOME") or f"{os.environ.get('XDG_CACHE_HOME') or '~/.cache'}/huggingface"
    folder = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE") or f"{home}/hub"
    return Path(os.path.expandvars(folder)).expanduser()


def hub_folder(name: str) -> Path:
    """Where the hub cache keeps all versions of a hub id: `blobs`, and `snapshots` of links into them."""
    return hub_cache() / f"models--{name.replace('/', '--')}"


def copies() -> list[Copy]:
    """The NF4 copies in dgtui's own cache, by name; also those that are not complete."""
    try:
        folders = sorted(entry for entry in copies_dir().iterdir() if entry.is_dir() and not entry.is_symlink())
    except (OSError, DgtuiError):
        return []
    return [Copy(f"nf4/{folder.name}", folder, _copied_from(folder)) for folder in folders]


def copies_dir() -> Path:
    """The folder of the NF4 copies; it need not exist. Raises `RunFailed` if the cache folder cannot be made."""
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
    """Bytes of the files in a folder and below; what several links lead to is counted once."""
    found: dict[tuple[int, int], int] = {}
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                status = Path(parent, name).stat()
            except OSError:  # a link to nothing, or gone by now
                continue
            found[status.st_dev, status.st_ino] = status.st_size
    return sum(found.values())


def left_over(name: str) -> int:
    """Bytes that broken downloads of a hub id left in the cache, for the next one to go on with."""
    return sum(path.lstat().st_size for path in (hub_folder(name) / "blobs").glob("*.incomplete"))


def unfinished(checkpoint: Checkpoint) -> bool:
    """Whether files are missing that this checkpoint of the hub cache should have."""
    return checkpoint.source == "hub" and any(not (checkpoint.path / name).is_file() for name in _needed(checkpoint))


def _needed(checkpoint: Checkpoint) -> Iterator[str]:
    yield "config.json"
    if (checkpoint.path / SINGLE).is_file():
        return
    yield INDEX
    with suppress(CorruptCheckpoint):
        yield from shard_names(read_json(checkpoint.path / INDEX))


def _snapshot(name: str) -> Path | None:
    """The folder of a hub id in the cache: the commit `main` pointed to, else the newest one there is."""
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


def _default() -> Checkpoint:
    snapshot = _snapshot(REAL)
    if snapshot is not None:
        real = Checkpoint(REAL, snapshot, "hub")
        try:
            if _fits_gpu(real):
                return real
        except DgtuiError:  # half fetched, say; naming it tells why
            return Checkpoint(EMBEDDED, embedded_dir(), "embedded")
    return Checkpoint(EMBEDDED, embedded_dir(), "embedded")


def _fits_gpu(checkpoint: Checkpoint) -> bool:
    """Whether there is a GPU, and a way of holding the checkpoint on it. Raises what `loader.plan_for` raises."""
    import torch

    if not torch.cuda.is_available():
        return False
    from dgtui.model.loader import plan_for
    from dgtui.model.parts import LoadOptions

    try:
        plan_for(checkpoint, LoadOptions(device="cuda"))
    except OutOfMemory:
        return False
    return True


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name too long, or with a null byte
        return False


def _advice(name: str) -> str:
    names = [checkpoint.name for checkpoint in listing()]
    by_case = {known.lower(): known for known in [*names, *(known.rpartition("/")[2] for known in names)]}
    near = difflib.get_close_matches(name.lower(), by_case, n=3, cutoff=0.5)
    full = list(dict.fromkeys(next(known for known in names if known.endswith(by_case[match])) for match in near))
    start = f"did you mean {' or '.join(map(shown, full))}? " if full else ""
    fetch = f"dgtui model pull {shown(name)} fetches it; " if HUB_ID.fullmatch(name) else ""
    return f"{start}{fetch}dgtui model list shows what there is"
