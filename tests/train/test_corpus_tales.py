"""The tales keep their promises: one hero, one friend, one thing, one place, and no words but the grammar's own."""

import random
import re
from itertools import pairwise

from dgtui.train.corpus import tales
from dgtui.train.lessons.example import Example


def _examples(count: int) -> list[Example]:
    return [tales.make(random.Random(seed)) for seed in range(count)]


def test_every_tale_is_recognised_and_fits_its_prompt() -> None:
    for example in _examples(500):
        assert tales.could_be_written(example.response), example
        assert tales.check(example, example.response), example


def test_the_same_seed_gives_the_same_tale() -> None:
    assert _examples(50) == _examples(50)


def test_a_tale_is_one_short_paragraph() -> None:
    lengths = []
    for example in _examples(500):
        assert "\n" not in example.response and "  " not in example.response
        assert example.response == example.response.strip()
        assert "{" not in example.response + example.prompt and "|" not in example.response
        lengths.append(len(example.response))
    assert 230 < sum(lengths) / len(lengths) < 300
    assert max(lengths) < 350


def test_the_lexicon_stays_small() -> None:
    words = {
        word.lower()
        for example in _examples(3000)
        for word in re.findall(r"[A-Za-z]+", example.response)
        if word[0].islower() or word.lower() not in _names(example)
    }
    assert len(words) <= 450


def _names(example: Example) -> set[str]:
    found = tales.parse(example.response)
    assert found is not None
    return {found["hero"].lower(), found["friend"].lower()}


def test_a_name_that_changes_midway_is_refused() -> None:
    changed = 0
    for example in _examples(200):
        found = tales.parse(example.response)
        assert found is not None
        for who in ("hero", "friend"):
            places = list(re.finditer(rf"\b{found[who]}\b", example.response))
            for place in places if len(places) > 1 else []:
                text = example.response[: place.start()] + "Zimo" + example.response[place.end() :]
                assert not tales.could_be_written(text), text
                changed += 1
    assert changed > 400


def test_a_dropped_doubled_or_strange_word_is_refused() -> None:
    for example in _examples(40):
        words = example.response.split(" ")
        for at in range(len(words)):
            for other in ([], [words[at]] * 2, ["banana"]):
                text = " ".join(words[:at] + other + words[at + 1 :])
                assert not tales.could_be_written(text), text


def test_a_dropped_sentence_in_the_middle_or_a_torn_end_is_refused() -> None:
    for example in _examples(100):
        assert not tales.could_be_written(example.response[:-1])
        assert not tales.could_be_written(example.response + " ")
        assert not tales.could_be_written(example.response + " The end.")


def test_the_tale_of_another_prompt_is_refused() -> None:
    named = [example for example in _examples(200) if "hero" in (tales.read_prompt(example.prompt) or {})]
    for one, two in pairwise(named):
        assert not tales.check(one, two.response)


def test_what_the_prompt_fixes_is_in_the_tale() -> None:
    prompt = "Tell me a story about a fox named Rusk and a lost key."
    assert tales.read_prompt(prompt) == {"kind": "fox", "hero": "Rusk", "plot": "lost", "thing": "key"}
    given = tales.read_prompt(prompt) or {}
    for seed in range(50):
        text = tales.write(given, random.Random(seed))
        assert "Rusk" in text and "fox" in text and "key" in text
        assert tales.check(Example("tales", prompt, ""), text)
        assert not tales.check(Example("tales", prompt.replace("key", "drum"), ""), text)
        assert not tales.check(Example("tales", prompt.replace("fox", "bear"), ""), text)


def test_one_name_in_forty_or_so_is_in_no_list() -> None:
    known = set(tales.NAMES)
    prompts = [tales.read_prompt(example.prompt) or {} for example in _examples(2000)]
    named = [given["hero"] for given in prompts if "hero" in given]
    assert 0.01 < sum(name not in known for name in named) / len(named) < 0.06


def test_what_a_prompt_leaves_open_is_drawn_from_few() -> None:
    found = [tales.parse(tales.write({}, random.Random(seed))) for seed in range(300)]
    for variable, values in tales.FREE.items():
        assert {reading[variable] for reading in found if reading} == set(values)
