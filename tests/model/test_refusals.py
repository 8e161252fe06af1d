"""A checkpoint that cannot be used is refused with its cause, whatever it takes to find out."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from checkpoints import VOCAB, tiny_checkpoint
from safetensors.torch import load_file, save_file

from dgtui.errors import (
    CorruptCheckpoint,
    DgtuiError,
    ModelNotFound,
    ModelUnloadable,
    OutOfMemory,
    UnsafeCheckpoint,
    VocabularyMismatch,
    WrongArchitecture,
)
from dgtui.model import devices, weights
from dgtui.model.catalog import Checkpoint, resolve
from dgtui.model.loader import LoadedModel, Progress, load
from dgtui.model.parts import LoadOptions
from dgtui.text import gigabytes

WEIGHTS = "model.safetensors"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny_checkpoint(tmp_path / "model")


def load_folder(folder: Path, progress: Callable[[Progress], None] | None = None) -> LoadedModel:
    return load(resolve(str(folder)), LoadOptions(device="cpu"), progress)


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


def bad_shape(tensors: dict[str, torch.Tensor]) -> None:
    tensors["model.decoder.norm.weight"] = torch.ones(3)


def untied(tensors: dict[str, torch.Tensor]) -> None:
    tensors["lm_head.weight"] = tensors["model.decoder.embed_tokens.weight"] + 1


@pytest.mark.parametrize(
    ("damage", "error", "says"),
    [
        (lambda f: edit(f / "config.json", model_type="llama"), WrongArchitecture, "llama"),
        (lambda f: edit(f / "config.json", canvas_length="x"), CorruptCheckpoint, "config.json cannot be used"),
        (lambda f: edit(f / "config.json", tie_word_embeddings=False), ModelUnloadable, "separate weights"),
        (lambda f: edit(f / "config.json", quantization_config={"quant_method": "gptq"}), ModelUnloadable, "quantized"),
        (lambda f: (f / WEIGHTS).rename(f / "pytorch_model.bin"), UnsafeCheckpoint, "pickled"),
        (lambda f: (f / WEIGHTS).rename(f / "model.gguf"), ModelUnloadable, "GGUF"),
        (lambda f: (f / WEIGHTS).write_bytes(b"\x00" * 100), CorruptCheckpoint, WEIGHTS),
        (lambda f: edit_weights(f, lambda t: t.pop("model.decoder.norm.weight")), CorruptCheckpoint, "norm.weight"),
        (
            lambda f: edit_weights(f, lambda t: t.pop("model.encoder.language_model.layers.0.layer_scalar")),
            CorruptCheckpoint,
            r"lacks model\.encoder\.language_model\.layers\.0\.layer_scalar",
        ),
        (lambda f: edit_weights(f, lambda t: t.clear()), CorruptCheckpoint, "and .* more"),
        (lambda f: edit_weights(f, bad_shape), CorruptCheckpoint, r"norm\.weight \[3\] instead of \[64\]"),
        (lambda f: edit_weights(f, untied), ModelUnloadable, r"do not share lm_head\.weight"),
        (
            lambda f: edit_weights(
                f, lambda t: t.update({"model.decoder.layers.2.mlp.up_proj.weight": torch.ones(96, 64)})
            ),
            CorruptCheckpoint,
            r"do not occur in the model of config\.json: model\.decoder\.layers\.2",
        ),
        (lambda f: (f / "tokenizer.json").unlink(), CorruptCheckpoint, "tokenizer.json"),
        (lambda f: edit(f / "generation_config.json", t_min=-1), CorruptCheckpoint, "t_min"),
        (lambda f: edit(f / "generation_config.json", t_min="hot"), CorruptCheckpoint, "t_min"),
        (lambda f: edit(f / "generation_config.json", eos_token_id=[1, 99999]), CorruptCheckpoint, "99999"),
        (lambda f: (f / "generation_config.json").write_text("{"), CorruptCheckpoint, "generation_config.json"),
    ],
)
def test_a_bad_checkpoint_is_refused_with_its_cause(
    damage: Callable[[Path], object], error: type[DgtuiError], says: str, folder: Path
) -> None:
    damage(folder)
    with pytest.raises(error, match=says) as caught:
        load_folder(folder)
    assert type(caught.value) is error


def test_leftover_buffers_are_no_reason_to_refuse(folder: Path) -> None:
    edit_weights(folder, lambda t: t.update({"model.decoder.rotary_emb.inv_freq": torch.ones(8)}))
    load_folder(folder)


def test_a_missing_folder_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound):
        load(Checkpoint("gone", tmp_path / "gone", "folder"), LoadOptions(device="cpu"))


@pytest.mark.parametrize("vocab", [VOCAB - 10, VOCAB + 129])
def test_a_tokenizer_of_another_model_is_refused(vocab: int, tmp_path: Path) -> None:
    folder = tiny_checkpoint(tmp_path / "m", vocab=vocab)
    with pytest.raises(VocabularyMismatch, match=f"{VOCAB} entries, but the model has {vocab}"):
        load_folder(folder)


def test_a_vocabulary_padded_to_a_round_number_is_fine(tmp_path: Path) -> None:
    assert load_folder(tiny_checkpoint(tmp_path / "m", vocab=VOCAB + 128)).tokenizer.vocab_size == VOCAB


def test_too_little_memory_is_said_before_reading(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "available", lambda device: 123_000)
    monkeypatch.setattr(weights, "safe_open", None)  # not reached
    with pytest.raises(OutOfMemory, match=r"needs \d+ MB in 4 bit.*, but this machine has only 0 MB free") as caught:
        load_folder(folder)
    assert caught.value.hint


@pytest.mark.parametrize(
    "error",
    [MemoryError(), torch.OutOfMemoryError("CUDA out of memory"), torch.AcceleratorError("CUDA error: out of memory")],
)
def test_memory_that_runs_out_while_reading_is_out_of_memory(folder: Path, error: BaseException) -> None:
    def fail(progress: Progress) -> None:
        if progress.total_bytes:  # weights are read
            raise error

    with pytest.raises(OutOfMemory, match="out of memory while loading"):
        load_folder(folder, progress=fail)


def test_a_disk_that_fails_while_reading_names_the_shard(folder: Path) -> None:
    def fail(progress: Progress) -> None:
        if progress.total_bytes:  # weights are read
            raise OSError(5, "Input/output error")

    with pytest.raises(CorruptCheckpoint, match=r"model\.safetensors cannot be read"):
        load_folder(folder, progress=fail)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is one")
def test_a_device_that_is_not_there_is_refused(folder: Path) -> None:
    with pytest.raises(ModelUnloadable, match="cuda was requested"):
        load(resolve(str(folder)), LoadOptions(device="cuda"))


def test_memory_is_counted_in_the_type_that_is_loaded() -> None:
    assert gigabytes(51_600_000_000) == "51.6 GB"
