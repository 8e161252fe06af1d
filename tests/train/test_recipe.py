"""The recipe of the embedded model: data of the steps to come, and a run that ends in time."""

import time
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from dgtui.paths import embedded_dir
from dgtui.train import embedded
from dgtui.train.trainer import Schedule


@pytest.mark.slow
def test_data_prepared_by_other_processes_is_the_same() -> None:
    of = partial(embedded.packs, embedded_dir(), 3, 0, 1, 0)
    ahead = embedded.Ahead(of, 1)
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
    embedded._calibrate(trainer, 470.0)
    assert now[0] == 70.0 and trainer.step == 20
    assert trainer.schedule.steps == 20 + 200
    train(None)
    assert now[0] == 470.0
