"""The packed pass, the objective, the optimizer and the trainer, on models of a few thousand parameters."""

import itertools
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from checkpoints import tiny_config
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from transformers import DiffusionGemmaForBlockDiffusion, DynamicCache

from dgtui.model import nf4
from dgtui.model.denoiser import CACHE
from dgtui.model.parts import can_be_packed
from dgtui.train.fused import ROWS_AT_ONCE, head_loss, rms_norm
from dgtui.train.items import FILL_WEIGHT, Item, random_spans
from dgtui.train.muon import Muon, orthogonalize
from dgtui.train.nf4_aware import as_packed
from dgtui.train.objective import LONGEST_RISE, MOST_STEPS, NEAR, Losses, _conditioned, corrupt, losses
from dgtui.train.packed import CHANGED_WEIGHT, COPIED_WEIGHT, Pack, PackedPass, pack
from dgtui.train.trainer import Progress, Schedule, Trainer

PAD, EOS, TURN_END = 0, 1, 6
WINDOW = 16


def trainable(**sizes: int) -> DiffusionGemmaForBlockDiffusion:
    config = tiny_config(**sizes)
    config.initializer_range = config.text_config.initializer_range = 0.02
    config.text_config.sliding_window = WINDOW
    model = DiffusionGemmaForBlockDiffusion(config).train()
    model.set_experts_implementation("eager")
    return model


def item(rng: random.Random, spans: tuple[tuple[int, int], ...] | None = None, prefix: int = 4) -> Item:
    word = rng.randrange(20, 60)
    return Item((2, 5, *[word] * (prefix - 2)), (word, word + 1, word, TURN_END), spans)


def endless(seed: int) -> Iterator[Item]:
    rng = random.Random(seed)
    while True:
        yield item(rng, ((1, 2),) if rng.random() < 0.3 else None, rng.randint(3, 30))


def packed(seed: int, rows: int = 4, length: int = 64, canvas: int | None = None) -> Pack:
    return pack(endless(seed), rows, length, PAD, EOS, WINDOW, canvas, random.Random(seed))


@given(st.integers(0, 10**6), st.integers(1, 60))
def test_random_spans_are_disjoint_and_inside(seed: int, length: int) -> None:
    spans = random_spans(random.Random(seed), length)
    assert spans
    places = [p for start, end in spans for p in range(start, end)]
    assert len(places) == len(set(places))
    assert min(places) >= 0 and max(places) < length


def test_a_row_holds_prefix_reply_and_fill_and_frees_only_the_span() -> None:
    items = [Item((2, 7), (30, 31, TURN_END), None), Item((2, 7, 8), (40, TURN_END), ((0, 1),))]  # longest first
    made = pack(iter(items), 1, 24, PAD, EOS, WINDOW, 6, random.Random(0))
    assert made.ids[0].tolist() == [2, 7, 8, 40, 6, 1, 1, 1, 1, 2, 7, 30, 31, 6, 1, 1, 1, *[PAD] * 7]
    assert made.positions[0, :17].tolist() == [*range(9), *range(8)]
    assert made.free[0].nonzero().flatten().tolist() == [3, *range(11, 17)]
    assert made.weight[0, 11:17].tolist() == pytest.approx([1.0] * 4 + [FILL_WEIGHT] * 2)
    assert made.infill[0, :9].any() and not made.infill[0, 9:].any()


def test_short_canvases_fill_what_whole_ones_leave_empty() -> None:
    made = pack(itertools.repeat(Item((2, 7), (30, TURN_END))), 2, 40, PAD, EOS, WINDOW, 30, random.Random(0))
    lengths = [int((made.canvas & (made.example == example)).sum()) for example in range(made.count)]
    assert lengths.count(30) == 2 and len(lengths) > 2


def test_places_that_repeat_the_prefix_are_marked() -> None:
    prefix, reply = (2, 20, 21, 22, 7), (20, 30, 21, 22, 31, 22, 20, 21, TURN_END)
    made = pack(iter([Item(prefix, reply)]), 1, 24, PAD, EOS, WINDOW, 12, random.Random(0))
    assert (made.emphasis[0] == COPIED_WEIGHT).nonzero().flatten().tolist() == [5 + place for place in (2, 3, 6, 7)]


@pytest.mark.parametrize("spans", [None, ((2, 9),)])
def test_what_is_new_in_a_reply_that_mostly_repeats_the_prefix_counts_most(
    spans: tuple[tuple[int, int], ...] | None,
) -> None:
    old, new = (20, 21, 22, 23, 24, 25), (20, 21, 30, 23, 24, 25, TURN_END)
    reply = new if spans is None else (40, 41, *new, 42, TURN_END)  # the old passage inside a text
    made = pack(iter([Item((2, 31, *old, 7), reply, spans)]), 1, 30, PAD, EOS, WINDOW, 12, random.Random(0))
    begin = 9 if spans is None else 11
    changed = [begin + 2, begin + 6]
    assert (made.emphasis[0] == CHANGED_WEIGHT).nonzero().flatten().tolist() == changed
    assert (made.emphasis[0] != CHANGED_WEIGHT).sum() == (made.emphasis[0] == 1.0).sum()


def test_short_replies_are_never_cut() -> None:
    short, long = Item((2, 7), (*range(20, 50), TURN_END)), Item((2, 7), (*range(60, 130), TURN_END))
    made = pack(iter([short, long] * 6), 4, 256, PAD, EOS, WINDOW, None, random.Random(0), open_share=1.0)
    canvases = [made.ids[(made.example == i) & made.canvas].tolist() for i in range(made.count)]
    of_short = [ids for ids in canvases if ids[0] == 20]
    assert of_short and all(ids[:31] == [*short.reply] for ids in of_short)
    assert any(ids[0] == 60 and TURN_END not in ids for ids in canvases)


@pytest.mark.parametrize("canvas", [None, 12])
def test_packed_logits_are_those_of_transformers(canvas: int | None) -> None:
    torch.manual_seed(1)
    model = trainable()
    for number, layer in enumerate(model.model.decoder.layers):
        layer.layer_scalar.fill_(1.1 + number / 10)
    for number, layer in enumerate(model.model.encoder.language_model.layers):
        layer.layer_scalar.fill_(0.9 - number / 10)
    made = packed(3, canvas=canvas)
    through = PackedPass(model)
    with torch.no_grad():
        states = through.states(made.ids, made)
        logits = through.logits(states)
        assert made.count > 4
        for example in range(made.count):
            here = (made.example == example).nonzero()
            row, start = here[0].tolist()
            places = int((made.canvas & (made.example == example)).sum())
            middle, end = start + len(here) - places, start + len(here)
            cache = DynamicCache(config=model.config.text_config)
            encoded = model.model.encoder(input_ids=made.ids[row : row + 1, start:middle], **{CACHE: cache})
            own = model(decoder_input_ids=made.ids[row : row + 1, middle:end], **{CACHE: cache}).logits
            torch.testing.assert_close(logits[row, middle:end], own[0], rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(states[row, start:middle], encoded.last_hidden_state[0], rtol=1e-4, atol=1e-4)


def test_each_part_of_a_cut_reply_sees_the_reply_before_it() -> None:
    torch.manual_seed(1)
    model, rng = trainable(), random.Random(2)
    prefix, reply = tuple(rng.choices(range(20, 300), k=9)), tuple(rng.choices(range(20, 300), k=25))
    cuts = ((0, 4), (3, 9), (20, 25))
    other = item(rng, None, 8)
    made = pack(iter([Item(prefix, reply, cuts=cuts), other]), 1, 80, PAD, EOS, WINDOW, None, rng)
    assert made.count == 4 and made.open.sum() == sum(last - first for first, last in cuts)
    through = PackedPass(model)
    with torch.no_grad():
        logits = through.logits(through.states(made.ids, made))[0]
        begins = len(prefix) + len(reply)
        for first, last in cuts:
            context = torch.tensor([[*prefix, *reply[:first]]])
            cache = DynamicCache(config=model.config.text_config)
            model.model.encoder(input_ids=context, **{CACHE: cache})
            own = model(decoder_input_ids=torch.tensor([reply[first:last]]), **{CACHE: cache}).logits[0]
            torch.testing.assert_close(logits[begins : begins + last - first], own, rtol=1e-4, atol=1e-4)
            begins += last - first


def test_an_open_canvas_ends_a_little_behind_its_noise() -> None:
    whole = Item((2, 7), tuple(range(100, 160)))
    made = pack(itertools.repeat(whole), 64, 80, PAD, EOS, WINDOW, None, random.Random(0), open_share=1.0)
    assert made.open.equal(made.canvas) and EOS not in made.ids[made.canvas]
    corrupted = corrupt(made, 320, torch.Generator().manual_seed(0))
    assert not corrupted.far.any()
    for example in range(made.count):
        noise = corrupted.replaced[made.example == example][2:]
        settled = (~noise).nonzero().max() if not noise.all() else -1
        assert len(noise) - 1 - settled <= LONGEST_RISE + NEAR


def test_a_guess_of_several_steps_sees_new_noise_and_the_guess_before(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(1)
    made, through = packed(3), PackedPass(trainable())
    corrupted = corrupt(made, 320, torch.Generator().manual_seed(5))
    calls: list[tuple[torch.Tensor, torch.Tensor | None]] = []
    states = through.states

    def watched(ids: torch.Tensor, pack: Pack, soft: torch.Tensor | None = None) -> torch.Tensor:
        calls.append((ids, soft))
        return states(ids, pack, soft)

    monkeypatch.setattr(through, "states", watched)
    counts = set()
    for seed in range(8):
        calls.clear()
        soft, _ = _conditioned(through, made, corrupted, torch.Generator().manual_seed(seed))
        counts.add(len(calls))
        assert calls[0][0].equal(corrupted.before) and calls[0][1] is None
        for (_, before), (ids, guess) in itertools.pairwise(calls):
            assert guess is not None and (before is None or not guess.equal(before))
            assert ids[~corrupted.replaced].equal(made.ids[~corrupted.replaced])
            assert not ids[corrupted.replaced].equal(corrupted.ids[corrupted.replaced])
        assert soft.shape == (*made.ids.shape, through.config.hidden_size)
    assert counts == set(range(1, MOST_STEPS + 1))


def test_only_free_places_are_corrupted() -> None:
    made = packed(0)
    corrupted = corrupt(made, 320, torch.Generator().manual_seed(0))
    assert corrupted.replaced.any()
    assert not (corrupted.replaced & ~made.free).any()
    assert torch.equal(corrupted.ids[~corrupted.replaced], made.ids[~corrupted.replaced])
    assert ((corrupted.level > 0) & (corrupted.level <= 1)).all()


def test_the_canvas_of_the_self_conditioning_is_noisier() -> None:
    made = pack(itertools.repeat(Item((2, 7), tuple(range(100, 140)))), 256, 48, PAD, EOS, WINDOW, None,
                random.Random(0))  # fmt: skip
    corrupted = corrupt(made, 320, torch.Generator().manual_seed(0))
    earlier = corrupted.before != made.ids
    assert not (earlier & ~made.free).any()
    assert earlier[corrupted.replaced].float().mean() > 0.98, "what is noise later is noise before, but other noise"
    assert (corrupted.before != corrupted.ids)[corrupted.replaced].float().mean() > 0.98
    assert earlier[made.free].float().mean() > corrupted.replaced[made.free].float().mean() + 0.05


def test_in_some_examples_the_noise_rises_from_left_to_right() -> None:
    made = pack(itertools.repeat(Item((2, 7), tuple(range(100, 140)))), 256, 48, PAD, EOS, WINDOW, None,
                random.Random(0))  # fmt: skip
    corrupted = corrupt(made, 320, torch.Generator().manual_seed(0))
    reply = made.canvas & (made.ids >= 100)
    assert not (corrupted.far & ~made.canvas).any()
    assert corrupted.replaced[corrupted.far & reply].all(), "behind the rise is nothing but noise"
    rows = corrupted.far.any(-1)
    assert 40 < rows.sum() < 180
    for row in rows.nonzero().flatten().tolist():
        places = corrupted.far[row].nonzero().flatten().tolist()
        assert corrupted.far[row, places[0] : int(made.canvas[row].nonzero().max()) + 1].all()
    noise = corrupted.replaced.float()
    left, right = noise[:, 2:12].mean(-1), noise[:, 32:42].mean(-1)
    assert ((left < 0.2) & (right > 0.95)).sum() > 12
    infill = pack(itertools.repeat(Item((2, 7), tuple(range(100, 140)), ((3, 30),))), 64, 48, PAD, EOS, WINDOW, None,
                  random.Random(0))  # fmt: skip
    assert not corrupt(infill, 320, torch.Generator().manual_seed(0)).far.any()


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


UPDATE = """
import sys, torch
import torch.distributed as dist
from safetensors.torch import save_file
from dgtui.train.muon import Muon
rank, store, out = int(sys.argv[1]), sys.argv[2], sys.argv[3]
if store:
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
draw = torch.Generator().manual_seed(3)
shapes = [(5, 12, 16), (12, 16), (16, 12), (8, 24)]  # six matrices in one stack, and one alone
weights = [torch.nn.Parameter(torch.randn(shape, generator=draw)) for shape in shapes]
for weight in weights:
    weight.grad = torch.randn(weight.shape, generator=draw)
Muon(weights).step()
if rank == 0:
    save_file({str(i): weight.detach() for i, weight in enumerate(weights)}, out)
"""


@pytest.mark.slow
def test_two_processes_that_share_the_work_of_an_update_get_what_one_gets(tmp_path: Path) -> None:
    def start(rank: int, store: str, out: str) -> "subprocess.Popen[bytes]":
        env = os.environ | {"GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
        return subprocess.Popen([sys.executable, "-c", UPDATE, str(rank), store, str(tmp_path / out)], env=env)

    for rank, store, out in ((0, "", "alone"), (0, str(tmp_path / "store"), "shared")):
        running = [start(rank, store, out), *([start(1, store, out)] if store else [])]
        assert [process.wait(120) for process in running] == [0] * len(running)
    alone, shared = (load_file(tmp_path / name) for name in ("alone", "shared"))
    for name, weight in alone.items():
        torch.testing.assert_close(shared[name], weight, rtol=1e-4, atol=1e-5)


def test_the_diffusion_loss_reaches_encoder_and_self_conditioning() -> None:
    model = trainable()
    losses(PackedPass(model), packed(1), torch.Generator().manual_seed(0)).total.backward()
    layer = model.model.decoder.layers[0]
    assert layer.self_attn.k_proj.weight.grad.abs().sum() > 0
    assert layer.experts.gate_up_proj.grad.abs().sum() > 0
    assert model.model.decoder.self_conditioning.up_proj.weight.grad.abs().sum() > 0


def trainer(model: DiffusionGemmaForBlockDiffusion, folder: Path, schedule: Schedule) -> Trainer:
    through = PackedPass(model)

    def step_losses(step: int, noise: torch.Generator) -> Iterator[tuple[Losses, int]]:
        made = packed(step)
        yield losses(through, made, noise), int((made.example >= 0).sum())

    return Trainer(model, schedule, folder, 0, step_losses)


def ignore(_: Progress) -> None:
    pass


def test_training_lowers_the_loss_on_what_it_was_not_trained_on(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = trainable()
    fixed, through = packed(1000, rows=8), PackedPass(model)

    def now() -> float:
        return losses(through, fixed, torch.Generator().manual_seed(9)).diffusion.item()

    before = now()
    seen: list[Progress] = []
    trainer(model, tmp_path / "checkpoint", Schedule(30, warmup=5, decay=10)).train(seen.append, every=10)
    assert now() < 0.75 * before
    assert [p.step for p in seen] == [10, 20, 30]
    assert seen[-1].left == 0 and seen[0].left > 0 and seen[0].tokens_per_second > 0


def test_a_run_that_is_stopped_and_resumed_ends_with_the_same_weights_bit_for_bit(tmp_path: Path) -> None:
    def weights(model: DiffusionGemmaForBlockDiffusion) -> dict[str, torch.Tensor]:
        return {name: p.detach().clone() for name, p in model.named_parameters()}

    schedule = Schedule(7, warmup=2, decay=3)
    torch.manual_seed(3)
    whole = trainable()
    torch.manual_seed(3)
    model = trainable()
    trainer(whole, tmp_path / "whole", schedule).train(ignore)
    first = trainer(model, tmp_path / "parts", schedule)
    first.train(ignore, stop=lambda: first.step == 4)
    again = DiffusionGemmaForBlockDiffusion.from_pretrained(tmp_path / "parts", dtype=torch.float32)
    again.set_experts_implementation("eager")
    second = trainer(again, tmp_path / "parts", schedule)
    assert second.resume() and second.step == 4
    second.train(ignore)
    assert second.step == 7
    for (name, one), other in zip(weights(whole).items(), weights(again).values(), strict=True):
        assert torch.equal(one, other), name
    assert not (tmp_path / "parts.old").exists() and not (tmp_path / "parts.new").exists()


def test_packed_weights_are_seen_by_the_step_and_updated_as_they_are(tmp_path: Path) -> None:
    model = trainable(hidden=128, canvas=16)
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
    trainer(model, tmp_path / "checkpoint", Schedule(2, warmup=1, packed_from=0.0)).train(ignore)
    changed = model.model.decoder.layers[0].mlp.up_proj.weight - before["layers.0.mlp.up_proj.weight"]
    assert 0 < changed.abs().max() < 0.1  # a small step from the weight itself, not from where NF4 puts it


@pytest.mark.parametrize("cap", [None, 5.0])
def test_the_head_and_the_norm_have_the_gradients_of_autograd(cap: float | None) -> None:
    draw = torch.Generator().manual_seed(5)
    weight = torch.randn(12, generator=draw).double().requires_grad_()
    x = torch.randn(3, 7, 12, generator=draw).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x, w: rms_norm(x, w, 1e-6), (x, weight))
    assert torch.autograd.gradcheck(lambda x: rms_norm(x, None, 1e-6), (x,))
    states = torch.randn(ROWS_AT_ONCE + 9, 12, generator=draw).requires_grad_()
    table = torch.randn(30, 12, generator=draw).requires_grad_()
    target = torch.randint(30, (len(states),), generator=draw)
    share = torch.rand(len(states), generator=draw)
    total, each, best = head_loss(states, table, cap, target, share, low=False)
    found = torch.autograd.grad(total, (states, table))
    logits = states @ table.T
    logits = logits if cap is None else torch.tanh(logits / cap) * cap
    own = torch.nn.functional.cross_entropy(logits, target, reduction="none")
    torch.testing.assert_close(each, own.detach(), rtol=1e-5, atol=1e-5)
    assert torch.equal(best, logits.argmax(-1))
    for one, other in zip(found, torch.autograd.grad((own * share).sum(), (states, table)), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_a_pack_has_little_padding_and_each_row_its_own_examples() -> None:
    for seed in range(4):
        made = packed(seed, rows=8, length=256)
        assert (made.example < 0).float().mean() < 0.1
        for row in made.example:
            mine = row[row >= 0]
            assert len(mine.unique_consecutive()) == len(mine.unique())
