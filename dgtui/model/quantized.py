"""Checkpoints in NF4 on disk: made whole or not at all, and checked byte for byte before they are used.

A folder is a checkpoint like any other: sharded safetensors, config.json with a `quantization_config` that says what
was done, the tokenizer and templates of its source. A weight in NF4 is the tensors of a `QuantizedWeight`, named as
`stored.NF4_NAMES` says. SHA256SUMS (`sha256sum -c` reads it) holds all but the sampler settings, which a person may
edit. `verify` compares with it: it reads every byte, so `dgtui doctor` does that, and a load does not.
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
from dgtui.model.open_checkpoint import OpenCheckpoint
from dgtui.model.parts import Packing, held_formats, part_of
from dgtui.model.quantized_weight import QuantizedWeight
from dgtui.model.shards import INDEX, SINGLE, shown
from dgtui.model.skeleton import lay_out
from dgtui.model.stored import NF4_METHOD, NF4_NAMES, NF4_VERSION, StoredTensor
from dgtui.model.weights import Files, Report, stream, tell

METHOD: Final = NF4_METHOD
SUMS: Final = "SHA256SUMS"

_SHARD: Final = 500_000_000
# Bytes of a file at most, or one tensor: so much, and a copy of it, is in memory while it is written.
_AGAIN: Final = "quantize the checkpoint again"
_COPIED: Final = ("*.json", "*.jinja", "*.model", "LICENSE*", "README*")
_NOT_COPIED: Final = ("config.json", "*.index.json", "adapter_*")


def copy_of(opened: OpenCheckpoint, double: bool, cache: Path) -> Path:
    """Where the NF4 copy of a checkpoint is kept."""
    slug = re.sub(r"[^\w.-]+", "--", opened.name, flags=re.ASCII).strip("-.")[-80:] or "model"
    return cache / "nf4" / f"{slug}-{opened.fingerprint[:12]}{'-double' if double else ''}"


def can_be_kept(opened: OpenCheckpoint, held: Mapping[str, Format]) -> bool:
    """Whether a copy in NF4 can stand for a checkpoint: all of its quantized weights are held in NF4."""
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
        source: The checkpoint that it is made from, and whose tokenizer, templates and settings are copied.
        packing: How the weights are packed.

    Raises:
        RunFailed: If it cannot be written, or another process is writing it.
    """

    def __init__(self, target: Path, source: OpenCheckpoint, packing: Packing) -> None:
        self.target, self._source = target, source.path
        self._partial = target.parent / f".{target.name}.partial"
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

    def add_weight(self, name: str, weight: QuantizedWeight) -> None:
        """Takes a weight in NF4."""
        for own, tensor in weight.named_buffers():
            self.add(f"{name}.{NF4_NAMES[own]}", tensor)

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


def _description(source: OpenCheckpoint, packing: Packing) -> dict[str, Any]:
    return {
        "quant_method": METHOD,
        "version": NF4_VERSION,
        "quant_type": "nf4",
        "bits": 4,
        "block_size": NF4.block,
        "double_quant": packing.double,
        "quantized": ["experts", "attention", "dense MLP"],
        "not_quantized": ["embedding", "norms and scales", "router", "self-conditioning", "vision"],
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
    """The SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verify(opened: OpenCheckpoint, progress: Report | None = None) -> None:
    """Refuse an NF4 folder in which a byte has changed since it was written. Reads all of it.

    Raises:
        CorruptCheckpoint: Names the first file that is missing or not what it was.
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


def quantize(
    opened: OpenCheckpoint,
    target: Path,
    *,
    double: bool = False,
    vision: bool = True,
    device: str = "auto",
    progress: Report | None = None,
) -> None:
    """Write a checkpoint's NF4 version, tensor by tensor, to a folder.

    Args:
        opened: What to quantize.
        target: A folder that does not exist yet.
        double: Keep the scales in 8 bit.
        vision: Keep the vision tower.
        device: Where the weights are packed: "auto", "cpu", "cuda", …
        progress: Told how far it is. What it raises ends it, and nothing is left.

    Raises:
        ModelUnloadable: If it is quantized to 4 bit already.
        UsageError: If there is something at `target`.
        RunFailed: If it cannot be written, or the disk has no room for it.
    """
    packing = Packing(nf4=True, double=double, vision=vision)
    held = held_formats(opened.tensors, packing)
    if opened.quant_method in (METHOD, "bitsandbytes") or not can_be_kept(opened, held):
        raise ModelUnloadable(f"{shown(opened.name)} is quantized already", hint="take the checkpoint in bfloat16")
    if target.exists() or target.is_symlink():
        raise UsageError(f"there is something at {shown(target)}", hint="name a folder that does not exist yet")
    needed, free = stored_size(opened.tensors, packing), room(target)
    if needed > free:
        raise RunFailed(
            f"{shown(target)} would take {devices.gigabytes(needed)}, and its disk has {devices.gigabytes(free)} free",
            hint="make room, or name a folder on another disk",
        )
    go_offline()
    from dgtui.model.geometry import read_geometry

    place = devices.choose_device(device)
    model = lay_out(read_geometry(opened.config), held, torch.bfloat16)
    with Folder(target, opened, packing) as folder, Files(opened, progress, "quantizing") as source:
        for _ in stream(model, source, packing, place, folder):
            pass
        folder.finish()
