"""Every task's generator and check, and the wall between what is trained on and what is asked."""

import itertools
import json
import random
from collections.abc import Iterator

import pytest

from dgtui.train.corpus import SHARES, TASKS, Example, Split, split_of, stream
from dgtui.train.corpus.sudoku import SOLUTIONS, solutions
from dgtui.train.table import held_out


def mixture(rng: random.Random, split: Split) -> Iterator[Example]:
    """Endless examples of one side, tasks drawn by their shares."""
    streams = {name: stream(TASKS[name].make, rng, split) for name in SHARES}
    names, shares = list(SHARES), list(SHARES.values())
    while True:
        yield next(streams[rng.choices(names, shares)[0]])


@pytest.mark.parametrize("task", TASKS)
def test_a_check_accepts_the_generators_own_reply_and_no_empty_one(task: str) -> None:
    rng = random.Random(1)
    for _ in range(200):
        example = TASKS[task].make(rng)
        assert example.task == task
        assert TASKS[task].check(example, example.response)
        assert not TASKS[task].check(example, "")


@pytest.mark.parametrize("task", ["json", "python", "sudoku", "sorting"])
def test_a_check_refuses_the_reply_to_another_prompt(task: str) -> None:
    rng = random.Random(2)
    for _ in range(100):
        one, other = TASKS[task].make(rng), TASKS[task].make(rng)
        if one.response != other.response:
            assert not TASKS[task].check(one, other.response)


def test_broken_json_and_broken_python_are_wrong_and_not_an_error() -> None:
    rng = random.Random(3)
    for task in ("json", "python"):
        example = TASKS[task].make(rng)
        for reply in (example.response[:-1] + "\x00", "{", "def f(", "(" * 5000, '{"a": 1}{"b": 2}'):
            assert not TASKS[task].check(example, reply)


def test_json_may_be_spaced_otherwise() -> None:
    example = TASKS["json"].make(random.Random(4))
    assert TASKS["json"].check(example, json.dumps(json.loads(example.response), indent=2))


def test_a_sudoku_has_one_solution_that_keeps_the_givens() -> None:
    assert len(SOLUTIONS) == 288
    rng = random.Random(5)
    for _ in range(50):
        example = TASKS["sudoku"].make(rng)
        puzzle = tuple(int(c) for c in example.prompt.split(".\n")[1].replace("\n", ""))
        assert 0 in puzzle
        assert solutions(puzzle) == [tuple(int(c) for c in example.response.replace("\n", ""))]


def test_the_mixture_follows_its_shares_and_repeats_with_its_seed() -> None:
    first = list(itertools.islice(mixture(random.Random(6), "train"), 2000))
    assert first == list(itertools.islice(mixture(random.Random(6), "train"), 2000))
    total = sum(SHARES.values())
    for task, share in SHARES.items():
        assert sum(e.task == task for e in first) / 2000 == pytest.approx(share / total, abs=0.04)


def test_no_held_out_prompt_is_ever_trained_on() -> None:
    trained = {e.prompt for e in itertools.islice(mixture(random.Random(7), "train"), 5000)}
    for task in TASKS:
        asked = {e.prompt for e in held_out(task, 50)}
        assert asked
        assert not asked & trained
        assert all(split_of(prompt) == "held-out" for prompt in asked)


def test_a_span_that_could_have_been_written_is_right_and_another_is_wrong() -> None:
    tales = TASKS["tales"]
    example = next(e for e in held_out("tales", 50) if " and " in e.prompt)
    words = example.response.split()
    spoilt = " ".join([*words[:5], "zebra", *words[6:]])
    assert not tales.check(example, spoilt)
