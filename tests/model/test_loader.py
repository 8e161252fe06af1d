"""A checkpoint is loaded whole, and nothing that comes with it is run or fetched."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from checkpoints import VOCAB, logits, tiny_checkpoint, tiny_config, tiny_model, tokenizer

from dgtui.diffusion.job import SamplerSettings
from dgtui.errors import CorruptCheckpoint
from dgtui.model.catalog import resolve
from dgtui.model.loader import LoadedModel, Progress, load
from dgtui.model.parts import LoadOptions

WEIGHTS = "model.safetensors"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny_checkpoint(tmp_path / "model")


def load_folder(
    folder: Path, dtype: torch.dtype | None = None, progress: Callable[[Progress], None] | None = None
) -> LoadedModel:
    return load(resolve(str(folder)), LoadOptions(device="cpu", dtype=dtype), progress)


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


# What is loaded


def test_what_was_saved_is_what_is_loaded(folder: Path) -> None:
    loaded = load_folder(folder)
    assert torch.equal(logits(loaded.model), logits(tiny_model(tiny_config())))
    assert (loaded.device, loaded.dtype) == (torch.device("cpu"), torch.float32)
    assert loaded.tokenizer.vocab_size == VOCAB
    assert loaded.load_seconds > 0


@pytest.mark.parametrize("geometry", [{"layers": 5, "experts": 3}, {"hidden": 96, "canvas": 64}, {"vocab": 384}])
def test_other_geometries_are_loaded(geometry: dict[str, int], tmp_path: Path) -> None:
    loaded = load_folder(tiny_checkpoint(tmp_path / "m", **geometry))
    assert torch.equal(logits(loaded.model), logits(tiny_model(tiny_config(**geometry))))


def test_shards_are_loaded_like_one_file(folder: Path, tmp_path: Path) -> None:
    sharded = tiny_checkpoint(tmp_path / "sharded", max_shard_size="100KB")
    assert len(list(sharded.glob("*.safetensors"))) > 2
    assert torch.equal(logits(load_folder(sharded).model), logits(load_folder(folder).model))


def test_a_bfloat16_checkpoint_runs_in_float32_on_the_cpu(tmp_path: Path) -> None:
    folder = tiny_checkpoint(tmp_path / "m", dtype=torch.bfloat16)
    model = load_folder(folder).model
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert {p.dtype for p in load_folder(folder, dtype=torch.bfloat16).model.parameters()} == {torch.bfloat16}


def test_the_model_is_for_inference_and_lies_in_memory_once(folder: Path) -> None:
    model = load_folder(folder).model
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert not any(tensor.is_meta for tensor in (*model.parameters(), *model.buffers()))
    assert model.config._experts_implementation == "eager"
    decoder = dict(model.model.decoder.named_parameters())
    for name, parameter in model.model.encoder.language_model.named_parameters():
        assert parameter.data_ptr() == decoder[name].data_ptr(), name
    assert model.lm_head.weight.data_ptr() == decoder["embed_tokens.weight"].data_ptr()


def test_a_file_replaced_later_does_not_reach_the_model(folder: Path) -> None:
    model = load_folder(folder).model
    before = logits(model)
    size = (folder / WEIGHTS).stat().st_size
    with (folder / WEIGHTS).open("r+b") as file:  # in place: the same file that was mapped
        file.write(b"\xff" * size)
        file.truncate(8)
    assert torch.equal(logits(model), before)


def test_the_checkpoints_own_settings_come_along(folder: Path) -> None:
    loaded = load_folder(folder)
    turn_end = tokenizer().convert_tokens_to_ids("<turn|>")
    assert loaded.settings == SamplerSettings()
    assert loaded.stop_ids == {tokenizer().eos_token_id, turn_end}
    assert loaded.pad_id == tokenizer().pad_token_id
    assert type(loaded.model.generation_config).__name__ == "DiffusionGemmaGenerationConfig"
    edit(
        folder / "generation_config.json",
        max_denoising_steps=16,
        t_min=0.1,
        t_max=1,
        sampler_config={"entropy_bound": 0.5},
        stability_threshold=2,
        confidence_threshold=0.01,
        eos_token_id=7,
    )
    edit(folder / "config.json", proofread=4)
    again = load_folder(folder)
    assert again.settings == SamplerSettings(16, 0.1, 1, 0.5, 2, 0.01, 4)
    assert again.stop_ids == {7}
    assert again.model.generation_config.max_denoising_steps == 16


@pytest.mark.parametrize("value", [-1, 2.5, True, "4"])
def test_a_wrong_number_of_passages_to_proofread_is_named(folder: Path, value: object) -> None:
    edit(folder / "config.json", proofread=value)
    with pytest.raises(CorruptCheckpoint, match=r"config\.json: proofread cannot be"):
        load_folder(folder)


def test_without_a_generation_config_the_published_settings_hold(folder: Path) -> None:
    (folder / "generation_config.json").unlink()
    loaded = load_folder(folder)
    assert loaded.settings == SamplerSettings()
    assert loaded.stop_ids == {tokenizer().eos_token_id}


def test_null_means_the_published_setting_as_in_transformers(folder: Path) -> None:
    edit(folder / "generation_config.json", t_min=None, sampler_config=None, stability_threshold=None)
    assert load_folder(folder).settings == SamplerSettings()


def test_progress_ends_at_the_total(folder: Path) -> None:
    told: list[Progress] = []
    load_folder(folder, progress=told.append)
    assert [p.done_bytes for p in told] == sorted(p.done_bytes for p in told)
    assert told[-1].done_bytes == told[-1].total_bytes > 100_000
    assert list(dict.fromkeys(p.stage for p in told)) == ["reading the tokenizer", "reading"]


def test_progress_can_end_a_load(folder: Path) -> None:
    def interrupt(progress: Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load_folder(folder, progress=interrupt)


@pytest.mark.slow
def test_loading_is_silent(folder: Path) -> None:
    edit(folder / "config.json", unknown_key=1)
    code = (
        "from dgtui.model.catalog import resolve; from dgtui.model.loader import load;"
        f"from dgtui.model.parts import LoadOptions; load(resolve({str(folder)!r}), LoadOptions(device='cpu'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


# What is never run


def test_code_in_a_checkpoint_is_not_run(folder: Path, tmp_path: Path) -> None:
    proof = tmp_path / "proof"
    code = f"open({str(proof)!r}, 'w')\nclass Evil: pass\n"
    (folder / "evil.py").write_text(code)
    (folder / "custom_generate").mkdir()
    (folder / "custom_generate" / "generate.py").write_text(code + "def generate(*a, **k): pass\n")
    auto_map = {"AutoConfig": "evil.Evil", "AutoModel": "evil.Evil", "AutoTokenizer": ["evil.Evil", None]}
    config = json.loads((folder / "config.json").read_text())
    for part in (config, config["text_config"], config["vision_config"]):
        part["auto_map"] = auto_map
    config |= {"transformers_weights": "evil.bin", "fusion_config": {"x": True}, "attn_implementation": "evil/kernel"}
    (folder / "config.json").write_text(json.dumps(config))
    edit(folder / "tokenizer_config.json", auto_map=auto_map)
    load_folder(folder)
    assert not proof.exists()


def test_a_class_name_in_the_settings_is_not_called(folder: Path) -> None:
    sampler = {"_cls_name": "EntropyBoundSampler", "entropy_bound": 0.2}
    edit(folder / "generation_config.json", sampler_config=sampler)
    loaded = load_folder(folder)
    assert type(loaded.model.generation_config.sampler_config).__name__ == "EntropyBoundSamplerConfig"


def test_other_weights_beside_are_not_looked_at(folder: Path) -> None:
    for name in ("pytorch_model.bin", "shard-00001-model-00001-of-00001.safetensors", ".metadata", "adapter_model.bin"):
        (folder / name).write_bytes(b"\x80\x04 not even a pickle")
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "someone/else"}')
    assert torch.equal(logits(load_folder(folder).model), logits(tiny_model(tiny_config())))
