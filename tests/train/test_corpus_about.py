"""Questions about dgtui have one answer each, and what is out of the model's world is never taken for what is in it."""

import random
import re
from itertools import pairwise
from types import ModuleType

import pytest

from dgtui.train.corpus import about, other, tales
from dgtui.train.lessons.example import Example

IN_WORLD = re.compile(
    r"\b(tales?|story|stories|sort(ed|s|ing)?|alphabetical\w*|json|python|sudoku|grid|dgtui|diffusion\w*|canvas)\b",
    re.IGNORECASE,
)


def test_every_answer_is_short() -> None:
    for intent, (answer, phrasings) in about.INTENTS.items():
        assert 60 <= len(answer) <= 220, intent
        assert len(phrasings) >= 4, intent
        assert answer == answer.strip() and "\n" not in answer


def test_no_phrasing_belongs_to_two_intents() -> None:
    phrasings = [phrasing for _, many in about.INTENTS.values() for phrasing in many]
    assert len(phrasings) == len(set(phrasings))
    for intent, (_, many) in about.INTENTS.items():
        for phrasing in many:
            assert about.intent_of(phrasing) == intent
            assert about.intent_of(f"Please, {phrasing}?") == intent


@pytest.mark.parametrize("module", [about, other])
def test_a_task_accepts_its_own_replies_and_repeats_itself_from_a_seed(module: ModuleType) -> None:
    for seed in range(1000):
        example = module.make(random.Random(seed))
        assert module.check(example, example.response), example
        assert module.check(example, f"{example.response}\n")
        assert not module.check(example, example.response[:-1])
        assert example == module.make(random.Random(seed))


def test_the_answer_to_another_question_is_refused() -> None:
    examples = [about.make(random.Random(seed)) for seed in range(300)]
    for one, two in pairwise(examples):
        assert about.check(one, two.response) == (one.response == two.response)
    assert not about.check(Example("about", "what is the capital of France?", ""), examples[0].response)


def test_the_other_prompts_are_never_requests_of_another_task() -> None:
    for seed in range(5000):
        prompt = other.make(random.Random(seed)).prompt
        assert not IN_WORLD.search(prompt), prompt
        assert about.intent_of(prompt) is None, prompt
        assert tales.read_prompt(prompt) is None, prompt


def test_the_other_prompts_are_diverse() -> None:
    prompts = {other.make(random.Random(seed)).prompt for seed in range(2000)}
    assert len(prompts) > 1500
    assert len({word.lower() for prompt in prompts for word in re.findall(r"[^\W\d]+", prompt)}) > 800


def test_a_greeting_is_greeted() -> None:
    for prompt in ("hello", "Hi there!", "Good morning."):
        assert other.check(Example("other", prompt, ""), other.GREETING)
        assert not other.check(Example("other", prompt, ""), other.QUESTION)
