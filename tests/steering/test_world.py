"""The embedded model says when a text is not of its kind."""

import random
from types import SimpleNamespace
from typing import Any

import pytest

from dgtui.model.catalog import EMBEDDED, resolve
from dgtui.model.tokenizer import ModelTokenizer
from dgtui.steering.world import NOTICE, notice
from dgtui.train.lessons import stream, tales

OWN: Any = SimpleNamespace(reads_marks=False)
OTHER: Any = SimpleNamespace(reads_marks=True)
PROSE = "The fog rolled over the harbour while Anna waited for the last ferry. She had promised her brother to be home."


@pytest.fixture(scope="module")
def tokenizer() -> ModelTokenizer:
    return ModelTokenizer.load(resolve(EMBEDDED).path)


def test_other_prose_is_named_once_and_only_for_the_embedded_model(tokenizer: ModelTokenizer) -> None:
    assert notice([PROSE], tokenizer.encode, OWN) == NOTICE
    assert notice([PROSE], tokenizer.encode, OTHER) == ""
    assert notice(["Hello"], tokenizer.encode, OWN) == ""


def test_its_own_tales_are_its_world(tokenizer: ModelTokenizer) -> None:
    told = stream(tales.make, random.Random(4), "held-out")
    assert [notice([next(told).response], tokenizer.encode, OWN) for _ in range(40)] == [""] * 40
