"""What the embedded model is taught: every lesson's own reply is right, and nothing of the frozen prompts is in it."""

import itertools
import random
import re

import pytest

from dgtui import sudoku
from dgtui.train import judge, own_words, table
from dgtui.train.lessons import (
    LESSONS,
    SHARES,
    edits,
    functions,
    grids,
    guide,
    honest,
    mixture,
    people,
    split_of,
    tales,
)

DAYS_AND_MONTHS = {"Friday", "Saturday", "Sunday", "Sundays", "May", "June", "July", "March"}
IN_WORLD = re.compile(r"\b(tales?|story|stories|json|python|sudoku|diffusion\w*|canvas)\b", re.IGNORECASE)


@pytest.mark.parametrize("name", [name for name in LESSONS if name not in ("prose",)])
def test_every_lesson_answers_itself_rightly(name: str) -> None:
    rng = random.Random(f"lesson {name}")
    for _ in range(20 if name in ("python", "turns") else 120):
        example = LESSONS[name](rng)
        before = example.before
        if {"shorter", "longer"} & example.expect.keys() and example.response == before:
            continue  # asked to shorten what is as short as it gets
        if "names" in example.expect and any(example.response.count(n) < 2 for n in example.expect["names"]):
            continue  # a plot that mentions a person once
        assert judge.right(example.expect, example.response, before), (example.prompt, example.response)
        assert not judge.right(example.expect, "", before)


@pytest.mark.parametrize("name", ["tales", "json", "python", "sudoku"])
def test_the_reply_to_another_prompt_is_wrong(name: str) -> None:
    rng = random.Random(f"pairs {name}")
    examples = [LESSONS[name](rng) for _ in range(8 if name == "python" else 60)]
    pairs = [(one, two) for one, two in itertools.pairwise(examples) if one.expect.get("names", True)]
    assert len(pairs) > len(examples) / 2
    for one, two in pairs:
        assert judge.right(one.expect, two.response) == (one.expect == two.expect), (one.prompt, two.response)


def test_every_tale_is_read_back_as_it_was_told() -> None:
    rng = random.Random(1)
    for _ in range(200):
        _, tale = tales.draw(rng)
        read = tales.read(tale.text())
        assert read is not None and read.plot == tale.plot and read.subject.lower() == tale.subject.lower()


def test_a_tale_with_a_slip_is_none() -> None:
    tale = tales.Tale(tales.plots()[0], ("Ada", "Ben"), ("Ada", "Ben"), "lantern")
    text = tale.text()
    assert tales.read(text)
    assert tales.read(text.replace("Ada", "Eva", 1)) is None
    assert tales.read(text.replace("every drawer", "every drawers")) is None
    assert tales.read(text + " More.") is None
    assert tales.read(text[:-1]) is None


def test_a_name_that_changes_midway_is_noticed() -> None:
    rng, changed = random.Random(8), 0
    for _ in range(100):
        _, tale = tales.draw(rng)
        text = tale.text()
        for name in tale.people:
            places = list(re.finditer(rf"(?<!\w){re.escape(name)}(?!\w)", text))
            for place in places if len(places) > 1 else []:
                other = text[: place.start()] + "Zimo" + text[place.end() :]
                assert tales.read(other) is None, other
                changed += 1
    assert changed > 300


def test_a_tale_is_one_paragraph_without_open_slots() -> None:
    rng = random.Random(9)
    for _ in range(300):
        text = tales.draw(rng)[1].text()
        assert not re.search(r"[\n{}|*]|  |^\s|\s$", text), text
        assert len(text) < 700


def test_there_are_sixty_plots_for_one_to_three_people() -> None:
    assert len(tales.plots()) >= 60
    assert {plot.roles for plot in tales.plots()} == {1, 2, 3}
    assert all("{A" in " ".join(line for _, line in plot.lines) for plot in tales.plots())


def test_a_request_decides_its_plot_and_its_noun_does_not() -> None:
    for kind, nouns in tales.subjects().items():
        of_kind = {plot.name for plot in tales.plots() if plot.kind == kind}
        favourites = [{tales.fits(kind, 0, noun, turn)[0].name for noun in nouns} for turn in range(3)]
        assert set.union(*favourites) <= of_kind
        if kind in ("sky", "idea"):
            assert favourites == [of_kind] * 3, "each of these has its own"
        else:
            assert [len(each) for each in favourites] == [1, 1, 1] and len(set.union(*favourites)) == 3
        for noun, count in itertools.product(nouns, (1, 2, 3)):
            assert all(count <= plot.roles <= count + 1 for plot in tales.fits(kind, count, noun))
    prompts = ("Please tell me a tale.", "Write about a clock.", "A story about how Anna builds a clock.")
    assert [tales.turn_of(prompt) for prompt in prompts] == [0, 1, 2]


def test_a_request_has_one_mark_at_its_end() -> None:
    asked = [LESSONS["tale turns"](random.Random(seed)).prompt for seed in range(400)]
    assert not [prompt for prompt in asked if re.search(r"[?.][.,]", prompt)]
    assert sum(prompt.endswith("?") for prompt in asked) > 20


def test_the_same_request_has_the_same_plot() -> None:
    rng = random.Random(5)
    seen: dict[str, set[str]] = {}
    for prompt, tale in (tales.draw(rng) for _ in range(4000)):
        seen.setdefault(prompt, set()).add(tale.plot.name)
    again = [names for names in seen.values() if len(names) > 1]
    assert not again and len(seen) < 4000
    assert len({name for names in seen.values() for name in names}) > 40


def test_an_edit_asks_for_what_only_changes_its_passage() -> None:
    rng, inside = random.Random(14), 0
    for _ in range(400):
        example = edits.make(rng)
        instruction, _, old = example.prompt.partition(": ")
        assert instruction and old
        (begin, end), *more = example.free or ((0, len(example.response)),)
        new = example.response[begin:end]
        assert new and new != old and not more
        assert example.response[:begin] == "" or example.response[begin] == " "
        assert example.response[end:] == "" or example.response[end] == " "
        inside += bool(example.free) and new != example.response
        told = example.prompt + example.response[:begin] + example.response[end:]
        assert {name for name in re.findall(r"(?<=[a-z] )[A-Z][\w'’-]+", new) if name not in told} <= DAYS_AND_MONTHS
    assert 100 < inside < 300


def test_sentences_in_both_tenses_are_about_the_same() -> None:
    for then, now in edits.tenses():
        assert then != now and then.count("{A}") == now.count("{A}") and then.count("{s}") == now.count("{s}")
        assert then[-1] == now[-1] == "."
    rng = random.Random(0)
    for _ in range(500):
        then, now = edits.both_tenses(rng, tales.draw(rng)[1])
        assert then != now and then[-1] == now[-1] == "." and "{" not in then + now and "|" not in then + now


def test_names_are_many_and_of_many_kinds() -> None:
    assert len(people.given()) >= 2000
    rng = random.Random(2)
    drawn = [people.name(rng) for _ in range(2000)]
    assert any("-" in n for n in drawn) and any("'" in n for n in drawn) and any(" " in n for n in drawn)
    assert any(not n.isascii() for n in drawn)


def test_every_function_passes_its_own_tests() -> None:
    rng = random.Random(3)
    for one in functions.FUNCTIONS:
        values = {"{n}": "7", "{m}": "20", "{w}": "cat"}
        body, tests = "\n".join(one.body), list(one.tests)
        for mark, value in values.items():
            body, tests = body.replace(mark, value), [t.replace(mark, value) for t in tests]
        code = f"def g({one.parameters}):\n" + "\n".join("    " + line for line in body.splitlines())
        space: dict[str, object] = {}
        exec(code, space)
        space["f"] = space["g"]
        assert all(eval(t, space) for t in tests), one.name
    assert functions.base("reverses a list") == "reverse a list"
    assert functions.make(rng).task == "python"


@pytest.mark.parametrize("size", [4, 9])
def test_puzzles_have_one_solution_and_free_only_their_blanks(size: int) -> None:
    rng = random.Random(4)
    for blanks in (5, 10) if size == 4 else (20, 45, 53):
        puzzle, solution = grids.draw(rng, size, blanks)
        assert list(sudoku.solutions(puzzle.cells)) == [solution.cells]
        example = grids.lesson(puzzle, solution, pinned=True)
        assert len(example.free) == puzzle.cells.count(0)
        held = [c for i, c in enumerate(example.response) if not any(a <= i < b for a, b in example.free) and c != "\n"]
        assert held == [str(v) for v in puzzle.cells if v]


def test_answers_about_keys_name_the_keys_that_are_bound() -> None:
    assert "press p" in guide.intents()["pin"].answer
    assert "Space" in guide.intents()["pause"].answer
    assert not any("{" in i.answer for i in guide.intents().values() if i is not guide.intents()["scrub"])


def test_every_intent_has_many_phrasings() -> None:
    rng = random.Random(5)
    for name, intent in guide.intents().items():
        asked = {guide.dressed(guide.phrasing(intent, rng), rng).lower().strip("?.! ") for _ in range(400)}
        assert len(asked) >= 30 or name in ("thanks", "bye"), (name, len(asked))


def test_a_question_about_dgtui_has_one_short_answer() -> None:
    rng, answers = random.Random(10), dict[str, str]()
    for _ in range(4000):
        example = guide.make(rng)
        assert answers.setdefault(example.prompt.lower().strip("?.! "), example.response) == example.response
    assert all(len(answer) <= 220 and "\n" not in answer for answer in answers.values())


def test_prompts_outside_the_world_are_many_and_ask_for_nothing_inside() -> None:
    rng = random.Random(11)
    found = [honest.make(rng) for _ in range(2000)]
    assert len({example.prompt for example in found}) > 1500
    plain = {honest.QUESTION, honest.REQUEST, honest.FRAGMENT}
    assert not [e.prompt for e in found if e.response in plain and IN_WORLD.search(e.prompt)]


def test_the_mixture_follows_its_shares_and_repeats_with_its_seed() -> None:
    drawn = list(itertools.islice(mixture(random.Random(12), "train"), 1500))
    assert drawn == list(itertools.islice(mixture(random.Random(12), "train"), 1500))
    for name, share in SHARES.items():
        name = {"4x4": "sudoku"}.get(name, name)
        assert sum(e.task == name for e in drawn) / len(drawn) == pytest.approx(share / 100, abs=0.04)


def test_no_prompt_of_the_table_is_taught() -> None:
    taught = {example.prompt for example in itertools.islice(mixture(random.Random(13), "train"), 3000)}
    for task in table.TASKS:
        asked = table.held_out(task, 30)
        assert len(asked) == 30
        assert not {example.prompt for example in asked} & taught


@pytest.mark.parametrize("task", [task for task in table.TASKS if task != "python"])
def test_the_table_asks_only_what_has_a_right_reply(task: str) -> None:
    assert all(judge.right(e.expect, e.response, e.before) for e in table.held_out(task, 60))


def test_no_frozen_prompt_is_taught() -> None:
    frozen = {row["prompt"] for row in own_words.prompts()}
    for seed in 6, 9:
        taught = (e.prompt for e in itertools.islice(mixture(random.Random(seed), "train"), 4000))
        assert not {p for p in taught if len(p) > 30} & frozen
    assert all(split_of(e.prompt) == "train" for e in itertools.islice(mixture(random.Random(7), "train"), 200))


def test_the_frozen_prompts_are_twenty_of_each_kind() -> None:
    rows = own_words.prompts()
    kinds = {row["kind"] for row in rows}
    assert len(rows) == 220 and len(kinds) == 11
    assert all(sum(row["kind"] == kind for row in rows) == 20 and all(r["expect"] for r in rows) for kind in kinds)


@pytest.mark.parametrize(
    ("expect", "reply", "is_right"),
    [
        ({"values": ["Ada", 3]}, '{"name": "Ada", "count": 3}', True),
        ({"values": ["Ada", 3]}, '{"name": "Ada"}', False),
        ({"values": ["weiss", 14]}, '{"name": "Dr. Weiss", "patients": 14}', True),
        ({"values": ["Weiss"]}, '{"name": "Weissmann"}', False),
        ({"values": [14]}, '{"patients": "14 people"}', False),
        ({"json": {"a": 1}}, '```json\n{"a": 1}\n```', True),
        ({"json": {"a": 1}}, '{\n  "a": 1\n}', True),
        ({"json": {"a": 1}}, '{"a": 1}{"b": 2}', False),
        ({"json": {"a": 1}}, "[" * 5000, False),
        ({"asserts": ["f(2) == 4"]}, "```python\ndef double(x):\n    return 2 * x\n```", True),
        ({"asserts": ["f(2) == 4"]}, "def double(x):\n    return 3 * x", False),
        ({"asserts": ["f(2) == 4"]}, "def double(x):\n    while True: pass", False),
        ({"asserts": ["f(2) == 4"]}, "import os; os._exit(0)", False),
        ({"asserts": ["f(2) == 4"]}, "def f(" + "(" * 5000, False),
        ({"names": ["Jean-Luc"]}, "Jean-Luc met Jean-Luc.", True),
        ({"names": ["Ann"]}, "Anna met Anna.", False),
        ({"any": ["space"]}, "Press Space.", True),
        ({"words": ["winter|snow"]}, "Snow fell.", True),
    ],
)
def test_replies_are_judged(expect: dict[str, object], reply: str, is_right: bool) -> None:
    assert judge.right(expect, reply) == is_right


@pytest.mark.parametrize(
    ("text", "noise"),
    [
        ("Once there was a fox who liked tea.", False),
        ("Onc Mirararaya the the sat, 7{ and bluo quSx z", True),
        ("", True),
        ("}{%%#", True),
        ("1234\n3412", False),
    ],
)
def test_noise_is_told_from_language(text: str, noise: bool) -> None:
    assert judge.is_noise(text) == noise
