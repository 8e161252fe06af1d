"""The two-pass sampler says and draws what the distribution says, and nothing else moves it."""

import dataclasses

import pytest
import torch

from dgtui.kernels import sampler
from dgtui.kernels.sampler import Draws, Pins, Sampled

CAP, INVERSE = 30.0, torch.tensor(1 / 0.7)


def draws(candidates: int, *, block: int = 0, step: int = 1, seed: int = 5) -> Draws:
    numbers = torch.arange(candidates, dtype=torch.int32)
    return Draws(torch.full((candidates,), seed), numbers, torch.tensor([block, step], dtype=torch.int32))


def no_pins(b: int, c: int) -> Pins:
    return Pins(torch.zeros((b, c), dtype=torch.long), torch.zeros((b, c), dtype=torch.bool), None)


def case(v: int, c: int, size: float, kind: torch.dtype = torch.bfloat16) -> tuple[torch.Tensor, Pins]:
    """Logits (2, c, v), every third position pinned, about half of the ids suppressed, the first 2,048 altogether."""
    torch.manual_seed(v)
    suppressed = torch.rand(v) < 0.5
    suppressed[: min(v // 2, 2048)] = True
    suppressed[-9:] = False
    held = torch.randint(v, (2, c))
    pinned = (torch.arange(2 * c) % 3 == 1).view(2, c)
    return (size * torch.randn(2, c, v)).to(kind), Pins(held, pinned, suppressed)


@pytest.fixture(scope="module", params=[(5000, 3, 1.0), (2049, 3, 40.0), (9, 3, 2.0), (2048, 3, 4.0)], ids=str)
def sampled(request: pytest.FixtureRequest) -> tuple[torch.Tensor, Pins, Sampled, Sampled]:
    """Logits, pins, what the kernel finds, and what the reference finds."""
    logits, pins = case(*request.param)
    found, exact = (f(logits, INVERSE, CAP, pins, draws(2)) for f in (sampler.sample, sampler.sample_reference))
    return logits, pins, found, exact


Case = tuple[torch.Tensor, Pins, Sampled, Sampled]


def test_entropy_is_right(sampled: Case) -> None:
    _, _, found, exact = sampled
    assert (found.entropy - exact.entropy).abs().max() <= 1e-5
    assert (found.normalizer - exact.normalizer).abs().max() <= 1e-5


def test_argmax_is_the_likeliest_id(sampled: Case) -> None:
    _, _, found, exact = sampled
    assert torch.equal(found.argmax, exact.argmax)


def test_the_eight_likeliest_are_told_in_order(sampled: Case) -> None:
    logits, pins, found, exact = sampled
    probs = sampler.scaled_reference(logits, INVERSE, CAP, pins).double().softmax(-1)
    torch.testing.assert_close(found.top_probs, exact.top_probs, rtol=1e-5, atol=1e-9)
    possible = exact.top_probs > 0
    theirs = probs.gather(-1, found.top_ids)
    torch.testing.assert_close(theirs[possible], exact.top_probs[possible].double(), rtol=1e-5, atol=1e-9)


def test_draws_are_those_of_the_reference(sampled: Case) -> None:
    _, _, found, exact = sampled
    assert torch.equal(found.drawn, exact.drawn)
    assert torch.equal(found.noise, exact.noise)


def test_pinned_positions_are_their_id_with_certainty(sampled: Case) -> None:
    _, pins, found, _ = sampled
    at = pins.pinned
    for ids in (found.argmax, found.drawn, found.top_ids[..., 0]):
        assert torch.equal(ids[at], pins.held[at])
    assert (found.entropy[at] == 0).all()
    assert (found.top_probs[at] == torch.eye(8)[0]).all()


def test_suppressed_ids_never_come(sampled: Case) -> None:
    _, pins, found, _ = sampled
    assert pins.suppressed is not None
    for ids in (found.argmax, found.drawn):
        assert not pins.suppressed[ids[~pins.pinned]].any()
    assert (found.top_probs[pins.suppressed[found.top_ids] & ~pins.pinned.unsqueeze(-1)] == 0).all()


def test_logits_in_fp32_without_a_softcap_are_right() -> None:
    logits, pins = case(3000, 2, 5.0, torch.float32)
    found, exact = (f(logits, INVERSE, None, pins, draws(2)) for f in (sampler.sample, sampler.sample_reference))
    assert (found.entropy - exact.entropy).abs().max() <= 1e-5
    assert torch.equal(found.argmax, exact.argmax)
    assert torch.equal(found.drawn, exact.drawn)


@pytest.mark.slow
def test_draws_follow_the_distribution() -> None:
    """χ² of 65,536 draws of 30 ids, within four standard deviations of its expectation.

    The draws are the reference's, of which the kernel draws the same ones.
    """
    logits = (2 * torch.randn(30, generator=torch.Generator().manual_seed(3))).bfloat16()
    counts = torch.zeros(30, dtype=torch.double)
    rows, one = logits.expand(1, 4096, 30).contiguous(), torch.tensor(1.0)
    for step in range(16):
        key = draws(1, step=step)
        drawn = sampler.sample_reference(rows, one, CAP, no_pins(1, 4096), key).drawn
        counts += drawn.flatten().bincount(minlength=30)
        few = sampler.sample(rows[:, :4].contiguous(), one, CAP, no_pins(1, 4), key).drawn
        assert torch.equal(few, drawn[:, :4])
    expected = 65536 * (CAP * (logits.double() / CAP).tanh()).softmax(-1)
    often = expected > 5
    freedom = int(often.sum()) - 1
    chi2 = float(((counts - expected) ** 2 / expected)[often].sum())
    assert abs(chi2 - freedom) <= 4 * (2 * freedom) ** 0.5


def test_the_same_key_draws_the_same_ids_whoever_runs_beside() -> None:
    logits, pins = case(600, 3, 1.0)
    pins = dataclasses.replace(pins, suppressed=None)
    both = sampler.sample(logits, INVERSE, CAP, pins, draws(2))
    again = sampler.sample(logits, INVERSE, CAP, pins, draws(2))
    assert torch.equal(both.drawn, again.drawn)
    key = draws(2)
    second = Draws(key.seeds[1:], key.candidates[1:], key.counter)
    alone = sampler.sample(logits[1:].contiguous(), INVERSE, CAP, Pins(pins.held[1:], pins.pinned[1:], None), second)
    assert torch.equal(alone.drawn[0], both.drawn[1])
    assert torch.equal(alone.noise[0], both.noise[1])


@pytest.mark.parametrize(
    "other", [draws(2, step=2), draws(2, block=1), draws(2, seed=6)], ids=["step", "block", "seed"]
)
def test_another_key_draws_other_ids(other: Draws) -> None:
    for found, before in zip(sampler.philox_reference(other, 64), sampler.philox_reference(draws(2), 64), strict=True):
        assert (found != before).all()
    first, second = sampler.philox_reference(draws(2), 64)[0]
    assert (first != second).all()  # candidates differ too


def test_random_numbers_are_philox() -> None:
    """The known answer of Philox 4x32-10 for a key and a counter of zeros (Random123, kat_vectors)."""
    zero = torch.zeros(1, dtype=torch.int32)
    key = Draws(torch.zeros(1, dtype=torch.long), zero, torch.zeros(2, dtype=torch.int32))
    assert [int(word) for word in sampler.philox_reference(key, 1)] == [0x6627E8D5, 0xE169C58D]


def test_probabilities_are_those_of_the_step_and_pins_of_now(sampled: Case) -> None:
    logits, pins, _, exact = sampled
    live = torch.tensor([True, False])
    later = Pins(pins.held, pins.pinned.roll(1), pins.suppressed)
    last = (exact.normalizer, INVERSE, CAP, later, live)
    expected = sampler.probabilities_reference(logits, *last)
    found = sampler.probabilities(logits.clone(), *last)
    torch.testing.assert_close(found, expected, rtol=1e-2, atol=1e-6)
    assert (found[1] == 0).all()


@pytest.mark.parametrize("bound", [0.0, 0.7, 3.0, 1e9])
@pytest.mark.parametrize("c", [3, 16, 40])
def test_acceptance_is_that_of_sorting(c: int, bound: float) -> None:
    generator = torch.Generator().manual_seed(c)
    entropy = torch.rand((2, c), generator=generator)
    entropy[:, : c // 2] = entropy[:, c // 2 : 2 * (c // 2)]  # equal ones
    pinned = torch.rand((2, c), generator=generator) < 0.3
    entropy = entropy.masked_fill(pinned, 0.0)
    ids = torch.arange(2 * c).view(2, c)
    given = Sampled(entropy, ids, ids, ids + 1000, ids, entropy, entropy)
    pins = Pins(ids + 2000, pinned, None)
    found, exact = (f(given, pins, torch.tensor(bound)) for f in (sampler.accept, sampler.accept_reference))
    assert torch.equal(found.accepted, exact.accepted)
    assert torch.equal(found.canvas, exact.canvas)
    assert torch.equal(found.canvas[pinned], pins.held[pinned])
    torch.testing.assert_close(found.mean_entropy, exact.mean_entropy)


@pytest.mark.slow
def test_the_published_vocabulary_is_sampled_right() -> None:
    logits, pins = case(262144, 2, 4.0)
    found, exact = (f(logits, INVERSE, CAP, pins, draws(2)) for f in (sampler.sample, sampler.sample_reference))
    assert (found.entropy - exact.entropy).abs().max() <= 1e-5
    assert torch.equal(found.argmax, exact.argmax)
    assert torch.equal(found.drawn, exact.drawn)
