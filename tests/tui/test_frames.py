"""From a log to what is on the canvas."""

from collections.abc import Sequence

from runs import STOP, STOP_IDS, SURE, done, finished, frame, log, started

from dgtui.diffusion.events import Flag, Frame
from dgtui.diffusion.log import RunLog
from dgtui.tui.frames import HELD, UNKNOWN_NATS, View, view_at, with_pins

A, R, P = Flag.ACCEPTED, Flag.RENOISED, Flag.PINNED


def pieces(ids: Sequence[int]) -> list[bytes]:
    return [b"" if i in STOP_IDS else b"%d" % i for i in ids]


def at(run: RunLog, step: int | None = None, block: int = 0, candidate: int = 0) -> tuple[Frame | None, View]:
    return view_at(run, block, step, candidate, pieces, STOP_IDS)


def test_before_the_block_begins_there_is_nothing() -> None:
    shown, view = at(log())
    assert (shown, view.pieces, view.end) == (None, (), 0)
    assert at(log(started(0.1)), block=1)[1].pieces == ()


def test_a_canvas_that_was_only_laid_out_is_noise_among_what_is_held() -> None:
    shown, view = at(log(started(0.1, pinned=[1])))
    assert shown is None
    assert view.pieces == (b"5", b"6", b"7", b"5")
    assert view.entropy.tolist() == [UNKNOWN_NATS, 0, UNKNOWN_NATS, UNKNOWN_NATS]
    assert view.flags.tolist() == [R, P, R, R]
    assert view.settled.tolist() == [False, True, False, False]
    assert view.end == 4


def test_settled_is_what_was_accepted_twice_running_or_is_held() -> None:
    run = log(started(0.1), frame(0.2, 1, [1, 2, 3, 4], [A, A, R, A]), frame(0.3, 2, [1, 2, 3, 5], [A, R, A, P]))
    assert at(run, 1)[1].settled.tolist() == [False, False, False, False]
    assert at(run, 2)[1].settled.tolist() == [True, False, False, True]


def test_the_newest_step_any_step_and_the_canvas_before_them_can_be_seen() -> None:
    first, second = frame(0.2, 1, [1, 2, 3, 4], [R] * 4), frame(0.3, 2, [4, 3, 2, 1], [A] * 4)
    run = log(started(0.1), first, second)
    assert at(run)[0] is at(run, 2)[0] is at(run, 99)[0] is second
    assert at(run, 1)[0] is first
    assert at(run, 0)[0] is None
    assert at(run, 0)[1].pieces == (b"5", b"6", b"7", b"5")
    assert at(run, 2)[1].pieces == (b"4", b"3", b"2", b"1")
    over = log(started(0.1), first, second, done(0.3, [4, 3, 2, 1], 2))
    assert at(over, 0)[1].pieces == (b"5", b"6", b"7", b"5")
    assert not at(over, 0)[1].settled.any()


def test_blocks_and_candidates_are_kept_apart() -> None:
    run = log(
        started(0.1, candidates=2),
        frame(0.2, 1, [1] * 4, SURE),
        frame(0.2, 1, [2] * 4, SURE, candidate=1),
        done(0.2, [1] * 4, 1),
        done(0.2, [2] * 4, 1, candidate=1),
        started(0.3, block=1),
        frame(0.4, 1, [3] * 4, [R] * 4, block=1),
    )
    assert at(run)[1].pieces[0] == b"1"
    assert at(run, candidate=1)[1].pieces[0] == b"2"
    assert at(run, block=1)[1].pieces[0] == b"3"
    assert not at(run, block=1)[1].settled.any()


def test_all_is_settled_once_the_block_is_finished_and_stable_but_not_in_its_earlier_steps() -> None:
    first, last = frame(0.2, 1, [1] * 4, [R] * 4), frame(0.3, 2, [1] * 4, [A, A, A, R])
    over = at(log(started(0.1), first, last, done(0.3, [1] * 4, 2)))[1]
    assert over.settled.all()
    assert over.flags.tolist() == [A, A, A, 0], "a finished reply has no noise"
    assert not at(log(started(0.1), first, last, done(0.3, [1] * 4, 2)), 1)[1].settled.any()
    assert not at(log(started(0.1), first, last, done(0.3, [1] * 4, 2, settled=False)))[1].settled.any()


def test_the_reply_ends_at_a_settled_stop_and_not_at_one_in_the_noise() -> None:
    noise = frame(0.2, 1, [1, STOP, 2, 8], [A, R, A, A])
    sure = frame(0.3, 2, [1, STOP, 2, 8], [A, R, A, A])
    run = log(started(0.1), noise, sure)
    assert at(run, 1)[1].end == 4
    assert at(run, 2)[1].end == 3
    cancelled = log(started(0.1), noise, sure, done(0.4, [1, STOP, 2, 8], 2, settled=False))
    assert at(cancelled)[1].end == 1
    assert at(cancelled, 1)[1].end == 4


def test_a_block_in_which_nothing_was_free_shows_its_result() -> None:
    run = log(started(0.1, pinned=range(4)), done(0.1, [5, 6, 7, 5], 0), finished(0.2, [5, 6, 7, 5], [0]))
    shown, view = at(run)
    assert shown is None
    assert view.settled.all() and view.end == 4


def test_what_has_settled_glows_for_three_steps() -> None:
    run = log(
        started(0.1),
        *(frame(0.2 + step / 10, step, [1, 2, 3, 4], [A, A if step > 2 else R, R, P]) for step in range(1, 7)),
    )
    glows = [at(run, step)[1].glow for step in range(1, 7)]
    assert [glow.tolist() for glow in glows if glow is not None] == [
        [0, 0, 0, 0], [3, 0, 0, 0], [2, 0, 0, 0], [1, 3, 0, 0], [0, 2, 0, 0], [0, 1, 0, 0],
    ]  # fmt: skip


def test_what_a_run_holds_and_the_person_did_not_pin_is_marked_as_held() -> None:
    view = at(log(started(0.1), frame(0.2, 1, [1, 2, 3, 4], [P, P, A, R])))[1]
    assert with_pins(view, frozenset({1}), others=True).flags.tolist() == [HELD, HELD | P, A, R]
    assert with_pins(view, frozenset({1}), others=False).flags.tolist() == [0, P, A, R]
