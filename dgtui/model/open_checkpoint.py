"""A checkpoint opened once: config, headers and the model's tensors, for describing, planning, loading and quantizing.

`open_checkpoint` says early, cheaply and with the cause why a folder cannot be loaded. It reads JSON and the headers of
the weights, no weights, and imports nothing heavy.
"""

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from dgtui.errors import CorruptCheckpoint, ModelNotFound, ModelUnloadable, UnsafeCheckpoint, WrongArchitecture
from dgtui.model import gguf_header
from dgtui.model.catalog import MODEL_TYPE, REAL, Checkpoint, exists
from dgtui.model.generation import FILE as GENERATION
from dgtui.model.parts import count_parts, part_of
from dgtui.model.shards import INDEX, SINGLE, Shard, fingerprint, parse_json, read_json, read_shards, shown
from dgtui.model.stored import StoredTensor, plain, stored_tensors

if TYPE_CHECKING:
    from dgtui.model.gguf_file import GgufFile


_METHODS: Final = (None, "dgtui_nf4", "compressed-tensors", "modelopt", "bitsandbytes")
# The `quant_method` of checkpoints whose weights are in a known form.
_PICKLES: Final = (".bin", ".pt", ".pth", ".pkl", ".ckpt")
_DTYPES: Final = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
_DEFAULTS: Final = {"canvas_length": 256, "vocab_size": 262_144, "num_hidden_layers": 30, "hidden_size": 2304}
# transformers' defaults: what a config.json that leaves them out means.
_WEIGHTS: Final = "model.safetensors (or its index and shards)"
_BF16: Final = "take the checkpoint in bfloat16: dgtui packs it into 4 bit itself"


@dataclass(frozen=True, eq=False)
class OpenCheckpoint:
    """A checkpoint, of which no weight has been read."""

    checkpoint: Checkpoint
    config: Mapping[str, Any]
    """Its config.json."""
    generation_config: Mapping[str, Any]
    """Its generation_config.json; empty where there is none."""
    shards: tuple[Shard, ...]
    """Its files."""
    tensors: Mapping[str, StoredTensor]
    """The model's tensors, by the names that the model has for them."""
    config_data: bytes
    """The bytes of its config.json; none of a GGUF file."""
    gguf: "GgufFile | None" = None
    """The GGUF file that it is, open."""

    @property
    def name(self) -> str:
        """As a person would write it."""
        return self.checkpoint.name

    @property
    def path(self) -> Path:
        """Its folder."""
        return self.checkpoint.path

    @property
    def quant_method(self) -> str | None:
        """Which program quantized it, in its own words; None if it was not."""
        return quant_method(self.config)

    @property
    def sees(self) -> bool:
        """Whether it has a vision tower."""
        return any(part_of(name) == "vision" for name in self.tensors)

    @cached_property
    def fingerprint(self) -> str:
        """See `shards.fingerprint`."""
        return fingerprint(self.config_data, self.shards)

    @property
    def size(self) -> int:
        """Bytes of its files."""
        return sum(shard.size for shard in self.shards)

    @cached_property
    def parts(self) -> dict[str, int]:
        """How many numbers each part of the model has; encoder and decoder share theirs, and are counted once."""
        return count_parts((name, tensor.elements) for name, tensor in self.tensors.items())

    @property
    def parameters(self) -> int:
        """How many numbers the model has."""
        return sum(self.parts.values())

    @property
    def dtype(self) -> str:
        """The type that most of its numbers have: "bfloat16", "float32", "NF4", …"""
        counts: Counter[str] = Counter()
        for tensor in self.tensors.values():
            own = tensor.form.name if tensor.form else _DTYPES.get(tensor.dtype, tensor.dtype.lower())
            counts[own] += tensor.elements
        (dtype, _), *_ = counts.most_common(1) or [("float32", 0)]
        return dtype

    def number(self, key: str) -> int:
        """A whole number of the config, its own or the text model's; 0 where it has none.

        Raises:
            CorruptCheckpoint: If it is not one.
        """
        values = _DEFAULTS | self.config["text_config"] | {"canvas_length": self.config.get("canvas_length", 256)}
        value = values.get(key) or 0
        if type(value) is not int or value < 0:
            raise CorruptCheckpoint(f"config.json: {key} is {shown(repr(value))}", hint="fetch the file again")
        return value


def open_checkpoint(checkpoint: Checkpoint) -> OpenCheckpoint:
    """Open a checkpoint. Code that comes with it (`auto_map`, *.py) is no error: it is never run.

    Raises:
        ModelNotFound: If there is no such folder.
        WrongArchitecture: If it is some other model.
        UnsafeCheckpoint: If its weights are pickled.
        ModelUnloadable: If its weights are stored in a way that is not known.
        CorruptCheckpoint: If a file is missing, unreadable or damaged. Names it.
    """
    path = checkpoint.path
    if not exists(path):
        raise ModelNotFound(f"there is no folder {shown(path)}", hint="dgtui model list shows what there is")
    if not path.is_dir():
        return _open_gguf(checkpoint)
    try:
        names = sorted(entry.name for entry in path.iterdir() if entry.exists())
    except OSError as error:
        raise ModelUnloadable(f"{shown(path)} cannot be read: {error.strerror or error}") from error
    if single := gguf_file(names, shown(path)):
        return _open_gguf(replace(checkpoint, path=path / single))
    data = b""

    def config() -> dict[str, Any]:
        nonlocal data
        data = _read(path / "config.json")
        return parse_json(data, "config.json")

    checked = check_names(names, shown(path), config)
    file = path / GENERATION
    return of_parts(checkpoint, data, checked, read_json(file) if file.exists() else {}, read_shards(path))


def _open_gguf(checkpoint: Checkpoint) -> OpenCheckpoint:
    path = checkpoint.path
    check_architecture(gguf_header.architecture(path), shown(path))
    from dgtui.model.gguf_file import GgufFile, config_of, generation_of

    file = GgufFile(path)
    config = config_of(file)
    shard = Shard(path, path.stat().st_size, file.header, {})
    return OpenCheckpoint(
        checkpoint, config, generation_of(file), (shard,), file.tensors, b"", file
    )  # fmt: skip


def check_architecture(architecture: str | None, where: str) -> None:
    """Raises `WrongArchitecture` or `ModelUnloadable` for a file that is no GGUF file of a DiffusionGemma."""
    if architecture is None:
        raise ModelUnloadable(
            f"{where} is a file, and no GGUF file",
            hint=f"name a folder with config.json and {_WEIGHTS}, or a GGUF file",
        )
    if architecture != gguf_header.ARCHITECTURE:
        raise WrongArchitecture(
            f"{where} is a GGUF file of a {shown(architecture)} model, not of a DiffusionGemma",
            hint="dgtui model list shows what can be loaded",
        )


def gguf_file(names: Collection[str], where: str) -> str | None:
    """The GGUF file among the files of a folder; None where it holds a checkpoint of another kind.

    Raises:
        ModelUnloadable: If it holds several: which is meant is not known.
    """
    if SINGLE in names or INDEX in names:
        return None
    files = sorted(name for name in names if name.lower().endswith(".gguf") and not name.startswith("mmproj"))
    if len(files) > 1:
        some = ", ".join(map(shown, files[:3])) + (" …" if len(files) > 3 else "")
        raise ModelUnloadable(f"{where} holds several GGUF files: {some}", hint="name one of them: --model FILE")
    return files[0] if files else None


def of_parts(
    checkpoint: Checkpoint,
    config_data: bytes,
    config: Mapping[str, Any],
    generation_config: Mapping[str, Any],
    shards: Collection[Shard],
) -> OpenCheckpoint:
    """A checkpoint of what has been read of it, here or on the hub. Raises what `open_checkpoint` does."""
    entries = {name: entry for shard in shards for name, entry in shard.tensors.items()}
    if quant_method(config) == "bitsandbytes":  # transformers reads it
        tensors = {name: plain(name, entry) for name, entry in entries.items()}
    else:
        tensors = stored_tensors(entries, config)
    return OpenCheckpoint(checkpoint, config, generation_config, tuple(shards), tensors, config_data)


def quant_method(config: Mapping[str, Any]) -> str | None:
    """Which program quantized a checkpoint, in its own words; None if it was not."""
    about = config.get("quantization_config")
    if not about:
        return None
    method = about.get("quant_method") if isinstance(about, dict) else None
    return method if isinstance(method, str) else "something unnamed"


def check_names(names: Collection[str], where: str, config: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What the names of the files and the config.json among them tell: of a folder, or of what might be fetched.

    Args:
        names: All files at the top.
        where: Whose files they are, fit to be shown.
        config: Reads config.json; called only where it is there and matters.

    Returns:
        The config.

    Raises:
        ModelUnloadable: Or the class of it that `open_checkpoint` names for the cause.
    """
    weights = SINGLE in names or INDEX in names
    if not weights and (kind := _other_kind(names)):
        raise ModelUnloadable(f"{where} holds {kind}", hint=f"take the whole checkpoint, such as {REAL}")
    if "config.json" not in names:
        raise CorruptCheckpoint(
            f"{where} holds no config.json", hint=f"a checkpoint is a folder with config.json and {_WEIGHTS}"
        )
    checked = check_config(config(), where)
    if not weights:
        pickles = sorted(name for name in names if name.lower().endswith(_PICKLES))
        if pickles:
            raise UnsafeCheckpoint(
                f"the weights in {where} are pickled ({shown(pickles[0])}): loading them could run any code",
                hint="take a safetensors version of it, or make one where you trust the source: load it there with "
                "transformers, then model.save_pretrained(FOLDER)",
            )
        raise CorruptCheckpoint(f"{where} holds no weights", hint=f"{_WEIGHTS} is missing: fetch it again")
    return checked


def _other_kind(names: Collection[str]) -> str | None:
    """What a folder holds that other programs load, by the names of its files; None if that is not known."""
    if "adapter_config.json" in names:
        return "a LoRA adapter, which changes a checkpoint and is none itself"
    if "model_index.json" in names:
        return "a pipeline for the diffusers library"
    return None


def check_config(config: dict[str, Any], where: str) -> dict[str, Any]:
    """The config of a DiffusionGemma that can be loaded, as it is.

    Raises:
        WrongArchitecture: If it is of some other model.
        ModelUnloadable: If its weights are quantized in a way that is not known, or not shared.
        CorruptCheckpoint: If it makes no sense.
    """
    model_type = config.get("model_type")
    if model_type != MODEL_TYPE:
        what = f"a {shown(model_type)} model" if model_type else "a model that does not say its type"
        raise WrongArchitecture(
            f"{where} holds {what}, not a DiffusionGemma", hint="dgtui model list shows what can be loaded"
        )
    if not isinstance(config.get("text_config"), dict):
        raise CorruptCheckpoint("config.json has no text_config", hint="fetch the file again")
    if config.get("tie_word_embeddings") is False:
        raise ModelUnloadable(
            f"{where} keeps separate weights for encoder and decoder",
            hint="DiffusionGemma has one stack of weights for both: save it with tie_word_embeddings=True",
        )
    if isinstance(config.get("quantization"), dict):  # MLX writes it under both names
        raise ModelUnloadable(f"{where} is quantized by MLX, for Apple's own library", hint=_BF16)
    method = quant_method(config)
    if method not in _METHODS:
        raise ModelUnloadable(f"{where} is quantized with {shown(method)}", hint=_BF16)
    return config


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CorruptCheckpoint(f"{shown(path.name)} cannot be read: {error.strerror or error}") from error
