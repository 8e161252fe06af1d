"""A checkpoint in NF4 on disk: what was packed is what is loaded, whole or not at all, and every byte is checked."""

import errno
import fcntl
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import logits, opened, tiny_checkpoint
from safetensors import safe_open

from dgtui.errors import (
    CorruptCheckpoint,
    DgtuiError,
    ModelNotFound,
    ModelUnloadable,
    OutOfMemory,
    RunFailed,
    UsageError,
)
from dgtui.model import bnb, devices, foreign, nf4, quantized
from dgtui.model.catalog import resolve
from dgtui.model.formats import NF4, NF4_DOUBLE
from dgtui.model.loader import LoadedModel, load
from dgtui.model.parts import LoadOptions, can_be_packed, part_of
from dgtui.model.quantized_weight import QuantizedWeight
from dgtui.model.weights import Progress, _pinned

SHAPE: dict[str, Any] = {"hidden": 128, "max_shard_size": "200KB"}
"""Wide enough that attention, dense MLP and experts are packed: multiples of 64."""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("source") / "model", **SHAPE)


@pytest.fixture
def folder(source: Path, tmp_path: Path) -> Path:
    quantized.quantize(opened(str(source)), tmp_path / "packed")
    return tmp_path / "packed"


def read(folder: Path, **options: Any) -> LoadedModel:
    return load(resolve(str(folder)), LoadOptions(device="cpu", **options))


def small(monkeypatch: pytest.MonkeyPatch, folder: Path, **options: Any) -> LoadedModel:
    """A model loaded on a machine where it fits in 4 bit alone."""
    whole = read(folder, context=512).plan.estimate
    experts = whole.weights["experts"]
    monkeypatch.setattr(devices, "available", lambda device: whole.total - experts // 2)
    return load(resolve(str(folder)), LoadOptions(device="cpu", context=512, **options))


def bytes_by_part(model: Any) -> dict[str, int]:
    """What lies in memory, each storage once, by the part that the first name it is found under belongs to."""
    seen: set[int] = set()
    counts: dict[str, int] = {}
    tensors = [
        (name, tensor) for side in ("decoder", "encoder") for name, tensor in _all(getattr(model.model, side), side)
    ]
    for name, tensor in [*tensors, ("decoder.embed_tokens.weight", model.lm_head.weight)]:
        if tensor.untyped_storage().data_ptr() not in seen:
            seen.add(tensor.untyped_storage().data_ptr())
            counts[part_of(name)] = counts.get(part_of(name), 0) + tensor.untyped_storage().nbytes()
    return counts


def _all(module: torch.nn.Module, prefix: str) -> Any:
    """Every tensor, also those of bitsandbytes' layers, which keep their scales aside."""
    for path, child in module.named_modules(prefix=prefix):
        for name, tensor in (*child._parameters.items(), *child._buffers.items()):
            if tensor is not None:
                yield f"{path}.{name}", tensor
        state = getattr(child, "quant_state", None)
        if state is not None:
            yield f"{path}.weight.absmax", state.absmax
            if state.nested:
                yield f"{path}.weight.absmax_scale", state.state2.absmax


# What is loaded


@pytest.mark.parametrize("double", [False, True])
def test_what_was_packed_to_disk_is_what_is_packed_while_loading(
    double: bool, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quantized.quantize(opened(str(source)), tmp_path / "packed", double=double)
    stored = read(tmp_path / "packed")
    form = NF4_DOUBLE if double else NF4
    assert stored.plan.formats == (form.name,)
    full = read(source)
    for name, module in stored.model.model.decoder.named_modules():
        if isinstance(module, QuantizedWeight):
            expected = nf4.quantize(full.model.get_parameter(f"model.decoder.{name}"), form)
            assert torch.equal(module.packed, expected.packed), name
            assert torch.equal(module.scales, expected.scales), name
    if not double:
        assert torch.equal(logits(small(monkeypatch, source).model), logits(stored.model))


def test_packed_weights_compute_what_their_values_do(source: Path, folder: Path) -> None:
    """The logits are those of the full model with every packed weight replaced by the value it stands for."""
    full, packed = read(source).model, read(folder).model
    for name, weight in full.model.decoder.named_parameters(prefix="model.decoder"):
        if can_be_packed(name, tuple(weight.shape)):
            weight.data.copy_(nf4.quantize(weight.data).dequantize(torch.float32))
    torch.testing.assert_close(logits(packed), logits(full), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("hidden", [48, 64])
def test_experts_whose_rows_are_no_blocks_run_as_they_are(hidden: int, tmp_path: Path) -> None:
    """No rows of theirs are, or half of them."""
    quantized.quantize(opened(str(tiny_checkpoint(tmp_path / "model", hidden=hidden))), tmp_path / "packed")
    full, packed = read(tmp_path / "model").model, read(tmp_path / "packed").model
    assert type(packed.model.decoder.layers[0].experts) is type(full.model.decoder.layers[0].experts)
    assert torch.isfinite(logits(packed)).all()


def test_without_bitsandbytes_it_is_the_same_model(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_it = read(folder).model
    assert type(with_it.model.decoder.layers[0].mlp.up_proj).__name__ == "Linear4bit"
    monkeypatch.setattr(bnb, "native", lambda kind: False)
    without = read(folder).model
    assert type(without.model.decoder.layers[0].mlp.up_proj).__name__ == "QuantizedLinear"
    torch.testing.assert_close(logits(without), logits(with_it), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("double", [False, True])
def test_every_byte_is_there_once_and_in_4_bit_where_it_should(double: bool, source: Path, tmp_path: Path) -> None:
    quantized.quantize(opened(str(source)), tmp_path / "packed", double=double)
    loaded = read(tmp_path / "packed")
    found, planned = bytes_by_part(loaded.model), loaded.plan.estimate.weights
    for part in ("experts", "attention", "dense MLP", "router", "self-conditioning", "vision"):
        assert found[part] == pytest.approx(planned[part], abs=400), part  # small constants come on top
    assert found["embedding"] == pytest.approx(planned["embedding"], abs=400)


def test_the_count_sees_what_is_there_twice_or_was_left_unpacked(source: Path, folder: Path) -> None:
    import copy

    loaded = read(folder).model
    right = bytes_by_part(loaded)
    layer: Any = loaded.model.encoder.language_model.layers[0]
    shared, layer.experts = layer.experts, copy.deepcopy(layer.experts)
    assert bytes_by_part(loaded)["experts"] > 1.4 * right["experts"]
    layer.experts = shared
    loaded.model.decoder.layers[0].mlp.up_proj = read(source).model.model.decoder.layers[0].mlp.up_proj
    assert bytes_by_part(loaded)["dense MLP"] > 1.4 * right["dense MLP"]


def test_encoder_and_decoder_are_the_same_modules(folder: Path) -> None:
    model = read(folder).model.model
    for own, shared in zip(model.encoder.language_model.layers, model.decoder.layers, strict=True):
        assert own.experts is shared.experts and own.mlp is shared.mlp and own.router is shared.router
        assert own.self_attn.q_proj is shared.self_attn.q_proj
        assert own.layer_scalar is not shared.layer_scalar  # the one thing that each has for itself


@pytest.mark.slow
def test_a_folder_takes_less_than_a_third_of_what_is_packed(tmp_path: Path) -> None:
    """With the key layout of the real checkpoint: 128 experts, widths that 64 divides and 128 does not, shards."""
    source = tiny_checkpoint(
        tmp_path / "m", hidden=384, experts=128, dtype=torch.bfloat16, max_shard_size="20MB", with_tokenizer=False
    )
    assert len(list(source.glob("*.safetensors"))) > 2
    sizes = {}
    for double in (False, True):
        target = tmp_path / f"packed-{double}"
        quantized.quantize(opened(str(source)), target, double=double)
        for folder in (source, target):
            sizes[folder.name] = sum(
                file.get_tensor(name).nbytes
                for path in folder.glob("*.safetensors")
                for file in [safe_open(path, framework="pt")]
                for name in file.keys()  # noqa: SIM118
                if part_of(name) in ("experts", "attention", "dense MLP") and "norm" not in name
            )
    assert sizes["packed-False"] <= 0.31 * sizes["m"]
    assert sizes["packed-True"] <= 0.26 * sizes["m"]


def test_the_vision_tower_can_be_left_out(source: Path, folder: Path, tmp_path: Path) -> None:
    quantized.quantize(opened(str(source)), tmp_path / "blind", vision=False)
    blind = read(tmp_path / "blind")
    assert not blind.plan.packing.vision
    assert blind.model.model.encoder.vision_tower is None
    assert torch.equal(logits(blind.model), logits(read(folder).model))
    assert read(folder, vision=False).model.model.encoder.vision_tower is None
    with pytest.raises(ModelUnloadable, match="without its vision tower"):
        read(tmp_path / "blind", vision=True)


def test_transformers_itself_loads_the_folder(folder: Path) -> None:
    from transformers import DiffusionGemmaForBlockDiffusion

    import dgtui.model.hf_quantizer  # noqa: F401

    theirs: Any = DiffusionGemmaForBlockDiffusion.from_pretrained(folder, dtype=torch.float32)
    torch.testing.assert_close(logits(theirs.eval()), logits(read(folder).model), rtol=1e-4, atol=1e-4)
    assert theirs.model.encoder.language_model.layers[0].experts is theirs.model.decoder.layers[0].experts


def test_the_folder_says_what_it_is(source: Path, folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    about = config.pop("quantization_config")
    assert config == json.loads((source / "config.json").read_text())
    assert about["quant_method"] == quantized.METHOD and about["bits"] == 4 and about["double_quant"] is False
    assert about["source"]["fingerprint"] == read(source).fingerprint
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json", "chat_template.jinja"):
        assert (folder / name).read_bytes() == (source / name).read_bytes()
    for line in (folder / quantized.SUMS).read_text().splitlines():
        checksum, name = line.split("  ")
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == checksum
    assert not list(folder.parent.glob(".*"))


def test_a_packed_folder_is_not_packed_again(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelUnloadable, match="already quantized"):
        quantized.quantize(opened(str(folder)), tmp_path / "again")


# What is refused


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-100] ^= 1
    path.write_bytes(data)


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_about(folder: Path, **changes: object) -> None:
    about = json.loads((folder / "config.json").read_text())["quantization_config"]
    edit(folder / "config.json", quantization_config=about | changes)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda f: flip(f / "model.safetensors"), r"model\.safetensors has changed"),
        (lambda f: flip(f / "tokenizer.json"), r"tokenizer\.json has changed"),
        (lambda f: (f / "tokenizer_config.json").unlink(), r"tokenizer_config\.json is missing"),
        (lambda f: edit(f / "config.json", canvas_length=64), r"config\.json has changed"),
        (lambda f: (f / quantized.SUMS).unlink(), f"{quantized.SUMS} cannot be read"),
        (lambda f: (f / quantized.SUMS).write_text("x"), f"{quantized.SUMS} does not list"),
    ],
)
def test_a_changed_byte_is_found_where_somebody_asks_for_it(
    damage: Callable[[Path], object], says: str, folder: Path
) -> None:
    quantized.verify(opened(folder))
    damage(folder)
    with pytest.raises(CorruptCheckpoint, match=says):
        quantized.verify(opened(folder))


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda f: (f / "model.safetensors").unlink(), "has no weights"),
        (lambda f: (f / "tokenizer_config.json").unlink(), r"tokenizer_config\.json"),
        (lambda f: edit_about(f, version=2), "version 2"),
        (lambda f: edit_about(f, double_quant="yes"), "is not valid"),
        (lambda f: edit_about(f, double_quant=True), "is incomplete"),
    ],
)
def test_a_damaged_folder_is_refused_and_the_file_named(
    damage: Callable[[Path], object], says: str, folder: Path
) -> None:
    damage(folder)
    with pytest.raises(CorruptCheckpoint, match=says):
        read(folder)


def test_a_missing_shard_is_named(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantized, "_SHARD", 100_000)
    quantized.quantize(opened(str(source)), tmp_path / "packed")
    shards = sorted((tmp_path / "packed").glob("*.safetensors"))
    assert len(shards) > 2
    assert torch.isfinite(logits(read(tmp_path / "packed").model)).all()
    shards[1].unlink()
    with pytest.raises(CorruptCheckpoint, match=shards[1].name):
        read(tmp_path / "packed")


def test_the_config_of_another_model_is_refused(folder: Path, tmp_path: Path) -> None:
    other = tiny_checkpoint(tmp_path / "other", hidden=192, with_tokenizer=False)
    about = json.loads((folder / "config.json").read_text())["quantization_config"]
    config = json.loads((other / "config.json").read_text()) | {"quantization_config": about}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(CorruptCheckpoint, match=r"does not fit config\.json|do not have the shapes"):
        read(folder)


def test_sampler_settings_may_be_edited(folder: Path) -> None:
    edit(folder / "generation_config.json", t_max=0.9)
    assert read(folder).settings.t_max == 0.9


@pytest.mark.parametrize(
    ("about", "says"),
    [
        ({"quant_method": "gptq"}, "quantized with gptq"),
        ({"quant_method": "auto-round"}, "quantized with auto-round"),
        ("4 bit", "an unnamed method"),
    ],
)
def test_what_another_program_quantized_is_refused_by_name(about: object, says: str, tmp_path: Path) -> None:
    folder = tiny_checkpoint(tmp_path / "m")
    edit(folder / "config.json", quantization_config=about)
    with pytest.raises(ModelUnloadable, match=says) as caught:
        read(folder)
    assert caught.value.hint


def test_what_transformers_needs_beside_bitsandbytes_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foreign, "find_spec", lambda name: None if name == "accelerate" else name)
    folder = tiny_checkpoint(tmp_path / "m")
    edit(folder / "config.json", quantization_config={"quant_method": "bitsandbytes"})
    with pytest.raises(ModelUnloadable, match="needs accelerate"):
        read(folder)


def test_what_bitsandbytes_packed_through_transformers_is_loaded(source: Path, tmp_path: Path) -> None:
    """It packs the vision tower alone: transformers leaves tied weights as they are, and most are tied."""
    from transformers import BitsAndBytesConfig, DiffusionGemmaForBlockDiffusion

    config: Any = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32)
    theirs: Any = DiffusionGemmaForBlockDiffusion.from_pretrained(
        source, quantization_config=config, dtype=torch.float32, device_map={"": "cpu"}
    )
    theirs.save_pretrained(tmp_path / "theirs")
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json", "chat_template.jinja"):
        shutil.copyfile(source / name, tmp_path / "theirs" / name)
    ours = read(tmp_path / "theirs")
    assert torch.equal(logits(ours.model), logits(theirs))
    tower: Any = ours.model.model.encoder.vision_tower
    assert any(type(module).__name__ == "Linear4bit" for module in tower.modules())


# Whole or not at all


def nothing_is_left(target: Path) -> None:
    assert not target.exists()
    assert not list(target.parent.glob(f".{target.name}*"))


def test_an_interrupted_run_leaves_nothing(source: Path, tmp_path: Path) -> None:
    def interrupt(progress: Progress) -> None:
        if progress.done_bytes > progress.total_bytes / 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        quantized.quantize(opened(str(source)), tmp_path / "packed", progress=interrupt)
    nothing_is_left(tmp_path / "packed")


def test_a_full_disk_is_said_and_leaves_nothing(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*given: Any, **options: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(quantized, "save_file", full)
    with pytest.raises(RunFailed, match="No space left"):
        quantized.quantize(opened(str(source)), tmp_path / "packed")
    nothing_is_left(tmp_path / "packed")


def test_too_little_room_is_said_before_anything_is_read(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantized, "room", lambda folder: 1000)
    with pytest.raises(RunFailed, match="has 0 MB free"):
        quantized.quantize(opened(str(source)), tmp_path / "packed")
    nothing_is_left(tmp_path / "packed")


def test_what_is_there_already_is_left_alone(source: Path, tmp_path: Path) -> None:
    (tmp_path / "packed").mkdir()
    (tmp_path / "packed" / "mine").write_text("precious")
    with pytest.raises(UsageError, match="already exists"):
        quantized.quantize(opened(str(source)), tmp_path / "packed")
    assert (tmp_path / "packed" / "mine").read_text() == "precious"


def test_two_at_once_do_not_mix(source: Path, tmp_path: Path) -> None:
    partial = tmp_path / ".packed.partial"
    partial.mkdir()
    handle = os.open(partial, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    with pytest.raises(RunFailed, match="another dgtui"):
        quantized.quantize(opened(str(source)), tmp_path / "packed")
    os.close(handle)
    quantized.quantize(opened(str(source)), tmp_path / "packed")
    assert read(tmp_path / "packed").plan.formats == ("NF4",)


def test_a_folder_that_looks_whole_is_not_read_before_it_has_its_name(source: Path, tmp_path: Path) -> None:
    quantized.quantize(opened(str(source)), tmp_path / "packed")
    (tmp_path / "packed").rename(tmp_path / ".packed.partial")
    with pytest.raises(CorruptCheckpoint, match="not written to the end"):
        opened(str(tmp_path / ".packed.partial"))


@pytest.mark.slow
def test_a_kill_at_any_point_leaves_nothing_that_loads(source: Path, tmp_path: Path) -> None:
    """Killed at random moments over the whole run, by a program that imports once and forks for every attempt."""
    code = (
        "import os, signal, sys, time\n"
        "from pathlib import Path\n"
        "from dgtui.model import quantized\n"
        "from dgtui.model.catalog import resolve\n"
        "from dgtui.model.open_checkpoint import open_checkpoint\n"
        "quantized._SHARD = 60_000\n"
        "checkpoint = open_checkpoint(resolve(sys.argv[1]))\n"
        "import transformers.models.diffusion_gemma.modeling_diffusion_gemma\n"
        "for line in sys.stdin:\n"
        "    if not (child := os.fork()):\n"
        "        quantized.quantize(checkpoint, Path(sys.argv[2]), progress=lambda at: time.sleep(0.002))\n"
        "        signal.pause()\n"
        "    time.sleep(float(line))\n"
        "    os.kill(child, signal.SIGKILL)\n"
        "    os.waitpid(child, 0)\n"
        "    print('killed', flush=True)\n"
    )
    place = tmp_path / "place"
    place.mkdir()
    target = place / "packed"
    draw = random.Random(7)
    finished = 0
    killer = subprocess.Popen(
        [sys.executable, "-c", code, str(source), str(target)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert killer.stdin is not None and killer.stdout is not None
    for attempt in range(12):
        killer.stdin.write(f"{draw.uniform(0, 0.8) if attempt else 0}\n")
        killer.stdin.flush()
        assert killer.stdout.readline() == "killed\n"
        if target.exists():  # renamed before the kill: then all of it is there
            finished += 1
            assert torch.isfinite(logits(read(target).model)).all()
            for path in target.iterdir():
                path.unlink()
            target.rmdir()
            continue
        for left in place.iterdir():
            with pytest.raises(DgtuiError):
                opened(left)
        with pytest.raises(ModelNotFound):
            resolve(str(target))
    killer.communicate()
    assert finished < 12
    quantized.quantize(opened(str(source)), place / "packed")
    assert [path.name for path in place.iterdir()] == ["packed"]


# The copy that is kept


def test_the_first_load_keeps_a_copy_and_the_next_one_reads_it(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = small(monkeypatch, source, cache=tmp_path / "cache")
    (kept,) = (tmp_path / "cache" / "nf4").iterdir()
    assert "4 bit" in first.notes[0] and str(kept) in first.notes[1]
    monkeypatch.setattr(nf4, "pack", None)  # nothing is packed any more
    second = load(first.checkpoint, LoadOptions(device="cpu", context=512, cache=tmp_path / "cache"))
    assert torch.equal(logits(first.model), logits(second.model))
    assert second.fingerprint == first.fingerprint
    assert len(second.notes) == 1


def test_a_damaged_copy_is_made_again(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = small(monkeypatch, source, cache=tmp_path / "cache")
    (kept,) = (tmp_path / "cache" / "nf4").iterdir()
    os.truncate(kept / "model.safetensors", 1000)
    second = load(first.checkpoint, LoadOptions(device="cpu", context=512, cache=tmp_path / "cache"))
    assert any("damaged" in note and "rebuilt" in note for note in second.notes)
    quantized.verify(opened(kept))
    assert torch.equal(logits(first.model), logits(second.model))


def test_no_copy_is_kept_where_nobody_wants_one_or_there_is_no_room(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(small(monkeypatch, source).notes) == 1
    monkeypatch.setattr(quantized, "room", lambda folder: 1_000_000_000)
    found = load(resolve(str(source)), LoadOptions(device="cpu", context=512, cache=tmp_path / "cache"))
    assert "no 4-bit copy is kept" in found.notes[1]
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("at", ["while it is written", "at its end"])
def test_a_disk_that_fills_up_ends_the_copy_and_not_the_load(
    at: str, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = small(monkeypatch, source)

    def full(*given: Any, **named: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    left: list[list[Path]] = []

    def seen(progress: Progress) -> None:
        if progress.total_bytes:  # weights are read
            left.append([*(tmp_path / "cache" / "nf4").iterdir()])

    if at == "at its end":
        monkeypatch.setattr(quantized, "_sync", full)
    else:
        monkeypatch.setattr(quantized, "_SHARD", 1)
        monkeypatch.setattr(quantized, "save_file", full)
    second = load(first.checkpoint, LoadOptions(device="cpu", context=512, cache=tmp_path / "cache"), seen)
    assert "no 4-bit copy is kept" in second.notes[1] and "No space left" in second.notes[1]
    assert len(second.notes) == 2
    assert torch.equal(logits(first.model), logits(second.model))
    assert (left[-1] == []) == (at == "while it is written")  # room is made at once
    assert [*(tmp_path / "cache" / "nf4").iterdir()] == []


def test_memory_that_cannot_be_held_in_place_is_used_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(tensor: torch.Tensor) -> torch.Tensor:
        raise torch.AcceleratorError("CUDA error: out of memory")

    monkeypatch.setattr(torch.Tensor, "pin_memory", fail)
    tensor = torch.arange(3)
    assert _pinned(tensor) is tensor


def test_a_cache_that_cannot_be_made_costs_only_the_copy(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    found = small(monkeypatch, source, cache=tmp_path / "file" / "cache")
    assert "no 4-bit copy is kept: the folder" in found.notes[1]


def test_two_first_loads_at_once_both_load_and_one_keeps(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = small(monkeypatch, source)
    checkpoint, cache = resolve(str(source)), tmp_path / "cache"
    kept = quantized.copy_of(opened(source), first.plan.packing, cache)
    (kept.parent / f".{kept.name}.partial").mkdir(parents=True)
    handle = os.open(kept.parent / f".{kept.name}.partial", os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    second = load(checkpoint, LoadOptions(device="cpu", context=512, cache=cache))
    os.close(handle)
    assert "no 4-bit copy is kept: another dgtui" in second.notes[1]
    assert torch.equal(logits(second.model), logits(first.model))
    assert not kept.exists()


def test_memory_that_runs_out_says_what_was_needed(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "available", lambda device: 100_000)
    with pytest.raises(OutOfMemory, match="in 4 bit, with scales in 8 bit, without the vision tower"):
        read(source)
