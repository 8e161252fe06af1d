"""`dgtui model quantize`, and the options that say how a model is held: from the command line to what runs."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import tiny_checkpoint

from dgtui.model import devices, nf4


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("source") / "model", hidden=128)


@pytest.fixture
def little(source: Path, monkeypatch: pytest.MonkeyPatch, dgtui: Any) -> int:
    """A machine on which the model fits in 4 bit alone; how many bytes it has."""
    memory = dgtui("model", "info", source, "--json", "--context", "300").json["memory"]
    available: int = memory["total_bytes"] - memory["weights_bytes"]["experts"] // 2
    monkeypatch.setattr(devices, "available", lambda device: available)
    return available


def test_a_checkpoint_is_quantized_and_runs(dgtui: Any, source: Path, tmp_path: Path) -> None:
    done = dgtui("model", "quantize", source, tmp_path / "packed", "--double-quant", "--no-vision")
    assert (done.code, done.out) == (0, f"{tmp_path / 'packed'}\n".encode())
    assert "became" in done.err
    about = json.loads((tmp_path / "packed" / "config.json").read_text())["quantization_config"]
    assert (about["double_quant"], about["vision"]) == (True, False)
    info = dgtui("model", "info", tmp_path / "packed", "--json").json
    whole = dgtui("model", "info", source, "--json").json
    assert info["dtype"] == "NF4 (8-bit scales)"
    for part, count in whole["parts"].items():
        assert info["parts"][part] == (0 if part == "vision" else count), part
    run = dgtui("generate", "Hello", "--model", tmp_path / "packed", "--seed", "1", "--json", "--steps", "2")
    assert run.code == 0 and run.json["token_ids"]


@pytest.mark.parametrize(
    ("missing", "target", "code", "says"),
    [
        ("nothing/here", "packed", 3, "no model nothing/here"),
        ("", "taken", 2, "already exists"),
        ("", "file/below", 1, "cannot be created"),
    ],
)
def test_what_cannot_be_quantized_says_why(
    dgtui: Any, source: Path, missing: str, target: str, code: int, says: str, tmp_path: Path
) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "file").write_text("")
    done = dgtui("model", "quantize", missing or source, tmp_path / target)
    assert done.code == code
    assert says in done.err and done.out == b""


def test_info_prints_the_plan(dgtui: Any, source: Path, little: int) -> None:
    shown = dgtui("model", "info", source, "--context", "300").out.decode()
    assert "held in 4 bit: otherwise it would take" in shown
    assert "of weights (NF4, float32)" in shown
    assert "for 300 tokens of context" in shown
    refused = dgtui("model", "info", source, "--gpu-memory", "10kB")
    assert refused.code == 0 and b"has only 0 MB free" in refused.out


def test_what_was_packed_is_kept_listed_and_used_again(dgtui: Any, source: Path, little: int) -> None:
    options = ("--model", source, "--seed", "1", "--steps", "2", "--context", "300", "--json")
    first = dgtui("generate", "Hello", *options)
    assert first.code == 0
    assert "held in 4 bit" in first.err and "a 4-bit copy is kept in" in first.err
    (row,) = [row for row in dgtui("model", "list", "--json").json["models"] if row["name"].startswith("nf4/")]
    assert row["dtype"] == "NF4" and row["problem"] is None
    again = dgtui("generate", "Hello", *options)
    assert "a 4-bit copy is kept" not in again.err
    assert again.json["token_ids"] == first.json["token_ids"]
    named = dgtui("generate", "Hello", "--model", row["name"], *options[2:])
    assert named.json["token_ids"] == first.json["token_ids"]


def test_no_keep_keeps_nothing(dgtui: Any, source: Path, little: int) -> None:
    done = dgtui("generate", "Hello", "--model", source, "--steps", "2", "--context", "300", "--no-keep")
    assert done.code == 0 and "held in 4 bit" in done.err and "kept" not in done.err
    assert not any(row["name"].startswith("nf4/") for row in dgtui("model", "list", "--json").json["models"])


def test_a_model_that_does_not_fit_exits_with_out_of_memory(dgtui: Any, source: Path) -> None:
    done = dgtui("generate", "Hello", "--model", source, "--gpu-memory", "100kB")
    assert done.code == 5
    assert ("needs" in done.err and "--context" in done.err) or "--model embedded" in done.err


def test_memory_that_runs_out_while_packing_is_exit_5(
    dgtui: Any, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*given: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 256.00 MiB.")

    monkeypatch.setattr(nf4.Quantizing, "add", full)
    done = dgtui("model", "quantize", source, tmp_path / "packed")
    assert (done.code, done.out) == (5, b"")
    assert "out of memory" in done.err and "--device cpu" in done.err
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


def test_doctor_compares_the_checksums_of_a_4_bit_folder(
    dgtui: Any, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert dgtui("model", "quantize", source, tmp_path / "packed").code == 0
    monkeypatch.setenv("DGTUI_MODEL", str(tmp_path / "packed"))
    assert "is unchanged" in dgtui("doctor").out.decode()
    data = bytearray((tmp_path / "packed" / "model.safetensors").read_bytes())
    data[-100] ^= 1
    (tmp_path / "packed" / "model.safetensors").write_bytes(data)
    done = dgtui("doctor")
    assert done.code == 1 and "model.safetensors has changed" in done.out.decode()
