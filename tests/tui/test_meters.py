"""Numbers against logs whose seconds are known."""

from dataclasses import replace

import pytest
from runs import STOP, STOP_IDS, SURE, done, finished, frame, log, started

from dgtui.diffusion.events import Flag, StopReason
from dgtui.diffusion.log import RunLog
from dgtui.text import cell_width
from dgtui.tui.frames import view_at
from dgtui.tui.widgets.meters import Measures, line, measure, memory, status

A, R, P = Flag.ACCEPTED, Flag.RENOISED, Flag.PINNED

TWO_BLOCKS = (
    started(1.0),
    frame(1.5, 1, [1, 2, 3, 4], [R] * 4),
    frame(1.75, 2, [1, 2, 3, 4], SURE),
    done(1.75, [1, 2, 3, 4], 2),
    started(2.0, block=1),
    frame(2.25, 1, [5, STOP, 6, 6], SURE, block=1),
)


def of(run: RunLog) -> Measures:
    return measure(run, stop_ids=STOP_IDS)


def test_nothing_is_said_of_a_run_that_has_taken_no_step() -> None:
    for run in (log(), log(started(0.5))):
        found = of(run)
        assert found == Measures(0, None, None, None, None, "", "")


def test_a_finished_run_is_measured_by_its_own_clock() -> None:
    run = log(*TWO_BLOCKS, done(2.25, [5, STOP, 6, 6], 1, block=1), finished(2.5, [1, 2, 3, 4, 5], [2, 1]))
    found = of(run)
    assert found.tokens == 5
    assert found.tokens_per_second == 5 / 2.5
    assert found.tokens_per_step == 5 / 3
    assert found.ms_per_step == pytest.approx(1000 * (0.5 + 0.25 + 0.25) / 3)
    assert found.first_frame_s == 1.5
    assert found.reason == "eos"


def test_a_run_that_goes_on_is_measured_by_its_newest_event() -> None:
    run = log(*TWO_BLOCKS[:3])
    assert of(run).tokens_per_second == 4 / 1.75
    assert of(run).reason == ""


def test_of_a_block_that_is_not_finished_only_what_was_accepted_counts() -> None:
    run = log(*TWO_BLOCKS[:5], frame(2.25, 1, [5, STOP, 6, 7], [A, R, R, A], block=1))
    assert of(run).tokens == 4 + 2  # the stop is noise as yet
    assert of(log(*TWO_BLOCKS)).tokens == 4 + 1  # here it is not


def test_behind_the_end_of_the_reply_nothing_counts() -> None:
    early = (started(0.1), frame(0.2, 1, [STOP, 1, 1, 1], SURE), done(0.2, [STOP, 1, 1, 1], 1))
    assert of(log(*early)).tokens == 0
    assert of(log(*TWO_BLOCKS, max_tokens=3)).tokens == 3


def test_what_the_run_was_given_does_not_count() -> None:
    given = log(
        started(0.0, block=1), frame(0.5, 1, [1, 2, 3, 4], SURE, block=1), done(0.5, [1, 2, 3, 4], 1, block=1),
        finished(0.5, [7, 7, 7, 7, 1, 2, 3, 4], [1]), blocks=[(7, 7, 7, 7)],
    )  # fmt: skip
    assert of(given).tokens == 4
    held = log(started(0.0, pinned=[0, 1, 2]), frame(0.5, 1, [1, 2, 3, 4], [P, P, P, A]), done(0.5, [1, 2, 3, 4], 1))
    assert of(held).tokens == 1
    assert of(held).tokens_per_second == 2.0


def test_one_candidate_is_measured_at_a_time() -> None:
    run = log(
        started(0.0, candidates=2),
        frame(0.5, 1, [1, 2, STOP, 4], SURE),
        frame(0.5, 1, [1, STOP, 2, 4], SURE, candidate=1),
        frame(0.7, 2, [1, STOP, 2, 4], SURE, candidate=1),
        done(0.7, [1, 2, STOP, 4], 1),
        done(0.7, [1, STOP, 2, 4], 2, candidate=1),
    )
    assert of(run).tokens == 2
    other = measure(run, stop_ids=STOP_IDS, candidate=1, memory="1 GB GPU", proposal="proposal 2 of 2")
    assert (other.tokens, other.tokens_per_step) == (1, 0.5)
    assert other.ms_per_step == pytest.approx(350)
    assert (other.memory, other.proposal) == ("1 GB GPU", "proposal 2 of 2")


def test_a_cancelled_run_keeps_its_draft_and_says_why_it_ended() -> None:
    draft = (started(0.0), frame(0.5, 1, [1, 2, 3, 4], [R] * 4), done(0.5, [1, 2, 3, 4], 1, settled=False))
    run = log(*draft, finished(0.75, [1, 2, 3, 4], [1], StopReason.CANCELLED))
    assert (of(run).tokens, of(run).reason) == (4, "cancelled")
    assert line(of(run), 100).endswith("· stopped")


FULL = Measures(256, 688.0, 18.31, 25.06, 0.19, "15.4 GB GPU", "eos", "proposal 2 of 4")


def test_every_number_says_what_it_is() -> None:
    assert line(FULL, 200) == (
        "688 tok/s wall · 18.3 tok/step · 25.1 ms/step · first frame 0.19 s · 15.4 GB GPU · 256 tokens · "
        "proposal 2 of 4 · end of reply"
    )


def test_what_matters_least_goes_first_where_room_is_short() -> None:
    running = Measures(256, 688.0, 18.31, 25.06, 0.19, "15.4 GB GPU", "")
    assert line(running, 80) == ("688 tok/s wall · 18.3 tok/step · 25.1 ms/step · first frame 0.19 s · 15.4 GB GPU")
    assert line(FULL, 76) == "688 tok/s wall · 18.3 tok/step · 25.1 ms/step · end of reply"
    assert line(FULL, 30) == "688 tok/s wall · end of reply"
    for width in range(120):
        assert cell_width(line(FULL, width)) <= width


def test_why_no_faster_way_runs_is_said_where_there_is_room() -> None:
    why = "triton is not used: no C compiler"
    found = replace(FULL, slow=why)
    assert why in line(found, 200)
    assert why not in line(found, 60)


def test_what_is_not_known_is_left_out() -> None:
    assert line(of(log()), 80) == ""
    assert line(Measures(0, None, None, None, None, "", "", "\x1b[2J"), 80) == "␛[2J"


def test_memory_is_in_powers_of_ten() -> None:
    assert memory(15_400_000_000, "GPU") == "15.4 GB GPU"
    assert memory(412_000_000, "memory") == "412 MB memory"
    assert memory(0, "memory") == ""


def test_the_line_above_says_where_the_run_is() -> None:
    shown = frame(0.3, 9, [1, 2, 3, 4], [A, A, R, A], block=1, entropy=0.412)
    run = log(started(0.1, block=1), frame(0.2, 8, [1, 2, 3, 4], [A, R, R, A], block=1), shown)
    _, view = view_at(run, 1, None, 0, lambda ids: [b"x"] * len(ids), STOP_IDS)
    expected = "block 2 · step 9/48 · 50% settled · mean entropy 0.41 · t 0.71 · seed 4711"
    assert status(shown, view, 4711) == expected


def test_the_first_step_of_a_block_says_what_was_accepted_for_nothing_can_have_settled() -> None:
    shown = frame(0.3, 1, [1, 2, 3, 4], [A, A, R, A])
    _, view = view_at(log(started(0.1), shown), 0, None, 0, lambda ids: [b"x"] * len(ids), STOP_IDS)
    assert "· 75% decided ·" in status(shown, view, 7)
