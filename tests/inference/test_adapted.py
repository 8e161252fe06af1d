"""Edits, later turns, tales run on the model with an adapter for them, everything else does not."""

import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
from checkpoints import opened
from fakes import SETTINGS, NumericDenoiser

from dgtui.diffusion import engine, schedule
from dgtui.diffusion.job import Job
from dgtui.diffusion.log import RunLog
from dgtui.diffusion.reference import ReferenceStepper
from dgtui.inference.adapted import TEMPERATURES, Adapted, PromptReader, adapter_for
from dgtui.inference.routed import RoutedStepper
from dgtui.message import Message
from dgtui.model.catalog import EDITS, EMBEDDED, TALES
from dgtui.model.loader import read_tokenizer
from dgtui.model.tokenizer import ModelTokenizer
from dgtui.steering.instructions import message
from dgtui.train.lessons import LESSONS
from dgtui.train.lessons.turns import THANKS


@pytest.fixture(scope="module")
def tokenizer() -> ModelTokenizer:
    return read_tokenizer(opened(EMBEDDED))


@pytest.fixture(scope="module")
def reader(tokenizer: ModelTokenizer) -> PromptReader:
    return PromptReader(tokenizer.chat, tokenizer.decode)


def asked(*contents: str) -> list[Message]:
    """A conversation in which the user and the model take turns."""
    return [Message("model" if at % 2 else "user", text) for at, text in enumerate(contents)]


@pytest.mark.parametrize(
    ("name", "contents"),
    [
        (EDITS, ("fix: teh end",)),
        (EDITS, ("Shorten: The fox ran.\nIt ran far.",)),
        (EDITS, ("rename Clara to Otto: Clara ran.",)),
        (EDITS, ("make it a whale instead of a fox: The story ran.",)),
        (EDITS, ("Tell me a tale.", "Once.", "put this in the past tense: She runs.")),
        (TALES, ("Tell me a tale.",)),
        (TALES, ("Write a tale about the fix: Anna.",)),
        (TALES, ("once upon a time there was a king. Go on!",)),
        (TALES, ("Write something about Otto",)),
        (TALES, ("Hello", "Hello!", "a tale")),
        (TALES, ("Tell me a tale.", "Once.", "shorter")),
        (TALES, ("Tell me a tale.", "Once.", "and another one, with a whale", "Twice.", "the same but with Ines")),
        (TALES, ("Tell me a tale.", "Once.", "now about Otto the bear")),
        (TALES, ("Tell me a tale.", "Once.", "and Laurent?")),
        (TALES, ("Tell me a tale.", "Once.", "now my hamster Zoë")),
        (EDITS, ("Tell me a tale.", "Once.", "and unpin?")),
        (EDITS, ("Tell me a tale.", "Once.", "thanks")),
        (EDITS, ("Tell me a tale.", "Once.", "how do I pin a word?")),
        (EDITS, ("Tell me a tale.", "Once.", "now as JSON: Anna has 3 cats.", "{}", "another one: Ben has 2 dogs.")),
        (EDITS, ("Tell me a tale.", "Once.", "now a function that tells whether a story is long")),
        (EDITS, ("Hello", "Hello!", "JSON: Anna has 3 cats.")),
        (EDITS, ("Hello", "Hello!", "another one")),
        (None, ("JSON: Anna has 3 cats.",)),
        (None, ("make this JSON: the story has 3 parts.",)),
        (None, ("fix it",)),
        (None, ("another one",)),
        (None, ("Is it stale?",)),
    ],
)
@pytest.mark.parametrize("system", [[], [Message("system", "Be brief.")]], ids=["", "after a system prompt"])
def test_what_the_user_says_decides_which_adapter_runs(
    name: str | None, contents: Sequence[str], system: list[Message], reader: PromptReader, tokenizer: ModelTokenizer
) -> None:
    said = reader.read(tokenizer.chat([*system, *asked(*contents)]))
    assert said == [*contents[::2]] and adapter_for(said) == name


@pytest.mark.parametrize("lesson", ["tales", "tale turns"])
def test_tales_and_what_people_say_to_get_the_next_one_go_to_the_adapter_for_tales(lesson: str) -> None:
    examples = [LESSONS[lesson](random.Random(seed)) for seed in range(500)]
    said = [
        [turn.content for turn in example.messages() if turn.role == "user"]
        for example in examples
        if example.response != THANKS
    ]
    assert sum(adapter_for(each) == TALES for each in said) > 0.99 * len(said) > 400


def test_an_infill_with_an_instruction_is_an_edit_wherever_its_text_begins(
    reader: PromptReader, tokenizer: ModelTokenizer
) -> None:
    told = message("rename Clara to Otto", ("Once. ", "Clara ran.", ""), reads_marks=False)
    ids = tokenizer.chat([Message("system", "Be brief."), Message("user", told)])
    assert adapter_for(reader.read([*ids, *tokenizer.encode("Once. ")])) == EDITS
    assert not reader.read(tokenizer.encode("fix: teh end")) and not reader.read([])


def test_an_edit_or_a_later_turn_is_written_by_its_own_model_in_all_blocks() -> None:
    def chat(messages: Sequence[Message]) -> list[int]:
        return [1, *(i for m in messages for i in (2, 7 if m.content.startswith("fix") else 8, 3))]

    own, other = NumericDenoiser(), NumericDenoiser()
    reader = PromptReader(lambda m: [1, 2, 8 + (m[0].content == "b"), 3], lambda ids: "fix: it" if 7 in ids else "else")
    stepper = RoutedStepper(ReferenceStepper(own), [Adapted(ReferenceStepper(other), reader, EDITS, SETTINGS)])

    def run(*contents: str) -> RunLog:
        job = Job("a job", tuple(chat(asked(*contents))), 3, 2 * own.canvas_length, SETTINGS)
        return RunLog(job, engine.run(stepper, job))

    log = run("tale", "once", "fix: it")
    assert len(log.blocks()) == other.commits + 1 == 2 and not own.seen
    job = log.fork(1, 2, "again", 3)
    again = RunLog(job, engine.run(stepper, job))
    assert [f.canvas.tolist() for f in again.frames(1)[:2]] == [f.canvas.tolist() for f in log.frames(1)[:2]]
    assert stepper.log_probs([log.blocks()[0].ids])[0].any() and not own.seen
    steps = len(other.seen)
    run("fix: it", "it", "tale")
    assert len(other.seen) > steps and not own.seen
    steps = len(other.seen)
    run("tale")
    assert own.seen and len(other.seen) == steps


@pytest.mark.parametrize(
    ("given", "used"), [((0.4, 0.8), TEMPERATURES[EDITS]), ((0.3, 0.8), (0.3, 0.8)), ((0.4, 1.0), (0.4, 1.0))]
)
def test_it_has_its_own_temperatures_unless_the_user_chose_others(
    given: tuple[float, float], used: tuple[float, float], reader: PromptReader
) -> None:
    own = replace(SETTINGS, t_min=0.4, t_max=0.8)
    stepper = Adapted(ReferenceStepper(NumericDenoiser()), reader, EDITS, own)
    settings = replace(own, t_min=given[0], t_max=given[1])
    log = RunLog(job := Job("a job", (1, 2), 3, 1, settings), engine.run(stepper, job))
    steps = [schedule.temperature(settings.steps - at, settings.steps, *used) for at in range(len(log.frames()))]
    assert [frame.temperature for frame in log.frames()] == steps
