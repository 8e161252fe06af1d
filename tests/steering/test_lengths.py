"""A gap moves what is right of it and nothing else; lengths are compared in one batch, the surest first."""

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
from dgtui.diffusion.events import BlockFinished, BlockStarted, Event, Flag, Frame, Ids
from dgtui.diffusion.job import BadJob, Job, SamplerSettings, Start
from dgtui.diffusion.log import RunLog
from dgtui.steering.lengths import (
    NoRoom,
    Ranked,
    _likelihoods,
    candidate_lengths,
    confidence,
    gap_room,
    gap_starts,
    rank,
)

FILL, END = 1, 2
STOPS = frozenset({FILL, END})
WORDS = st.integers(3, VOCAB - 1)

Gap = tuple[tuple[int, ...], int, int]
"""A canvas, where its gap is, and how many ids the gap takes the place of."""


@st.composite
def gaps(draw: st.DrawFn, ended: bool | None = None) -> Gap:
    """A gap in a reply that ends on the canvas, with fill behind it, or goes on beyond it."""
    ended = draw(st.booleans()) if ended is None else ended
    words = draw(st.lists(WORDS, min_size=0 if ended else CANVAS, max_size=CANVAS - 1 if ended else CANVAS))
    ids = (*words, END, *[FILL] * CANVAS)[:CANVAS]
    at = draw(st.integers(0, len(words)))
    return tuple(ids), at, draw(st.integers(0, len(words) - at))


def places(start: Start) -> list[int]:
    return sorted(set(range(CANVAS)) - start.pinned)


def ids_of(start: Start) -> tuple[int, ...]:
    assert start.ids is not None
    return start.ids


# Laying out a gap


@given(gaps(), st.data())
def test_outside_of_the_gap_every_id_is_where_it_should_be(gap: Gap, data: st.DataObject) -> None:
    ids, at, replaced = gap
    room = gap_room(ids, at, replaced, FILL, STOPS)
    assume(room)
    lengths = data.draw(st.lists(st.integers(1, room), min_size=1, max_size=4))
    for start, length in zip(gap_starts(ids, at, replaced, lengths, FILL, STOPS), lengths, strict=True):
        new, moved = ids_of(start), length - replaced
        assert len(new) == CANVAS
        assert new[:at] == ids[:at]
        right = (*ids[at + replaced :], *[FILL] * CANVAS)
        assert new[at + length :] == right[: CANVAS - at - length]
        assert [i for i in (*new[:at], *new[at + length :]) if i != FILL] == [
            i for i in (*ids[:at], *ids[at + replaced :]) if i != FILL
        ]
        opened = set(range(CANVAS + min(0, moved), CANVAS)) if END not in ids else set()
        assert set(places(start)) == set(range(at, at + length)) | opened
        assert start.strength == 1


@given(gaps())
def test_a_gap_of_the_old_length_is_the_canvas_with_the_gap_free(gap: Gap) -> None:
    ids, at, replaced = gap
    assume(replaced)
    (start,) = gap_starts(ids, at, replaced, [replaced], FILL, STOPS)
    assert start == Start(ids, frozenset(range(CANVAS)) - frozenset(range(at, at + replaced)))


@given(gaps())
def test_the_longest_gap_that_fits_uses_up_the_fill_and_one_more_is_refused(gap: Gap) -> None:
    ids, at, replaced = gap
    room = gap_room(ids, at, replaced, FILL, STOPS)
    assert room == replaced + (CANVAS - ids.index(END) - 1 if END in ids else 0)
    if room and END in ids:
        (start,) = gap_starts(ids, at, replaced, [room], FILL, STOPS)
        assert ids_of(start)[-1] == END
    with pytest.raises(NoRoom) as refused:
        gap_starts(ids, at, replaced, [1, room + 1], FILL, STOPS)
    assert refused.value.room == room


@given(gaps(ended=True), st.frozensets(st.integers(0, CANVAS - 1)), st.integers(1, CANVAS))
def test_what_was_free_beside_the_gap_stays_free_where_it_moves_to(gap: Gap, free: frozenset[int], length: int) -> None:
    ids, at, replaced = gap
    free -= {ids.index(END)}
    assume(length <= gap_room(ids, at, replaced, FILL, STOPS, free))
    (start,) = gap_starts(ids, at, replaced, [length], FILL, STOPS, free)
    moved = length - replaced
    beside = {p if p < at else p + moved for p in free if not at <= p < at + replaced}
    assert set(places(start)) == {*range(at, at + length), *(p for p in beside if p < CANVAS)}


def test_noise_that_looks_like_an_end_is_none() -> None:
    ids = (3, 4, 5, 6, END, 7, 8, 9, 9, 9, 9, 9)
    assert gap_room(ids, 2, 1, FILL, STOPS) == 1 + 7
    assert gap_room(ids, 2, 1, FILL, STOPS, frozenset({4})) == 1
    assert gap_room(ids, 2, 1, FILL, STOPS, frozenset(range(4, 12))) == 1 + 8
    (start,) = gap_starts(ids, 1, 3, [1], FILL, STOPS, frozenset(range(4, 12)))
    assert places(start) == [1, *range(2, 12)]


def test_fill_that_is_no_stop_id_is_used_up_from_the_end() -> None:
    ids = (3, 4, 5, 6, 0, 7, 0, 0, 0, 0, 0, 0)
    assert gap_room(ids, 1, 1, 0, {END}) == 1 + 6
    longest, shorter = gap_starts(ids, 1, 2, [8, 1], 0, {END})
    assert ids_of(longest)[9:] == (6, 0, 7)
    assert (ids_of(shorter)[2:], places(shorter)) == ((6, 0, 7, *[0] * 7), [1])


def test_a_gap_over_the_end_of_a_reply_keeps_an_end() -> None:
    ids = (3, 4, 5, END, *[FILL] * 8)
    (start,) = gap_starts(ids, 2, 2, [9], FILL, STOPS)
    assert ids_of(start)[11:] == (FILL,)
    assert gap_room(ids, 2, 2, FILL, STOPS) == 9


@pytest.mark.parametrize(
    ("room", "says"),
    [(0, "has no places left"), (1, "has 1 place left"), (7, "a gap of 9 does not fit: the canvas has 7 places left")],
)
def test_a_lack_of_room_says_how_much_there_is(room: int, says: str) -> None:
    assert says in str(NoRoom(9, room))
    assert isinstance(NoRoom(9, room), BadJob)


@pytest.mark.parametrize(
    ("at", "replaced", "lengths", "says"),
    [
        (-1, 2, [1], "outside the canvas of 12"),
        (0, -1, [1], "outside the canvas of 12"),
        (8, 5, [1], "outside the canvas of 12"),
        (3, 1, [2, 0], "1 or more"),
        (3, 1, [], "1 or more"),
    ],
)
def test_a_gap_that_is_none_is_refused(at: int, replaced: int, lengths: Sequence[int], says: str) -> None:
    with pytest.raises(BadJob, match=says):
        gap_starts((3, END, *[FILL] * 10), at, replaced, lengths, FILL, STOPS)


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


def test_no_room_and_no_count_are_refused() -> None:
    with pytest.raises(NoRoom, match="a gap of 1 does not fit: the canvas has no places left"):
        candidate_lengths(3, 0, 4)
    with pytest.raises(BadJob, match="count of lengths is 0"):
        candidate_lengths(3, 4, 0)


# Ranking


def search(
    lengths: Sequence[int], ids: Sequence[int] = (3, 4, 5, 6, 7, END, *[FILL] * 6), **changes: Any
) -> tuple[Job, Iterator[Event]]:
    wanted = job(starts=gap_starts(ids, 2, 2, lengths, FILL, STOPS), **changes)
    return wanted, engine.run(stepper(NumericDenoiser(sharpness=1.0)), wanted)


def ended(lengths: Sequence[int], **changes: Any) -> RunLog:
    return RunLog(*search(lengths, **changes))


def test_the_surest_gap_after_two_steps_is_first() -> None:
    lengths = (2, 5, 1, 3)
    log = ended(lengths)
    ranked = rank(log)
    assert {r.candidate: r.length for r in ranked} == dict(enumerate(lengths))
    assert all(a.score > b.score for a, b in pairwise(ranked))
    for r in ranked:
        second = log.frames(candidate=r.candidate)[1]
        free = second.flags & Flag.PINNED == 0
        assert r.score == pytest.approx(second.top_probs[free, 0].mean())
        assert r.ids is log.blocks(r.candidate)[0].ids


def test_the_gap_that_reads_likeliest_is_first_where_the_job_asks_for_it() -> None:
    lengths = (2, 5, 1, 3, 2)
    wanted = replace(search(lengths)[0], likelihood=True)
    ranked = rank(RunLog(wanted, engine.run(stepper(), wanted)))
    assert sorted(r.candidate for r in ranked) == [*range(len(lengths))]
    assert all(a.score >= b.score for a, b in pairwise(ranked))
    for r in ranked:  # in `fakes` the distance of an id from the one before; behind the gap are two
        steps = [float(abs(b - a)) for a, b in pairwise(r.ids[1 : 2 + r.length + 2].tolist())]
        inside, behind = steps[: r.length], steps[r.length :]
        assert r.score == pytest.approx(-sum(inside) / r.length * sum(lengths) / len(lengths) - sum(behind))


def test_what_fills_the_end_of_a_canvas_does_not_count() -> None:
    ids = np.array([3, 4, 5, 6, 7, END, *[FILL] * 6], np.int32)
    log_probs = np.full(CANVAS, -1, np.float32)
    log_probs[6:] = -100

    def block(candidate: int) -> BlockFinished:
        return BlockFinished("a job", candidate, 0, ids, 1, True, 0.0, log_probs)

    assert _likelihoods([block(0), block(1)], [range(2, 3), range(2, 4)]) == [-1.5 - 2, -1.5 - 2]
    assert _likelihoods([block(0), replace(block(1), log_probs=None)], [range(2, 3), range(2, 4)]) == []


def test_draws_of_a_length_are_compared_by_their_mean() -> None:
    log = ended((3, 1, 3, 1, 3))
    ranked = rank(log)
    assert [r.length for r in ranked] in ([3, 3, 3, 1, 1], [1, 1, 3, 3, 3])
    for length, draws in ((3, (0, 2, 4)), (1, (1, 3))):
        own = {c: confidence(log.frames(candidate=c)[1], range(2, 2 + length)) for c in draws}
        mine = [r for r in ranked if r.length == length]
        assert [r.candidate for r in mine] == sorted(draws, key=lambda c: -own[c])
        assert [r.score for r in mine] == pytest.approx([sum(own.values()) / len(own)] * len(draws))


def test_a_search_can_be_ranked_while_it_runs() -> None:
    wanted, events = search((2, 3))
    log = RunLog(wanted)
    known: list[list[Ranked]] = []
    for event in events:
        log.append(event)
        known.append(rank(log))
    assert [len(r) for r in known[:4]] == [0, 1, 2, 2]
    newest = {r.candidate: r.ids for r in known[5]}
    assert (newest[0] == log.frames(candidate=0)[2].ids).all()
    settled = known[4]  # both have taken two steps
    assert [(r.candidate, r.score) for r in settled] == [(r.candidate, r.score) for r in known[-1]]
    assert rank(RunLog(wanted)) == []


def test_places_that_are_free_elsewhere_do_not_count() -> None:
    unended = tuple(range(3, 3 + CANVAS))
    lengths = (2, 1)
    log = ended(lengths, ids=unended)
    assert places(log.job.starts[1]) == [2, CANVAS - 1]
    assert {r.candidate: r.length for r in rank(log)} == {0: 2, 1: 1}
    starts = gap_starts((3, 4, 5, 6, 7, END, *[FILL] * 6), 2, 2, lengths, FILL, STOPS, free=frozenset({0, 9}))
    log = RunLog(job(starts=starts), engine.run(stepper(), job(starts=starts)))
    assert {r.candidate: r.length for r in rank(log, at=2)} == {0: 2, 1: 1}


def test_a_candidate_that_was_done_after_one_step_counts_with_it() -> None:
    log = ended((2, 3), settings=SamplerSettings(steps=1))
    assert {len(log.frames(candidate=r.candidate)) for r in rank(log)} == {1}


@settings(max_examples=40, deadline=None)
@given(gaps(), st.data())
def test_a_search_keeps_all_but_the_gap_in_every_frame_and_result(gap: Gap, data: st.DataObject) -> None:
    ids, at, replaced = gap
    room = gap_room(ids, at, replaced, FILL, STOPS)
    assume(room)
    lengths = data.draw(st.lists(st.integers(1, room), min_size=1, max_size=5))
    starts = gap_starts(ids, at, replaced, lengths, FILL, STOPS)
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
    for candidate, canvas in seen:
        pinned = sorted(starts[candidate].pinned)
        assert canvas[pinned].tolist() == [ids_of(starts[candidate])[p] for p in pinned]
    assert sorted(r.candidate for r in rank(log)) == list(range(len(lengths)))


def test_importing_it_does_not_load_torch() -> None:
    code = "import sys, dgtui.steering.lengths; print(*{'torch', 'transformers', 'textual'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr


# On the model that ships


@pytest.mark.slow
def test_the_embedded_model_searches_lengths_in_one_batch() -> None:
    from dgtui.diffusion.reference import ReferenceStepper
    from dgtui.message import Message
    from dgtui.model import catalog
    from dgtui.model.denoiser import TransformersDenoiser
    from dgtui.model.loader import load
    from dgtui.model.parts import LoadOptions

    loaded = load(catalog.resolve(catalog.EMBEDDED), LoadOptions(device="cpu"))
    tokenizer, denoiser = loaded.tokenizer, TransformersDenoiser(loaded.model, loaded.stop_ids)
    assert tokenizer.turn_end_id is not None and tokenizer.eos_id is not None
    prompt = tuple(tokenizer.chat([Message("user", "Sort these words: pear, apple, fig")]))
    reply = tokenizer.encode("apple, fig, pear")
    ids = (*reply, tokenizer.turn_end_id, *[tokenizer.eos_id] * denoiser.canvas_length)[: denoiser.canvas_length]
    at, replaced = 1, max(1, len(reply) - 2)
    room = gap_room(ids, at, replaced, tokenizer.eos_id, loaded.stop_ids)
    assert room == denoiser.canvas_length - 1 - (len(reply) - replaced)
    lengths = candidate_lengths(replaced, room, 3)
    starts = gap_starts(ids, at, replaced, lengths, tokenizer.eos_id, loaded.stop_ids)
    wanted = Job("search", prompt, 0, settings=replace(loaded.settings, steps=4), starts=starts)
    log = RunLog(wanted, engine.run(ReferenceStepper(denoiser), wanted))
    ranked = rank(log)
    assert sorted((r.candidate, r.length) for r in ranked) == list(enumerate(lengths))
    assert [r.score for r in ranked] == sorted((r.score for r in ranked), reverse=True)
    for r in ranked:
        assert 0 < r.score <= 1
        assert r.ids[:at].tolist() == list(ids[:at])
        right = ids[at + replaced :]
        kept = denoiser.canvas_length - at - r.length
        assert r.ids[at + r.length :].tolist() == [*right, *[tokenizer.eos_id] * kept][:kept]
