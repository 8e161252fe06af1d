"""What cannot be loaded is refused before a weight is read, with the cause and the file."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from checkpoints import opened, tiny_checkpoint

from dgtui.errors import CorruptCheckpoint, ModelNotFound, ModelUnloadable, UnsafeCheckpoint, WrongArchitecture
from dgtui.model.catalog import Checkpoint
from dgtui.model.open_checkpoint import open_checkpoint

WEIGHTS = "model.safetensors"
EMBEDDING = "model.decoder.embed_tokens.weight"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny_checkpoint(tmp_path / "model", with_tokenizer=False)


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    return tiny_checkpoint(tmp_path / "sharded", with_tokenizer=False, max_shard_size="100KB")


def cut(path: Path, keep: float = 0.5) -> None:
    """Cut a file short."""
    os.truncate(path, int(path.stat().st_size * keep))


def patch(path: Path, position: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(position)
        file.write(data)


def edit_config(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def without_weights(folder: Path, instead: str | None) -> None:
    (folder / "model.safetensors").unlink()
    if instead:
        (folder / instead).write_bytes(b"\x80\x04")


def replace_header(path: Path, change: Callable[[dict[str, dict[str, object]]], object]) -> None:
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    table = json.loads(data[8 : 8 + length])
    change(table)
    header = json.dumps(table).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + data[8 + length :])


@pytest.mark.parametrize(
    ("damage", "error", "says"),
    [
        (lambda f: (f / "config.json").unlink(), CorruptCheckpoint, "config.json"),
        (lambda f: (f / "config.json").write_text("{"), CorruptCheckpoint, "config.json is not JSON"),
        (lambda f: (f / "config.json").write_bytes(b"\xff\xfe\x00"), CorruptCheckpoint, "config.json is not JSON"),
        (lambda f: (f / "config.json").write_text("[" * 100_000), CorruptCheckpoint, "config.json is not JSON"),
        (lambda f: (f / "config.json").write_text("[]"), CorruptCheckpoint, "config.json is not a JSON object"),
        (lambda f: edit_config(f, text_config=3), CorruptCheckpoint, "config.json has no text_config"),
        (lambda f: edit_config(f, model_type="gemma3"), WrongArchitecture, "gemma3"),
        (lambda f: edit_config(f, model_type=None), WrongArchitecture, "a model of unknown type"),
        (lambda f: without_weights(f, None), CorruptCheckpoint, "has no weights"),
        (lambda f: without_weights(f, "pytorch_model.bin"), UnsafeCheckpoint, "pytorch_model.bin.*run any code"),
        (lambda f: without_weights(f, "consolidated.PTH"), UnsafeCheckpoint, "consolidated.PTH"),
        (lambda f: without_weights(f, "model-Q4_K_M.gguf"), ModelUnloadable, "GGUF"),
        (lambda f: cut(f / WEIGHTS), CorruptCheckpoint, "model.safetensors is cut short"),
        (lambda f: cut(f / WEIGHTS, 0.001), CorruptCheckpoint, "model.safetensors is damaged or cut short"),
        (lambda f: cut(f / WEIGHTS, 0), CorruptCheckpoint, "model.safetensors is damaged or cut short"),
        (lambda f: patch(f / WEIGHTS, 0, b"\xff" * 8), CorruptCheckpoint, "header cannot be read"),
        (lambda f: patch(f / WEIGHTS, 8, b"\x00\xff\x00"), CorruptCheckpoint, "header is not valid"),
        (
            lambda f: (f / WEIGHTS).write_bytes((f / WEIGHTS).read_bytes() + b"more"),
            CorruptCheckpoint,
            "model.safetensors is damaged",
        ),
        (
            lambda f: replace_header(f / WEIGHTS, lambda t: t[EMBEDDING].update(data_offsets=[0, 1 << 40])),
            CorruptCheckpoint,
            "overlap or leave gaps",
        ),
        (
            lambda f: replace_header(f / WEIGHTS, lambda t: t[EMBEDDING].update(dtype="Q4")),
            CorruptCheckpoint,
            "header is not valid",
        ),
        (
            lambda f: replace_header(f / WEIGHTS, lambda t: t[EMBEDDING].update(shape=[-1, -20480])),
            CorruptCheckpoint,
            "header is not valid",
        ),
        (lambda f: replace_header(f / WEIGHTS, lambda t: t.pop(EMBEDDING)), CorruptCheckpoint, "overlap or leave gaps"),
    ],
)
def test_a_bad_checkpoint_is_refused_with_its_cause(
    damage: Callable[[Path], object], error: type[ModelUnloadable], says: str, folder: Path
) -> None:
    opened(folder)
    damage(folder)
    with pytest.raises(error, match=says) as caught:
        opened(folder)
    assert type(caught.value) is error


def test_a_folder_that_is_gone_or_a_file_is_refused(folder: Path) -> None:
    with pytest.raises(ModelNotFound):
        open_checkpoint(Checkpoint("gone", folder / "gone", "folder"))
    with pytest.raises(ModelUnloadable, match="is a file"):
        opened(folder / WEIGHTS)


def test_gguf_needs_no_config_to_be_recognised(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    with pytest.raises(ModelUnloadable, match="GGUF"):
        opened(tmp_path)


def test_a_missing_shard_is_named(sharded: Path) -> None:
    shard = sorted(sharded.glob("*.safetensors"))[1]
    shard.unlink()
    with pytest.raises(CorruptCheckpoint, match=f"{shard.name} is missing"):
        opened(sharded)


def test_a_damaged_shard_is_named(sharded: Path) -> None:
    shard = sorted(sharded.glob("*.safetensors"))[1]
    cut(shard, 0.9)
    with pytest.raises(CorruptCheckpoint, match=f"{shard.name} is cut short"):
        opened(sharded)


@pytest.mark.parametrize("name", ["../outside.safetensors", "/etc/passwd", "weights.bin", "", 3])
def test_an_index_cannot_lead_out_of_its_folder(name: object, sharded: Path) -> None:
    index = sharded / "model.safetensors.index.json"
    (sharded.parent / "outside.safetensors").write_bytes(b"")
    index.write_text(json.dumps({"weight_map": {EMBEDDING: name}}))
    with pytest.raises(CorruptCheckpoint, match="cannot be a shard"):
        opened(sharded)


def test_an_index_that_disagrees_with_its_shards_is_refused(sharded: Path) -> None:
    index = sharded / "model.safetensors.index.json"
    table = json.loads(index.read_text())
    table["weight_map"]["model.decoder.gone.weight"] = next(iter(table["weight_map"].values()))
    index.write_text(json.dumps(table))
    with pytest.raises(CorruptCheckpoint, match=r"lacks model\.decoder\.gone\.weight"):
        opened(sharded)
