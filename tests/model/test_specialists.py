"""The Sudoku model and the adapters beside the embedded model."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import opened

from dgtui.diffusion.reference import ReferenceStepper
from dgtui.inference.routed import RoutedStepper
from dgtui.model.catalog import EDITS, EMBEDDED, TALES, Checkpoint
from dgtui.model.loader import LoadedModel, LoadOptions, load
from dgtui.model.specialists import adapted_model, sudoku_model
from dgtui.worker import best_stepper


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    return load(opened(EMBEDDED), LoadOptions(device="cpu"))


def test_it_has_the_ids_of_the_model_beside_it(loaded: LoadedModel) -> None:
    beside = sudoku_model(loaded)
    assert beside is not None and beside.tokenizer is loaded.tokenizer
    model, base = beside.model, loaded.model
    decoder, config = model.model.decoder, model.config
    size = base.config.text_config.vocab_size
    weight = decoder.embed_tokens.weight
    assert len(weight) == config.text_config.vocab_size == size
    assert model.lm_head.weight is weight is model.model.encoder.language_model.embed_tokens.weight
    own = 512
    for token in own, own + 1, size - 1:
        assert torch.equal(weight[token], weight[own // 2 + token % (own // 2)])
    digits = [loaded.tokenizer.encode(str(digit))[0] for digit in range(10)]
    assert max(digits) < own // 2 and len({tuple(row) for row in weight[digits].tolist()}) == 10


@pytest.mark.parametrize("name", [EDITS, TALES])
def test_an_adapter_shares_what_it_leaves_alone(name: str, loaded: LoadedModel) -> None:
    second = adapted_model(loaded, name)
    assert second is not None and second.adapted and not loaded.adapted
    model, base = second.model.model.decoder, loaded.model.model.decoder
    assert model.embed_tokens.weight is base.embed_tokens.weight
    assert model.layers[0].experts.gate_up_proj is base.layers[0].experts.gate_up_proj
    for layer, own in zip(model.layers, base.layers, strict=True):
        assert not torch.equal(layer.self_attn.q_proj.weight, own.self_attn.q_proj.weight)


def test_they_run_unless_the_model_is_to_run_alone_or_has_an_adapter(loaded: LoadedModel, tmp_path: Path) -> None:
    assert isinstance(best_stepper(loaded), RoutedStepper)
    assert isinstance(best_stepper(loaded, "reference", alone=True), ReferenceStepper)
    elsewhere: Any = replace(loaded, checkpoint=Checkpoint("m", tmp_path, "folder"))
    adapted = replace(loaded, adapted=True)
    for beside in sudoku_model, *(partial(adapted_model, name=name) for name in (EDITS, TALES)):
        assert beside(elsewhere) is None and beside(adapted) is None
