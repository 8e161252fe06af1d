"""Edits and later turns run on the model with the adapter for them, everything else does not."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from checkpoints import opened
from fakes import SETTINGS, NumericDenoiser

from dgtui.diffusion import engine, schedule
from dgtui.diffusion.job import Job
from dgtui.diffusion.log import RunLog
from dgtui.diffusion.reference import ReferenceStepper
from dgtui.inference.reviser import T_MAX, T_MIN, Reviser, RevisionPrompt
from dgtui.inference.routed import RoutedStepper
from dgtui.message import Message
from dgtui.model.catalog import EMBEDDED
from dgtui.model.loader import read_tokenizer
from dgtui.model.tokenizer import ModelTokenizer
from dgtui.steering.instructions import message


@pytest.fixture(scope="module")
def tokenizer() -> ModelTokenizer:
    return read_tokenizer(opened(EMBEDDED))


@pytest.fixture(scope="module")
def prompt(tokenizer: ModelTokenizer) -> RevisionPrompt:
    return RevisionPrompt(tokenizer.chat, tokenizer.decode)


def asked(*contents: str) -> list[Message]:
    """A conversation in which the user and the model take turns."""
    return [Message("model" if at % 2 else "user", text) for at, text in enumerate(contents)]


EDITS = (
    ("fix: teh end",),
    ("Shorten: The fox ran.\nIt ran far.",),
    ("rename Clara to Otto: Clara ran.",),
    ("make it a whale instead of a fox: The fox ran.",),
    ("Tell me a tale.", "Once.", "put this in the past tense: She runs."),
)
OTHERS = (
    ("Tell me a tale.",),
    ("JSON: Anna has 3 cats.",),
    ("make this JSON: Anna has 3 cats.",),
    ("fix it",),
    ("Write a tale about the fix: Anna.",),
)


@pytest.mark.parametrize("contents", EDITS)
def test_an_instruction_with_a_text_is_an_edit(
    contents: Sequence[str], prompt: RevisionPrompt, tokenizer: ModelTokenizer
) -> None:
    assert prompt.matches(tokenizer.chat(asked(*contents)))


@pytest.mark.parametrize(
    "contents", [("Tell me a tale.", "Once.", "shorter"), ("Hello", "Hello!", "a tale", "Once.", "thanks")]
)
@pytest.mark.parametrize("system", [[], [Message("system", "Be brief.")]], ids=["", "after a system prompt"])
def test_every_later_turn_is_the_adapters(
    contents: Sequence[str], system: list[Message], prompt: RevisionPrompt, tokenizer: ModelTokenizer
) -> None:
    assert prompt.matches(tokenizer.chat([*system, *asked(*contents)]))
    assert not prompt.matches(tokenizer.chat([*system, *asked(contents[0])]))


@pytest.mark.parametrize("contents", OTHERS)
def test_everything_else_is_not(contents: Sequence[str], prompt: RevisionPrompt, tokenizer: ModelTokenizer) -> None:
    assert not prompt.matches(tokenizer.chat(asked(*contents)))


def test_an_infill_with_an_instruction_is_an_edit_wherever_its_text_begins(
    prompt: RevisionPrompt, tokenizer: ModelTokenizer
) -> None:
    told = message("rename Clara to Otto", ("Once. ", "Clara ran.", ""), reads_marks=False)
    ids = tokenizer.chat([Message("system", "Be brief."), Message("user", told)])
    assert prompt.matches([*ids, *tokenizer.encode("Once. ")])
    assert not prompt.matches(tokenizer.encode("fix: teh end")) and not prompt.matches([])


def test_an_edit_or_a_later_turn_is_written_by_its_own_model_in_all_blocks() -> None:
    def chat(messages: Sequence[Message]) -> list[int]:
        return [1, *(i for m in messages for i in (2, 7 if m.content.startswith("fix") else 8, 3))]

    own, other = NumericDenoiser(), NumericDenoiser()
    prompt = RevisionPrompt(
        lambda m: [1, 2, 8 + (m[0].content == "b"), 3], lambda ids: "fix: it" if 7 in ids else "else"
    )
    stepper = RoutedStepper(ReferenceStepper(own), [Reviser(ReferenceStepper(other), prompt, SETTINGS)])

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
    ("given", "used"), [((0.4, 0.8), (T_MIN, T_MAX)), ((0.3, 0.8), (0.3, 0.8)), ((0.4, 1.0), (0.4, 1.0))]
)
def test_it_has_its_own_temperatures_unless_the_user_chose_others(
    given: tuple[float, float], used: tuple[float, float], prompt: RevisionPrompt
) -> None:
    own = replace(SETTINGS, t_min=0.4, t_max=0.8)
    stepper = Reviser(ReferenceStepper(NumericDenoiser()), prompt, own)
    settings = replace(own, t_min=given[0], t_max=given[1])
    log = RunLog(job := Job("a job", (1, 2), 3, 1, settings), engine.run(stepper, job))
    steps = [schedule.temperature(settings.steps - at, settings.steps, *used) for at in range(len(log.frames()))]
    assert [frame.temperature for frame in log.frames()] == steps
