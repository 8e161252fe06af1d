"""Names become checkpoints, and a checkpoint says what it is."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from checkpoints import VOCAB, opened, tiny_checkpoint

from dgtui.errors import ModelNotFound, WrongArchitecture
from dgtui.model import catalog, selection
from dgtui.model.catalog import Checkpoint, listing, resolve
from dgtui.paths import embedded_dir


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny_checkpoint(tmp_path / "model", with_tokenizer=False)


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    return tiny_checkpoint(tmp_path / "sharded", with_tokenizer=False, max_shard_size="100KB")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty hub cache."""
    cache = tmp_path / "hub"
    cache.mkdir()
    monkeypatch.setenv("HF_HUB_CACHE", str(cache))
    return cache


def put_in_cache(cache: Path, name: str, commit: str = "c0ffee", *, main: bool = True) -> Path:
    """A checkpoint in the cache as huggingface_hub lays it out; returns its snapshot."""
    root = cache / f"models--{name.replace('/', '--')}"
    snapshot = tiny_checkpoint(root / "snapshots" / commit, with_tokenizer=False)
    if main:
        (root / "refs").mkdir(exist_ok=True)
        (root / "refs" / "main").write_text(commit)
    return snapshot


# Names


def test_embedded_is_the_checkpoint_that_ships() -> None:
    assert resolve("embedded") == Checkpoint("embedded", embedded_dir(), "embedded")


def test_a_folder_is_taken_by_its_path(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    assert resolve(str(folder)) == Checkpoint(str(folder), folder, "folder")
    assert resolve("model").source == "folder"
    assert resolve("./model").path.samefile(folder)


def test_a_path_may_begin_at_home(own_folders: Path) -> None:
    (own_folders / "weights").mkdir()
    assert resolve("~/weights").path == own_folders / "weights"


def test_a_hub_id_is_found_where_main_points_to(cache: Path) -> None:
    snapshot = put_in_cache(cache, catalog.REAL, "aaaa")
    other = put_in_cache(cache, catalog.REAL, "bbbb", main=False)
    os.utime(other, (4e9, 4e9))
    assert resolve(catalog.REAL) == Checkpoint(catalog.REAL, snapshot, "hub")


def test_without_main_the_newest_snapshot_is_taken(cache: Path) -> None:
    older = put_in_cache(cache, "someone/finetune", "aaaa", main=False)
    newer = put_in_cache(cache, "someone/finetune", "bbbb", main=False)
    os.utime(older, (1e9, 1e9))
    os.utime(newer, (2e9, 2e9))
    assert resolve("someone/finetune").path == newer


def test_the_cache_is_found_as_huggingface_hub_finds_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    assert catalog.hub_cache() == Path.home() / ".cache" / "huggingface" / "hub"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "a"))
    assert catalog.hub_cache() == tmp_path / "a" / "huggingface" / "hub"
    monkeypatch.setenv("HF_HOME", str(tmp_path / "b"))
    assert catalog.hub_cache() == tmp_path / "b" / "hub"
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "c"))
    assert catalog.hub_cache() == tmp_path / "c"


def test_a_missing_model_names_its_neighbours_and_what_to_do(cache: Path) -> None:
    put_in_cache(cache, "someone/finetune")
    with pytest.raises(ModelNotFound, match="someone/fintune") as caught:
        resolve("someone/fintune")
    assert "did you mean someone/finetune?" in caught.value.hint
    assert "dgtui model pull someone/fintune" in caught.value.hint
    with pytest.raises(ModelNotFound) as caught:
        resolve("finetune")
    assert "did you mean someone/finetune?" in caught.value.hint


@pytest.mark.parametrize("name", ["/nowhere/at/all", "./nowhere", "~nobody-of-that-name/x", "a\0b/c/d", "x" * 5000, ""])
def test_a_missing_folder_is_not_found(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelNotFound):
        resolve(name)


def test_hostile_names_cannot_drive_the_terminal(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound) as caught:
        resolve("evil\x1b]0;title\x07/\u202ename")
    assert caught.value.message.isprintable()
    hostile = tiny_checkpoint(tmp_path / "clear\x1b[2J\n", with_tokenizer=False)
    (hostile / "config.json").write_text('{"model_type": "\\u001b[2Jllama"}')
    with pytest.raises(WrongArchitecture) as caught_again:
        opened(hostile)
    assert caught_again.value.message.isprintable()


def test_nothing_asked_for_means_embedded_where_the_real_one_is_not_here(cache: Path) -> None:
    assert selection.select(None) == Checkpoint("embedded", embedded_dir(), "embedded")


@pytest.mark.parametrize(("fits", "name"), [(True, catalog.REAL), (False, "embedded")])
def test_nothing_asked_for_means_the_real_one_where_it_fits(
    fits: bool, name: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_in_cache(cache, catalog.REAL)
    monkeypatch.setattr(selection, "fits_gpu", lambda opened: fits)
    assert selection.select(None).name == name


def test_a_real_one_half_fetched_is_not_the_default(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = put_in_cache(cache, catalog.REAL)
    os.truncate(snapshot / "model.safetensors", 1000)
    monkeypatch.setattr(selection, "fits_gpu", lambda opened: True)
    assert selection.select(None).name == "embedded"


def test_the_listing_has_every_diffusion_gemma_and_nothing_else(cache: Path) -> None:
    put_in_cache(cache, "someone/finetune")
    put_in_cache(cache, catalog.REAL)
    (put_in_cache(cache, "else/llama") / "config.json").write_text('{"model_type": "llama"}')
    (put_in_cache(cache, "else/broken") / "config.json").write_text("{")
    (cache / "models--half--fetched").mkdir()
    names = [checkpoint.name for checkpoint in listing() if checkpoint.source == "hub"]
    assert names == [catalog.REAL, "someone/finetune"]


# What a checkpoint is


def test_a_description_comes_from_config_and_headers(tmp_path: Path) -> None:
    import torch

    folder = tiny_checkpoint(
        tmp_path / "m", layers=3, experts=6, hidden=32, canvas=48, with_tokenizer=False, dtype=torch.bfloat16
    )
    checkpoint = opened(folder)
    keys = ("num_hidden_layers", "num_experts", "hidden_size", "canvas_length", "vocab_size")
    assert [checkpoint.number(key) for key in keys] == [3, 6, 32, 48, VOCAB]
    assert checkpoint.dtype == "bfloat16"
    assert checkpoint.size == (folder / "model.safetensors").stat().st_size
    assert 0 <= checkpoint.size - 2 * checkpoint.parameters < 20_000  # the header


def test_shards_are_added_up(folder: Path, sharded: Path) -> None:
    one, many = opened(folder), opened(sharded)
    assert one.parameters == many.parameters
    assert len(many.shards) > 2


def test_the_fingerprint_tells_checkpoints_apart(folder: Path, tmp_path: Path) -> None:
    again = tiny_checkpoint(tmp_path / "again", with_tokenizer=False)
    other = tiny_checkpoint(tmp_path / "other", with_tokenizer=False, seed=1)
    prints = [opened(path).fingerprint for path in (folder, again, other)]
    assert prints[0] == prints[1] != prints[2]


def test_the_catalog_imports_nothing_heavy() -> None:
    code = (
        "import sys; from dgtui.model import catalog, open_checkpoint, selection; catalog.listing();"
        "open_checkpoint.open_checkpoint(selection.select(None));"
        "print(sorted({'torch', 'transformers', 'numpy', 'textual', 'huggingface_hub'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")
