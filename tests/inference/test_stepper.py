"""The device stepper keeps the engine's promises, and each of its frames is what the reference computes from the canvas
before it."""

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from checkpoints import tiny_model
from geometries import dense, narrow
from torch.utils._python_dispatch import TorchDispatchMode

from dgtui.diffusion import engine, sampler
from dgtui.diffusion.control import Control
from dgtui.diffusion.events import Action, Amended, BlockStarted, Flag, Frame
from dgtui.diffusion.job import Amendment, Job, Start
from dgtui.diffusion.log import RunLog
from dgtui.diffusion.settings import SamplerSettings
from dgtui.inference.cpu import CPU
from dgtui.inference.denoiser import OwnDenoiser
from dgtui.inference.experts import grouped_experts, sorted_experts
from dgtui.inference.forward import Decoder
from dgtui.inference.sampling import Chunked, Whole
from dgtui.inference.stepper import DeviceStepper
from dgtui.kernels.ops import TORCH, Ops
from dgtui.model.denoiser import TransformersDenoiser

CANVAS = 16
PROMPT = tuple(range(10, 31))
SETTINGS = SamplerSettings(steps=6, stability=-1, entropy_bound=1.0)
SILENT = frozenset({319})
DRIFT = 1e-3
"""Largest difference in nats over a run of a calm model: each step conditions the next, and adds to it."""


@functools.cache
def calm() -> Any:
    """Layers and self-conditioning add little to what comes in: drafts settle."""
    model = tiny_model(narrow(), seed=1)
    for name, weight in model.model.decoder.named_parameters():
        if "post_" in name or "self_conditioning.down" in name:
            weight.mul_(0.35)
    return model


def stepper(rows_at_once: int = 64, ops: Ops = CPU, model: Any = None) -> DeviceStepper:
    model = model or dense("narrow")
    own = grouped_experts if ops is TORCH else sorted_experts
    decoder = Decoder(model, ops, lambda experts: own(experts, ops.gated))
    head = Whole(decoder.embedding, decoder.softcap, TORCH) if ops is TORCH else None
    return DeviceStepper(
        OwnDenoiser(model, SILENT).use(decoder, 32 if ops is TORCH else 1),
        lambda top_k: head or Chunked(decoder.embedding, decoder.softcap),
        "device-test",
        rows_at_once,
    )


def job(*starts: Start, seed: int = 3, settings: SamplerSettings = SETTINGS, **more: Any) -> Job:
    return Job("a job", PROMPT, seed, more.pop("max_tokens", CANVAS), settings, starts=starts or (Start(),), **more)


def run(made: Job, own: DeviceStepper | None = None, control: Control | None = None) -> RunLog:
    return RunLog(made, engine.run(own or stepper(), made, control))


def pinned_start(*pins: int) -> Start:
    return Start(tuple(range(40, 40 + CANVAS)), frozenset(pins))


def same(a: Frame, b: Frame) -> bool:
    arrays = ("ids", "canvas", "flags", "top_ids")
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in arrays)


@pytest.mark.parametrize("suppressed", [frozenset(), frozenset({45, 100})])
def test_every_frame_is_the_references_from_the_canvas_before(suppressed: frozenset[int]) -> None:
    made = job(pinned_start(0, 1, 9), suppressed=suppressed)
    model = calm()
    log = run(made, stepper(model=model))
    reference = TransformersDenoiser(model, SILENT)
    reference.encode(PROMPT)
    started = log[0]
    assert isinstance(started, BlockStarted)
    canvas, conditioning = torch.tensor(started.canvas[0]).long()[None], None
    pinned, held = torch.tensor(started.pinned[0])[None], canvas.clone()
    draft = canvas
    for number, frame in enumerate(log.frames()):
        scaled = reference.logits(canvas, conditioning) / frame.temperature
        scaled[..., list(suppressed)] = -torch.inf
        sampler.pin_logits(scaled, held, pinned)
        probs, entropy = sampler.distribution(scaled)
        np.testing.assert_allclose(frame.entropy, entropy[0], atol=DRIFT)
        assert np.array_equal(frame.ids, scaled.argmax(-1)[0])
        np.testing.assert_allclose(frame.top_probs, probs.topk(8, -1).values[0], atol=DRIFT)
        accepted = sampler.accept(torch.tensor(frame.entropy)[None], SETTINGS.entropy_bound)[0].numpy()
        free = ~started.pinned[0]
        assert np.array_equal(frame.flags & Flag.ACCEPTED > 0, accepted & free)
        assert np.array_equal(frame.flags & Flag.RENOISED > 0, ~accepted & free)
        assert np.array_equal(frame.flags & Flag.CHANGED > 0, (frame.ids != draft[0].numpy()) & (number > 0))
        assert frame.mean_entropy == pytest.approx(float(entropy.sum() / free.sum()), abs=DRIFT)
        draft, conditioning = torch.tensor(frame.ids).long()[None], scaled
        canvas = torch.tensor(frame.canvas).long()[None]


@pytest.mark.parametrize("rows_at_once", [2, 64])
def test_a_candidate_does_not_depend_on_how_many_run_beside_it(rows_at_once: int) -> None:
    starts = (pinned_start(2), Start(), pinned_start(*range(CANVAS)), pinned_start(5, 6))
    log = run(job(*starts), stepper(rows_at_once, model=calm()))
    assert not log.frames(candidate=2)  # nothing of it is free
    for candidate in (0, 1, 3):
        found, own = log.frames(candidate=candidate), stepper(model=calm())
        alone = run(job(*starts[: candidate + 1]), own).frames(candidate=candidate)
        assert len(found) == len(alone) == SETTINGS.steps
        assert same(found[0], alone[0])
        assert np.mean([same(a, b) for a, b in zip(found, alone, strict=True)]) > 0.8


def test_candidates_that_are_done_leave_the_others_as_they_are() -> None:
    """Two of four are sure enough after the first step."""
    settings = SamplerSettings(steps=12, stability=-1, entropy_bound=2.0)
    whole = run(job(*(Start(),) * 4, settings=settings))
    lowest, second, third, _ = sorted(whole.frames(candidate=i)[0].mean_entropy for i in range(4))
    sure = (second + third) / 2
    log = run(job(*(Start(),) * 4, settings=dataclasses.replace(settings, stability=0, confidence=sure)))
    ends = [len(log.frames(candidate=i)) for i in range(4)]
    assert lowest < sure and sorted(ends)[:2] == [1, 1] and sorted(ends)[2] > 1
    for i, end in enumerate(ends):
        assert same(log.frames(candidate=i)[0], whole.frames(candidate=i)[0])
        assert log.frames(candidate=i)[end - 1].mean_entropy < sure or end == settings.steps
        assert all(frame.mean_entropy >= sure for frame in log.frames(candidate=i)[:-1])


def test_stopping_is_the_references() -> None:
    """A draft that has not changed for two steps, and confidence: by the frames themselves."""
    settings = SamplerSettings(steps=40, stability=2, confidence=3.0, entropy_bound=4.0, t_min=0.1, t_max=0.2)
    early, own = 0, stepper(model=calm())
    for seed in range(5):
        frames = run(job(seed=seed, settings=settings), own).frames()
        drafts = [frame.ids.tolist() for frame in frames]
        ends = [i for i in range(2, len(frames)) if drafts[i] == drafts[i - 1] == drafts[i - 2]]
        assert all(frames[i].mean_entropy < 3.0 for i in ends)
        assert ends in ([], [len(frames) - 1])
        early += len(frames) < settings.steps
    assert early


def test_the_same_job_gives_the_same_frames_and_another_seed_does_not() -> None:
    own = stepper()
    first, second, other = (run(job(seed=seed), own).frames() for seed in (8, 8, 9))
    assert all(same(a, b) for a, b in zip(first, second, strict=True))
    assert not same(first[0], other[0])


class Steering(Control):
    """Amends before given steps."""

    def __init__(self, *amendments: tuple[int, Amendment]) -> None:
        super().__init__()
        self._then, self._step = list(amendments), 0

    def wait(self) -> tuple[list[Amendment], bool]:
        due = [amendment for step, amendment in self._then if step == self._step]
        self._step += 1
        return due, True


AMENDMENTS = (
    (1, Amendment(4, Action.PIN, 77)),
    (2, Amendment(5, Action.PIN)),
    (4, Amendment(4, Action.UNPIN)),
)


def test_amendments_between_steps_hold_and_free_positions() -> None:
    log = run(job(), control=Steering(*AMENDMENTS))
    frames = log.frames()
    amended = [event for event in log if isinstance(event, Amended)]
    assert [event.token for event in amended] == [77, int(frames[1].ids[5]), 77]
    assert [bool(frame.flags[4] & Flag.PINNED) for frame in frames] == [False, True, True, True, False, False]
    assert all(frame.ids[4] == frame.canvas[4] == 77 and frame.entropy[4] == 0 for frame in frames[1:4])
    assert all(frame.top_ids[4, 0] == 77 and frame.top_probs[4, 0] == 1 for frame in frames[1:4])


def test_a_fork_repeats_the_frames_before_it() -> None:
    """On one stepper: a prefix read again in other pieces differs in last bits, which random models amplify."""
    own = stepper()
    log = run(job(max_tokens=3 * CANVAS, seed=5), own, Steering((8, AMENDMENTS[0][1]), (9, AMENDMENTS[1][1])))
    assert len(log.blocks()) == 3
    for block, step in ((2, 2), (1, 4), (1, 6), (0, 3)):
        again = run(log.fork(block, step, "fork", seed=99), own)
        before, shared = log.frames(block), again.frames(block)
        assert all(same(a, b) for a, b in zip(before[:step], shared[:step], strict=True))
        if step < len(before):
            assert not same(before[step], shared[step])
        twice = run(again.fork(block, step - 1, "fork of a fork", seed=100), own).frames(block)
        assert all(same(a, b) for a, b in zip(before[: step - 1], twice[: step - 1], strict=True))


def test_a_proofread_text_is_more_likely_and_a_fork_repeats_its_steps() -> None:
    own, settings = stepper(model=calm()), dataclasses.replace(SETTINGS, proofread=8)
    plain = run(job(max_tokens=2 * CANVAS, likelihood=True), own)
    log = run(job(max_tokens=2 * CANVAS, settings=settings, likelihood=True), own)
    before, after = (each.blocks()[0].log_probs for each in (plain, log))
    assert before is not None and after is not None
    assert after.sum() > before.sum() + 1
    frames = log.frames(0)
    assert all(same(a, b) for a, b in zip(plain.frames(0), frames[: SETTINGS.steps], strict=True))
    assert len(frames) > SETTINGS.steps + 1
    for step in (2, SETTINGS.steps + 1, len(frames)):
        again = run(log.fork(0, step, "fork", seed=99), own).frames(0)
        assert all(same(a, b) for a, b in zip(frames[:step], again[:step], strict=True))
    second = run(log.fork(1, 1, "fork", seed=99), own).frames(1)
    assert same(second[0], log.frames(1)[0])


def test_strength_keeps_a_share_of_the_canvas() -> None:
    start = Start(tuple(range(40, 40 + CANVAS)), frozenset({0}), strength=0.5)
    kept = []
    for seed in range(40):
        first = next(engine.run(stepper(), job(start, seed=seed)))
        assert isinstance(first, BlockStarted) and first.canvas[0][0] == 40
        kept.append(float((first.canvas[0][1:] == np.arange(41, 40 + CANVAS)).mean()))
    assert 0.4 < np.mean(kept) < 0.6
    assert first.remaining == 3


def test_a_random_state_of_another_stepper_is_rejected() -> None:
    with pytest.raises(ValueError, match="another stepper"):
        stepper().restore_rng(0, b"x" * 5056)


class NoHostSync(TorchDispatchMode):
    """Raises on what waits for the device, and on what has a shape that data decides."""

    FORBIDDEN = frozenset(
        "_local_scalar_dense nonzero nonzero_static masked_select is_nonzero equal item unique _unique _unique2 "
        "unique_dim unique_consecutive bincount repeat_interleave".split()
    )

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.name().split("::")[1].split(".")[0]
        indices = args[1] if name in ("index", "index_put", "index_put_", "_index_put_impl_") else ()
        if any(isinstance(i, torch.Tensor) and i.dtype in (torch.bool, torch.uint8) for i in indices):
            raise AssertionError(f"{name} with a mask")
        if name in self.FORBIDDEN:
            raise AssertionError(f"{name} waits for the device")
        return func(*args, **kwargs or {})


@pytest.fixture
def no_reading(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Reading a tensor into Python raises, also where the dispatcher would not see it."""

    def refuse(*_: object) -> None:
        raise AssertionError("a tensor was read on the host")

    for name in ("item", "tolist", "numpy", "cpu", "__bool__", "__int__", "__float__", "__index__"):
        monkeypatch.setattr(torch.Tensor, name, refuse)
    yield


@pytest.mark.parametrize("rows", [1, 3])
def test_a_step_waits_for_nothing_and_has_static_shapes(rows: int, request: pytest.FixtureRequest) -> None:
    """What a captured graph asks for: the operations of the GPU, on the CPU."""
    own = stepper(ops=TORCH)
    for i in range(rows):
        own.seed(i, i)
    own.encode(PROMPT)
    own.begin([pinned_start(1, 2)] * rows, SETTINGS, [50, 60])
    own.step()  # tables and buffers that are made at their first use
    state = own._state
    assert state is not None
    addresses = [getattr(state, field.name).data_ptr() for field in dataclasses.fields(state)]
    request.getfixturevalue("no_reading")
    shapes = []
    with torch.inference_mode(), NoHostSync():
        for _ in range(2):
            shapes.append(own.advance().shape)
    assert shapes == [(rows, CANVAS * (4 + 2 * SETTINGS.top_k) + 2)] * 2
    assert [getattr(state, field.name).data_ptr() for field in dataclasses.fields(state)] == addresses


def test_the_mode_notices_what_it_forbids(no_reading: None) -> None:
    x = torch.arange(4)
    for work in (lambda: x.nonzero(), lambda: x[x > 1], lambda: x.bincount(), lambda: x.unique()):
        with NoHostSync(), pytest.raises(AssertionError):
            work()
    for read in (lambda: x.tolist(), lambda: x[0].item(), lambda: bool(x[0] > 1)):
        with pytest.raises(AssertionError):
            read()


def test_a_step_is_the_same_under_the_kernels_operations() -> None:
    """CPU forms and references differ in rounding alone."""
    found, wanted = (run(job(pinned_start(3)), stepper(ops=ops)).frames() for ops in (CPU, TORCH))
    assert same(found[0], wanted[0])
    np.testing.assert_allclose(found[0].entropy, wanted[0].entropy, atol=1e-4)
