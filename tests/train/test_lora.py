"""An adapter over a frozen 4-bit model: it learns, is saved as PEFT's files, and is loaded by chat and generate."""

import contextlib
import io
import json
import random
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import tiny_checkpoint
from safetensors.torch import load_file, save_file

from dgtui.__main__ import main
from dgtui.cli.backend import WorkerBackend
from dgtui.config import ModelSettings, Settings
from dgtui.errors import CorruptCheckpoint, ModelNotFound, ModelUnloadable
from dgtui.model import adapter, nf4, quantized
from dgtui.model.catalog import resolve
from dgtui.model.loader import load
from dgtui.model.open_checkpoint import open_checkpoint
from dgtui.model.parts import LoadOptions
from dgtui.model.quantized_layers import QuantizedLinear
from dgtui.train.items import Item
from dgtui.train.lora import Lora
from dgtui.train.objective import losses
from dgtui.train.packed import PackedPass, pack


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packed")
    source = tiny_checkpoint(folder / "source", hidden=128, experts=8)
    quantized.quantize(open_checkpoint(resolve(str(source))), folder / "nf4")
    return folder / "nf4"


@pytest.fixture(scope="module")
def trained(packed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lora")
    (folder / "data.jsonl").write_text(
        "\n".join(json.dumps({"prompt": f"Who is {i}?", "response": "Old Martha keeps it."}) for i in range(12))
    )
    command = ["train", str(folder / "data.jsonl"), "--out", str(folder / "out"), "--model", str(packed), "--lora",
               "--rows", "4", "--length", "128", "--rate", "3", "--seed", "3", "--device", "cpu"]  # fmt: skip
    with contextlib.redirect_stderr(io.StringIO()) as lines:
        assert main([*command, "--steps", "24"]) == 0
    (folder / "out" / "log").write_text(lines.getvalue())
    return folder / "out"


def test_training_an_adapter_lowers_the_loss(trained: Path) -> None:
    losses = [float(found) for found in re.findall(r" loss ([\d.]+)", (trained / "log").read_text())]
    assert losses[-1] < 0.8 * losses[0]


def test_an_adapter_is_what_peft_writes_and_only_of_the_named_layers(trained: Path) -> None:
    config = json.loads((trained / "adapter_config.json").read_text())
    assert (config["peft_type"], config["r"], config["bias"]) == ("LORA", 16, "none")
    names = load_file(trained / "adapter_model.safetensors").keys()
    assert any("self_attn.q_proj.lora_A" in name for name in names)
    assert any("mlp.down_proj.lora_B" in name for name in names)
    assert any("self_conditioning.up_proj.lora_B" in name for name in names)
    assert not any("experts" in name or "norm" in name for name in names)


def test_encoder_and_decoder_get_what_was_trained(packed: Path, trained: Path) -> None:
    plain = load(resolve(str(packed)), LoadOptions(device="cpu", dtype=torch.float32))
    adapted = load(resolve(str(packed)), LoadOptions(device="cpu", dtype=torch.float32, adapter=trained))
    assert adapted.fingerprint != plain.fingerprint
    tensors = load_file(trained / "adapter_model.safetensors")
    layer = "model.decoder.layers.0.self_attn.q_proj"
    a, b = (tensors[f"base_model.model.{layer}.lora_{side}.weight"] for side in "AB")
    x = torch.randn(3, a.shape[1], generator=torch.Generator().manual_seed(0))
    for name in (layer, layer.replace("model.decoder", "model.encoder.language_model")):
        change = adapted.model.get_submodule(name)(x) - plain.model.get_submodule(name)(x)
        torch.testing.assert_close(change, 2.0 * x @ a.T @ b.T, rtol=1e-4, atol=1e-5)
        assert change.abs().max() > 0


def test_a_small_adapter_is_computed_as_exactly_as_the_model(packed: Path, trained: Path, tmp_path: Path) -> None:
    shutil.copy(trained / "adapter_config.json", tmp_path)
    half = {name: t.bfloat16() for name, t in load_file(trained / "adapter_model.safetensors").items()}
    save_file(half, tmp_path / "adapter_model.safetensors")
    layer = "model.decoder.layers.0.self_attn.q_proj"
    a, b = (half[f"base_model.model.{layer}.lora_{side}.weight"].float() for side in "AB")
    x = torch.randn(3, a.shape[1], generator=torch.Generator().manual_seed(0))
    adapted, plain = (
        load(resolve(str(packed)), LoadOptions(device="cpu", dtype=torch.float32, adapter=folder)).model
        for folder in (tmp_path, None)
    )
    change = adapted.get_submodule(layer)(x) - plain.get_submodule(layer)(x)
    torch.testing.assert_close(change, 2.0 * x @ a.T @ b.T, rtol=1e-4, atol=1e-5)
    assert change.abs().max() > 0


def test_over_full_weights_an_adapter_is_added_into_them(packed: Path, trained: Path) -> None:
    source = packed.parent / "source"
    plain, adapted = (
        load(resolve(str(source)), LoadOptions(device="cpu", dtype=torch.float32, adapter=folder))
        for folder in (None, trained)
    )
    assert not adapter.is_beside(adapted.model)
    name = "model.decoder.layers.0.mlp.up_proj"
    change = adapted.model.get_submodule(name).weight - plain.model.get_submodule(name).weight
    a, b = adapter.read(trained).layers[name]
    torch.testing.assert_close(change, 2.0 * b @ a, rtol=1e-3, atol=1e-5)


def test_generate_runs_with_an_adapter(packed: Path, trained: Path, capsysbinary: Any) -> None:
    command = ["generate", "Who is 3?", "--model", str(packed), "--seed", "1", "--json", "--max-tokens", "32"]
    found = []
    for extra in ([], ["--adapter", str(trained)]):
        assert main([*command, *extra]) == 0
        found.append(json.loads(capsysbinary.readouterr().out)["token_ids"])
    assert found[0] != found[1]


def test_chat_loads_an_adapter_and_says_so(packed: Path, trained: Path) -> None:
    backend = WorkerBackend(Settings(model=ModelSettings(name=str(packed), adapter=str(trained), device="cpu")))
    try:
        facts = backend.load(None, lambda stage: None).result(120)
        assert any("adapter" in sentence for sentence in facts.notes)
        assert "-lora-" in facts.fingerprint
    finally:
        backend.close()


def test_what_is_no_fitting_adapter_is_refused(packed: Path, trained: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound):
        adapter.read(tmp_path)
    config = (trained / "adapter_config.json").read_text()
    (tmp_path / "adapter_config.json").write_text(config)
    with pytest.raises(CorruptCheckpoint):
        adapter.read(tmp_path)
    tensors = load_file(trained / "adapter_model.safetensors")
    save_file(
        {name.replace("mlp", "experts"): t for name, t in tensors.items()}, tmp_path / "adapter_model.safetensors"
    )
    with pytest.raises(ModelUnloadable, match="changes"):
        adapter.read(tmp_path)
    small = tiny_checkpoint(tmp_path / "small", hidden=64)
    with pytest.raises(ModelUnloadable, match="does not fit"):
        load(resolve(str(small)), LoadOptions(device="cpu", adapter=trained))


def test_an_adapter_learns_over_layers_of_every_quantized_format(packed: Path) -> None:
    model: Any = load(resolve(str(packed.parent / "source")), LoadOptions(device="cpu", dtype=torch.float32)).model
    part = model.model.decoder.layers[0].mlp
    part.up_proj = QuantizedLinear(nf4.quantize(part.up_proj.weight))
    Lora(model, 4, "source")
    made = pack(iter([Item((2, 5, 30, 31), (40, 41, 42, 6))] * 4), 2, 64, 0, 1, 16, None, random.Random(0))
    losses(PackedPass(model, recompute=True), made, torch.Generator().manual_seed(0)).total.backward()
    assert part.up_proj.lora_B["default"].weight.grad.abs().sum() > 0
    assert [name for name, p in model.named_parameters() if p.requires_grad and "lora" not in name] == []
