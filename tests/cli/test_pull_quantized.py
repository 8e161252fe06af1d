"""Published quantized checkpoints are looked at before they are downloaded, and run once they are here."""

import json
import shutil
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from checkpoints import tiny_checkpoint
from fake_hub import FakeHub, repository
from huggingface_hub import constants
from layouts import LAYOUTS, publish

from dgtui.model.published import PUBLISHED, recommended

NAME = "someone/quantized"
GGUF = ("model-Q4_K_M.gguf", "model-Q8_0.gguf")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("source") / "model", hidden=256)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHub:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    server = FakeHub({})
    huggingface_hub.set_client_factory(server.client)
    huggingface_hub.close_session()
    return server


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_published_layout_is_planned_pulled_and_run(
    layout: str, dgtui: Any, server: FakeHub, source: Path, tmp_path: Path
) -> None:
    publish(source, tmp_path / "m", layout)
    server.repos[NAME] = repository(tmp_path / "m")
    done = dgtui("model", "pull", NAME)
    assert done.code == 0, done.err
    assert "it fits" in done.err.splitlines()[0]
    run = dgtui("generate", "Hello", "--model", NAME, "--steps", "2", "--max-tokens", "8", "--seed", "1", "--json")
    assert run.code == 0, run.err
    info = dgtui("model", "info", NAME).out.decode()
    assert "it fits" in info and layout.split()[-1].replace("W4A16", "INT4") in info


def test_a_gguf_file_of_several_is_named_pulled_and_run(
    dgtui: Any, server: FakeHub, source: Path, tmp_path: Path
) -> None:
    pytest.importorskip("gguf")
    from gguf_files import write

    write(source, tmp_path / "m.gguf", {"gate_up_exps": "Q4_K", "down_exps.weight": "Q8_0"}, tokenizer=False)
    beside = {name: (source / name).read_bytes() for name in ("tokenizer.json", "tokenizer_config.json")}
    beside["chat_template.jinja"] = (source / "chat_template.jinja").read_bytes()
    content = (tmp_path / "m.gguf").read_bytes()
    server.repos[NAME] = beside | dict.fromkeys(GGUF, content) | {"mmproj.gguf": b"GGUF", "README.md": b"#"}
    several = dgtui("model", "pull", NAME)
    assert several.code == 2 and all(name in several.err for name in GGUF)
    done = dgtui("model", "pull", NAME, "--file", GGUF[0])
    assert done.code == 0, done.err
    assert server.fetched() == {GGUF[0], *beside}
    path = done.out.decode().strip()
    run = dgtui("generate", "Hello", "--model", path, "--steps", "2", "--max-tokens", "8", "--seed", "1", "--json")
    assert run.code == 0, run.err
    assert dgtui("generate", "Hello", "--model", NAME, "--steps", "1", "--max-tokens", "8").code == 0
    assert any(row["name"] == NAME for row in dgtui("model", "list", "--json").json["models"])


CONFIG = {"model_type": "diffusion_gemma", "text_config": {}}
BIG = b"\0" * 3_000_000


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"adapter_config.json": b"{}", "adapter_model.safetensors": BIG}, "a LoRA adapter"),
        ({"model_index.json": b"{}", "unet.safetensors": BIG}, "the diffusers library"),
        (
            {"config.json": CONFIG | {"quantization": {"group_size": 64, "bits": 4}}, "model.safetensors": BIG},
            "quantized by MLX",
        ),
        (
            {"config.json": CONFIG | {"quantization_config": {"quant_method": "auto-round"}}, "model.safetensors": BIG},
            "quantized with auto-round",
        ),
        (
            {"config.json": CONFIG | {"quantization_config": {"quant_method": "quark"}}, "model.safetensors": BIG},
            "quantized with quark",
        ),
        ({"config.json": {"model_type": "gemma4"}, "model.safetensors": BIG}, "a gemma4 model"),
        ({"config.json": CONFIG, "model.safetensors": BIG}, "header is not valid|cut short|damaged"),
        ({"m.gguf": b"GGUF" + BIG}, "not a GGUF file"),
    ],
)
def test_what_cannot_be_loaded_costs_less_than_a_megabyte(
    files: dict[str, Any], says: str, dgtui: Any, server: FakeHub
) -> None:
    server.repos[NAME] = {
        name: json.dumps(content).encode() if isinstance(content, dict) else content for name, content in files.items()
    }
    done = dgtui("model", "pull", NAME)
    assert done.code == 3
    assert any(part in done.err for part in says.split("|")), done.err
    assert server.sent + server.peeked < 1_000_000


def test_a_folder_that_cannot_be_loaded_is_never_said_to_fit(dgtui: Any, source: Path, tmp_path: Path) -> None:
    shutil.copytree(source, tmp_path / "m")
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    (tmp_path / "m" / "config.json").write_text(json.dumps(config | {"quantization_config": {"quant_method": "gptq"}}))
    done = dgtui("model", "info", tmp_path / "m")
    assert done.code == 3 and b"fits" not in done.out
    assert "quantized with gptq" in done.err


def test_the_choice_is_shown_with_what_suits_this_machine(dgtui: Any) -> None:
    done = dgtui("model", "pull", "--choices")
    assert done.code == 0
    assert all(own.name in done.out.decode() for own in PUBLISHED)
    assert "are free on cpu" in done.err


@pytest.mark.parametrize(
    ("free", "cpu", "stored"),
    [
        (80, False, "NVFP4 experts"),
        (21, False, "NVFP4 experts"),
        (17.8, False, "GGUF Q4_K_M"),
        (12, False, None),
        (28, True, "NVFP4 experts"),
        (21, True, "GGUF Q4_K_M"),
        (17.8, True, None),
    ],
)
def test_a_machine_is_recommended_what_it_can_hold(free: float, cpu: bool, stored: str | None) -> None:
    best = recommended(int(free * 1e9), cpu)
    assert (best and best.stored) == stored
