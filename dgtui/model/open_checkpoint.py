"""Opens a checkpoint once: config, headers and tensor list, for describing, planning, loading and quantizing.

`open_checkpoint` rejects a folder that cannot be loaded early, and gives the cause. It reads JSON and the headers of
the weights, not the weights, and imports nothing heavy.
"""

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from dgtui.errors import CorruptCheckpoint, ModelNotFound, ModelUnloadable, UnsafeCheckpoint, WrongArchitecture
from dgtui.model import gguf_header
from dgtui.model.catalog import MODEL_TYPE, REAL, Checkpoint, exists
from dgtui.model.generation import FILE as GENERATION
from dgtui.model.parts import count_parts, part_of
from dgtui.model.shards import INDEX, SINGLE, Shard, fingerprint, parse_json, read_json, read_shards, shown
from dgtui.model.stored import StoredTensor, plain, stored_tensors, without_copies

if TYPE_CHECKING:
    from dgtui.model.gguf_file import GgufFile


PARTIAL: Final = ".partial"
"""The end of the hidden name of a folder that is being written. It is renamed at the end, and never read before."""

_METHODS: Final = (None, "dgtui_nf4", "compressed-tensors", "modelopt", "bitsandbytes")
# The `quant_method` of checkpoints whose formats are supported.
_PICKLES: Final = (".bin", ".pt", ".pth", ".pkl", ".ckpt")
_DTYPES: Final = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
_DEFAULTS: Final = {"canvas_length": 256, "vocab_size": 262_144, "num_hidden_layers": 30, "hidden_size": 2304}
# transformers' defaults for keys that a config.json leaves out.
_WEIGHTS: Final = "model.safetensors (or its index and shards)"
_BF16: Final = "use the bfloat16 checkpoint: dgtui packs it into 4 bit itself"


@dataclass(frozen=True, eq=False)
class OpenCheckpoint:
    """An open checkpoint. No weights have been read."""

    checkpoint: Checkpoint
    config: Mapping[str, Any]
    """Its config.json."""
    generation_config: Mapping[str, Any]
    """Its generation_config.json; empty if there is none."""
    shards: tuple[Shard, ...]
    """Its weight files."""
    tensors: Mapping[str, StoredTensor]
    """The model's tensors, by the model's names."""
    config_data: bytes
    """The bytes of its config.json; empty for a GGUF file."""
    copies: Mapping[str, str] = field(default_factory=dict)
    """Tensors that are stored twice, for encoder and decoder: the name on disk of the one that is read → its copy."""
    gguf: "GgufFile | None" = None
    """The open GGUF file, if it is one."""

    @property
    def name(self) -> str:
        """As a user would type it."""
        return self.checkpoint.name

    @property
    def path(self) -> Path:
        """Its folder."""
        return self.checkpoint.path

    @property
    def quant_method(self) -> str | None:
        """Its `quant_method`; None if it is not quantized."""
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
        """Number of parameters of each part of the model; those shared by encoder and decoder are counted once."""
        return count_parts((name, tensor.elements) for name, tensor in self.tensors.items())

    @property
    def parameters(self) -> int:
        """Number of parameters of the model."""
        return sum(self.parts.values())

    @property
    def dtype(self) -> str:
        """The type of most of its parameters: "bfloat16", "float32", "NF4", …"""
        counts: Counter[str] = Counter()
        for tensor in self.tensors.values():
            own = tensor.form.name if tensor.form else _DTYPES.get(tensor.dtype, tensor.dtype.lower())
            counts[own] += tensor.elements
        (dtype, _), *_ = counts.most_common(1) or [("float32", 0)]
        return dtype

    def number(self, key: str) -> int:
        """An integer from the config or its text config; 0 if it is missing.

        Raises:
            CorruptCheckpoint: It is not an integer.
        """
        values = _DEFAULTS | self.config["text_config"] | {"canvas_length": self.config.get("canvas_length", 256)}
        value = values.get(key) or 0
        if type(value) is not int or value < 0:
            raise CorruptCheckpoint(f"config.json: {key} is {shown(repr(value))}", hint="download the file again")
        return value


def open_checkpoint(checkpoint: Checkpoint) -> OpenCheckpoint:
    """Open a checkpoint. Code in it (`auto_map`, *.py) is not an error: it is never run.

    Raises:
        ModelNotFound: There is no such folder.
        WrongArchitecture: It is another kind of model.
        UnsafeCheckpoint: Its weights are pickled.
        ModelUnloadable: Its weights are stored in an unsupported format.
        CorruptCheckpoint: A file is missing, unreadable or damaged; the message names it.
    """
    path = checkpoint.path
    if not exists(path):
        raise ModelNotFound(
            f"there is no folder {shown(path)}", hint="run dgtui model list to see the available models"
        )
    if not path.is_dir():
        return _open_gguf(checkpoint)
    if path.name.startswith(".") and path.name.endswith(PARTIAL):  # it may look whole at any moment
        raise CorruptCheckpoint(
            f"{shown(path)} was not written to the end", hint="run the command again that was writing it"
        )
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
        checkpoint, config, generation_of(file), (shard,), file.tensors, b"", gguf=file
    )  # fmt: skip


def check_architecture(architecture: str | None, where: str) -> None:
    """Raises `WrongArchitecture` or `ModelUnloadable` unless the file is a GGUF file of a DiffusionGemma."""
    if architecture is None:
        raise ModelUnloadable(
            f"{where} is a file but not a GGUF file",
            hint=f"name a folder with config.json and {_WEIGHTS}, or a GGUF file",
        )
    if architecture != gguf_header.ARCHITECTURE:
        raise WrongArchitecture(
            f"{where} is a GGUF file of a {shown(architecture)} model, not of a DiffusionGemma",
            hint="run dgtui model list to see the available models",
        )


def gguf_file(names: Collection[str], where: str) -> str | None:
    """The GGUF file in a folder; None if the folder holds another kind of checkpoint.

    Raises:
        ModelUnloadable: It holds several, so the choice is ambiguous.
    """
    if SINGLE in names or INDEX in names:
        return None
    files = sorted(name for name in names if name.lower().endswith(".gguf") and not name.startswith("mmproj"))
    if len(files) > 1:
        some = ", ".join(map(shown, files[:3])) + (" …" if len(files) > 3 else "")
        raise ModelUnloadable(f"{where} holds several GGUF files: {some}", hint="choose one with --model FILE")
    return files[0] if files else None


def of_parts(
    checkpoint: Checkpoint,
    config_data: bytes,
    config: Mapping[str, Any],
    generation_config: Mapping[str, Any],
    shards: Collection[Shard],
) -> OpenCheckpoint:
    """A checkpoint from config and headers, read locally or from the hub. Raises the errors of `open_checkpoint`."""
    entries = {name: entry for shard in shards for name, entry in shard.tensors.items()}
    if quant_method(config) == "bitsandbytes":  # transformers loads it itself
        tensors = {name: plain(name, entry) for name, entry in entries.items()}
        copies: dict[str, str] = {}
    else:
        tensors, copies = without_copies(stored_tensors(entries, config))
    return OpenCheckpoint(checkpoint, config, generation_config, tuple(shards), tensors, config_data, copies)


def quant_method(config: Mapping[str, Any]) -> str | None:
    """A checkpoint's `quant_method`; None if it is not quantized."""
    about = config.get("quantization_config")
    if not about:
        return None
    method = about.get("quant_method") if isinstance(about, dict) else None
    return method if isinstance(method, str) else "an unnamed method"


def check_names(names: Collection[str], where: str, config: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Check the file names and config.json of a checkpoint, local or on the hub.

    Args:
        names: All top-level files.
        where: The folder or repository, sanitised, for messages.
        config: Reads config.json; called only if it exists and matters.

    Returns:
        The config.

    Raises:
        ModelUnloadable: Or the subclass that `open_checkpoint` lists for the cause.
    """
    weights = SINGLE in names or INDEX in names
    if not weights and (kind := _other_kind(names)):
        raise ModelUnloadable(f"{where} holds {kind}", hint=f"use a whole checkpoint, such as {REAL}")
    if "config.json" not in names:
        raise CorruptCheckpoint(
            f"{where} has no config.json", hint=f"a checkpoint is a folder with config.json and {_WEIGHTS}"
        )
    checked = check_config(config(), where)
    if not weights:
        pickles = sorted(name for name in names if name.lower().endswith(_PICKLES))
        if pickles:
            raise UnsafeCheckpoint(
                f"the weights in {where} are pickled ({shown(pickles[0])}): loading them could run any code",
                hint="use a safetensors version; if you trust the source, make one: load it with "
                "transformers, then call model.save_pretrained(FOLDER)",
            )
        raise CorruptCheckpoint(f"{where} has no weights", hint=f"{_WEIGHTS} is missing: download it again")
    return checked


def _other_kind(names: Collection[str]) -> str | None:
    """What a folder for other programs holds, judging by its file names; None if it is not recognised."""
    if "adapter_config.json" in names:
        return "a LoRA adapter, which modifies a checkpoint but is not one itself"
    if "model_index.json" in names:
        return "a pipeline for the diffusers library"
    return None


def check_config(config: dict[str, Any], where: str) -> dict[str, Any]:
    """Check the config of a DiffusionGemma and return it unchanged.

    Raises:
        WrongArchitecture: It belongs to another kind of model.
        ModelUnloadable: Its weights are quantized in an unsupported format, or not shared.
        CorruptCheckpoint: It is not consistent.
    """
    model_type = config.get("model_type")
    if model_type != MODEL_TYPE:
        what = f"a {shown(model_type)} model" if model_type else "a model of unknown type"
        raise WrongArchitecture(
            f"{where} holds {what}, not a DiffusionGemma", hint="run dgtui model list to see the available models"
        )
    if not isinstance(config.get("text_config"), dict):
        raise CorruptCheckpoint("config.json has no text_config", hint="download the file again")
    if config.get("tie_word_embeddings") is False:
        raise ModelUnloadable(
            f"{where} keeps separate weights for encoder and decoder",
            hint="in DiffusionGemma both share one stack of weights: save it with tie_word_embeddings=True",
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
