"""A finished canvas is read from left to right, and what is unlikely there is written again."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from fakes import CANVAS, EOS, SETTINGS, VOCAB, NumericDenoiser, certain, job
from hypothesis import given
from hypothesis import strategies as st

from dgtui.diffusion import engine
from dgtui.diffusion.control import Control
from dgtui.diffusion.events import Action, Amended, Event, Flag, Frame, StopReason
from dgtui.diffusion.job import Amendment, Job, Start
from dgtui.diffusion.log import RunLog
from dgtui.diffusion.proofreading import CHANGES, TOGETHER, Passage, Text, joined
from dgtui.diffusion.reference import ReferenceStepper
from dgtui.diffusion.stepper import CandidateStep

GOOD = [10, 9, 8, 7, 6, *[EOS] * (CANVAS - 5)]
DOUBLED = [10, 9, 8, 8, 7, 6, *[EOS] * (CANVAS - 6)]
MISSING = [10, 9, 7, 6, *[EOS] * (CANVAS - 4)]
WRONG = [10, 9, 8, 20, 6, *[EOS] * (CANVAS - 5)]
ONE_STEP = replace(SETTINGS, steps=1, stability=1, proofread=4)


class Reader(NumericDenoiser):
    """Writes `first`, and then always `again`. Finds likely only what stands where it stands in `likely`."""

    def __init__(self, first: Sequence[int], again: Sequence[int] = GOOD, likely: Sequence[int] = GOOD) -> None:
        super().__init__()
        self._likely = torch.tensor(likely)
        self._scripts = certain(first), certain(again)
        self.read = 0

    def logits(self, canvas_ids: torch.Tensor, self_conditioning: torch.Tensor | None) -> torch.Tensor:
        out = super().logits(canvas_ids, self_conditioning)
        return self._scripts[len(self.forwards) > 1](out, 0)

    def log_probs(self, canvas_ids: torch.Tensor) -> torch.Tensor:
        self.read += len(canvas_ids)
        return -5.0 * (canvas_ids != self._likely).float()


def run(job: Job, denoiser: NumericDenoiser, control: Control | None = None) -> RunLog:
    return RunLog(job, engine.run(ReferenceStepper(denoiser), job, control))


def result(log: RunLog) -> list[int]:
    (block,) = log.blocks()
    ids: list[int] = block.ids.tolist()
    return ids


@pytest.mark.parametrize("first", [DOUBLED, MISSING, WRONG])
def test_a_doubled_a_missing_and_a_wrong_word_are_mended(first: list[int]) -> None:
    log = run(job(settings=ONE_STEP), Reader(first))
    frames = log.frames()
    assert frames[0].ids.tolist() == first
    assert result(log) == frames[-1].ids.tolist() == GOOD
    assert [frame.step for frame in frames] == list(range(1, len(frames) + 1))
    assert all(frame.step <= frame.max_steps for frame in frames)
    assert log.blocks()[0].steps == len(frames) > 1
    assert log.finished is not None
    assert log.finished.steps == (len(frames),) and log.finished.reason is StopReason.EOS


def test_its_frames_show_nothing_as_pinned_and_what_changed() -> None:
    first, second, *_ = run(job(settings=ONE_STEP), Reader(DOUBLED)).frames()
    assert not (second.flags & Flag.PINNED).any()
    changed = (second.flags & Flag.CHANGED).astype(bool)
    assert changed.tolist() == (first.ids != second.ids).tolist() and changed.any()
    assert second.flags.dtype == np.uint8 and not second.flags.flags.writeable


@pytest.mark.parametrize(
    "other",
    [
        job(settings=replace(ONE_STEP, proofread=0)),
        job(settings=ONE_STEP, candidates=2),
        job(settings=ONE_STEP, start=Start(tuple(DOUBLED), frozenset({0}))),
    ],
)
def test_not_without_the_setting_nor_with_pins_or_several_candidates(other: Job) -> None:
    denoiser = Reader(DOUBLED)
    log = run(other, denoiser)
    assert result(log) == DOUBLED
    assert denoiser.read == 0 and len(log.frames()) == 1


def test_not_where_likelihoods_are_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ReferenceStepper, "reads", False)
    denoiser = Reader(DOUBLED)
    assert result(run(job(settings=ONE_STEP), denoiser)) == DOUBLED
    assert denoiser.read == 0


def test_a_text_that_is_not_more_likely_is_not_kept() -> None:
    log = run(job(settings=ONE_STEP), Reader(WRONG, [21] * CANVAS))
    assert result(log) == WRONG
    assert len(log.frames()) == 1


def test_at_most_so_many_passages_are_tried() -> None:
    wrong = [20, 20, 20, *GOOD[3:]]
    for most, tried in (2, 2), (3, 3), (6, 6), (9, 6):  # two attempts at each
        denoiser = Reader(wrong, [21] * CANVAS)
        assert result(run(job(settings=replace(ONE_STEP, proofread=most)), denoiser)) == wrong
        assert denoiser.read == 1 + tried * len(CHANGES)


def test_words_far_apart_are_mended_in_the_same_steps() -> None:
    good = [10, 9, 8, 7, 6, 4, 3, *[EOS] * (CANVAS - 7)]
    one, two = [10, 20, *good[2:]], [10, 20, *good[2:6], 20, *good[7:]]
    frames = [run(job(settings=ONE_STEP), Reader(first, good, good)).frames() for first in (one, two)]
    assert frames[0][-1].ids.tolist() == frames[1][-1].ids.tolist() == good
    assert frames[1][0].ids.tolist() == two
    assert len(frames[0]) == len(frames[1])


def test_passages_do_not_touch_and_are_not_too_many() -> None:
    unlikely = np.zeros(64, np.float32)
    unlikely[[3, 5, 9, 20, 21, 30, 40, 50]] = -9.0
    text = Text.of(np.arange(64, dtype=np.int32), unlikely, frozenset({60}))
    assert [one.place for one in text.passages({}, 9)] == [3, 9, 20, 30]
    assert [one.place for one in text.passages({3: 2, 20: 2}, 9)] == [5, 21, 30, 40]
    assert [(one.first, one.stop) for one in text.passages({3: 2, 5: 3, 9: 2}, 2)] == [(18, 22), (28, 32)]
    assert [(one.first, one.stop) for one in text.passages({3: 1, 20: 1}, 3)] == [(0, 7), (16, 24), (28, 32)]
    assert text.passages({}, 0) == []


@given(st.lists(st.tuples(st.integers(1, 5), st.sampled_from(CHANGES)), min_size=1, max_size=TOGETHER))
def test_passages_of_new_lengths_are_put_together(asked: list[tuple[int, int]]) -> None:
    size, end = 64, 45
    ids = [*range(100, 100 + end), *[0] * (size - end)]
    expected, moved, stop, steps = list(ids), 0, 0, []
    for number, (apart, change) in enumerate(asked):
        first, stop = stop + apart, stop + apart + 4
        new = [1000 + number] * (4 + change)
        row = np.array([*ids[:first], *new, *ids[stop:], 0][:size], np.int32)
        flat = row.astype(np.float32)
        step = CandidateStep(1, row, row, flat, row.astype(np.uint8), row[:, None], flat[:, None], 0.0, 0.5, True)
        steps.append((Passage(first + 2, first, stop), change, step))
        expected[first + moved : stop + moved] = new
        moved += change
    whole = joined(steps)
    assert whole.ids.tolist() == [*expected, *[0] * size][:size]
    assert whole.top_ids.tolist() == [[i] for i in whole.ids.tolist()]
    assert not whole.ids.flags.writeable


def test_a_hopeless_text_is_left_as_it_is() -> None:
    denoiser = Reader([20, 20, 20, 20, *GOOD[4:]])
    run(job(settings=replace(ONE_STEP, proofread=2)), denoiser)
    assert denoiser.read == 1


def test_only_a_text_that_ends_with_room_changes_its_length() -> None:
    likely = np.zeros(CANVAS, np.float32)
    stops, passage = frozenset({EOS}), Passage(3, 1, 5)
    starts = Text.of(np.array(DOUBLED, np.int32), likely, stops).openings(passage)
    assert [CANVAS - len(start.pinned) - 4 for start in starts] == [*CHANGES]
    for start in starts:
        assert start.ids is not None and start.ids[0] == 10 and start.ids[-1] == EOS
        assert [start.ids[place] for place in sorted(start.pinned)][1:3] == [6, EOS]
    full = Text.of(np.array([20] * (CANVAS - 1) + [EOS], np.int32), likely, stops)
    endless = Text.of(np.array([20] * CANVAS, np.int32), likely, stops)
    assert len(full.openings(passage)) == len(endless.openings(passage)) == 1
    assert len(endless.openings(Passage(CANVAS - 1, CANVAS - 3, CANVAS))) == 1


def test_the_end_itself_may_be_unlikely_and_what_follows_it_is_not_read() -> None:
    unlikely = np.full(CANVAS, -9.0, np.float32)
    unlikely[:4] = 0.0
    text = Text.of(np.array(GOOD, np.int32), unlikely, frozenset({EOS}))
    assert text.end == 5
    assert text.unlikely() == [4, 5]
    assert text.nats == -18.0


def steered(amendment: Amendment | None, settled: int = 1) -> RunLog:
    """Proofreads a doubled word, and does something after so many frames."""
    control = Control()
    asked = job(settings=ONE_STEP)
    log = RunLog(asked)
    for event in engine.run(ReferenceStepper(Reader(DOUBLED)), asked, control):
        log.append(event)
        if isinstance(event, Frame) and event.step == settled:
            if amendment is None:
                control.cancel()
            else:
                control.amend(amendment)
    return log


def test_a_pin_holds_what_was_on_the_screen_and_ends_it() -> None:
    log = steered(Amendment(3, Action.PIN, 19))
    assert result(log) == [*DOUBLED[:3], 19, *DOUBLED[4:]]
    assert [(e.position, e.token) for e in log if isinstance(e, Amended)] == [(3, 19)]
    assert len(log.frames()) == 1


@pytest.mark.parametrize(
    "late",
    [
        Amendment(CANVAS, Action.PIN, 3),
        Amendment(3, Action.PIN, VOCAB),
        Amendment(3, Action.PIN, 19, candidate=1),
        Amendment(3, Action.PIN, 19, block=1),
        Amendment(3, Action.UNPIN),
    ],
)
def test_a_change_that_does_not_fit_has_no_effect(late: Amendment) -> None:
    log = steered(late)
    assert result(log) == GOOD
    assert not any(isinstance(event, Amended) for event in log)


def test_a_cancel_keeps_the_whole_reply() -> None:
    log = steered(None)
    assert result(log) == DOUBLED
    assert log.finished is not None and log.finished.reason is StopReason.EOS


def test_it_waits_while_the_run_is_paused() -> None:
    control = Control()
    asked = job(settings=ONE_STEP)
    events: list[Event] = []
    for event in engine.run(ReferenceStepper(Reader(DOUBLED)), asked, control):
        if isinstance(event, Frame) and event.step == 1:
            control.pause()
            control.step()
            control.amend(Amendment(0, Action.PIN, 10))  # ends it; without it, the next step would wait for ever
        events.append(event)
    assert sum(isinstance(event, Frame) for event in events) == 1


def test_a_fork_from_one_of_its_steps_repeats_those_before() -> None:
    log = run(job(settings=ONE_STEP, seed=4), Reader(DOUBLED))
    frames = log.frames()
    for step in (1, 2, len(frames)):
        again = run(log.fork(0, step, "fork", 99), Reader(DOUBLED)).frames()
        for one, two in zip(frames[:step], again[:step], strict=True):
            assert one.ids.tolist() == two.ids.tolist() and one.canvas.tolist() == two.canvas.tolist()


def test_the_next_block_follows_the_mended_one() -> None:
    settings = replace(ONE_STEP, proofread=CANVAS)
    ids = [12] * CANVAS
    denoiser = Reader(ids)
    log = run(job(settings=settings, max_tokens=2 * CANVAS), denoiser)
    assert len(log.blocks()) == 2
    assert denoiser.prefix[3:] == log.blocks()[0].ids.tolist() != ids
