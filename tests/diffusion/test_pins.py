"""Pins are exact: what a person holds stays as it is, in every frame, and costs the free positions nothing."""

from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch
from fakes import CANVAS, VOCAB, NumericDenoiser, endless, job, stepper
from hypothesis import given, settings
from hypothesis import strategies as st

from dgtui.diffusion import engine, sampler
from dgtui.diffusion.control import Control
from dgtui.diffusion.events import Action, Amended, BlockFinished, BlockStarted, Flag, Frame
from dgtui.diffusion.job import Amendment, BadJob, Job, SamplerSettings, Start

IDS = st.lists(st.integers(0, VOCAB - 1), min_size=CANVAS, max_size=CANVAS).map(tuple)
PLACES = st.frozensets(st.integers(0, CANVAS - 1), max_size=CANVAS - 1)


@st.composite
def jobs(draw: st.DrawFn) -> Job:
    """One start for all candidates, or one for each."""
    strength = draw(st.sampled_from([1.0, 0.9, 0.5, 0.1]))
    starts = st.builds(Start, IDS, PLACES, st.just(strength))
    own = tuple(draw(st.lists(starts, max_size=4)))
    return job(
        seed=draw(st.integers(0, 2**63 - 1)),
        candidates=draw(st.integers(1, 4)),
        settings=SamplerSettings(
            steps=draw(st.integers(1, 6)),
            entropy_bound=draw(st.floats(0.001, 20)),
            stability=draw(st.integers(-1, 2)),
            confidence=draw(st.floats(0.001, 3)),
            top_k=draw(st.integers(1, 5)),
        ),
        start=None if own else draw(starts),
        starts=own,
    )


def pins_of(wanted: Job) -> list[dict[int, int]]:
    """What each candidate holds from the beginning."""
    return [{p: s.ids[p] for p in s.pinned} for s in wanted.starts if s.ids is not None]


@dataclass
class Amending:
    """Runs a job, and sends each amendment after that many frames of its candidate."""

    job: Job
    amendments: list[tuple[int, Amendment]] = field(default_factory=list)
    denoiser: NumericDenoiser = field(default_factory=endless)

    def events(self) -> list[object]:
        control, out = Control(), []
        for event in engine.run(stepper(self.denoiser), self.job, control):
            out.append(event)
            if isinstance(event, Frame):
                for after, amendment in self.amendments:
                    if after == event.step and amendment.candidate == event.candidate:
                        control.amend(amendment)
        return out


def check_frame(frame: Frame, held: dict[int, int], bound: float) -> None:
    """Everything a frame promises about what is held and what is free."""
    pinned = np.zeros(CANVAS, dtype=bool)
    pinned[list(held)] = True
    assert ((frame.flags & Flag.PINNED > 0) == pinned).all()
    assert not (frame.flags[pinned] & (Flag.ACCEPTED | Flag.RENOISED | Flag.CHANGED)).any()
    for position, token in held.items():
        assert frame.ids[position] == frame.canvas[position] == frame.top_ids[position, 0] == token
        assert frame.entropy[position] == 0
        assert frame.top_probs[position, 0] == 1
    free = frame.entropy[~pinned]
    alone = sampler.accept(torch.from_numpy(free.copy())[None], bound)[0].numpy()
    assert ((frame.flags & Flag.ACCEPTED > 0)[~pinned] == alone).all()
    assert np.isclose(frame.mean_entropy, free.mean() if len(free) else 0.0, rtol=1e-5, atol=1e-7)


@given(jobs())
@settings(max_examples=60, deadline=None)
def test_pinned_tokens_never_change(wanted: Job) -> None:
    held = pins_of(wanted)
    amending = Amending(wanted)
    events = amending.events()
    frames = [e for e in events if isinstance(e, Frame)]
    assert len(frames) >= wanted.candidates
    for frame in frames:
        check_frame(frame, held[frame.candidate], wanted.settings.entropy_bound)
    for event in events:
        if isinstance(event, BlockStarted):
            for pins, canvas, mask in zip(held, event.canvas, event.pinned, strict=True):
                assert all(canvas[p] == token for p, token in pins.items())
                assert np.flatnonzero(mask).tolist() == sorted(pins)
        if isinstance(event, BlockFinished):
            assert all(event.ids[p] == token for p, token in held[event.candidate].items())
    assert sum(isinstance(e, BlockFinished) for e in events) == wanted.candidates
    denoiser = amending.denoiser
    for step, (seen, conditioning) in enumerate(zip(denoiser.seen, denoiser.conditioned, strict=True), 1):
        running = [f.candidate for f in frames if f.step == step]
        assert (conditioning is None) == (step == 1)
        for row, candidate in enumerate(running):  # the model sees them, too
            assert all(seen[row, p] == token for p, token in held[candidate].items())
            for p, token in held[candidate].items() if conditioning is not None else ():
                assert conditioning[row, p].softmax(-1)[token] == 1


AMENDMENT = st.builds(
    Amendment,
    position=st.integers(0, CANVAS - 1),
    action=st.sampled_from(Action),
    token=st.none() | st.integers(0, VOCAB - 1),
    candidate=st.integers(0, 3),
)


@given(jobs(), st.lists(st.tuples(st.integers(1, 5), AMENDMENT), max_size=12))
@settings(max_examples=60, deadline=None)
def test_what_is_pinned_or_freed_while_it_runs_holds_from_then_on(
    wanted: Job, amendments: list[tuple[int, Amendment]]
) -> None:
    held = pins_of(wanted)
    drafts: dict[int, Frame] = {}
    for event in Amending(wanted, amendments).events():
        if isinstance(event, Amended):
            if event.action is Action.PIN:
                held[event.candidate][event.position] = event.token
            else:
                held[event.candidate].pop(event.position, None)
        elif isinstance(event, Frame):
            check_frame(event, held[event.candidate], wanted.settings.entropy_bound)
            drafts[event.candidate] = event
        elif isinstance(event, BlockFinished):
            assert (event.ids == drafts[event.candidate].ids).all()


@given(IDS, st.integers(1, 4), st.sampled_from([1.0, 0.3]))
@settings(max_examples=20, deadline=None)
def test_with_everything_pinned_the_result_is_the_input_and_the_model_is_not_asked(
    ids: tuple[int, ...], candidates: int, strength: float
) -> None:
    start = Start(ids, frozenset(range(CANVAS)), strength)
    amending = Amending(job(start=start, candidates=candidates))
    finished = [e for e in amending.events() if isinstance(e, BlockFinished)]
    assert [e.ids.tolist() for e in finished] == [list(ids)] * candidates
    assert all(e.settled and e.steps == 0 for e in finished)
    assert amending.denoiser.forwards == []


def test_pinning_the_last_free_position_ends_at_the_next_settled_step() -> None:
    start = Start(tuple(range(CANVAS)), frozenset(range(CANVAS - 1)))
    wanted = job(start=start, settings=SamplerSettings(steps=9, stability=1))
    pin = Amendment(CANVAS - 1, Action.PIN, 11)
    events = Amending(wanted, [(1, pin)]).events()
    assert [e.ids.tolist() for e in events if isinstance(e, BlockFinished)] == [[*range(CANVAS - 1), 11]]
    means = [e.mean_entropy for e in events if isinstance(e, Frame)]
    assert means[0] > 0
    assert set(means[1:]) == {0.0}
    assert len(means) <= 3


def test_pins_cannot_make_an_unsure_canvas_look_confident() -> None:
    free = 3
    start = Start(tuple(range(CANVAS)), frozenset(range(CANVAS)) - {free})
    dull = SamplerSettings(steps=6, stability=0, confidence=1.0)
    unsure = NumericDenoiser(sharpness=0.1)
    frames = [e for e in Amending(job(start=start, settings=dull), denoiser=unsure).events() if isinstance(e, Frame)]
    assert len(frames) == dull.steps
    for frame in frames:
        assert frame.mean_entropy == frame.entropy[free] > dull.confidence > frame.entropy.mean()


def test_an_amendment_leaves_the_random_stream_as_it_is() -> None:
    wanted = job(start=Start(tuple(range(CANVAS)), frozenset({0})))
    plain, pinned = (
        [e for e in Amending(wanted, amendments).events() if isinstance(e, Frame)]
        for amendments in ([], [(2, Amendment(5, Action.PIN, 7))])
    )
    fresh = (
        [(f.canvas, f.flags & Flag.RENOISED > 0) for f in plain],
        [(f.canvas, f.flags & Flag.RENOISED > 0) for f in pinned],
    )
    compared = 0
    for (a, a_noise), (b, b_noise) in zip(*fresh, strict=True):
        both = a_noise & b_noise
        assert (a[both] == b[both]).all()
        compared += int(both.sum())
    assert compared > 0
    assert not all((a.ids == b.ids).all() for a, b in zip(plain, pinned, strict=True))


def test_replacing_a_pin_holds_the_new_token() -> None:
    wanted = job(start=Start(tuple(range(CANVAS)), frozenset({2})))
    events = Amending(wanted, [(2, Amendment(2, Action.PIN, 20))]).events()
    assert [int(e.ids[2]) for e in events if isinstance(e, Frame)] == [2, 2, *[20] * 6]


@given(jobs(), st.frozensets(st.integers(0, VOCAB - 1), max_size=VOCAB - 1))
@settings(max_examples=60, deadline=None)
def test_what_is_suppressed_is_written_at_no_free_position(wanted: Job, suppressed: frozenset[int]) -> None:
    pins = pins_of(wanted)
    for event in Amending(replace(wanted, suppressed=suppressed)).events():
        if isinstance(event, Frame | BlockFinished):
            held = pins[event.candidate] if pins else {}
            free = [place for place in range(CANVAS) if place not in held]
            assert not suppressed & set(event.ids[free].tolist())
        if isinstance(event, Frame):
            shown = event.top_probs[free] > 0
            assert not suppressed & set(event.top_ids[free][shown].tolist())


def test_an_engine_refuses_to_suppress_what_is_no_id_or_everything() -> None:
    for wrong in ({VOCAB}, {-1}, set(range(VOCAB))):
        with pytest.raises(BadJob, match="suppressed"):
            engine.run(stepper(endless()), replace(job(), suppressed=frozenset(wrong)))
