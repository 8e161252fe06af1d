"""A gap moves what is right of it and nothing else. Lengths are compared in one batch, the likeliest first."""

import math
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from fakes import CANVAS, SETTINGS, VOCAB, NumericDenoiser, job, stepper
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from dgtui.diffusion import engine
from dgtui.diffusion.events import BlockFinished, BlockStarted, Event, Frame, Ids
from dgtui.diffusion.job import Job, Start
from dgtui.diffusion.log import RunLog
from dgtui.model_info import ModelInfo
from dgtui.steering import lengths
from dgtui.steering.lengths import (
    CANDIDATES,
    PROBE_STEPS,
    TRIED,
    UNLIKELY,
    GappedCanvas,
    LengthSearch,
    Ranked,
    candidate_lengths,
    is_unlikely,
    open_gap,
    rank,
)

FILL, END = 1, 2
STOPS = frozenset({FILL, END})
MODEL = ModelInfo(CANVAS, 200, None, END, FILL, STOPS, STOPS)
WORDS = st.integers(3, VOCAB - 1)
CANVAS_OF_LONG = 256
REPLY = (3, 4, 5, 6, 7, END, *[FILL] * 6)


@st.composite
def replies(draw: st.DrawFn) -> tuple[tuple[int, ...], int]:
    """A canvas of a reply that ends on it, with fill after the end, and a place in the reply."""
    words = draw(st.lists(WORDS, max_size=CANVAS - 1))
    return (*words, END, *[FILL] * CANVAS)[:CANVAS], draw(st.integers(0, len(words)))


def places(start: Start) -> list[int]:
    return sorted(set(range(CANVAS)) - start.pinned)


# Laying out gaps


@given(replies(), st.data())
def test_the_text_around_a_gap_stays_and_moves_as_one(reply: tuple[tuple[int, ...], int], data: st.DataObject) -> None:
    ids, at = reply
    canvas = open_gap(ids, at, MODEL)
    assert canvas.room == CANVAS - ids.index(END) - 1
    assume(canvas.room)
    length = data.draw(st.integers(1, canvas.room))
    start, (gap,) = canvas.start([length])
    assert start.ids is not None and len(start.ids) == CANVAS
    assert gap == range(at, at + length) and places(start) == [*gap]
    assert start.ids[:at] == ids[:at]
    assert start.ids[at + length :] == ids[at : CANVAS - length]
    assert END in start.ids and start.strength == 1


def test_a_reply_that_goes_on_leaves_only_its_fill_to_a_gap() -> None:
    model = replace(MODEL, fill_id=0, stop_ids=frozenset({END}))
    assert open_gap(tuple(range(3, 3 + CANVAS)), 4, model).room == 0
    canvas = open_gap((3, 4, 5, 6, 0, 7, 0, 0, 0, 0, 0, 0), 1, model)
    assert canvas.room == 6
    start, _ = canvas.start([6])
    assert start.ids is not None and start.ids[7:] == (4, 5, 6, 0, 7)


@given(st.lists(st.lists(WORDS, max_size=4).map(tuple), min_size=2, max_size=4).map(tuple), st.booleans(), st.data())
def test_several_gaps_lie_between_what_is_kept(
    kept: tuple[tuple[int, ...], ...], ends: bool, data: st.DataObject
) -> None:
    canvas = GappedCanvas(kept, min(2, len(kept[-1])), CANVAS, FILL, ends)
    gaps = len(kept) - 1
    assume(canvas.room >= gaps)
    lengths = data.draw(st.lists(st.integers(1, canvas.room // gaps), min_size=gaps, max_size=gaps))
    start, places_of = canvas.start(lengths)
    assert start.ids is not None and len(start.ids) == CANVAS
    assert [len(gap) for gap in places_of] == lengths
    edges = [0, *(edge for gap in places_of for edge in (gap.start, gap.stop)), CANVAS]
    text = [start.ids[a:b] for a, b in zip(edges[::2], edges[1::2], strict=True)]
    assert text[:-1] == list(kept[:-1])
    assert text[-1] == (*kept[-1], *[FILL] * CANVAS)[: len(text[-1])]
    free_end = range(min(CANVAS, sum(map(len, kept)) + sum(lengths)), CANVAS) if not ends else ()
    assert places(start) == sorted({*free_end, *(place for gap in places_of for place in gap)})


# Which lengths to try


@given(st.none() | st.integers(-3, 300), st.integers(1, 256), st.integers(1, 40))
def test_lengths_are_as_many_as_fit_and_different(guess: int | None, room: int, count: int) -> None:
    lengths = candidate_lengths(guess, room, count)
    assert len(lengths) == len(set(lengths)) == min(count, room)
    assert all(1 <= n <= room for n in lengths)
    if guess is not None:
        assert lengths[0] == min(max(1, guess), room)


def test_lengths_surround_a_guess() -> None:
    assert candidate_lengths(6, 40, 5) == (6, 7, 5, 8, 4)
    assert candidate_lengths(2, 40, 6) == (2, 3, 1, 4, 5, 6)
    assert candidate_lengths(40, 41, 5) == (40, 35, 30, 25, 20)
    assert candidate_lengths(40, 255, 5) == (40, 45, 35, 50, 30)


def test_lengths_without_a_guess_are_spread_in_equal_ratios() -> None:
    assert candidate_lengths(None, 40, 6) == (2, 3, 5, 8, 14, 24)
    assert candidate_lengths(None, 4, 9) == (1, 2, 3, 4)
    assert candidate_lengths(None, 255, 1) == (16,)


def test_a_search_for_a_long_gap_comes_closer_until_its_lengths_are_one_token_apart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The best length is always the one nearest to 40."""

    def nearest(log: RunLog) -> list[Ranked]:
        lengths = [CANVAS_OF_LONG - len(start.pinned) for start in log.job.starts]
        order = sorted(range(len(lengths)), key=lambda at: abs(lengths[at] - 40))
        return [Ranked(at, lengths[at], 1.0, -1.0) for at in order]

    monkeypatch.setattr("dgtui.steering.lengths.rank", nearest)
    canvas = GappedCanvas(((3,), (4, END)), 2, CANVAS_OF_LONG, FILL)
    search = LengthSearch(job(), canvas, [0], longest=96)
    rounds = []
    while (wanted := search.job()) is not None:
        rounds.append(sorted(CANVAS_OF_LONG - len(start.pinned) for start in wanted.starts))
        search.take(RunLog(wanted))
    far, around, near, last = rounds
    assert {45, 31} <= {*far} & {*around} and len(around) == TRIED, "around the best two"
    assert min(b - a for a, b in pairwise(near)) == 1 and last == [39, 40, 41]


def test_the_neighbours_of_the_best_length_are_written_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """A text that has not settled looks best three tokens too long."""
    wanted: Job | None

    def nearest(log: RunLog) -> list[Ranked]:
        assert wanted is not None
        lengths = [CANVAS_OF_LONG - len(start.pinned) for start in log.job.starts]
        best = 43 if wanted.settings.steps < 99 else 40
        order = sorted(range(len(lengths)), key=lambda at: abs(lengths[at] - best))
        return [Ranked(at, lengths[at], 1.0, -1.0) for at in order]

    monkeypatch.setattr("dgtui.steering.lengths.rank", nearest)
    canvas = GappedCanvas(((3,), (4, END)), 2, CANVAS_OF_LONG, FILL)
    search = LengthSearch(replace(job(), settings=replace(SETTINGS, steps=99)), canvas, [0], longest=96)
    rounds = []
    while (wanted := search.job()) is not None:
        rounds.append(sorted(CANVAS_OF_LONG - len(start.pinned) for start in wanted.starts))
        search.take(RunLog(wanted))
    assert rounds[-2:] == [[42, 43, 44], [41, 42, 43]] and search.ranked[0].tokens == 41


def test_a_gap_that_ends_with_the_beginning_of_what_follows_is_too_long_by_that(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """37 tokens read best. If they are not tried, 45 do, the last eight of which repeat the text after the gap."""

    def best(log: RunLog) -> list[Ranked]:
        lengths = [CANVAS_OF_LONG - len(start.pinned) for start in log.job.starts]
        order = sorted(range(len(lengths)), key=lambda at: (lengths[at] != 37, abs(lengths[at] - 45)))
        return [Ranked(at, lengths[at], 1.0, -1.0) for at in order]

    def written(start: Start, candidate: int) -> BlockFinished:
        length = CANVAS_OF_LONG - len(start.pinned)
        ids, repeated = np.array(start.ids), min(len(after), max(0, length - 37))
        ids[1 : 1 + length] = 9
        ids[1 + length - repeated : 1 + length] = after[:repeated]
        return BlockFinished("a", candidate, 0, ids, 1, True, 0.0)

    monkeypatch.setattr("dgtui.steering.lengths.rank", best)
    after = (4, 5, 6, 7, 8, 10, 11, END)
    search = LengthSearch(job(), GappedCanvas(((3,), after), len(after), CANVAS_OF_LONG, FILL), [0], longest=96)
    rounds = []
    while (wanted := search.job()) is not None:
        rounds.append(sorted(CANVAS_OF_LONG - len(start.pinned) for start in wanted.starts))
        search.take(RunLog(wanted, [written(start, number) for number, start in enumerate(wanted.starts)]))
    assert 45 in rounds[0] and 37 in rounds[1] and rounds[-1] == [36, 37, 38]


@pytest.mark.parametrize(
    ("gap", "after", "repeated"),
    [
        ((9, 3, 4, 5, 6), (3, 4, 5, 6, 7), 4),
        ((3, 4, 3, 4, 3, 4), (3, 4, 3, 4, 7), 4),
        ((9, 4, 5, 6), (4, 5, 6, 7), 0),  # too few: a rhyme, a list
        ((3, 4, 5, 6), (3, 4, 5, 6, 7), 0),  # nothing would be left
        ((3, 4, 5, 6, 9), (3, 4, 5, 6, 7), 0),
    ],
)
def test_a_repetition_is_at_the_end_of_a_gap_and_long(
    gap: tuple[int, ...], after: tuple[int, ...], repeated: int
) -> None:
    assert lengths._echo([*gap], after) == repeated


# Ranking


def run(lengths: Sequence[int], ids: Sequence[int] = REPLY, **changes: Any) -> tuple[Job, Iterator[Event]]:
    starts = tuple(open_gap(ids, 2, MODEL).start([length])[0] for length in lengths)
    wanted = replace(job(starts=starts), **changes)
    return wanted, engine.run(stepper(NumericDenoiser(sharpness=1.0)), wanted)


def test_the_gap_that_reads_likeliest_is_first() -> None:
    lengths = (2, 5, 1, 3, 2)
    ranked = rank(RunLog(*(asked := run(lengths, likelihood=True))))
    log = RunLog(*run(lengths, likelihood=True))
    assert [r.tokens for r in sorted(ranked, key=lambda r: r.candidate)] == [*lengths] and asked[0].likelihood
    assert all(a.likelihood >= b.likelihood for a, b in pairwise(ranked))
    for r in ranked:  # in `fakes` the distance of an id from the one before it; three ids of the reply follow the gap
        ids = log.blocks(r.candidate)[0].ids
        steps = [float(abs(b - a)) for a, b in pairwise(ids[1 : 2 + r.tokens + 4].tolist())]
        inside, follows = steps[: r.tokens], steps[r.tokens :]
        assert r.likelihood == pytest.approx(-sum(inside) / r.tokens * sum(lengths) / len(lengths) - sum(follows))


def test_what_fills_the_end_of_a_canvas_does_not_count() -> None:
    wanted, events = run((1, 2), likelihood=True)
    log_probs = np.full(CANVAS, -1, np.float32)
    log_probs[8:] = -100
    read = RunLog(wanted, [replace(e, log_probs=log_probs) if isinstance(e, BlockFinished) else e for e in events])
    assert [r.likelihood for r in rank(read)] == [-1.5 - 4, -1.5 - 4]


def test_where_a_run_does_not_say_how_likely_the_surest_gap_is_first() -> None:
    lengths = (2, 5, 1, 3)
    log = RunLog(*run(lengths))
    ranked = rank(log)
    assert {r.candidate: r.tokens for r in ranked} == dict(enumerate(lengths))
    assert {r.likelihood for r in ranked} == {-math.inf}
    assert all(a.score > b.score for a, b in pairwise(ranked))
    for r in ranked:
        newest = log.frames(candidate=r.candidate)[-1]
        assert r.score == pytest.approx(newest.top_probs[2 : 2 + r.tokens, 0].mean())


def test_a_search_can_be_ranked_while_it_runs() -> None:
    wanted, events = run((2, 3), likelihood=True)
    log = RunLog(wanted)
    ranked: list[list[Ranked]] = []
    for event in events:
        log.append(event)
        ranked.append(rank(log))
    assert [len(r) for r in ranked[:4]] == [0, 1, 2, 2]
    assert {r.likelihood for r in ranked[2]} == {-math.inf} and -math.inf not in {r.likelihood for r in ranked[-1]}
    assert rank(RunLog(wanted)) == []


def test_places_after_a_text_that_goes_on_are_no_gap() -> None:
    canvas = GappedCanvas(((3, 4), (5, 6)), 2, CANVAS, FILL, ends=False)
    starts = tuple(canvas.start([length])[0] for length in (2, 1))
    assert places(starts[1]) == [2, *range(5, CANVAS)]
    log = RunLog(job(starts=starts), engine.run(stepper(), job(starts=starts)))
    assert {r.candidate: r.tokens for r in rank(log)} == {0: 2, 1: 1}


# The search


def test_lengths_are_tried_apart_then_around_the_best_two_and_the_best_are_written_to_the_end() -> None:
    search = LengthSearch(replace(job(), settings=SETTINGS), open_gap(REPLY, 2, MODEL), [0])
    jobs = []
    while (wanted := search.job()) is not None:
        jobs.append(wanted)
        log = RunLog(wanted, engine.run(stepper(NumericDenoiser(sharpness=1.0)), wanted))
        assert 0 <= search.best(log) < wanted.candidates
        search.take(log)
    written = len(jobs) - 2  # once more if a neighbour of the best was not among the first
    assert [j.settings.steps for j in jobs] == [PROBE_STEPS, PROBE_STEPS, *[SETTINGS.steps] * written]
    assert [j.candidates for j in jobs] == [6, 6, *[CANDIDATES] * written], "the canvas has room for six"
    assert 1 <= written <= 2
    assert [r.likelihood for r in search.ranked] == sorted((r.likelihood for r in search.ranked), reverse=True)
    assert len({r.tokens for r in search.ranked}) == CANDIDATES


@pytest.mark.parametrize("sharpness", [1.0, 9.0])
def test_a_gap_may_be_left_empty_and_is_if_nothing_that_was_written_is_likely(sharpness: float) -> None:
    search = LengthSearch(replace(job(), settings=SETTINGS), open_gap(REPLY, 2, MODEL), [0], may_be_empty=True)
    while (wanted := search.job()) is not None:
        log = RunLog(wanted, engine.run(stepper(NumericDenoiser(sharpness=sharpness)), wanted))
        search.take(log)
    (empty,) = [r for r in search.ranked if not r.tokens]
    assert log.blocks(empty.candidate)[0].ids.tolist() == list(REPLY)
    unlikely = all(min(r.nats, r.gap_nats) < UNLIKELY for r in search.ranked if r.tokens)
    assert search.ranked.index(empty) == (0 if unlikely else CANDIDATES)


def test_a_text_is_unlikely_by_the_mean_over_its_tokens() -> None:
    for nats, unlikely in ((UNLIKELY - 0.1, True), (UNLIKELY + 0.1, False)):
        wanted, events = run((1,), likelihood=True)
        log_probs = np.full(CANVAS, nats, np.float32)
        log_probs[8:] = 0.0  # fill
        read = RunLog(wanted, [replace(e, log_probs=log_probs) if isinstance(e, BlockFinished) else e for e in events])
        assert is_unlikely(read, 0) is unlikely
    assert not is_unlikely(RunLog(*run((1,))), 0), "a text that was not read"


@settings(max_examples=40, deadline=None)
@given(replies(), st.data())
def test_a_search_keeps_all_but_the_gap_in_every_frame_and_result(
    reply: tuple[tuple[int, ...], int], data: st.DataObject
) -> None:
    ids, at = reply
    canvas = open_gap(ids, at, MODEL)
    assume(canvas.room)
    lengths = data.draw(st.lists(st.integers(1, canvas.room), min_size=1, max_size=5))
    starts = tuple(canvas.start([length])[0] for length in lengths)
    wanted = job(starts=starts, settings=replace(SETTINGS, steps=3))
    log = RunLog(wanted, engine.run(stepper(), wanted))
    seen: list[tuple[int, Ids]] = []
    for event in log:
        if isinstance(event, Frame):
            seen += [(event.candidate, event.ids), (event.candidate, event.canvas)]
        elif isinstance(event, BlockFinished):
            seen.append((event.candidate, event.ids))
        elif isinstance(event, BlockStarted):
            seen += enumerate(event.canvas)
    for candidate, shown in seen:
        pinned, before = sorted(starts[candidate].pinned), starts[candidate].ids
        assert before is not None
        assert shown[pinned].tolist() == [before[place] for place in pinned]
    assert sorted(r.candidate for r in rank(log)) == list(range(len(lengths)))


def test_importing_it_does_not_load_torch() -> None:
    code = "import sys, dgtui.steering.lengths; print(*{'torch', 'transformers', 'textual'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr
