"""What is held in a reply stays, in order; the ending floats and keeps the end of the reply after it."""

from dataclasses import replace

import pytest
from fakes import CANVAS, SETTINGS, NumericDenoiser, job, stepper

from dgtui.diffusion import engine
from dgtui.diffusion.job import BadJob
from dgtui.diffusion.log import RunLog
from dgtui.model_info import ModelInfo
from dgtui.steering.between import held_canvas, write_between
from dgtui.steering.lengths import CANDIDATES, LengthSearch

FILL, END = 1, 2
STOPS = frozenset({FILL, END})
MODEL = ModelInfo(CANVAS, 200, None, END, FILL, STOPS, STOPS)


def finished(plan: LengthSearch) -> RunLog:
    while (wanted := plan.job()) is not None:
        log = RunLog(wanted, engine.run(stepper(NumericDenoiser(sharpness=1.0)), wanted))
        plan.take(log)
    return log


def test_start_middle_and_ending_are_held_and_lengths_between_them_differ() -> None:
    parts = [[3, 4], [5], [6]]
    plan = write_between(replace(job(), settings=SETTINGS), held_canvas(parts, MODEL), MODEL)
    log = finished(plan)
    seen = set()
    for ranked in plan.ranked:
        ids = log.blocks(ranked.candidate)[0].ids.tolist()
        first, second = plan.gaps(ranked.candidate)
        assert ids[: first.start] == [3, 4] and ids[first.stop : second.start] == [5]
        assert ids[second.stop : second.stop + 2] == [6, END] and set(ids[second.stop + 2 :]) <= {FILL}
        assert not STOPS & {ids[place] for gap in (first, second) for place in gap}, "the reply ends after its ending"
        seen.add(ranked.tokens)
    assert 1 < len(seen) <= CANDIDATES


def test_a_long_gap_has_time_to_settle_before_its_length_is_judged() -> None:
    plan = write_between(replace(job(), settings=SETTINGS), held_canvas([[3, 4], [6]], MODEL), MODEL)
    steps = []
    while (wanted := plan.job()) is not None:
        steps.append(wanted.settings.steps)
        plan.take(RunLog(wanted, engine.run(stepper(NumericDenoiser(sharpness=1.0)), wanted)))
    probes = [count for count in steps if count != SETTINGS.steps]
    assert len(probes) >= 2 and set(probes) == {12}


def test_an_ending_alone_and_a_middle_alone_can_be_held() -> None:
    ending = held_canvas([[], [6, 7]], MODEL)
    assert (ending.kept, ending.ends) == (((), (6, 7, END)), True)
    middle = held_canvas([[], [5], []], MODEL)
    assert (middle.kept, middle.ends) == (((), (5,)), False)


def test_what_does_not_fit_with_a_place_between_is_refused() -> None:
    held_canvas([[3] * (CANVAS - 3), [4]], MODEL)
    with pytest.raises(BadJob, match="does not fit"):
        held_canvas([[3] * (CANVAS - 2), [4]], MODEL)


def test_ids_that_are_typed_divide_a_gap_or_replace_what_is_held() -> None:
    canvas = held_canvas([[3, 4], [6]], MODEL)
    gaps = [range(2, 6)]
    assert canvas.typed(4, [9], gaps).kept == ((3, 4), (9,), (6, END))
    assert canvas.typed(2, [9], gaps).kept == ((3, 4, 9), (6, END)), "right after the start"
    assert canvas.typed(1, [9], gaps).kept == ((3, 9), (6, END))
    assert canvas.typed(6, [9], gaps).kept == ((3, 4), (9, END))
