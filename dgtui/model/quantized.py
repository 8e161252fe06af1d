"""Checkpoints in NF4 on disk: made whole or not at all, and checked byte for byte before they are used.

A folder is a checkpoint like any other: sharded safetensors, config.json with a `quantization_config` that says what
was done, the tokenizer and templates of its source. A weight in NF4 is the tensors of an `nf4.Nf4Weight`, with their
names behind its own. SHA256SUMS (`sha256sum -c` reads it) holds all but the sampler settings, which a person may edit.
"""

import fcntl
import hashlib
import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import Any, Final, Self

import torch
from safetensors.torch import save_file

from dgtui.errors import CorruptCheckpoint, ModelUnloadable, RunFailed, UsageError, reason
from dgtui.model import catalog, devices
from dgtui.model.generation import FILE as GENERATION
from dgtui.model.offline import go_offline
from dgtui.model.parts import BLOCK, Packing, can_be_packed, nf4_bytes, part_of
from dgtui.model.shards import INDEX, SINGLE, Shard, fingerprint, shown
from dgtui.model.skeleton import lay_out
from dgtui.model.weights import DTYPES, Files, Report, stream, tell

METHOD: Final = "dgtui_nf4"
"""`quant_method` of these folders."""
VERSION: Final = 1
SUMS: Final = "SHA256SUMS"

_SHARD: Final = 500_000_000
# Bytes of a file at most, or one tensor: so much, and a copy of it, is in memory while it is written.
_COPIED: Final = ("*.json", "*.jinja", "*.model", "LICENSE*", "README*")
_NOT_COPIED: Final = ("config.json", "*.index.json", "adapter_*")


def stored_packing(config: Mapping[str, Any]) -> Packing | None:
    """How the weights of a checkpoint are packed, by its config.json; None if they are not, or by another program.

    Raises:
        CorruptCheckpoint: If it is in NF4 of a version that is not known, or its description makes no sense.
    """
    about = config.get("quantization_config")
    if not isinstance(about, dict) or about.get("quant_method") != METHOD:
        return None
    version, double, vision = (about.get(key) for key in ("version", "double_quant", "vision"))
    if version != VERSION:
        raise CorruptCheckpoint(
            f"config.json describes NF4 of version {shown(version)}, and this program reads {VERSION}",
            hint="update dgtui, or quantize the checkpoint again",
        )
    if type(double) is not bool or type(vision) is not bool or about.get("block_size") != BLOCK:
        raise CorruptCheckpoint("the quantization_config of config.json makes no sense", hint=_AGAIN)
    return Packing(nf4=True, double=double, vision=vision)


_AGAIN: Final = "quantize the checkpoint again"


def copy_of(name: str, mark: str, double: bool, cache: Path) -> Path:
    """Where the NF4 copy of a checkpoint with a fingerprint is kept."""
    slug = re.sub(r"[^\w.-]+", "--", name, flags=re.ASCII).strip("-.")[-80:] or "model"
    return cache / "nf4" / f"{slug}-{mark[:12]}{'-double' if double else ''}"


def stored_size(shards: list[Shard], packing: Packing) -> int:
    """Bytes that the tensors of a checkpoint take on disk in NF4."""
    return sum(
        nf4_bytes(entry.elements, packing.double) if can_be_packed(name, entry.shape) else entry.end - entry.start
        for shard in shards
        for name, entry in shard.tensors.items()
        if packing.vision or part_of(name) != "vision"
    )


def room(folder: Path) -> int:
    """Bytes that are free on the disk of a folder, which need not exist yet."""
    place = next((parent for parent in (folder, *folder.absolute().parents) if parent.exists()), Path("/"))
    return shutil.disk_usage(place).free


class Folder:
    """A checkpoint in NF4 that is being written; see `weights.Keep`.

    It appears under its name with `finish`, whole and on the disk, or never: until then it is a hidden folder beside
    it, without the config.json that would make it loadable, and is removed if anything goes wrong. What a killed
    program left there goes away with the next try.

    Args:
        target: The folder to be; there may be none, or an empty one.
        source: The checkpoint whose tokenizer, templates and settings are copied.
        config: The source's config.json.
        name: What the source is called.
        mark: Its fingerprint.
        packing: How the weights are packed.

    Raises:
        RunFailed: If it cannot be written, or another process is writing it.
    """

    def __init__(
        self, target: Path, source: Path, config: Mapping[str, Any], name: str, mark: str, packing: Packing
    ) -> None:
        self.target, self._source = target, source
        self._partial = target.parent / f".{target.name}.partial"
        self._tensors: dict[str, torch.Tensor] = {}
        self._shards: list[list[str]] = []
        self._bytes = 0
        self._vision = packing.vision
        self._config = {**config, "quantization_config": _description(name, mark, packing)}

    def __enter__(self) -> Self:
        try:
            self.target.parent.mkdir(parents=True, exist_ok=True)
            self._partial.mkdir(exist_ok=True)
            self._lock = os.open(self._partial, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError as error:
            raise RunFailed(f"{shown(self.target)} cannot be made: {reason(error)}") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._lock)
            raise RunFailed(f"another dgtui is writing {shown(self.target)}", hint="wait for it to end") from error
        try:
            for left in self._partial.iterdir():
                left.unlink()
        except OSError as error:  # whoever held it has just finished it, say
            os.close(self._lock)
            raise RunFailed(f"{shown(self.target)} cannot be made: {reason(error)}") from error
        return self

    def __exit__(self, kind: object, *why: object) -> None:
        if self._partial.exists():
            shutil.rmtree(self._partial, ignore_errors=True)
        os.close(self._lock)

    def add(self, name: str, tensor: torch.Tensor) -> None:
        """Takes a tensor; writes a file when enough have come."""
        if part_of(name) == "vision" and not self._vision:
            return
        if self._tensors and self._bytes + tensor.nbytes > _SHARD:
            self._flush()
        self._tensors[name] = tensor.cpu().contiguous()
        self._bytes += tensor.nbytes

    def _flush(self) -> None:
        self._shards.append(list(self._tensors))
        path = self._partial / f"{len(self._shards)}.safetensors"
        try:
            save_file(self._tensors, path, metadata={"format": "pt"})
        except Exception as error:  # the library's own errors, and the system's
            raise RunFailed(f"{shown(self.target)} cannot be written: {reason(error)}") from error
        self._tensors, self._bytes = {}, 0

    def finish(self) -> None:
        """Makes the folder appear. Raises `RunFailed` if it cannot be written."""
        self._flush()
        try:
            count = len(self._shards)
            names = [f"model-{at:05}-of-{count:05}.safetensors" for at in range(1, count + 1)]
            if count == 1:
                names = [SINGLE]
            for at, name in enumerate(names, 1):
                (self._partial / f"{at}.safetensors").rename(self._partial / name)
            if count > 1:
                table = {tensor: name for name, held in zip(names, self._shards, strict=True) for tensor in held}
                self._write(INDEX, {"metadata": {}, "weight_map": table})
            for pattern in _COPIED:
                for path in self._source.glob(pattern):
                    if path.is_file() and not any(path.match(left) for left in _NOT_COPIED):
                        shutil.copyfile(path, self._partial / path.name)
            self._write("config.json", self._config)
            for path in self._partial.glob("*.safetensors"):  # written for their owner alone
                shutil.copymode(self._partial / "config.json", path)
            files = sorted(path for path in self._partial.iterdir() if path.name not in (SUMS, GENERATION))
            lines = [f"{digest(path)}  {path.name}\n" for path in files]
            (self._partial / SUMS).write_text("".join(lines))
            for path in (*self._partial.iterdir(), self._partial):
                _sync(path)
            self._partial.rename(self.target)
            _sync(self.target.parent)
        except OSError as error:
            raise RunFailed(f"{shown(self.target)} cannot be written: {reason(error)}") from error

    def _write(self, name: str, value: Mapping[str, Any]) -> None:
        (self._partial / name).write_text(json.dumps(value, indent=2) + "\n")


def _description(name: str, mark: str, packing: Packing) -> dict[str, Any]:
    return {
        "quant_method": METHOD,
        "version": VERSION,
        "quant_type": "nf4",
        "bits": 4,
        "block_size": BLOCK,
        "double_quant": packing.double,
        "quantized": ["experts", "attention", "dense MLP"],
        "not_quantized": ["embedding", "norms and scales", "router", "self-conditioning", "vision"],
        "vision": packing.vision,
        "source": {"name": name, "fingerprint": mark},
    }


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def digest(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verify(folder: Path, shards: list[Shard], progress: Report | None = None) -> None:
    """Refuse a folder in which a byte has changed since it was written.

    Raises:
        CorruptCheckpoint: Names the first file that is missing or not what it was.
    """
    try:
        lines = (folder / SUMS).read_text("ascii").splitlines()
        sums = {name: checksum for checksum, _, name in (line.partition("  ") for line in lines)}
    except (OSError, UnicodeDecodeError) as error:
        raise CorruptCheckpoint(f"{SUMS} cannot be read: {reason(error)}", hint=_AGAIN) from error
    needed = [*(shard.path.name for shard in shards), "config.json"]
    unlisted = [name for name in needed if name not in sums]
    if unlisted:
        raise CorruptCheckpoint(f"{SUMS} does not hold {shown(unlisted[0])}", hint=_AGAIN)
    paths = [folder / name for name in sums if Path(name).name == name]
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise CorruptCheckpoint(f"{shown(missing[0].name)} is missing, though {SUMS} lists it", hint=_AGAIN)
    total, done, lock = sum(path.stat().st_size for path in paths), 0, Lock()

    def changed(path: Path) -> bool:
        nonlocal done
        try:
            wrong = digest(path) != sums[path.name]
        except OSError as error:
            raise CorruptCheckpoint(f"{shown(path.name)} cannot be read: {reason(error)}", hint=_AGAIN) from error
        with lock:
            done += path.stat().st_size
            tell(progress, "checking", done, total)
        return wrong

    with ThreadPoolExecutor(4) as pool:  # hashing leaves the interpreter's lock alone
        for path, wrong in zip(paths, pool.map(changed, paths), strict=True):
            if wrong:
                raise CorruptCheckpoint(f"{shown(path.name)} has changed: its checksum differs", hint=_AGAIN)


def _main_dtype(shards: list[Shard]) -> torch.dtype:
    """The type that most of a checkpoint's numbers have."""
    counts: Counter[torch.dtype] = Counter()
    for shard in shards:
        for entry in shard.tensors.values():
            counts[DTYPES.get(entry.dtype, torch.bfloat16)] += entry.elements
    return counts.most_common(1)[0][0]


def quantize(
    checkpoint: catalog.Checkpoint,
    target: Path,
    *,
    double: bool = False,
    vision: bool = True,
    device: str = "auto",
    progress: Report | None = None,
) -> None:
    """Write a checkpoint's NF4 version, tensor by tensor, to a folder.

    Args:
        checkpoint: From `catalog.resolve`, unpacked.
        target: A folder that does not exist yet.
        double: Keep the scales in 8 bit.
        vision: Keep the vision tower.
        device: Where the weights are packed: "auto", "cpu", "cuda", …
        progress: Told how far it is. What it raises ends it, and nothing is left.

    Raises:
        ModelNotFound, ModelUnloadable: What `catalog.check` raises, or if it is quantized already.
        UsageError: If there is something at `target`.
        RunFailed: If it cannot be written, or the disk has no room for it.
    """
    shards = catalog.check(checkpoint.path)
    config = catalog.read_config(checkpoint.path)
    if config.get("quantization_config"):
        raise ModelUnloadable(f"{shown(checkpoint.name)} is quantized already", hint="take the checkpoint in bfloat16")
    if target.exists() or target.is_symlink():
        raise UsageError(f"there is something at {shown(target)}", hint="name a folder that does not exist yet")
    packing = Packing(nf4=True, double=double, vision=vision)
    needed, free = stored_size(shards, packing), room(target)
    if needed > free:
        raise RunFailed(
            f"{shown(target)} would take {devices.gigabytes(needed)}, and its disk has {devices.gigabytes(free)} free",
            hint="make room, or name a folder on another disk",
        )
    go_offline()
    from dgtui.model.geometry import read_geometry

    place = devices.choose_device(device)
    model = lay_out(read_geometry(config), packing, _main_dtype(shards))
    mark = fingerprint(checkpoint.path, shards)
    with (
        Folder(target, checkpoint.path, config, checkpoint.name, mark, packing) as folder,
        Files(shards, progress, "quantizing") as source,
    ):
        for _ in stream(model, source, packing, place, folder):
            pass
        folder.finish()
