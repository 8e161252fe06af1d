"""The own forward gives transformers' logits, however weights are held and experts are multiplied."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from geometries import GEOMETRIES, dense, packed
from torch import nn

from dgtui.diffusion.image import Image
from dgtui.inference.cpu import CPU
from dgtui.inference.denoiser import OwnDenoiser
from dgtui.inference.experts import ExpertsFunction, grouped_experts, sorted_experts
from dgtui.inference.forward import Decoder
from dgtui.kernels.ops import TORCH, Ops
from dgtui.model.denoiser import TransformersDenoiser

TOLERANCE = 1e-4
"""Largest difference of a logit in fp32; logits reach tens."""
STOP = frozenset({1})


def module_experts(experts: nn.Module) -> ExpertsFunction:
    """transformers' own implementation for the module: the reference."""

    def run(x: torch.Tensor, index: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = experts(x, index.long(), weights.to(x.dtype))
        return found

    return run


WAYS: dict[str, tuple[Ops, Callable[[nn.Module], ExpertsFunction], int]] = {
    "cpu": (CPU, lambda experts: sorted_experts(experts, CPU.gated), 1),
    "grouped": (TORCH, lambda experts: grouped_experts(experts, TORCH.gated), 32),
    "module": (CPU, module_experts, 1),
}
"""Operations, experts, and what the places of KV buffers are rounded up to."""


def denoisers(model: Any, way: str) -> tuple[TransformersDenoiser, OwnDenoiser]:
    ops, experts, bucket = WAYS[way]
    own = OwnDenoiser(model, STOP).use(Decoder(model, ops, experts), bucket)
    return TransformersDenoiser(model, STOP), own


def random_ids(model: Any, count: int, seed: int) -> list[int]:
    draw = torch.Generator().manual_seed(seed)
    return [int(i) for i in torch.randint(10, model.config.text_config.vocab_size, (count,), generator=draw)]


def canvases(model: Any, count: int) -> torch.Tensor:
    return torch.tensor([random_ids(model, model.config.canvas_length, 100 + row) for row in range(count)])


def check(theirs: TransformersDenoiser, own: OwnDenoiser, rows: int) -> None:
    """A first step and one that is conditioned on it."""
    ids, conditioning = canvases(theirs.model, rows), None
    for _ in range(2):
        wanted, found = theirs.logits(ids, conditioning), own.logits(ids, conditioning)
        assert wanted.abs().max() > 5
        assert (found - wanted).abs().max() < TOLERANCE
        conditioning = wanted / 0.7


@pytest.mark.parametrize("way", ["cpu", "grouped"])
@pytest.mark.parametrize("make", [dense, packed])
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_logits_are_transformers_logits(geometry: str, make: Callable[[str], Any], way: str) -> None:
    theirs, own = denoisers(make(geometry), way)
    for length in (5, 40):
        for denoiser in (theirs, own):
            denoiser.encode(random_ids(theirs.model, length, length))
        check(theirs, own, rows=1)


@pytest.mark.parametrize("way", ["cpu", "grouped"])
@pytest.mark.parametrize("make", [dense, packed])
def test_several_canvases_over_one_prefix(make: Callable[[str], Any], way: str) -> None:
    theirs, own = denoisers(make("many_experts"), way)
    for denoiser in (theirs, own):
        denoiser.encode(random_ids(theirs.model, 30, 1))
        denoiser.commit(random_ids(theirs.model, 32, 2))
    check(theirs, own, rows=3)
    check(theirs, own, rows=1)  # fewer of them, in new buffers


@pytest.mark.parametrize("make", [dense, packed])
def test_a_prefix_with_an_image(make: Callable[[str], Any]) -> None:
    theirs, own = denoisers(make("narrow"), "cpu")
    vision, draw = theirs.model.config.vision_config, np.random.default_rng(5)
    grid = np.stack(np.meshgrid(np.arange(6), np.arange(6)), -1).reshape(-1, 2).astype(np.int32)
    patches = draw.random((36, 3 * vision.patch_size**2), dtype=np.float32)
    image = Image(patches, grid, 36 // vision.pooling_kernel_size**2)
    ids = random_ids(theirs.model, 24, 7)
    place = theirs.model.config.image_token_id
    marked = [*ids[:9], *[place] * image.tokens, *ids[9:]]
    for denoiser in (theirs, own):
        denoiser.encode(marked, [image])
    check(theirs, own, rows=1)
    seen = own.logits(canvases(own.model, 1), None)
    own.encode([*ids[:9], *[place] * image.tokens, *ids[9:]])  # ids alone, and no image
    assert (own.logits(canvases(own.model, 1), None) - seen).abs().max() > 100 * TOLERANCE


@pytest.mark.parametrize("make", [dense, packed])
def test_experts_that_run_as_transformers_runs_them(make: Callable[[str], Any]) -> None:
    theirs, own = denoisers(make("narrow"), "module")
    for denoiser in (theirs, own):
        denoiser.encode(random_ids(theirs.model, 9, 9))
    check(theirs, own, rows=2)


def test_the_prefix_that_is_seen_is_the_newest() -> None:
    theirs, own = denoisers(dense("single"), "grouped")
    for ids in (random_ids(theirs.model, 33, 1), random_ids(theirs.model, 33, 2), random_ids(theirs.model, 12, 1)):
        for denoiser in (theirs, own):
            denoiser.encode(ids)
        check(theirs, own, rows=1)


def test_weights_are_held_once() -> None:
    """Matrices that were joined are views, for transformers' modules too."""
    model = dense("wide")
    Decoder(model, CPU, module_experts)
    storages = {p.untyped_storage().data_ptr(): p.untyped_storage().nbytes() for p in model.parameters()}
    assert sum(storages.values()) == sum(4 * p.numel() for p in model.parameters())
    attention = model.model.decoder.layers[0].self_attn
    assert (
        attention.q_proj.weight.data_ptr() + attention.q_proj.weight.numel() * 4 == attention.k_proj.weight.data_ptr()
    )
    assert model.model.encoder.language_model.layers[0].self_attn.q_proj.weight is attention.q_proj.weight
