"""A request to solve a 9×9 Sudoku runs on the model for it, everything else on the other one."""

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from checkpoints import opened
from fakes import SETTINGS, NumericDenoiser

from dgtui.diffusion import engine
from dgtui.diffusion.control import Control
from dgtui.diffusion.events import Action, BlockStarted, Flag, Frame
from dgtui.diffusion.job import Amendment, Job, Start
from dgtui.diffusion.log import RunLog
from dgtui.diffusion.reference import ReferenceStepper
from dgtui.inference.grid_solver import STEPS, STEPS_AGAIN, GridPrompt, GridSolver
from dgtui.inference.routed import RoutedStepper
from dgtui.message import Message
from dgtui.model.catalog import EMBEDDED
from dgtui.model.loader import read_tokenizer
from dgtui.sudoku import Puzzle
from dgtui.train.lessons import grids

BOS, HEAD, TAIL, BREAK, FILL = 1, 2, 3, 4, 9
VOCAB, OWN, CANVAS = 23, 96, 100
PUZZLE, SOLUTION = grids.draw(random.Random(1), 9, 40)
OTHER, GRID = Message("user", "a tale"), Message("user", PUZZLE.prompt())
TEXT = [22] * CANVAS


def grid(puzzle: Puzzle) -> list[int]:
    """Cells are 11 to 20, line breaks 4."""
    return [11 + int(c) if c.isdigit() else BREAK for c in "\n".join(puzzle.rows())]


def chat(messages: Sequence[Message]) -> list[int]:
    """BOS, and each message between two marks."""
    found = [BOS]
    for message in messages:
        _, *rows = message.content.split("\n")
        ids = [11 + int(c) if c.isdigit() else BREAK for c in "\n".join(rows)] if rows else [0]
        found += [HEAD, *ids, TAIL]
    return found


def whole(cells: list[int]) -> list[int]:
    """The canvas of a grid."""
    return [*cells, *[FILL] * (CANVAS - len(cells))]


SOLVED = whole(grid(SOLUTION))
PINS = frozenset(range(CANVAS)) - {at for at, i in enumerate(grid(PUZZLE)) if i == 11}
LAID_OUT = Start(tuple(whole(grid(PUZZLE))), PINS)
FREE = [at for at in range(89) if at not in PINS]


class Writer(NumericDenoiser):
    """Is certain of what `write` gives for the number of the step, and remembers the canvases."""

    def __init__(self, length: int, write: Callable[[int], Sequence[int]]) -> None:
        super().__init__()
        self.canvas_length, self.max_context, self.write = length, 1000, write

    def logits(self, canvas_ids: torch.Tensor, self_conditioning: torch.Tensor | None) -> torch.Tensor:
        ids = self.write(len(self.seen))[: self.canvas_length]
        self.seen.append(canvas_ids.clone())
        out = torch.full((*canvas_ids.shape, VOCAB), -100.0)
        out[:, range(self.canvas_length), list(ids)] = 0.0
        return out


class Both:
    """Both models, and the stepper in front of them."""

    def __init__(self, write: Callable[[int], Sequence[int]] = lambda _: SOLVED) -> None:
        self.model, self.solver = Writer(CANVAS, lambda _: TEXT), Writer(OWN, write)
        large = GridSolver(ReferenceStepper(self.solver), GridPrompt(chat, 9), CANVAS, FILL)
        self.own = ReferenceStepper(self.model)
        self.small = GridSolver(self.own, GridPrompt(chat, 4), CANVAS, FILL, whole=True)
        self.stepper = RoutedStepper(self.own, [large, self.small])

    def run(self, *messages: Message, control: Control | None = None, **more: Any) -> RunLog:
        settings = more.pop("settings", SETTINGS)
        job = Job("a job", tuple(chat(messages)), 3, more.pop("max_tokens", CANVAS), settings, **more)
        return RunLog(job, engine.run(self.stepper, job, control))


def ids(log: RunLog, block: int = 0) -> list[int]:
    found: list[int] = log.blocks()[block].ids.tolist()
    return found


@pytest.mark.parametrize("history", [(), (OTHER,), (GRID, OTHER)])
def test_a_conversation_that_ends_with_a_grid_is_the_solvers(history: tuple[Message, ...]) -> None:
    both = Both()
    assert ids(both.run(*history, GRID)) == SOLVED
    assert both.solver.prefix == [BOS, *grid(PUZZLE)] and not both.model.seen
    assert not both.stepper.reads


@pytest.mark.parametrize("messages", [(OTHER,), (GRID, OTHER)])
def test_every_other_conversation_is_the_models(messages: tuple[Message, ...]) -> None:
    both = Both()
    both.run(GRID)
    assert ids(both.run(*messages)) == TEXT
    assert both.model.prefix == chat(messages) and both.stepper.reads


def test_a_second_block_is_the_models_and_a_fork_of_it_repeats_it() -> None:
    both = Both()
    log = both.run(GRID, max_tokens=2 * CANVAS)
    assert [ids(log, block) for block in (0, 1)] == [SOLVED, TEXT]
    job = log.fork(1, 2, "again", 3)
    again = RunLog(job, engine.run(both.stepper, job))
    for before, after in zip(log.frames(1)[:2], again.frames(1)[:2], strict=True):
        assert before.canvas.tolist() == after.canvas.tolist()


def test_pinned_cells_and_what_follows_the_grid_stay() -> None:
    log = Both().run(GRID, starts=(LAID_OUT,))
    assert ids(log) == SOLVED
    for frame in log.frames():
        assert frame.ids.tolist() == SOLVED
        pinned = (frame.flags & Flag.PINNED).astype(bool)
        assert [at for at in range(CANVAS) if not pinned[at]] == FREE
        assert frame.entropy.shape == (CANVAS,) and not frame.entropy[OWN:].any()
        assert frame.top_ids[-1, 0] == FILL and frame.top_probs[-1].tolist() == [1, 0, 0]


def test_without_pins_the_end_of_the_reply_is_certain_from_the_start() -> None:
    for frame in Both().run(GRID).frames():
        assert (frame.flags[OWN:] == Flag.ACCEPTED).all()


def test_with_only_the_givens_pinned_the_rest_is_the_end_of_the_reply() -> None:
    both = Both()
    log = both.run(GRID, starts=(replace(LAID_OUT, pinned=PINS - {*range(90, CANVAS - 1)}),))
    assert ids(log) == SOLVED
    assert set(both.solver.seen[0][0, 90:].tolist()) == {FILL}
    flags = log.frames()[0].flags
    assert (flags[OWN:-1] == Flag.ACCEPTED).all() and flags[-1] == Flag.PINNED


def test_to_write_a_part_of_the_rest_again_is_the_models() -> None:
    both = Both()
    log = both.run(GRID, starts=(replace(LAID_OUT, pinned=PINS - {OWN}, strength=0.9),))
    assert ids(log)[OWN] == TEXT[0] and both.stepper.reads


def test_without_a_free_cell_it_is_the_models() -> None:
    both = Both()
    log = both.run(GRID, starts=(Start(tuple(SOLVED), frozenset(range(90))),))
    assert ids(log) == [*SOLVED[:90], *TEXT[90:]] and both.stepper.reads


def test_pins_that_break_a_rule_end_it_once_nothing_else_does() -> None:
    free = FREE[0]
    row = [at for at in range(80, 89) if at % 10 != free % 10]  # the last row
    pins = [*SOLVED]
    pins[row[0]] = pins[row[1]]
    wrong = [i if at != free else 12 + (i - 11) % 9 for at, i in enumerate(SOLVED)]
    both = Both(lambda step: wrong if step < STEPS else SOLVED)
    start = Start(tuple(pins), frozenset(range(CANVAS)) - {free})
    log = both.run(GRID, starts=(start,), settings=replace(SETTINGS, steps=48))
    assert len(log.frames()) == STEPS + STEPS_AGAIN
    assert ids(log) == [i if at != free else SOLVED[free] for at, i in enumerate(pins)]


@pytest.mark.parametrize("position", [FREE[0], OWN + 1])
def test_a_token_is_pinned_and_freed_on_both_parts(position: int) -> None:
    broken = [SOLVED[FREE[1]] if at == FREE[2] else i for at, i in enumerate(SOLVED)]
    broken[FREE[1]] = broken[FREE[2]] = 12  # whatever else is pinned, it is never finished
    both, control = Both(lambda _: broken), Control()
    job = Job("a job", tuple(chat([GRID])), 3, CANVAS, SETTINGS)
    log = RunLog(job)
    for event in engine.run(both.stepper, job, control):
        log.append(event)
        if isinstance(event, Frame) and event.step == 1:
            control.amend(Amendment(position, Action.PIN, 17))
        if isinstance(event, Frame) and event.step == 3:
            control.amend(Amendment(position, Action.UNPIN))
    frames = log.frames()
    assert [frame.ids[position] == 17 for frame in frames[1:3]] == [True, True]
    assert [bool(frame.flags[position] & Flag.PINNED) for frame in frames[:4]] == [False, True, True, False]


def test_a_grid_that_breaks_no_rule_is_finished() -> None:
    log = Both().run(GRID, starts=(LAID_OUT,), settings=replace(SETTINGS, stability=5))
    assert len(log.frames()) == 1 and log.blocks()[0].settled


def swapped(first: int, second: int) -> list[int]:
    """The solution with two of its free cells exchanged."""
    found = [*SOLVED]
    found[FREE[first]], found[FREE[second]] = found[FREE[second]], found[FREE[first]]
    assert found != SOLVED
    return found


def test_a_grid_that_breaks_a_rule_is_opened_where_it_does_and_then_everywhere() -> None:
    wrong = swapped(0, 1)
    settled = replace(SETTINGS, steps=20, stability=1, confidence=1.0)
    both = Both(lambda step: wrong if step < 4 else SOLVED)
    log = both.run(GRID, starts=(LAID_OUT,), settings=settled)
    assert ids(log) == SOLVED and log.blocks()[0].settled
    frames = log.frames()
    assert [frame.ids.tolist() == SOLVED for frame in frames] == [False] * 4 + [True]
    opened_again = both.solver.seen[2][0].tolist()
    changed = {at for at in FREE if opened_again[at] != wrong[at]}
    assert changed and changed != {*FREE}
    everywhere = both.solver.seen[4][0].tolist()
    assert sum(everywhere[at] != wrong[at] for at in FREE) > 0.7 * len(FREE)
    for frame in frames:
        pinned = (frame.flags & Flag.PINNED).astype(bool)
        assert [at for at in range(CANVAS) if not pinned[at]] == FREE
    assert [bool((frame.flags & Flag.CHANGED).any()) for frame in frames] == [False] * 4 + [True]


def test_a_grid_that_does_not_settle_is_opened_again_and_its_forks_are_exact() -> None:
    def make() -> Both:
        return Both(lambda _: swapped(0, 1))

    settings = replace(SETTINGS, steps=48)
    both = make()
    log = both.run(GRID, starts=(LAID_OUT,), settings=settings)
    assert len(log.frames()) == 48 and not log.blocks()[0].settled
    seen = both.solver.seen
    assert not torch.equal(seen[STEPS][0, FREE], torch.tensor(swapped(0, 1))[FREE])
    for step in 1, STEPS + 3:
        other = make()
        job = log.fork(0, step, "again", 99)
        again = RunLog(job, engine.run(other.stepper, job))
        for before, after in zip(log.frames()[:step], again.frames()[:step], strict=True):
            assert before.canvas.tolist() == after.canvas.tolist()


def test_a_given_that_is_not_kept_breaks_a_rule_too() -> None:
    renamed = whole([*grid(Puzzle(tuple(value % 9 + 1 for value in SOLUTION.cells)))])
    log = Both(lambda _: renamed).run(GRID, settings=replace(SETTINGS, steps=3))
    assert not log.blocks()[0].settled


def test_several_candidates_are_not_checked() -> None:
    log = Both(lambda _: swapped(0, 1)).run(GRID, starts=(LAID_OUT, LAID_OUT))
    assert [log.blocks(candidate)[0].ids.tolist() for candidate in (0, 1)] == [swapped(0, 1)] * 2


def test_a_small_grid_is_the_models_and_checked_too() -> None:
    puzzle, solution = grids.draw(random.Random(2), 4, 8)
    solved = whole(grid(solution))
    free = [at for at, i in enumerate(grid(puzzle)) if i == 11]
    wrong = [i % 4 + 12 if at in free else i for at, i in enumerate(solved)]
    both = Both()
    both.model.write = lambda step: wrong if step < 4 else solved
    asked = Message("user", puzzle.prompt())
    start = Start(tuple(whole(grid(puzzle))), frozenset(range(CANVAS)) - {*free})
    log = both.run(OTHER, asked, starts=(start,), settings=replace(SETTINGS, steps=20, stability=1, confidence=1.0))
    assert ids(log) == solved and log.blocks()[0].settled
    assert both.model.prefix == chat([OTHER, asked]) and not both.solver.seen
    assert both.stepper.inner is both.small


def test_likelihoods_are_the_models() -> None:
    both = Both()
    log = both.run(GRID, likelihood=True)
    found = log.blocks()[0].log_probs
    assert found is not None and found.shape == (CANVAS,)
    assert both.model.prefix == chat([GRID])


def test_seeds_decide() -> None:
    canvases = set()
    for seed in 1, 2:
        job = Job("a job", tuple(chat([GRID])), seed, CANVAS, SETTINGS)
        started = RunLog(job, engine.run(Both().stepper, job))[0]
        assert isinstance(started, BlockStarted)
        canvases.add(tuple(started.canvas[0].tolist()))
    assert len(canvases) == 2


def test_the_embedded_models_prompt_is_recognised_in_every_form() -> None:
    tokenizer = read_tokenizer(opened(EMBEDDED))
    prompt = GridPrompt(tokenizer.chat, 9)
    cells = tokenizer.encode("\n".join(PUZZLE.rows()))
    assert len(cells) == 89
    assert prompt.digits == [tokenizer.encode(str(digit))[0] for digit in range(10)]
    for messages in [GRID], [Message("user", "hello"), Message("model", "Hello!"), GRID]:
        found = tokenizer.chat(messages)
        assert prompt.grid(found) == [found[0], *cells]
        assert prompt.grid(found[:-1]) is None
    small, _ = grids.draw(random.Random(1), 4, 6)
    text = PUZZLE.prompt()
    for other in small.prompt(), "hello", text + "1", text[:-1], "\n".join(PUZZLE.rows()):
        assert prompt.grid(tokenizer.chat([Message("user", other)])) is None
    assert prompt.grid([]) is None
    assert len(GridPrompt(tokenizer.chat, 4).grid(tokenizer.chat([Message("user", small.prompt())])) or ()) == 20
