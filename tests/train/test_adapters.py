"""The recipe of the adapters: what is trained, what ships, and what it leaves alone."""

import random
from pathlib import Path

import pytest
import torch
from checkpoints import opened

from dgtui.model import adapter
from dgtui.model.catalog import EDITS, EMBEDDED, TALES
from dgtui.model.loader import LoadedModel, LoadOptions, load
from dgtui.paths import embedded_dir
from dgtui.train import adapters
from dgtui.train.lessons import edits
from dgtui.train.recipe import Recipe, run

RATE = 20.0
"""Matrices of two usual steps are too small for 8 bits."""


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    return load(opened(EMBEDDED), LoadOptions(device="cpu"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an adapter after two steps, the second of them in another run."""
    out: Path = tmp_path_factory.mktemp("adapter")
    kind = adapters.kind(embedded_dir(), EDITS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(adapters, "PLACES", 2 * adapters.LONG)
        for steps in 1, 2:
            assert run(Recipe(out / "work", out / "made", steps=steps, parts=1, rate=RATE), kind)
    return out / "made"


@pytest.mark.slow
def test_what_ships_is_small_and_changes_only_its_own_layers(trained: Path, loaded: LoadedModel) -> None:
    assert sum(file.stat().st_size for file in trained.iterdir()) < 0.24e6
    made = adapter.read(trained)
    assert all(pair[0].dtype == torch.bfloat16 and pair[1].any() for pair in made.layers.values())
    before = {name: weight.clone() for name, weight in loaded.model.state_dict().items()}
    second = adapter.with_adapter(loaded.model, made)
    for (name, own), weight in zip(loaded.model.named_parameters(), second.parameters(), strict=True):
        decoder = name.removesuffix(".weight").replace("encoder.language_model", "decoder", 1)
        assert (weight is own) is (decoder not in made.layers)
        assert torch.equal(own, before[name]) and torch.equal(weight, own) is (weight is own)
    coder = second.model
    assert coder.decoder.layers[0].mlp.up_proj.weight is coder.encoder.language_model.layers[0].mlp.up_proj.weight


@pytest.mark.slow
def test_a_second_run_continues_with_the_matrices_of_the_first(trained: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    kind = adapters.kind(embedded_dir(), EDITS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(adapters, "PLACES", 2 * adapters.LONG)
        assert run(Recipe(work, tmp_path / "made", steps=2, parts=1, rate=RATE), kind)
    once, twice = (adapter.read(folder).layers for folder in (tmp_path / "made", trained))
    for name, pair in once.items():
        assert all(map(torch.equal, pair, twice[name]))


@pytest.mark.slow
def test_a_run_can_begin_with_another_adapter(trained: Path, tmp_path: Path) -> None:
    kind = adapters.kind(embedded_dir(), EDITS)
    assert run(Recipe(tmp_path / "work", tmp_path / "made", steps=0, start_from=trained), kind)
    same, own = (adapter.read(folder).layers for folder in (tmp_path / "made", trained))
    for name, pair in same.items():
        assert all(map(torch.equal, pair, own[name]))


@pytest.mark.parametrize(("name", "least"), [(EDITS, 0.3), (TALES, 0.2)], ids=[EDITS, TALES])
def test_most_canvases_hold_the_end_of_the_reply_and_padding_after_it(name: str, least: float) -> None:
    recipe = Recipe(embedded_dir(), parts=1)
    (made,) = adapters.kind(embedded_dir(), name).packs(embedded_dir(), recipe, 0, 0)
    padded = ((made.weight == 0.1) & made.canvas).sum() / made.canvas.sum()
    assert made.count >= 20 and least < float(padded) < 0.9


def test_every_right_way_to_shorten_or_expand_is_accepted() -> None:
    rng, several = random.Random(2), 0
    for example in (edits.make(rng) for _ in range(200)):
        if not example.free:
            right = example.expect["among"]
            assert isinstance(right, list) and example.response in right
            several += len(right) > 1
    assert several > 10
