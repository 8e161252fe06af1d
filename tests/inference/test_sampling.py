"""Both heads sample what the kernels' reference samples, and give the embedding that it would be conditioned on."""

import pytest
import torch

from dgtui.inference.sampling import Chunked, Head, Whole
from dgtui.kernels.ops import TORCH
from dgtui.kernels.sampler import (
    TOP,
    Draws,
    Pins,
    Sampled,
    philox_reference,
    sample_reference,
    scaled_reference,
    uniform_reference,
)

SOFTCAP = 30.0


class Case:
    """B canvases of C positions over V ids, with pins, at a temperature."""

    def __init__(
        self, batch: int, canvas: int, vocab: int, *, temperature: float = 0.7, sharpness: float = 3.0
    ) -> None:
        draw = torch.Generator().manual_seed(vocab)
        self.embedding = torch.randn(vocab, 16, generator=draw) * 0.5
        self.states = torch.randn(batch, canvas, 16, generator=draw) * sharpness
        self.inverse_temperature = torch.tensor(1 / temperature)
        held = torch.randint(vocab, (batch, canvas), generator=draw)
        self.pins = Pins(held, torch.rand(batch, canvas, generator=draw) < 0.2, None)
        self.draws = self.at(7, 2)

    def at(self, seed: int, step: int) -> Draws:
        numbers = torch.arange(len(self.states))
        return Draws(seed + numbers, numbers.int(), torch.tensor([1, step], dtype=torch.int32))

    def expected(self, suppressed: list[int], softcap: float | None) -> tuple[Sampled, torch.Tensor]:
        mask = torch.zeros(len(self.embedding), dtype=torch.bool)
        mask[suppressed] = True
        pins = Pins(self.pins.held, self.pins.pinned, mask)
        logits = self.states @ self.embedding.t()
        probs = scaled_reference(logits, self.inverse_temperature, softcap, pins).double().softmax(-1)
        found = sample_reference(logits, self.inverse_temperature, softcap, pins, self.draws)
        return found, (probs @ self.embedding.double()).float()

    def check_draws(self, drawn: torch.Tensor, suppressed: list[int], softcap: float | None) -> None:
        """Each is the id at which the sum of probabilities passes its random number, up to the rounding of the sum."""
        mask = torch.zeros(len(self.embedding), dtype=torch.bool)
        mask[suppressed] = True
        pins = Pins(self.pins.held, self.pins.pinned, mask)
        logits = scaled_reference(self.states @ self.embedding.t(), self.inverse_temperature, softcap, pins)
        sums = logits.double().softmax(-1).cumsum(-1)
        wanted = uniform_reference(philox_reference(self.draws, drawn.shape[1])[0]).double()
        last = sums.gather(-1, drawn.unsqueeze(-1)).squeeze(-1)
        before = torch.where(drawn > 0, sums.gather(-1, (drawn - 1).clamp_min(0).unsqueeze(-1)).squeeze(-1), 0)
        right = (before - 1e-6 <= wanted) & (wanted <= last + 1e-6)
        assert torch.where(self.pins.pinned, drawn == self.pins.held, right).all()

    def run(self, head: Head, draws: Draws | None = None, top_k: int = TOP) -> tuple[Sampled, torch.Tensor]:
        return head(self.states, self.inverse_temperature, self.pins, draws or self.draws, top_k)


def heads(case: Case, softcap: float | None) -> list[Head]:
    return [Chunked(case.embedding, softcap), Whole(case.embedding, softcap, TORCH)]


@pytest.mark.parametrize("softcap", [SOFTCAP, None])
@pytest.mark.parametrize(("batch", "canvas", "vocab"), [(2, 12, 23), (1, 32, 1300), (1, 300, 9001)])
def test_a_head_samples_what_the_reference_samples(batch: int, canvas: int, vocab: int, softcap: float | None) -> None:
    case, suppressed = Case(batch, canvas, vocab, sharpness=3.0 if softcap else 0.6), [3, vocab - 1]
    wanted, soft = case.expected(suppressed, softcap)
    free = ~case.pins.pinned
    for head in heads(case, softcap):
        head.suppress(torch.tensor(suppressed))
        found, own = case.run(head)
        for name in ("argmax", "noise"):
            assert torch.equal(getattr(found, name), getattr(wanted, name)), name
        case.check_draws(found.drawn, suppressed, softcap)
        assert torch.equal(found.top_ids[found.top_probs > 1e-6], wanted.top_ids[wanted.top_probs > 1e-6])
        for name, tolerance in (("entropy", 2e-5), ("top_probs", 1e-5), ("normalizer", 1e-4)):
            assert (getattr(found, name) - getattr(wanted, name)).abs().max() < tolerance, name
        assert (own - soft)[free].abs().max() < 1e-4
        assert not torch.isin(found.drawn[free], torch.tensor(suppressed)).any()


def test_draws_follow_the_distribution() -> None:
    """χ² of 6,000 positions with the same logits, in blocks of 512 ids: below its 99.9% point."""
    case = Case(1, 6000, 1100, sharpness=0.5)
    case.states = case.states[:, :1].expand(-1, 6000, -1)
    case.pins.pinned.fill_(False)
    found, _ = case.run(Chunked(case.embedding, SOFTCAP))
    logits = scaled_reference(
        case.states[:, :1] @ case.embedding.t(),
        case.inverse_temperature,
        SOFTCAP,
        Pins(case.pins.held[:, :1], case.pins.pinned[:, :1], None),
    )
    expected = 6000 * logits.double().softmax(-1)[0, 0]
    counts = found.drawn[0].bincount(minlength=1100).double()
    common = expected >= 5
    assert common.sum() > 100
    rest = expected[~common].sum()
    chi2 = ((counts - expected) ** 2 / expected)[common].sum() + (counts[~common].sum() - rest) ** 2 / rest
    freedom = float(common.sum())
    assert chi2 < freedom * (1 - 2 / (9 * freedom) + 3.09 * (2 / (9 * freedom)) ** 0.5) ** 3  # Wilson and Hilferty


def test_the_same_key_draws_the_same_whatever_runs_beside_it() -> None:
    case = Case(3, 12, 600)
    together, _ = case.run(Chunked(case.embedding, SOFTCAP))
    again, _ = case.run(Chunked(case.embedding, SOFTCAP))
    assert torch.equal(together.drawn, again.drawn)
    alone = Draws(case.draws.seeds[1:2], case.draws.candidates[1:2], case.draws.counter)
    own, _ = Chunked(case.embedding, SOFTCAP)(
        case.states[1:2], case.inverse_temperature, Pins(case.pins.held[1:2], case.pins.pinned[1:2], None), alone, 8
    )
    assert torch.equal(own.drawn[0], together.drawn[1]) and torch.equal(own.noise[0], together.noise[1])


def test_more_alternatives_than_the_kernels_give() -> None:
    case = Case(1, 8, 5000)
    case.pins.pinned.fill_(False)
    found, _ = case.run(Chunked(case.embedding, SOFTCAP), top_k=30)
    logits = scaled_reference(case.states @ case.embedding.t(), case.inverse_temperature, SOFTCAP, case.pins)
    assert torch.equal(found.top_ids, logits.topk(30, -1).indices)


def test_the_memory_of_the_logits_is_that_of_one_canvas() -> None:
    case = Case(4, 64, 3000)
    head = Chunked(case.embedding, SOFTCAP)
    case.run(head)
    assert head._logits is not None and head._logits.shape == (64, 3072)
    before = head._logits.data_ptr()
    case.run(head)
    assert head._logits.data_ptr() == before
