"""What a run promises to whoever watches and steers it."""

import itertools
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from fakes import CANVAS, EOS, SETTINGS, VOCAB, NumericDenoiser, certain, endless, job, never, stepper

from dgtui.diffusion import engine
from dgtui.diffusion.control import Control
from dgtui.diffusion.engine import PinViolated
from dgtui.diffusion.events import (
    Action,
    Amended,
    BlockFinished,
    BlockStarted,
    Event,
    Finished,
    Flag,
    Frame,
    Ids,
    StopReason,
)
from dgtui.diffusion.job import Amendment, BadJob, Fork, Job, SamplerSettings, Start
from dgtui.diffusion.log import RunLog
from dgtui.diffusion.reference import ReferenceStepper
from dgtui.diffusion.stepper import CandidateStep

IDS = tuple(range(CANVAS))
PATIENCE = 20.0
"""Seconds after which a thread that should have moved counts as stuck."""


def run(job: Job, denoiser: NumericDenoiser | None = None, control: Control | None = None) -> RunLog:
    return RunLog(job, engine.run(stepper(denoiser), job, control))


def steered(job: Job, steer: dict[int, list[Amendment]], denoiser: NumericDenoiser | None = None) -> RunLog:
    """Runs a job and amends it after so many frames of its first block (0: before the first)."""
    control, log, frames = Control(), RunLog(job), 0
    for event in engine.run(stepper(denoiser), job, control):
        log.append(event)
        frames += isinstance(event, Frame)
        if isinstance(event, BlockStarted | Frame):
            for amendment in steer.get(frames, ()):
                control.amend(amendment)
    return log


def kinds(log: RunLog) -> list[str]:
    return [type(event).__name__ for event in log]


def finished(log: RunLog) -> Finished:
    assert log.finished is not None
    return log.finished


def same(a: Frame, b: Frame) -> bool:
    names = ("ids", "canvas", "entropy", "flags", "top_ids", "top_probs")
    return (a.step, a.mean_entropy, a.temperature) == (b.step, b.mean_entropy, b.temperature) and all(
        np.array_equal(getattr(a, name), getattr(b, name)) for name in names
    )


def all_same(a: list[Frame], b: list[Frame]) -> bool:
    return len(a) == len(b) and all(map(same, a, b))


# The events


def test_events_come_in_order() -> None:
    log = run(job(max_tokens=2 * CANVAS, settings=replace(SETTINGS, steps=3)))
    block = ["BlockStarted", "Frame", "Frame", "Frame", "BlockFinished"]
    assert kinds(log) == [*block, *block, "Finished"]
    assert [f.step for f in log.frames()] == [1, 2, 3, 1, 2, 3]
    assert [f.block for f in log.frames()] == [0, 0, 0, 1, 1, 1]
    seconds = [e.seconds for e in log if not isinstance(e, Amended)]
    assert seconds == sorted(seconds)


def test_candidates_take_turns_within_a_step() -> None:
    log = run(job(candidates=3, settings=replace(SETTINGS, steps=2)))
    assert kinds(log) == ["BlockStarted", *["Frame"] * 6, *["BlockFinished"] * 3, "Finished"]
    assert [(f.step, f.candidate) for f in log if isinstance(f, Frame)] == [(s, c) for s in (1, 2) for c in range(3)]


def test_arrays_are_small_typed_and_read_only() -> None:
    log = run(job(candidates=2))
    shapes = {
        "ids": ((CANVAS,), np.int32),
        "canvas": ((CANVAS,), np.int32),
        "entropy": ((CANVAS,), np.float32),
        "flags": ((CANVAS,), np.uint8),
        "top_ids": ((CANVAS, 3), np.int32),
        "top_probs": ((CANVAS, 3), np.float32),
    }
    for frame in log.frames():
        for name, (shape, dtype) in shapes.items():
            array = getattr(frame, name)
            assert (array.shape, array.dtype) == (shape, dtype), name
    started = log[0]
    assert isinstance(started, BlockStarted)
    arrays = [*started.canvas, *started.pinned, *finished(log).token_ids, *(b.ids for b in log.blocks())]
    arrays += [getattr(f, name) for f in log.frames() for name in shapes]
    assert all(a.dtype == np.int32 for a in (*started.canvas, *finished(log).token_ids))
    for array in arrays:
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


def test_a_frame_shows_the_best_ids_and_what_became_of_each_position() -> None:
    denoiser = endless()
    log = run(job(), denoiser)
    frames = log.frames()
    for frame, following in itertools.pairwise(frames):
        assert (frame.top_ids[:, 0] == frame.ids).all()
        assert (np.diff(frame.top_probs, axis=1) <= 0).all()
        accepted, renoised = frame.flags & Flag.ACCEPTED > 0, frame.flags & Flag.RENOISED > 0
        assert (accepted ^ renoised).all()
        assert frame.mean_entropy == pytest.approx(frame.entropy.mean(), rel=1e-5)
        assert ((following.flags & Flag.CHANGED > 0) == (following.ids != frame.ids)).all()
        assert (denoiser.seen[following.step - 1][0].numpy() == frame.canvas).all()
    assert not (frames[0].flags & Flag.CHANGED).any()
    for flag in (Flag.ACCEPTED, Flag.RENOISED, Flag.CHANGED):
        assert any((f.flags & flag).any() for f in frames)
    assert any((f.canvas != f.ids).any() for f in frames)


def test_the_result_is_the_last_draft_and_not_the_canvas() -> None:
    log = run(job(settings=replace(SETTINGS, steps=2)))
    last = log.frames()[-1]
    assert (log.blocks()[0].ids == last.ids).all()
    assert (last.ids != last.canvas).any()


def test_the_last_scaled_logits_condition_the_next_step_and_no_block_the_next() -> None:
    denoiser = endless()
    run(job(max_tokens=2 * CANVAS, settings=replace(SETTINGS, steps=3)), denoiser)
    assert [c is None for c in denoiser.conditioned] == [True, False, False, True, False, False]


def test_a_top_k_above_the_vocabulary_is_all_of_it() -> None:
    assert run(job(settings=replace(SETTINGS, top_k=99))).frames()[0].top_ids.shape == (CANVAS, VOCAB)


# How runs end


def test_a_run_ends_at_a_stop_id_and_leaves_it_out() -> None:
    words = [6, 7, 8, EOS, *range(6, 6 + CANVAS - 4)]
    log = run(job(max_tokens=5 * CANVAS), NumericDenoiser(script=certain(words)))
    assert finished(log).reason is StopReason.EOS
    assert finished(log).token_ids[0].tolist() == [6, 7, 8]
    assert log.blocks()[0].ids.tolist() == words
    assert len(log.blocks()) == 1


def test_a_stop_id_behind_the_limit_does_not_count() -> None:
    words = [6, 7, 8, EOS, *range(6, 6 + CANVAS - 4)]
    end = finished(run(job(max_tokens=2), NumericDenoiser(script=certain(words))))
    assert (end.reason, end.token_ids[0].tolist()) == (StopReason.LENGTH, [6, 7])
    end = finished(run(job(max_tokens=3), NumericDenoiser(script=certain(words))))
    assert (end.reason, end.token_ids[0].tolist()) == (StopReason.EOS, [6, 7, 8])


@pytest.mark.parametrize("max_tokens", [1, CANVAS - 1, CANVAS, CANVAS + 1, 2 * CANVAS + 5])
def test_max_tokens_cuts_inside_a_block(max_tokens: int) -> None:
    log = run(job(max_tokens=max_tokens))
    assert finished(log).reason is StopReason.LENGTH
    assert len(log.blocks()) == -(-max_tokens // CANVAS) == len(finished(log).steps)
    written = [i for b in log.blocks() for i in b.ids.tolist()]
    assert finished(log).token_ids[0].tolist() == written[:max_tokens]


def test_a_full_context_ends_a_run() -> None:
    denoiser = endless()
    denoiser.max_context = 3 + 2 * CANVAS + CANVAS - 1
    log = run(job(max_tokens=100 * CANVAS), denoiser)
    assert finished(log).reason is StopReason.LENGTH
    assert len(log.blocks()) == 2


def test_a_stable_and_confident_draft_ends_its_block() -> None:
    settings = SamplerSettings(steps=9, stability=2, confidence=0.01)
    log = run(job(settings=settings), NumericDenoiser(script=certain(range(6, 6 + CANVAS))))
    assert finished(log).steps == (3,)
    assert (log.blocks()[0].settled, log.blocks()[0].steps) == (True, 3)
    patient = run(job(settings=replace(settings, stability=-1)), NumericDenoiser(script=certain(range(6, 6 + CANVAS))))
    assert finished(patient).steps == (9,)
    assert not patient.blocks()[0].settled


def test_each_finished_block_becomes_prefix() -> None:
    denoiser = endless()
    log = run(job(max_tokens=3 * CANVAS), denoiser)
    assert denoiser.prefix == [1, 2, 3, *(i for b in log.blocks()[:2] for i in b.ids.tolist())]


def test_blocks_that_open_the_reply_count_and_are_kept() -> None:
    denoiser = endless()
    log = run(job(max_tokens=2 * CANVAS, blocks=(IDS[:EOS] + IDS[EOS + 1 :] + (20,),)), denoiser)
    assert [b.block for b in log.blocks()] == [1]
    assert finished(log).token_ids[0].tolist()[:CANVAS] == denoiser.prefix[3:]
    assert len(finished(log).token_ids[0]) == 2 * CANVAS


# Steering


def test_cancel_before_the_first_step_leaves_nothing() -> None:
    control, denoiser = Control(), endless()
    control.cancel()
    log = run(job(), denoiser, control)
    assert kinds(log) == ["BlockStarted", "Finished"]
    assert (finished(log).reason, finished(log).steps) == (StopReason.CANCELLED, (0,))
    assert finished(log).token_ids[0].tolist() == []
    assert denoiser.forwards == []


def test_cancel_between_steps_ends_before_the_next_and_keeps_the_draft() -> None:
    control, denoiser = Control(), endless()
    wanted = job(max_tokens=3 * CANVAS)
    log = RunLog(wanted)
    for event in engine.run(stepper(denoiser), wanted, control):
        log.append(event)
        if isinstance(event, Frame) and (event.block, event.step) == (1, 3):
            control.cancel()
    assert len(denoiser.forwards) == SETTINGS.steps + 3
    assert finished(log).reason is StopReason.CANCELLED
    assert (log.blocks()[-1].ids == log.frames()[-1].ids).all()
    assert not log.blocks()[-1].settled
    assert len(finished(log).token_ids[0]) == 2 * CANVAS


def test_finished_canvases_say_how_likely_they_are_where_the_job_asks_for_it() -> None:
    wanted = job(candidates=3)
    assert all(block.log_probs is None for candidate in range(3) for block in run(wanted).blocks(candidate))
    log = run(replace(wanted, likelihood=True))
    for candidate in range(3):
        (block,) = log.blocks(candidate)
        assert block.log_probs is not None
        assert (block.log_probs.dtype, block.log_probs.flags.writeable) == (np.float32, False)
        assert block.log_probs.tolist() == [0, *(-abs(np.diff(block.ids))).tolist()]


def test_a_run_that_is_stopped_takes_no_time_to_say_how_likely_it_is() -> None:
    control, wanted = Control(), replace(job(), likelihood=True)
    log = RunLog(wanted)
    for event in engine.run(stepper(), wanted, control):
        log.append(event)
        control.cancel()
    assert [block.log_probs for block in log.blocks()] == [None] * len(log.blocks())


@pytest.mark.parametrize("candidates", [1, 3])
@pytest.mark.parametrize("last", [Frame, BlockFinished])
def test_a_cancel_that_finds_the_reply_complete_comes_too_late(last: type, candidates: int) -> None:
    words = [6, 7, 8, EOS, *range(6, 6 + CANVAS - 4)]
    for script, reason in ((certain(words), StopReason.EOS), (never(EOS), StopReason.LENGTH)):
        control, wanted = Control(), job(candidates=candidates)
        log = RunLog(wanted)
        for event in engine.run(stepper(NumericDenoiser(script=script)), wanted, control):
            log.append(event)
            if isinstance(event, last) and len(log.frames(candidate=candidates - 1)) == SETTINGS.steps:
                control.cancel()
        assert control.cancelled
        assert finished(log).reason is reason
        assert len(log.blocks()) == 1


def test_a_cancel_behind_a_block_that_is_not_the_last_starts_no_other() -> None:
    control, wanted = Control(), job(max_tokens=2 * CANVAS)
    log = RunLog(wanted)
    for event in engine.run(stepper(), wanted, control):
        log.append(event)
        if isinstance(event, BlockFinished):
            control.cancel()
    assert finished(log).reason is StopReason.CANCELLED
    assert kinds(log)[-2:] == ["BlockFinished", "Finished"]
    assert len(log.blocks()) == 1


class Watched:
    """A run on a thread of its own, and a way to wait for its events."""

    def __init__(self, job: Job, control: Control, denoiser: NumericDenoiser | None = None) -> None:
        self.log, self._came = RunLog(job), threading.Condition()
        self._thread = threading.Thread(target=self._run, args=(job, control, denoiser), daemon=True)
        self._thread.start()

    def _run(self, job: Job, control: Control, denoiser: NumericDenoiser | None) -> None:
        for event in engine.run(stepper(denoiser), job, control):
            with self._came:
                self.log.append(event)
                self._came.notify_all()

    def until(self, length: int) -> list[Event]:
        with self._came:
            assert self._came.wait_for(lambda: len(self.log) >= length, PATIENCE), f"only {len(self.log)} events"
            return list(self.log)

    def quiet(self, seconds: float = 0.15) -> int:
        """How far the log is after some time in which a step would have been taken many times over."""
        with self._came:
            before = len(self.log)
            self._came.wait_for(lambda: len(self.log) > before, seconds)
            return len(self.log)

    def join(self) -> RunLog:
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()
        return self.log


def test_pause_holds_step_takes_one_and_resume_goes_on() -> None:
    control = Control()
    control.pause()
    watched = Watched(job(), control)
    watched.until(1)
    assert watched.quiet() == 1
    control.step()
    assert isinstance(watched.until(2)[-1], Frame)
    assert watched.quiet() == 2
    control.step()
    control.step()
    watched.until(4)
    assert watched.quiet() == 4
    assert control.paused
    control.resume()
    log = watched.join()
    assert all_same(log.frames(), run(job()).frames())


def test_amendments_while_paused_are_events_at_once() -> None:
    control = Control()
    control.pause()
    watched = Watched(job(), control)
    watched.until(1)
    control.amend(Amendment(4, Action.PIN, 9))
    amended = watched.until(2)[-1]
    assert isinstance(amended, Amended)
    assert (amended.step, amended.position, amended.action, amended.token) == (0, 4, Action.PIN, 9)
    assert watched.quiet() == 2
    control.step()
    frame = watched.until(3)[-1]
    assert isinstance(frame, Frame)
    assert (frame.ids[4], frame.canvas[4], frame.flags[4]) == (9, 9, Flag.PINNED)
    control.cancel()
    assert finished(watched.join()).reason is StopReason.CANCELLED


def test_cancel_ends_a_paused_run() -> None:
    control = Control()
    control.pause()
    watched = Watched(job(), control)
    watched.until(1)
    control.cancel()
    assert finished(watched.join()).reason is StopReason.CANCELLED


def test_step_is_nothing_to_a_run_that_is_not_held() -> None:
    control = Control()
    control.step()
    control.pause()
    watched = Watched(job(), control)
    watched.until(1)
    assert watched.quiet() == 1
    control.cancel()
    watched.join()


def test_pause_holds_the_next_block_too() -> None:
    control = Control()
    control.pause()
    watched = Watched(job(max_tokens=2 * CANVAS, settings=replace(SETTINGS, steps=1)), control)
    watched.until(1)
    control.step()
    assert [type(e) for e in watched.until(4)] == [BlockStarted, Frame, BlockFinished, BlockStarted]
    assert watched.quiet() == 4
    control.resume()
    assert len(watched.join().blocks()) == 2


def test_pinning_a_draft_holds_what_it_showed() -> None:
    log = steered(job(), {3: [Amendment(2, Action.PIN)]})
    shown = int(log.frames()[2].ids[2])
    amended = next(e for e in log if isinstance(e, Amended))
    assert (amended.step, amended.token) == (3, shown)
    assert {int(f.ids[2]) for f in log.frames()[3:]} == {shown}
    assert all(f.flags[2] & Flag.PINNED for f in log.frames()[3:])
    assert not log.frames()[2].flags[2] & Flag.PINNED
    assert (log.blocks()[0].ids[2]) == shown


def test_a_pin_speaks_in_the_self_conditioning_of_the_very_next_step() -> None:
    denoiser = endless()
    steered(job(), {2: [Amendment(2, Action.PIN, 17)]}, denoiser)
    assert denoiser.seen[2][0, 2] == 17
    conditioning = denoiser.conditioned[2]
    assert conditioning is not None
    assert conditioning[0, 2].softmax(-1)[17] == 1


def test_a_freed_position_keeps_its_token_for_one_forward_and_moves_again() -> None:
    denoiser = endless()
    start = Start(IDS, frozenset({3, 4}))
    log = steered(job(start=start), {2: [Amendment(3, Action.UNPIN)]}, denoiser)
    assert [f.flags[3] & Flag.PINNED for f in log.frames()] == [1, 1, 0, 0, 0, 0, 0, 0]
    assert all(f.flags[4] & Flag.PINNED for f in log.frames())
    assert denoiser.seen[2][0, 3] == IDS[3]
    assert any(f.ids[3] != IDS[3] for f in log.frames()[2:])
    amended = next(e for e in log if isinstance(e, Amended))
    assert (amended.action, amended.token) == (Action.UNPIN, IDS[3])


@pytest.mark.parametrize(
    "amendment",
    [
        Amendment(CANVAS, Action.PIN, 3),
        Amendment(-1, Action.PIN, 3),
        Amendment(0, Action.PIN, VOCAB),
        Amendment(0, Action.PIN, -1),
        Amendment(0, Action.PIN, 3, candidate=1),
        Amendment(0, Action.PIN, 3, block=1),
    ],
)
def test_an_amendment_that_fits_nothing_changes_nothing(amendment: Amendment) -> None:
    log = steered(job(), {1: [amendment]})
    assert "Amended" not in kinds(log)
    assert all_same(log.frames(), run(job()).frames())


def test_an_amendment_that_comes_too_late_does_not_hit_the_next_block() -> None:
    control, late = Control(), Amendment(0, Action.PIN, 3, block=0)
    log = RunLog(job(max_tokens=2 * CANVAS))
    for event in engine.run(stepper(), log.job, control):
        log.append(event)
        if isinstance(event, BlockFinished):
            control.amend(late)
    assert "Amended" not in kinds(log)


def test_an_amendment_steers_one_candidate_of_several() -> None:
    log = steered(job(candidates=2), {2: [Amendment(0, Action.PIN, 3, candidate=1)]})
    plain = run(job(candidates=2))
    assert all_same(log.frames(candidate=0), plain.frames(candidate=0))
    assert {int(f.ids[0]) for f in log.frames(candidate=1)[1:]} == {3}


def test_a_stepper_that_breaks_a_pin_is_found_out() -> None:
    class Careless(ReferenceStepper):
        def step(self) -> list[CandidateStep]:
            return [replace(s, ids=(s.ids + 1) % VOCAB) for s in super().step()]

    with pytest.raises(PinViolated):
        list(engine.run(Careless(endless()), job(start=Start(IDS, frozenset({1})))))


# Randomness


def test_the_same_seed_is_the_same_run() -> None:
    first, again, other = run(job(max_tokens=30)), run(job(max_tokens=30)), run(job(seed=1, max_tokens=30))
    assert all_same(first.frames(), again.frames())
    assert not all_same(first.frames(), other.frames())


def test_the_stream_runs_on_through_the_blocks() -> None:
    long = run(job(max_tokens=2 * CANVAS))
    states = [e.rng[0] for e in long if isinstance(e, BlockStarted)]
    canvases = [e.canvas[0] for e in long if isinstance(e, BlockStarted)]
    assert states[0] != states[1]
    assert (canvases[0] != canvases[1]).any()
    assert all_same(run(job()).frames(), long.frames(0))


@pytest.mark.parametrize("settings", [SETTINGS, replace(SETTINGS, stability=0, confidence=0.37)])
def test_a_candidate_does_not_depend_on_how_many_run_beside_it(settings: SamplerSettings) -> None:
    alone, two, four = (run(job(candidates=n, settings=settings)) for n in (1, 2, 4))
    assert all_same(alone.frames(), four.frames(candidate=0))
    for i in range(2):
        assert all_same(two.frames(candidate=i), four.frames(candidate=i))
    canvases = next(e.canvas for e in four if isinstance(e, BlockStarted))
    assert len({c.tobytes() for c in canvases}) == 4
    assert len({b.ids.tobytes() for i in range(4) for b in four.blocks(i)}) == 4


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_candidates_that_take_turns_in_forwards_are_what_they_are_together(rows: int) -> None:
    """Some of them done before others, so that the turns shift."""
    wanted = job(candidates=5, settings=replace(SETTINGS, stability=0, confidence=0.37))
    together, apart = endless(), endless()
    expected = RunLog(wanted, engine.run(ReferenceStepper(together), wanted))
    found = RunLog(wanted, engine.run(ReferenceStepper(apart, rows), wanted))
    assert all_same(expected.frames(), found.frames())
    assert max(apart.forwards) == rows < max(together.forwards) == 5
    assert sum(apart.forwards) == sum(together.forwards)
    assert len(set(together.forwards)) > 1


def test_what_waits_for_its_turn_waits_in_the_machines_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """The self-conditioning of a candidate takes 134 MB at full size; on a small GPU there is room for few of them."""
    moved: list[int] = []
    copied = torch.Tensor.cpu

    def cpu(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.shape[1:] == (CANVAS, VOCAB):
            moved.append(len(tensor))
        return copied(tensor)

    monkeypatch.setattr(torch.Tensor, "cpu", cpu)
    wanted = job(candidates=3, settings=replace(SETTINGS, steps=2))
    [*engine.run(ReferenceStepper(endless(), 3), wanted)]
    assert moved == []
    [*engine.run(ReferenceStepper(endless(), 2), wanted)]
    assert moved == [2, 1, 2, 1]


def test_a_candidate_that_is_done_costs_no_more_forwards() -> None:
    denoiser = endless()
    log = run(job(candidates=4, settings=replace(SETTINGS, stability=0, confidence=0.37)), denoiser)
    steps = [b.steps for i in range(4) for b in log.blocks(i)]
    assert len(set(steps)) > 1
    assert [len(log.frames(candidate=i)) for i in range(4)] == steps
    assert denoiser.forwards == [sum(s > n for s in steps) for n in range(max(steps))]


# Candidates that start from canvases of their own

OWN = (Start(IDS, frozenset({0, 4})), Start(), Start(IDS[::-1], frozenset({1, 2, 3})))


@pytest.mark.parametrize("start", [Start(), Start(IDS, frozenset({0, 4})), Start(IDS, frozenset({1}), 0.5)])
def test_the_same_start_for_each_is_one_start_for_all(start: Start) -> None:
    each, together = run(job(starts=(start,) * 3)), run(job(start=start, candidates=3))
    for i in range(3):
        assert all_same(each.frames(candidate=i), together.frames(candidate=i))
    assert [e.rng for e in each if isinstance(e, BlockStarted)] == [
        e.rng for e in together if isinstance(e, BlockStarted)
    ]


@pytest.mark.parametrize("strength", [1.0, 0.4])
def test_a_candidate_runs_from_its_start_whatever_the_others_start_from(strength: float) -> None:
    starts = tuple(replace(s, ids=s.ids or IDS, strength=strength) for s in OWN)
    log = run(job(starts=starts))
    started = log[0]
    assert isinstance(started, BlockStarted)
    for i, start in enumerate(starts):
        assert np.flatnonzero(started.pinned[i]).tolist() == sorted(start.pinned)
        assert all_same(log.frames(candidate=i), run(job(start=start, candidates=3)).frames(candidate=i))


def test_a_candidate_with_nothing_free_is_done_before_the_others_begin() -> None:
    whole = Start(IDS, frozenset(range(CANVAS)))
    denoiser = endless()
    log = run(job(starts=(OWN[0], whole, OWN[2])), denoiser)
    assert set(denoiser.forwards) == {2}
    assert [(b.steps, b.settled) for i in range(3) for b in log.blocks(i)] == [(8, False), (0, True), (8, False)]
    assert log.blocks(1)[0].ids.tolist() == list(IDS)
    assert log.frames(candidate=1) == []
    assert all_same(log.frames(candidate=2), run(job(starts=OWN)).frames(candidate=2))
    assert finished(log).token_ids[1].tolist() == list(IDS[:EOS])


def test_only_the_first_block_starts_from_what_is_given() -> None:
    alone = run(job(max_tokens=2 * CANVAS, starts=(OWN[0],)))
    assert all_same(alone.frames(), run(job(max_tokens=2 * CANVAS, start=OWN[0])).frames())
    assert [e.pinned[0].any() for e in alone if isinstance(e, BlockStarted)] == [True, False]


@pytest.mark.parametrize("step", [0, 3, SETTINGS.steps])
def test_a_fork_of_a_candidate_starts_from_its_canvas(step: int) -> None:
    parent = run(job(starts=OWN))
    forked = parent.fork(0, step, "child", 99, candidate=2)
    assert forked.starts == (OWN[2],)
    child = run(forked)
    assert all_same(child.frames()[:step], [replace(f, candidate=0) for f in parent.frames(candidate=2)[:step]])
    if step:
        near = parent.fork_from_canvas(0, step, "child", 99, candidate=2)
        assert [start.pinned for start in near.starts] == [OWN[2].pinned]


# Strength


@pytest.mark.parametrize(("strength", "steps"), [(1.0, 8), (0.5, 4), (0.26, 3), (0.01, 1)])
def test_less_strength_enters_the_schedule_later(strength: float, steps: int) -> None:
    log = run(job(start=Start(IDS, frozenset({0}), strength)))
    started = log[0]
    assert isinstance(started, BlockStarted)
    assert (started.remaining, started.max_steps) == (steps, 8)
    full = run(job()).frames()
    assert [f.temperature for f in log.frames()] == [f.temperature for f in full[8 - steps :]]
    assert [f.step for f in log.frames()] == list(range(1, steps + 1))


@pytest.mark.parametrize("strength", [1.0, 0.75, 0.5, 0.2])
def test_less_strength_keeps_that_much_of_the_tokens(strength: float) -> None:
    kept = []
    for seed in range(150):
        started = next(engine.run(stepper(), job(seed=seed, start=Start(IDS, frozenset({0}), strength))))
        assert isinstance(started, BlockStarted)
        assert started.canvas[0][0] == IDS[0]
        kept.append((started.canvas[0] == IDS)[1:].mean())
    # noise hits the old id once in VOCAB; 1,650 draws: four standard deviations are under 0.05
    assert np.mean(kept) == pytest.approx(1 - strength + strength / VOCAB, abs=0.05)


def test_a_strength_from_steps_enters_at_exactly_that_step() -> None:
    for steps in (25, 29, 48):
        for left in range(1, steps + 1):
            settings = replace(SETTINGS, steps=steps)
            started = next(engine.run(stepper(), job(start=Start(IDS, strength=left / steps), settings=settings)))
            assert isinstance(started, BlockStarted)
            assert started.remaining == left


# Forks


def check_fork(
    parent: RunLog, block: int, step: int, seed: int = 1234, denoiser: NumericDenoiser | None = None
) -> RunLog:
    """Forks a run and checks that what should be shared is, to the bit."""
    child = run(parent.fork(block, step, "child", seed), denoiser)
    assert all_same(child.frames(block)[:step], parent.frames(block)[:step])
    assert len(child.frames(block)) >= step
    a, b = (next(e for e in log if isinstance(e, BlockStarted) and e.block == block) for log in (parent, child))
    assert (a.canvas[0] == b.canvas[0]).all()
    return child


def differ(parent: RunLog, block: int, step: int) -> bool:
    """Some seed of a few leads elsewhere after the step."""
    return any(not all_same(check_fork(parent, block, step, s).frames(), parent.frames()) for s in range(50, 53))


@pytest.mark.parametrize("step", range(SETTINGS.steps))
def test_a_fork_shares_its_first_frames_and_goes_its_own_way(step: int) -> None:
    parent = run(job())
    assert differ(parent, 0, step)
    assert not all_same(check_fork(parent, 0, step).frames(), run(job(seed=1234)).frames())


def test_a_fork_behind_the_last_step_differs_in_the_next_block() -> None:
    parent = run(job(max_tokens=2 * CANVAS))
    child = check_fork(parent, 0, SETTINGS.steps)
    assert all_same(child.frames(0), parent.frames(0))
    starts = [[e.canvas[0] for e in log if isinstance(e, BlockStarted)][1] for log in (parent, child)]
    assert (starts[0] != starts[1]).any()


@pytest.mark.parametrize("step", range(SETTINGS.steps))
def test_a_fork_in_the_second_block_shares_the_first(step: int) -> None:
    parent = run(job(max_tokens=3 * CANVAS))
    child = check_fork(parent, 1, step)
    assert [b.block for b in child.blocks()] == [1, 2]
    assert finished(child).token_ids[0][:CANVAS].tolist() == parent.blocks()[0].ids.tolist()
    assert not all_same(child.frames(1), parent.frames(1))


@pytest.mark.parametrize("first", [0, 3, 5])
@pytest.mark.parametrize("second", [0, 2, 3, 4, 7])
def test_a_fork_of_a_fork_shares_with_both(first: int, second: int) -> None:
    grandparent = run(job())
    parent = check_fork(grandparent, 0, first, seed=77)
    child = check_fork(parent, 0, second, seed=88)
    shared = min(first, second)
    assert all_same(child.frames()[:shared], grandparent.frames()[:shared])
    assert not all_same(child.frames(), parent.frames())


def test_a_fork_of_a_forks_second_block_is_exact() -> None:
    parent = check_fork(run(job(max_tokens=2 * CANVAS)), 0, 4)
    for step in range(SETTINGS.steps + 1):
        check_fork(parent, 1, step)


AMENDMENTS = {
    0: [Amendment(1, Action.PIN, 9)],
    2: [Amendment(2, Action.PIN), Amendment(3, Action.PIN, 4)],
    5: [Amendment(1, Action.UNPIN)],
}


@pytest.mark.parametrize("step", range(SETTINGS.steps + 1))
def test_a_fork_repeats_the_amendments_up_to_its_step(step: int) -> None:
    parent = steered(job(), AMENDMENTS)
    assert kinds(parent).count("Amended") == 4
    child = check_fork(parent, 0, step)
    amended = [[e for e in log if isinstance(e, Amended) and e.step < step] for log in (parent, child)]
    assert [replace(e, job="child") for e in amended[0]] == amended[1]
    assert kinds(child).count("Amended") == sum(len(a) for at, a in AMENDMENTS.items() if at < step)
    check_fork(child, 0, step, seed=3)


@pytest.mark.parametrize("step", range(4))
def test_a_fork_starts_like_its_parent(step: int) -> None:
    start = Start(IDS, frozenset({0, 7}), 0.5)
    child = check_fork(run(job(start=start)), 0, step)
    assert {int(f.ids[7]) for f in child.frames()} == {IDS[7]}


def test_a_fork_of_a_candidate_goes_on_alone() -> None:
    parent = run(job(candidates=3))
    child = run(parent.fork(0, 4, "child", 99, candidate=2))
    assert child.job.candidates == 1
    expected = [replace(f, candidate=0) for f in parent.frames(candidate=2)]
    assert all_same(child.frames()[:4], expected[:4])
    assert not all_same(child.frames(), expected)


@pytest.mark.parametrize(("block", "step"), [(0, -1), (0, SETTINGS.steps + 1), (1, 0)])
def test_a_fork_from_a_step_not_taken_is_refused(block: int, step: int) -> None:
    with pytest.raises(BadJob):
        run(job()).fork(block, step, "child", 1)


@pytest.mark.parametrize("step", range(1, SETTINGS.steps + 1))
def test_a_fork_from_a_canvas_starts_from_it_at_the_same_step(step: int) -> None:
    parent = steered(job(max_tokens=2 * CANVAS), AMENDMENTS)
    frame = parent.frames(0)[step - 1]
    denoiser = endless()
    child = run(parent.fork_from_canvas(0, step, "child", 5), denoiser)
    started = child[0]
    assert isinstance(started, BlockStarted)
    assert (started.canvas[0] == frame.canvas).all()
    assert (started.pinned[0] == (frame.flags & Flag.PINNED > 0)).all()
    assert started.remaining == max(1, SETTINGS.steps - step)
    assert denoiser.conditioned[0] is None
    following = parent.frames(0)[min(step, SETTINGS.steps - 1)]
    assert child.frames()[0].temperature == following.temperature
    assert len(child.blocks()) == 2
    for position in np.flatnonzero(started.pinned[0]):
        assert {int(f.ids[position]) for f in child.frames(0)} == {int(frame.ids[position])}


def test_a_fork_from_a_canvas_of_a_later_block_keeps_the_earlier_ones() -> None:
    parent = run(job(max_tokens=2 * CANVAS))
    forked = parent.fork_from_canvas(1, 3, "child", 5)
    assert forked.blocks == (tuple(parent.blocks()[0].ids.tolist()),)
    child = run(forked)
    check_fork(child, 1, 2)


@pytest.mark.parametrize("step", [0, SETTINGS.steps + 1])
def test_a_fork_from_a_canvas_that_was_not_drawn_is_refused(step: int) -> None:
    with pytest.raises(BadJob):
        run(job()).fork_from_canvas(0, step, "child", 1)


# What is refused


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: SamplerSettings(steps=0), "steps is 0"),
        (lambda: SamplerSettings(t_min=0), "t_min is 0"),
        (lambda: SamplerSettings(t_min=float("nan")), "t_min is nan"),
        (lambda: SamplerSettings(t_min=0.5, t_max=0.4), "t_max is 0.4"),
        (lambda: SamplerSettings(t_max=float("inf")), "t_max is infinite"),
        (lambda: SamplerSettings(entropy_bound=0), "entropy_bound is 0"),
        (lambda: SamplerSettings(stability=-2), "stability is -2"),
        (lambda: SamplerSettings(confidence=0), "confidence is 0"),
        (lambda: SamplerSettings(top_k=0), "top_k is 0"),
        (lambda: Start(IDS, strength=0), "strength is 0"),
        (lambda: Start(IDS, strength=1.1), "strength is 1.1"),
        (lambda: Start(pinned=frozenset({1})), "need the ids"),
        (lambda: Start(strength=0.5), "need the ids"),
        (lambda: Start(noised=True), "need the ids"),
        (lambda: Job("j", (), 0), "no tokens"),
        (lambda: Job("j", (1,), 0, max_tokens=0), "max_tokens is 0"),
        (lambda: Job("j", (1,), 0, starts=()), "needs at least one start"),
        (lambda: Job("j", (1,), -1), "seed is -1"),
        (lambda: Job("j", (1,), 2**63), "seed is 9223372036854775808"),
        (lambda: Job("j", (1,), 0, starts=(Start(),) * 2, fork=Fork(b"", (), ())), "exactly one candidate"),
        (
            lambda: Job("j", (1,), 0, starts=(Start(IDS), Start(IDS, strength=0.5))),
            "strengths of the starts differ",
        ),
    ],
)
def test_a_wrong_value_is_named_when_it_is_made(make: object, says: str) -> None:
    with pytest.raises(BadJob, match=says):
        make()  # type: ignore[operator]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"prompt_ids": (1, VOCAB)}, "outside the vocabulary of 23"),
        ({"prompt_ids": (-1,)}, "outside the vocabulary"),
        ({"starts": (Start((*IDS[:-1], VOCAB)),)}, "outside the vocabulary"),
        ({"blocks": ((*IDS[:-1], VOCAB),)}, "outside the vocabulary"),
        ({"starts": (Start(IDS[:-1]),)}, "start canvas has 11 ids: this model's canvas has 12"),
        ({"starts": (Start(IDS, frozenset({CANVAS})),)}, "outside the canvas of 12"),
        ({"starts": (Start(IDS, frozenset({-1})),)}, "outside the canvas of 12"),
        ({"starts": (Start(IDS), Start((*IDS[:-1], VOCAB)))}, "outside the vocabulary"),
        ({"starts": (Start(IDS), Start(IDS[:-1]))}, "start canvas has 11 ids"),
        ({"starts": (Start(), Start(IDS, frozenset({CANVAS})))}, "outside the canvas of 12"),
        ({"blocks": (IDS[:-1],)}, "must have 12 ids"),
        ({"prompt_ids": (1,) * (200 - CANVAS + 1)}, "at most 188 fit"),
        ({"prompt_ids": (1,) * (200 - 2 * CANVAS + 1), "blocks": (IDS,)}, "fit this model's context"),
    ],
)
def test_a_job_that_does_not_fit_the_model_is_refused_before_anything_runs(
    changes: dict[str, object], says: str
) -> None:
    denoiser = endless()
    with pytest.raises(BadJob, match=says):
        engine.run(stepper(denoiser), replace(job(), **changes))  # type: ignore[arg-type]
    assert denoiser.prefix == []
    assert denoiser.forwards == []


def test_a_prompt_that_just_fits_runs() -> None:
    assert kinds(run(replace(job(), prompt_ids=(1,) * (200 - CANVAS))))[-1] == "Finished"


def test_the_cut_is_before_the_first_stop_id() -> None:
    def of(ids: list[int], limit: int) -> tuple[list[int], bool]:
        kept: Ids
        kept, ended = engine.cut(np.asarray(ids, dtype=np.int32), frozenset({1, 2}), limit)
        return kept.tolist(), ended

    assert of([7, 8, 2, 9, 1], 9) == ([7, 8], True)
    assert of([7, 8, 9], 9) == ([7, 8, 9], False)
    assert of([1, 8, 9], 9) == ([], True)
    assert of([], 9) == ([], False)


def test_nothing_runs_before_the_first_event_is_asked_for() -> None:
    denoiser = endless()
    events: Iterator[Event] = engine.run(stepper(denoiser), job())
    assert denoiser.prefix == []
    next(events)
    assert denoiser.prefix == [1, 2, 3]
    assert denoiser.forwards == []


def test_pauses_are_not_part_of_the_seconds_of_a_run() -> None:
    control = Control()
    control.pause()
    began = time.perf_counter()
    watched = Watched(job(), control)
    watched.until(1)
    watched.quiet(0.5)
    control.resume()
    log = watched.join()
    whole = time.perf_counter() - began
    assert log.finished and control.paused_seconds > 0.4
    assert log.finished.seconds <= whole - control.paused_seconds
