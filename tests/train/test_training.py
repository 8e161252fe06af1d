"""The objective, the optimizer and the loop, on models of a few thousand parameters."""

import random
from pathlib import Path

import pytest
import torch
from checkpoints import tiny_config
from hypothesis import given
from hypothesis import strategies as st
from transformers import DiffusionGemmaForBlockDiffusion

from dgtui.model import nf4
from dgtui.model.parts import can_be_packed
from dgtui.train.items import FILL_WEIGHT, Item, batches, collate, random_spans
from dgtui.train.loop import Settings, Trainer, as_packed
from dgtui.train.muon import Muon, orthogonalize
from dgtui.train.objective import corrupt, losses

PAD, EOS, TURN_END = 0, 1, 6


def trainable():
    config = tiny_config()
    config.initializer_range = config.text_config.initializer_range = 0.02
    return DiffusionGemmaForBlockDiffusion(config).train()


def item(rng: random.Random, spans: tuple[tuple[int, int], ...] | None = None) -> Item:
    word = rng.randrange(20, 60)
    return Item((2, 5, word, word + 1), (word, word + 1, word, TURN_END), spans)


def endless(seed: int):
    rng = random.Random(seed)
    while True:
        yield item(rng, ((1, 2),) if rng.random() < 0.3 else None)


@given(st.integers(0, 10**6), st.integers(1, 60))
def test_random_spans_are_disjoint_and_inside(seed: int, length: int) -> None:
    spans = random_spans(random.Random(seed), length)
    assert spans
    places = [p for start, end in spans for p in range(start, end)]
    assert len(places) == len(set(places))
    assert min(places) >= 0 and max(places) < length


def test_a_batch_holds_reply_then_fill_and_frees_only_the_span() -> None:
    batch = collate([Item((2, 7), (30, 31, TURN_END), None), Item((2, 7, 8), (40, TURN_END), ((0, 1),))], 8, PAD, EOS)
    assert batch.prefix.tolist() == [[PAD, 2, 7], [2, 7, 8]]
    assert batch.canvas.tolist() == [[30, 31, TURN_END, *[EOS] * 5], [40, TURN_END, *[EOS] * 6]]
    assert batch.free.tolist() == [[True] * 8, [True, *[False] * 7]]
    assert batch.weight[0].tolist() == pytest.approx([1.0] * 4 + [FILL_WEIGHT] * 4)
    assert batch.infill.tolist() == [False, True]


def test_only_free_positions_are_corrupted() -> None:
    rng = random.Random(0)
    batch = collate([item(rng, ((1, 3),)) for _ in range(64)], 16, PAD, EOS)
    noisy, replaced, level = corrupt(batch, 320, torch.Generator().manual_seed(0))
    assert replaced.any()
    assert not (replaced & ~batch.free).any()
    assert torch.equal(noisy[~replaced], batch.canvas[~replaced])
    assert ((level > 0) & (level <= 1)).all()


def test_every_step_holds_short_and_long_items() -> None:
    rng = random.Random(1)

    def mixed():
        while True:
            length = rng.choice((4, 60))
            yield Item((2, 5, 6), (*[30] * length, TURN_END), None)

    step = next(batches(mixed(), rng, 512, None, PAD, EOS))
    lengths = sorted(batch.canvas.shape[1] for batch in step)
    assert len(step) == 4
    assert lengths[0] < 40 < 60 < lengths[-1]


@pytest.mark.parametrize("shape", [(3, 16, 40), (2, 24, 24)])
def test_an_update_is_orthogonal(shape: tuple[int, int, int]) -> None:
    stack = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    singular = torch.linalg.svdvals(orthogonalize(stack, iterations=12))
    assert singular.min() > 0.6
    assert singular.max() < 1.3


def test_muon_moves_a_stack_of_experts_as_it_moves_each_alone() -> None:
    stack = torch.nn.Parameter(torch.randn(3, 8, 12, generator=torch.Generator().manual_seed(1)))
    alone = [torch.nn.Parameter(m.detach().clone()) for m in stack]
    gradient = torch.randn(3, 8, 12, generator=torch.Generator().manual_seed(2))
    stack.grad = gradient.clone()
    for p, g in zip(alone, gradient, strict=True):
        p.grad = g.clone()
    Muon([stack]).step()
    Muon(alone).step()
    torch.testing.assert_close(stack.detach(), torch.stack([p.detach() for p in alone]), rtol=1e-4, atol=1e-5)


def test_the_diffusion_loss_reaches_encoder_and_self_conditioning() -> None:
    model = trainable()
    batch = collate([item(random.Random(i)) for i in range(4)], 16, PAD, EOS)
    losses(model, batch, torch.Generator().manual_seed(0)).diffusion.backward()
    layer = model.model.decoder.layers[0]
    assert layer.self_attn.k_proj.weight.grad.abs().sum() > 0
    assert layer.experts.gate_up_proj.grad.abs().sum() > 0
    assert model.model.decoder.self_conditioning.up_proj.weight.grad.abs().sum() > 0


def test_training_lowers_the_loss_on_what_it_was_not_trained_on(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = trainable()
    trainer = Trainer(model, Settings(steps=30, warmup=5, save_every=1000), tmp_path / "checkpoint", seed=0)
    fixed = collate([item(random.Random(i)) for i in range(32)], 16, PAD, EOS)
    before = losses(model, fixed, torch.Generator().manual_seed(9)).diffusion.item()
    trainer.train(batches(endless(0), random.Random(0), 256, 16, PAD, EOS))
    after = losses(model, fixed, torch.Generator().manual_seed(9)).diffusion.item()
    assert after < 0.75 * before


def test_an_interrupted_run_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint"
    trainer = Trainer(trainable(), Settings(steps=4, save_every=2), folder, seed=0)
    trainer.train(batches(endless(0), random.Random(0), 256, 16, PAD, EOS))
    again = DiffusionGemmaForBlockDiffusion.from_pretrained(folder)
    resumed = Trainer(again, Settings(steps=6, save_every=2), folder, seed=0)
    assert resumed.resume()
    assert resumed.step == 4
    for p, q in zip(trainer.matrices, resumed.matrices, strict=True):
        assert torch.equal(p, q)
        assert torch.equal(trainer.muon.state[p]["momentum"], resumed.muon.state[q]["momentum"])
    resumed.train(batches(endless(1), random.Random(1), 256, 16, PAD, EOS))
    assert resumed.step == 6
    assert not folder.with_name("checkpoint.old").exists()


def test_packed_weights_are_seen_by_the_step_and_updated_as_they_are(tmp_path: Path) -> None:
    model = DiffusionGemmaForBlockDiffusion(tiny_config(hidden=128, canvas=16))
    before = {name: p.detach().clone() for name, p in model.model.decoder.named_parameters()}
    with as_packed(model):
        for name, weight in model.model.decoder.named_parameters():
            own = before[name]
            if can_be_packed(f"model.decoder.{name}", tuple(own.shape)):
                assert torch.equal(weight, nf4.quantize(own).dequantize(own.dtype)), name
                assert not torch.equal(weight, own)
            else:
                assert torch.equal(weight, own), name
    for name, weight in model.model.decoder.named_parameters():
        assert torch.equal(weight, before[name])
    model.set_experts_implementation("eager")
    trainer = Trainer(
        model, Settings(steps=2, warmup=1, packed_share=1.0, save_every=9), tmp_path / "checkpoint", seed=0
    )
    trainer.train(batches(endless(0), random.Random(0), 256, 16, PAD, EOS))
    changed = model.model.decoder.layers[0].mlp.up_proj.weight - before["layers.0.mlp.up_proj.weight"]
    assert 0 < changed.abs().max() < 0.1  # a small step from the weight itself, not from where NF4 puts it
