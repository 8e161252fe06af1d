"""Checkpoints in NF4 on disk: written completely or not at all, with checksums.

A folder is a checkpoint like any other: sharded safetensors, config.json with a `quantization_config`, tokenizer and
templates of its source. An NF4 weight is stored as the tensors of a `QuantizedWeight`, named by `stored.NF4_NAMES`.
SHA256SUMS (`sha256sum -c` reads it) covers all files but the sampler settings, which a user may edit. `verify` compares
with it. That reads every byte, so `dgtui doctor` does it and a load does not.
"""

import fcntl
import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import Any, Final, Self

import torch
from safetensors.torch import save_file

from dgtui.errors import CorruptCheckpoint, ModelUnloadable, RunFailed, UsageError, reason
from dgtui.model import devices
from dgtui.model.formats import NF4, Format
from dgtui.model.generation import FILE as GENERATION
from dgtui.model.offline import go_offline
from dgtui.model.open_checkpoint import PARTIAL, OpenCheckpoint
from dgtui.model.parts import Packing, held_formats, part_of
from dgtui.model.quantized_weight import QuantizedWeight
from dgtui.model.shards import INDEX, SINGLE, shown
from dgtui.model.skeleton import lay_out
from dgtui.model.stored import NF4_METHOD, NF4_NAMES, NF4_VERSION, StoredTensor
from dgtui.model.weights import Files, Report, stream, tell
from dgtui.text import gigabytes

METHOD: Final = NF4_METHOD
SUMS: Final = "SHA256SUMS"

_SHARD: Final = 500_000_000
# Most bytes per file, unless one tensor is larger. Twice this is in memory while a file is written.
_AGAIN: Final = "quantize the checkpoint again"
_COPIED: Final = ("*.json", "*.jinja", "*.model", "LICENSE*", "README*")
_NOT_COPIED: Final = ("config.json", "*.index.json", "adapter_*")


def copy_of(opened: OpenCheckpoint, packing: Packing, cache: Path) -> Path:
    """The folder for the NF4 copy of a checkpoint."""
    slug = re.sub(r"[^\w.-]+", "--", opened.name, flags=re.ASCII).strip("-.")[-80:] or "model"
    return cache / "nf4" / f"{slug}-{opened.fingerprint[:12]}{suffix(packing)}"


def suffix(packing: Packing) -> str:
    """Distinguishes ways of packing into NF4 that give different numbers."""
    return f"{'-double' if packing.double else ''}{'-experts' if packing.experts_only else ''}"


def can_be_kept(opened: OpenCheckpoint, held: Mapping[str, Format]) -> bool:
    """Whether an NF4 copy can replace a checkpoint: all of its quantized weights are held in NF4."""
    return all(form.table is NF4.table for form in held.values()) and (opened.path / "config.json").is_file()


def stored_size(tensors: Mapping[str, StoredTensor], packing: Packing) -> int:
    """Bytes that a checkpoint takes on disk in NF4."""
    held = held_formats(tensors, packing)
    return sum(
        held[name].size(stored.shape) if name in held else stored.size
        for name, stored in tensors.items()
        if packing.vision or part_of(name) != "vision"
    )


def room(folder: Path) -> int:
    """Free bytes on the disk of a folder, which need not exist yet."""
    place = next((parent for parent in (folder, *folder.absolute().parents) if parent.exists()), Path("/"))
    return shutil.disk_usage(place).free


class Folder:
    """Writes a checkpoint in NF4; see `weights.Keep`.

    It appears under its name on `finish`, complete and synced to disk. Until then it is a hidden folder next to the
    target, without config.json, so it cannot be loaded. It is removed on any error; leftovers of a killed program
    are removed by the next try.

    Args:
        target: The folder to create; it must not exist, or be empty.
        source: The original checkpoint; its tokenizer, templates and settings are copied.
        packing: How the weights are packed.

    Raises:
        RunFailed: It cannot be written, or another process is writing it.
    """

    def __init__(self, target: Path, source: OpenCheckpoint, packing: Packing) -> None:
        self.target, self._source = target, source.path
        self._partial = target.parent / f".{target.name}{PARTIAL}"
        self._tensors: dict[str, torch.Tensor] = {}
        self._shards: list[list[str]] = []
        self._bytes = 0
        self._vision = packing.vision
        self._config = {**source.config, "quantization_config": _description(source, packing)}

    def __enter__(self) -> Self:
        try:
            self.target.parent.mkdir(parents=True, exist_ok=True)
            self._partial.mkdir(exist_ok=True)
            self._lock = os.open(self._partial, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError as error:
            raise RunFailed(f"{shown(self.target)} cannot be created: {reason(error)}") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._lock)
            raise RunFailed(f"another dgtui is writing {shown(self.target)}", hint="wait for it to finish") from error
        try:
            for left in self._partial.iterdir():
                left.unlink()
        except OSError as error:  # e.g. the other process has just finished
            os.close(self._lock)
            raise RunFailed(f"{shown(self.target)} cannot be created: {reason(error)}") from error
        return self

    def __exit__(self, kind: object, *why: object) -> None:
        if self._partial.exists():
            shutil.rmtree(self._partial, ignore_errors=True)
        os.close(self._lock)

    def add(self, name: str, tensor: torch.Tensor) -> None:
        """Adds a tensor; writes a file once there is enough data."""
        if part_of(name) == "vision" and not self._vision:
            return
        if self._tensors and self._bytes + tensor.nbytes > _SHARD:
            self._flush()
        self._tensors[name] = tensor.cpu().contiguous()
        self._bytes += tensor.nbytes

    def add_weight(self, name: str, weight: QuantizedWeight) -> None:
        """Adds a weight in NF4."""
        for own, tensor in weight.named_buffers():
            self.add(f"{name}.{NF4_NAMES[own]}", tensor)

    def _flush(self) -> None:
        self._shards.append(list(self._tensors))
        path = self._partial / f"{len(self._shards)}.safetensors"
        try:
            save_file(self._tensors, path, metadata={"format": "pt"})
        except Exception as error:  # safetensors' errors and OSError
            raise RunFailed(f"{shown(self.target)} cannot be written: {reason(error)}") from error
        self._tensors, self._bytes = {}, 0

    def finish(self) -> None:
        """Makes the folder visible. Raises `RunFailed` if it cannot be written."""
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
            for path in self._partial.glob("*.safetensors"):  # created readable by their owner only
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


def _description(source: OpenCheckpoint, packing: Packing) -> dict[str, Any]:
    others = ["attention", "dense MLP"]
    return {
        "quant_method": METHOD,
        "version": NF4_VERSION,
        "quant_type": "nf4",
        "bits": 4,
        "block_size": NF4.block,
        "double_quant": packing.double,
        "quantized": ["experts", *([] if packing.experts_only else others)],
        "not_quantized": [
            "embedding",
            "norms and scales",
            "router",
            "self-conditioning",
            "vision",
            *(others if packing.experts_only else []),
        ],
        "vision": packing.vision,
        "source": {"name": source.name, "fingerprint": source.fingerprint},
    }


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def digest(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verify(opened: OpenCheckpoint, progress: Report | None = None) -> None:
    """Reject an NF4 folder if any byte has changed since it was written. Reads all of it.

    Raises:
        CorruptCheckpoint: Names the first file that is missing or has changed.
    """
    folder = opened.path
    try:
        lines = (folder / SUMS).read_text("ascii").splitlines()
        sums = {name: checksum for checksum, _, name in (line.partition("  ") for line in lines)}
    except (OSError, UnicodeDecodeError) as error:
        raise CorruptCheckpoint(f"{SUMS} cannot be read: {reason(error)}", hint=_AGAIN) from error
    needed = [*(shard.path.name for shard in opened.shards), "config.json"]
    unlisted = [name for name in needed if name not in sums]
    if unlisted:
        raise CorruptCheckpoint(f"{SUMS} does not list {shown(unlisted[0])}", hint=_AGAIN)
    paths = [folder / name for name in sums if Path(name).name == name]
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise CorruptCheckpoint(f"{shown(missing[0].name)} is missing, but {SUMS} lists it", hint=_AGAIN)
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

    with ThreadPoolExecutor(4) as pool:  # hashing releases the GIL
        for path, wrong in zip(paths, pool.map(changed, paths), strict=True):
            if wrong:
                raise CorruptCheckpoint(f"{shown(path.name)} has changed: its checksum differs", hint=_AGAIN)


def quantize(
    opened: OpenCheckpoint,
    target: Path,
    *,
    double: bool = False,
    vision: bool = True,
    device: str = "auto",
    progress: Report | None = None,
) -> None:
    """Write the NF4 version of a checkpoint to a folder, tensor by tensor.

    Args:
        opened: What to quantize.
        target: A folder that does not exist yet.
        double: Store the scales in 8 bit.
        vision: Keep the vision tower.
        device: Where to pack the weights: "auto", "cpu", "cuda", …
        progress: Called with the progress. Its exceptions end the run, and nothing is left on disk.

    Raises:
        ModelUnloadable: It is already quantized to 4 bit.
        UsageError: `target` already exists.
        RunFailed: It cannot be written, or the disk is too full.
    """
    packing = Packing(nf4=True, double=double, vision=vision)
    held = held_formats(opened.tensors, packing)
    if opened.quant_method in (METHOD, "bitsandbytes") or not can_be_kept(opened, held):
        raise ModelUnloadable(f"{shown(opened.name)} is already quantized", hint="use the bfloat16 checkpoint")
    if target.exists() or target.is_symlink():
        raise UsageError(f"{shown(target)} already exists", hint="name a folder that does not exist yet")
    needed, free = stored_size(opened.tensors, packing), room(target)
    if needed > free:
        raise RunFailed(
            f"{shown(target)} would take {gigabytes(needed)}, but its disk has {gigabytes(free)} free",
            hint="free some space, or name a folder on another disk",
        )
    go_offline()
    from dgtui.model.geometry import read_geometry

    place = devices.choose_device(device)
    model = lay_out(read_geometry(opened.config), held, torch.bfloat16)
    with Folder(target, opened, packing) as folder, Files(opened, progress, "quantizing") as source:
        for _ in stream(model, source, packing, place, folder):
            pass
        folder.finish()
