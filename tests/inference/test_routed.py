"""A request to solve a 9×9 Sudoku runs on the model for it, everything else on the other one."""

import random
from collections.abc import Sequence

import pytest
from checkpoints import opened
from fakes import CANVAS, SETTINGS, NumericDenoiser, certain

from dgtui.diffusion import engine
from dgtui.diffusion.events import BlockStarted
from dgtui.diffusion.job import Job
from dgtui.diffusion.log import RunLog
from dgtui.diffusion.reference import ReferenceStepper
from dgtui.inference.routed import GridPrompt, RoutedStepper
from dgtui.message import Message
from dgtui.model.catalog import EMBEDDED
from dgtui.model.loader import read_tokenizer
from dgtui.sudoku import Puzzle
from dgtui.train.lessons import grids

BOS, HEAD, TAIL, BREAK = 1, 2, 3, 4
TEXT, SOLVED = [20] * CANVAS, [10] * CANVAS


def chat(messages: Sequence[Message]) -> list[int]:
    """BOS, and each message between two marks: cells are 11 to 20, line breaks 4, any other character 0."""
    found = [BOS]
    for message in messages:
        rows = message.content.split("\n")[-9:]
        ids = [11 + int(c) if c.isdigit() else BREAK for c in "\n".join(rows)] if len(rows) == 9 else [0]
        found += [HEAD, *ids, TAIL]
    return found


GRID = Message("user", Puzzle((0, 3) * 40 + (0,)).prompt())
OTHER = Message("user", "a tale")


@pytest.fixture
def models() -> tuple[NumericDenoiser, NumericDenoiser]:
    return NumericDenoiser(script=certain(TEXT)), NumericDenoiser(script=certain(SOLVED))


@pytest.fixture
def routed(models: tuple[NumericDenoiser, NumericDenoiser]) -> RoutedStepper:
    model, solver = (ReferenceStepper(denoiser) for denoiser in models)
    return RoutedStepper(model, solver, GridPrompt(chat))


def run(stepper: RoutedStepper, *messages: Message, tokens: int = CANVAS) -> RunLog:
    job = Job("a job", tuple(chat(messages)), 3, tokens, SETTINGS)
    return RunLog(job, engine.run(stepper, job))


@pytest.mark.parametrize("history", [(), (OTHER,), (GRID, OTHER)])
def test_a_conversation_that_ends_with_a_grid_is_the_solvers(
    history: tuple[Message, ...], routed: RoutedStepper, models: tuple[NumericDenoiser, NumericDenoiser]
) -> None:
    log = run(routed, *history, GRID)
    assert log.blocks()[0].ids.tolist() == SOLVED
    assert models[1].prefix == [BOS, *chat([GRID])[2:-1]] and not models[0].forwards
    assert not routed.reads


@pytest.mark.parametrize("messages", [(OTHER,), (GRID, OTHER)])
def test_every_other_conversation_is_the_models(
    messages: tuple[Message, ...], routed: RoutedStepper, models: tuple[NumericDenoiser, NumericDenoiser]
) -> None:
    run(routed, GRID)
    log = run(routed, *messages)
    assert log.blocks()[0].ids.tolist() == TEXT
    assert models[0].prefix == chat(messages) and routed.reads


def test_a_second_block_is_the_models_and_a_fork_of_it_repeats_it(routed: RoutedStepper) -> None:
    log = run(routed, GRID, tokens=2 * CANVAS)
    assert [block.ids.tolist() for block in log.blocks()] == [SOLVED, TEXT]
    job = log.fork(1, 2, "again", 3)
    again = RunLog(job, engine.run(routed, job))
    for before, after in zip(log.frames(1)[:2], again.frames(1)[:2], strict=True):
        assert before.canvas.tolist() == after.canvas.tolist()


def test_seeds_decide_on_both(routed: RoutedStepper) -> None:
    canvases = set()
    for seed in 1, 2:
        job = Job("a job", tuple(chat([GRID])), seed, CANVAS, SETTINGS)
        started = RunLog(job, engine.run(routed, job))[0]
        assert isinstance(started, BlockStarted)
        canvases.add(tuple(started.canvas[0].tolist()))
    assert len(canvases) == 2


def test_the_embedded_models_prompt_is_recognised_in_every_form() -> None:
    tokenizer = read_tokenizer(opened(EMBEDDED))
    prompt = GridPrompt(tokenizer.chat)
    puzzle, _ = grids.draw(random.Random(1), 9, 40)
    asked = Message("user", puzzle.prompt())
    cells = tokenizer.encode("\n".join(puzzle.rows()))
    assert len(cells) == 89
    for messages in [asked], [Message("user", "hello"), Message("model", "Hello!"), asked]:
        ids = tokenizer.chat(messages)
        assert prompt.grid(ids) == [ids[0], *cells]
        assert prompt.grid(ids[:-1]) is None
    small, _ = grids.draw(random.Random(1), 4, 6)
    for text in small.prompt(), "hello", puzzle.prompt() + "1", puzzle.prompt()[:-1], "\n".join(puzzle.rows()):
        assert prompt.grid(tokenizer.chat([Message("user", text)])) is None
    assert prompt.grid([]) is None
