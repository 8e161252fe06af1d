"""GGUF files: the numbers are those of the `gguf` package, config, sampler and tokenizer those of the checkpoint."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import logits, opened, tiny_checkpoint

from dgtui.errors import CorruptCheckpoint, DgtuiError, ModelUnloadable, WrongArchitecture
from dgtui.message import Message
from dgtui.model import gguf_header
from dgtui.model.formats import GGUF
from dgtui.model.geometry import read_geometry
from dgtui.model.gguf_tokenizer import tokenizer_of
from dgtui.model.loader import LoadedModel, load
from dgtui.model.parts import LoadOptions
from dgtui.model.skeleton import quantized_weights
from dgtui.model.tokenizer import ModelTokenizer

gguf = pytest.importorskip("gguf")

from gguf_files import TYPES, as_torch, random_blocks, write  # noqa: E402

from dgtui.model.gguf_source import quantized_rows  # noqa: E402

Q4_K_M = {
    "token_embd": "Q8_0",
    "gate_up_exps": "Q4_K",
    "down_exps.weight": "Q5_0",
    "attn_q.": "Q8_0",
    "ffn_up.": "Q4_K",
}
"""As in the published file: the widths of down projections are no multiple of 256."""
BESIDE = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("source") / "model", hidden=256, layers=3)


@pytest.fixture(scope="module")
def file(source: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A file with the tokenizer of its checkpoint beside it, and the values of its tensors."""
    folder = tmp_path_factory.mktemp("gguf")
    for name in BESIDE:
        shutil.copyfile(source / name, folder / name)
    return folder / "model-Q4_K_M.gguf", write(source, folder / "model-Q4_K_M.gguf", Q4_K_M, tokenizer=False)


def read(path: Path, **options: Any) -> LoadedModel:
    return load(opened(path), LoadOptions(device="cpu", context=512, **options))


@pytest.mark.parametrize("kind", GGUF)
def test_random_blocks_mean_what_the_package_says(kind: str) -> None:
    data = random_blocks(kind, 7, 768)
    weight = quantized_rows(GGUF[kind], as_torch(data), 768)
    expected = torch.from_numpy(gguf.quants.dequantize(data, TYPES[kind]))
    assert torch.equal(weight.dequantize(torch.float32), expected)
    size = sum(tensor.nbytes for tensor in weight.buffers())
    assert size == GGUF[kind].size((7, 768))
    assert size <= 1.03 * data.nbytes


def test_weights_are_held_as_they_are_stored(file: tuple[Path, dict[str, Any]]) -> None:
    path, values = file
    loaded = read(path)
    assert set(loaded.plan.formats) == {"Q4_K", "Q5_0", "Q8_0"}
    weights = quantized_weights(loaded.model)
    assert weights["model.decoder.layers.0.experts.gate_up_proj"].form is GGUF["Q4_K"]
    assert weights["model.decoder.layers.0.experts.down_proj"].form is GGUF["Q5_0"]
    for name, weight in weights.items():
        assert torch.equal(weight.dequantize(torch.float32), torch.from_numpy(values[name])), name
    embedding = loaded.model.get_parameter("model.decoder.embed_tokens.weight")
    assert torch.equal(embedding, torch.from_numpy(values["model.decoder.embed_tokens.weight"]))


def test_the_model_computes_what_its_values_do(source: Path, file: tuple[Path, dict[str, Any]]) -> None:
    path, values = file
    whole = read(source).model
    for name, value in values.items():
        if name.endswith("layer_scalar"):
            continue
        whole.get_parameter(name).data.copy_(torch.from_numpy(value))
    torch.testing.assert_close(logits(read(path).model), logits(whole), rtol=1e-4, atol=1e-4)


def test_config_and_sampler_settings_are_those_of_the_checkpoint(
    source: Path, file: tuple[Path, dict[str, Any]]
) -> None:
    path, _ = file
    whole, ours = opened(source), opened(path)
    mine, theirs = (read_geometry(checkpoint.config).text_config.to_dict() for checkpoint in (ours, whole))
    for key in theirs.keys() - {"initializer_range", "dtype"}:
        assert mine[key] == (pytest.approx(theirs[key]) if isinstance(theirs[key], float) else theirs[key]), key
    assert ours.config["canvas_length"] == whole.config["canvas_length"]
    assert read(path).settings == read(source).settings
    assert not ours.sees and ours.size == path.stat().st_size


def test_what_takes_more_than_four_bits_is_packed_where_memory_is_short(
    file: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from test_layouts import short_of_memory

    short_of_memory(file[0], monkeypatch)
    packed = read(file[0])
    assert set(packed.plan.formats) == {"Q4_K", "NF4"}
    assert torch.isfinite(logits(packed.model)).all()


def test_other_formats_are_decoded_by_the_package(source: Path, tmp_path: Path) -> None:
    for name in BESIDE:
        shutil.copyfile(source / name, tmp_path / name)
    values = write(
        source, tmp_path / "m.gguf", {"attn_q.": "TQ1_0", "ffn_up.": "BF16", "ffn_gate.": "F16"}, tokenizer=False
    )
    loaded = read(tmp_path / "m.gguf")
    assert loaded.plan.formats == ()
    for name in ("self_attn.q_proj.weight", "mlp.up_proj.weight", "mlp.gate_proj.weight"):
        own = f"model.decoder.layers.1.{name}"
        assert torch.equal(loaded.model.get_parameter(own), torch.from_numpy(values[own]))


def test_its_own_tokenizer_is_that_of_the_checkpoint(source: Path, tmp_path: Path) -> None:
    from gemma_vocabulary import GEMMA_TEMPLATE
    from test_tokenizer import gemma_style, save

    folder = tmp_path / "source"
    shutil.copytree(source, folder)
    save(gemma_style(), GEMMA_TEMPLATE, folder)
    published = (folder / "tokenizer.json").read_text().replace('"normalized": true', '"normalized": false')
    (folder / "tokenizer.json").write_text(published)
    write(folder, tmp_path / "m.gguf", {})
    file = opened(tmp_path / "m.gguf").gguf
    assert file is not None
    theirs, ours = ModelTokenizer.load(folder), tokenizer_of(file)
    assert ours.vocab_size == theirs.vocab_size
    for text in (
        "Once upon a time",
        "  two  spaces\n\nand\ttabs",
        "Größe 東京 🙂 <turn|> ▁ <0x41>",
        "<b>def add(a, b):</b>",
    ):
        assert ours.encode(text) == theirs.encode(text), text
    talk = [Message("user", "Hello"), Message("model", "Hi"), Message("user", "again")]
    assert ours.chat(talk) == theirs.chat(talk)


def test_a_folder_with_one_file_is_that_file(file: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    folder = tmp_path / "m"
    folder.mkdir()
    os.link(file[0], folder / "a.gguf")
    assert opened(folder).path == folder / "a.gguf"
    os.link(file[0], folder / "mmproj-a.gguf")
    assert opened(folder).path == folder / "a.gguf"
    os.link(file[0], folder / "b.gguf")
    with pytest.raises(ModelUnloadable, match=r"several GGUF files: a\.gguf, b\.gguf"):
        opened(folder)


def test_a_file_of_another_architecture_is_named(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "llama")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    with pytest.raises(WrongArchitecture, match="a GGUF file of a llama model"):
        opened(tmp_path / "m.gguf")


@pytest.mark.parametrize("keep", [0, 3, 30, 2000, 0.3, 0.9])
def test_a_file_that_is_cut_short_is_refused(keep: float, file: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    shutil.copyfile(file[0], tmp_path / "m.gguf")
    os.truncate(tmp_path / "m.gguf", int(keep * file[0].stat().st_size) if keep < 1 else int(keep))
    with pytest.raises(DgtuiError):
        opened(tmp_path / "m.gguf")


def test_without_the_package_its_extra_is_named(
    file: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from dgtui.model import gguf_file

    def missing(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(gguf_file, "import_module", missing)
    with pytest.raises(ModelUnloadable, match="the package gguf is missing") as caught:
        opened(file[0])
    assert "dgtui[gguf]" in caught.value.hint


def test_the_start_of_a_file_tells_its_architecture(file: tuple[Path, dict[str, Any]]) -> None:
    data = file[0].read_bytes()
    for size in (200, 1000, 4096):
        values = gguf_header.read_start(data[:size])
        assert values is not None and values["general.architecture"] == "diffusion-gemma"
    assert gguf_header.read_start(b"PK\3\4" + bytes(100)) is None


def test_a_tensor_that_is_missing_is_named(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import gguf_files

    for name in BESIDE:
        shutil.copyfile(source / name, tmp_path / name)
    monkeypatch.setattr(gguf_files, "LAYER", [name for name in gguf_files.LAYER if name != "ffn_up.weight"])
    write(source, tmp_path / "m.gguf", {}, tokenizer=False)
    with pytest.raises(CorruptCheckpoint, match=r"mlp\.up_proj"):
        read(tmp_path / "m.gguf")
