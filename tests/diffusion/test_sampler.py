"""The sampler's rules, against plain Python and against transformers' own classes."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.models.diffusion_gemma.generation_diffusion_gemma import (
    EntropyBoundSampler,
    EntropyBoundSamplerConfig,
    LinearTemperatureScheduleLogitsProcessor,
    StableAndConfidentStoppingCriteria,
)

from dgtui.diffusion import sampler, schedule
from dgtui.diffusion.stopping import StableAndConfident

# Multiples of 1/64: sums are exact in fp32, so that a plain-Python reference may differ in nothing
ENTROPIES = st.lists(st.integers(0, 512).map(lambda n: n / 64), min_size=1, max_size=24)
BOUNDS = st.integers(0, 1024).map(lambda n: n / 64)


def accepted(entropies: list[float], bound: float) -> list[bool]:
    """The rule, word for word: in ascending order while what is accepted already is within the bound."""
    order = sorted(range(len(entropies)), key=lambda i: entropies[i])
    out, spent = [False] * len(entropies), 0.0
    for i in order:
        if spent > bound:
            break
        out[i] = True
        spent += entropies[i]
    return out


@given(st.lists(ENTROPIES, min_size=1, max_size=3), BOUNDS)
@settings(deadline=None)
def test_acceptance_is_the_rule(rows: list[list[float]], bound: float) -> None:
    length = min(map(len, rows))
    rows = [row[:length] for row in rows]
    mask = sampler.accept(torch.tensor(rows), bound)
    for got, row in zip(mask.tolist(), rows, strict=True):
        wanted = accepted(row, bound)
        # which of equal ones comes first is left open: their number and everything else is not
        assert sorted(zip(row, got, strict=True)) == sorted(zip(row, wanted, strict=True))
        for i, entropy in enumerate(row):
            if row.count(entropy) == 1:
                assert got[i] == wanted[i]


@given(ENTROPIES, BOUNDS)
@settings(deadline=None)
def test_the_most_certain_position_is_always_accepted(row: list[float], bound: float) -> None:
    mask = sampler.accept(torch.tensor([row]), bound)[0]
    assert min(e for e, a in zip(row, mask.tolist(), strict=True) if a) == min(row)


def test_the_last_one_accepted_may_step_over_the_bound_and_no_other() -> None:
    row = torch.tensor([[0.5, 0.25, 1.0, 4.0, 9.0]])
    assert sampler.accept(row, 0.75).tolist() == [[True, True, True, False, False]]
    assert sampler.accept(row, 0.74).tolist() == [[True, True, False, False, False]]


def test_equal_entropies_are_accepted_up_to_the_bound() -> None:
    assert sampler.accept(torch.full((1, 10), 0.25), 1.0).sum() == 5
    assert sampler.accept(torch.zeros(1, 10), 0.1).all()


@given(st.integers(0, 2**31), st.floats(0.01, 8), st.floats(0.1, 40))
@settings(deadline=None)
def test_acceptance_is_transformers(seed: int, bound: float, sharpness: float) -> None:
    draw = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 16, 31, generator=draw) * sharpness
    theirs = EntropyBoundSampler(EntropyBoundSamplerConfig(bound), 16, 31, 48)
    blank = torch.zeros(2, 16, dtype=torch.long)
    theirs.accept_canvas(blank, blank, logits, 1)
    entropy = sampler.distribution(logits)[1]
    assert theirs.accepted_token_mask is not None
    differing = (sampler.accept(entropy, bound) != theirs.accepted_token_mask).sum(-1)
    # One position more or less, and only where the sum meets the bound within rounding
    for row in differing.nonzero()[:, 0].tolist():
        ordered = entropy[row].double().sort().values
        assert (ordered.cumsum(0) - ordered - bound).abs().min() < 1e-5


@given(st.integers(0, 2**31), st.floats(0.0, 60))
@settings(deadline=None)
def test_entropy_is_that_of_the_distribution(seed: int, sharpness: float) -> None:
    logits = torch.randn(2, 5, 37, generator=torch.Generator().manual_seed(seed)) * sharpness
    probs, entropy = sampler.distribution(logits)
    exact = torch.distributions.Categorical(logits=logits.double())
    assert torch.allclose(entropy.double(), exact.entropy(), rtol=1e-4, atol=1e-5)
    assert torch.equal(probs, logits.softmax(-1))
    assert (entropy >= 0).all()


def test_entropy_of_the_certain_and_of_the_clueless() -> None:
    logits = torch.zeros(1, 2, 8)
    logits[0, 0] = -torch.inf
    logits[0, 0, 3] = 0.0
    entropy = sampler.distribution(logits)[1][0]
    assert entropy[0] == 0
    assert entropy[1] == pytest.approx(math.log(8))


def test_holding_makes_pinned_positions_certain_and_leaves_the_others() -> None:
    before = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(0))
    pinned = torch.tensor([[True, False, False], [False, False, True]])
    ids = torch.tensor([[4, 0, 0], [0, 0, 1]])
    after = sampler.pin_logits(before.clone(), ids, pinned)
    assert torch.equal(after[~pinned], before[~pinned])
    assert after.softmax(-1)[0, 0].tolist() == [0, 0, 0, 0, 1]
    assert after.softmax(-1)[1, 2].tolist() == [0, 1, 0, 0, 0]


def test_draws_are_generates_draws() -> None:
    probs = torch.rand(40, 17, generator=torch.Generator().manual_seed(1)).softmax(-1)
    own = torch.Generator().manual_seed(3)
    ours = [sampler.noise(40, 17, own), sampler.draw(probs, own), sampler.noise(40, 17, own)]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        theirs = [torch.randint(0, 17, (1, 40))[0], torch.multinomial(probs, 1)[:, 0], torch.randint(0, 17, (1, 40))[0]]
    assert all(map(torch.equal, ours, theirs))


# Every n of every N up to 64, and some longer ones
@pytest.mark.parametrize(("t_min", "t_max"), [(0.4, 0.8), (0.1, 0.7), (1 / 3, 2 / 3), (0.0123, 1.9876)])
def test_the_temperature_is_transformers_to_the_bit(t_min: float, t_max: float) -> None:
    # generate hands over n as an int32 tensor. 1/t shows every bit of t that a logit could feel
    scores = torch.tensor([1.0, 3.0, -7.7, 1e-3])
    for steps in (*range(1, 65), 96, 100, 128, 255, 256, 1000):
        theirs = LinearTemperatureScheduleLogitsProcessor(t_min, t_max, steps)
        for n in range(1, steps + 1):
            ours = scores.clone().div_(schedule.temperature(n, steps, t_min, t_max))
            assert torch.equal(ours, theirs(None, scores, torch.tensor(n, dtype=torch.int32))), (n, steps)


def test_the_temperature_falls_from_t_max_towards_t_min() -> None:
    values = [schedule.temperature(n, 48, 0.4, 0.8) for n in range(48, 0, -1)]
    assert values[0] == pytest.approx(0.8)
    assert values == sorted(values, reverse=True)
    assert 0.4 < values[-1] < 0.41


@given(st.integers(1, 300).flatmap(lambda n: st.tuples(st.integers(1, n), st.just(n))))
@settings(deadline=None)
def test_a_strength_of_k_in_n_enters_at_k(k_of_n: tuple[int, int]) -> None:
    k, n = k_of_n
    assert schedule.entry_step(k / n, n) == k


@given(st.floats(1e-6, 1.0), st.integers(1, 300))
@settings(deadline=None)
def test_the_entry_step_is_never_none_and_never_too_many(strength: float, steps: int) -> None:
    entry = schedule.entry_step(strength, steps)
    assert 1 <= entry <= steps
    assert strength * steps - 1e-6 <= entry < strength * steps + 1


@given(
    st.integers(0, 3),
    st.lists(
        st.lists(st.tuples(st.integers(0, 1), st.booleans()), min_size=3, max_size=3),
        min_size=1,
        max_size=12,
    ),
)
@settings(deadline=None)
def test_stopping_is_transformers(stability: int, steps: list[list[tuple[int, bool]]]) -> None:
    theirs = StableAndConfidentStoppingCriteria(stability, 0.5)
    ours = StableAndConfident(stability, 0.5)
    for step in steps:  # three canvases; each step a draft of few variants, and sure or not
        draft = torch.tensor([[variant] * 4 for variant, _ in step])
        sharp = torch.tensor([8.0 if sure else 0.0 for _, sure in step])
        logits = torch.nn.functional.one_hot(draft, 6) * sharp[:, None, None]
        mean_entropy = sampler.distribution(logits)[1].mean(-1)
        done = ours.update(draft, mean_entropy, torch.arange(3))
        assert done.tolist() == theirs(draft, logits).tolist()


def test_stopping_looks_at_the_rows_that_still_run() -> None:
    stopping = StableAndConfident(1, 0.5)
    draft = torch.tensor([[1, 2], [3, 4], [5, 6]])
    everyone, sure = torch.arange(3), torch.zeros(3)
    assert stopping.update(draft, sure, everyone).tolist() == [False] * 3
    moved = draft.clone()
    moved[1] = 0
    assert stopping.update(moved, sure, everyone).tolist() == [True, False, True]
    assert stopping.update(moved, torch.zeros(1), torch.tensor([1])).tolist() == [True]
