"""A request to solve a 9×9 Sudoku runs on the model for it, everything else on the other one."""

import random
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from checkpoints import opened
from fakes import CANVAS, SETTINGS, VOCAB, NumericDenoiser, certain

from dgtui.diffusion import engine
from dgtui.diffusion.control import Control
from dgtui.diffusion.events import Action, BlockStarted, Flag, Frame
from dgtui.diffusion.job import Amendment, Job, Start
from dgtui.diffusion.log import RunLog
from dgtui.diffusion.reference import ReferenceStepper
from dgtui.inference.routed import GridPrompt, RoutedStepper
from dgtui.message import Message
from dgtui.model.catalog import EMBEDDED
from dgtui.model.loader import read_tokenizer
from dgtui.sudoku import Puzzle
from dgtui.train.lessons import grids

BOS, HEAD, TAIL, BREAK = 1, 2, 3, 4
SHORT = 8
FILL = 9
TEXT, SOLVED = [20] * CANVAS, [10] * SHORT + [FILL] * (CANVAS - SHORT)


class Solver(NumericDenoiser):
    """Writes `SOLVED` on a shorter canvas."""

    def __init__(self) -> None:
        super().__init__()
        self.canvas_length = SHORT

    def logits(self, canvas_ids: torch.Tensor, self_conditioning: torch.Tensor | None) -> torch.Tensor:
        self.forwards.append(len(canvas_ids))
        out = torch.full((*canvas_ids.shape, VOCAB), -100.0)
        out[..., SOLVED[0]] = 0.0
        return out


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
    return NumericDenoiser(script=certain(TEXT)), Solver()


@pytest.fixture
def routed(models: tuple[NumericDenoiser, NumericDenoiser]) -> RoutedStepper:
    model, solver = (ReferenceStepper(denoiser) for denoiser in models)
    return RoutedStepper(model, solver, GridPrompt(chat), FILL)


def run(
    stepper: RoutedStepper, *messages: Message, tokens: int = CANVAS, control: Control | None = None, **more: Any
) -> RunLog:
    job = Job("a job", tuple(chat(messages)), 3, tokens, SETTINGS, **more)
    return RunLog(job, engine.run(stepper, job, control))


def start(*free: int) -> Start:
    return Start((*[2] * SHORT, *[FILL] * (CANVAS - SHORT)), frozenset(range(CANVAS)) - {*free})


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


def test_pinned_cells_and_what_follows_the_grid_stay(routed: RoutedStepper) -> None:
    log = run(routed, GRID, starts=(start(1, 5),))
    wanted = [2, 10, 2, 2, 2, 10, 2, 2, *SOLVED[SHORT:]]
    assert log.blocks()[0].ids.tolist() == wanted
    for frame in log.frames():
        assert frame.ids.tolist() == wanted
        pinned = (frame.flags & Flag.PINNED).astype(bool)
        assert pinned.tolist() == [place not in (1, 5) for place in range(CANVAS)]
        assert frame.entropy.shape == (CANVAS,) and not frame.entropy[SHORT:].any()
        assert frame.top_ids[-1, 0] == FILL and frame.top_probs[-1].tolist() == [1, 0, 0]


def test_without_pins_the_end_of_the_reply_is_certain_from_the_start(routed: RoutedStepper) -> None:
    for frame in run(routed, GRID).frames():
        assert (frame.flags[SHORT:] == Flag.ACCEPTED).all()


def test_a_canvas_that_is_free_after_the_grid_is_the_models(routed: RoutedStepper) -> None:
    job = Job("a job", tuple(chat([GRID])), 3, CANVAS, SETTINGS, (start(1, SHORT),))
    log = RunLog(job, engine.run(routed, job))
    ids = log.blocks()[0].ids.tolist()
    assert ids[1] == ids[SHORT] == TEXT[0] and routed.reads


@pytest.mark.parametrize("position", [3, SHORT + 1])
def test_a_token_is_pinned_and_freed_on_both_parts(position: int, routed: RoutedStepper) -> None:
    control = Control()
    job = Job("a job", tuple(chat([GRID])), 3, CANVAS, SETTINGS)
    log = RunLog(job)
    for event in engine.run(routed, job, control):
        log.append(event)
        if isinstance(event, Frame) and event.step == 1:
            control.amend(Amendment(position, Action.PIN, 17))
        if isinstance(event, Frame) and event.step == 3:
            control.amend(Amendment(position, Action.UNPIN))
    frames = log.frames()
    assert [frame.ids[position] == 17 for frame in frames[:3]] == [False, True, True]
    assert [bool(frame.flags[position] & Flag.PINNED) for frame in frames[:4]] == [False, True, True, False]


def test_likelihoods_are_the_models(routed: RoutedStepper, models: tuple[NumericDenoiser, NumericDenoiser]) -> None:
    log = run(routed, GRID, likelihood=True)
    found = log.blocks()[0].log_probs
    assert found is not None and found.shape == (CANVAS,)
    assert models[0].prefix == chat([GRID])


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
