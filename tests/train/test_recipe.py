"""The recipe of the embedded model: data of the steps to come, and a run that ends in time."""

import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import DiffusionGemmaForBlockDiffusion, PreTrainedTokenizerFast

from dgtui.errors import ModelUnloadable
from dgtui.model.catalog import Checkpoint
from dgtui.model.loader import load
from dgtui.model.open_checkpoint import open_checkpoint
from dgtui.model.parts import LoadOptions
from dgtui.paths import embedded_dir
from dgtui.train import embedded, finetune, recipe, small_model
from dgtui.train.ahead import Ahead
from dgtui.train.trainer import Schedule


@pytest.mark.slow
def test_data_prepared_by_other_processes_is_the_same() -> None:
    of = partial(embedded.packs, embedded_dir(), recipe.Recipe(embedded_dir(), seed=3, parts=1, easy=0), 0)
    ahead = Ahead(of, 1)
    try:
        for step in range(3):
            (own,), (other,) = of(step), ahead(step)
            assert torch.equal(own.ids, other.ids) and torch.equal(own.full, other.full)
            assert own.count == other.count > 5
    finally:
        ahead.close()


def test_a_time_limit_becomes_a_schedule_that_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    trainer: Any = SimpleNamespace(step=0, schedule=Schedule(4000))

    def train(report: Any) -> None:
        now[0] += (trainer.schedule.steps - trainer.step) * (2.0 if trainer.step else 5.0)
        trainer.step = trainer.schedule.steps

    trainer.train = train
    recipe._calibrate(trainer, 470.0)
    assert now[0] == 70.0 and trainer.step == 20
    assert trainer.schedule.steps == 20 + 200
    train(None)
    assert now[0] == 470.0


@pytest.mark.slow
def test_the_finished_model_is_small_held_decoded_and_can_be_trained_again(tmp_path: Path) -> None:
    tokenizer = PreTrainedTokenizerFast.from_pretrained(embedded_dir())
    torch.manual_seed(2)
    model = DiffusionGemmaForBlockDiffusion(small_model.config(tokenizer, embedded.SIZES))
    small_model.ship(model, tokenizer, tmp_path / "made", proofread=10, beside=False)
    assert sum(file.stat().st_size for file in (tmp_path / "made").iterdir()) < 9e6

    shipped, folder = (Checkpoint("made", tmp_path / "made", kind) for kind in ("embedded", "folder"))
    options = LoadOptions(device="cpu", dtype=torch.float32)
    decoded, packed = load(shipped, options), load(folder, options)
    assert (decoded.plan.formats, packed.plan.formats) == ((), ("NF4",))
    again = finetune.in_full(folder)
    name = "model.decoder.layers.3.mlp.up_proj.weight"
    weights = [model.get_parameter(name) for model in (decoded.model, again)]
    assert torch.equal(*weights) and weights[1].requires_grad
    product = packed.model.get_submodule(name.removesuffix(".weight"))(torch.eye(weights[0].shape[1]))
    torch.testing.assert_close(product.T, weights[0], rtol=1e-5, atol=1e-6)

    finetune.check_fits(open_checkpoint(shipped), 10**9)
    with pytest.raises(ModelUnloadable, match="quantized"):
        finetune.check_fits(open_checkpoint(folder), 10**9)
