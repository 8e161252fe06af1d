"""The own encoder leaves the same keys and values as transformers', and gives the same states."""

from typing import Any

import numpy as np
import pytest
import torch
from geometries import GEOMETRIES, dense, packed
from test_forward import STOP, TOLERANCE, canvases, denoisers, random_ids

from dgtui.diffusion.image import Image
from dgtui.inference import encoder
from dgtui.inference.encoder import attend_masked
from dgtui.model.denoiser import TransformersDenoiser

PIECE = 12


@pytest.fixture(autouse=True)
def short_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """A prompt is read in several pieces."""
    monkeypatch.setattr("dgtui.model.denoiser.PIECE", PIECE)


def check(theirs: TransformersDenoiser, own: TransformersDenoiser) -> None:
    """The caches and the likelihoods of canvases are equal."""
    for wanted, found in zip(theirs.prefix.cache.layers, own.prefix.cache.layers, strict=True):
        assert found.get_seq_length() == wanted.get_seq_length()
        for one, other in ((wanted.keys, found.keys), (wanted.values, found.values)):
            assert one.shape == other.shape
            assert (one - other).abs().max() < TOLERANCE
    ids = canvases(theirs.model, 3)
    assert (theirs.log_probs(ids) - own.log_probs(ids)).abs().max() < TOLERANCE


@pytest.mark.parametrize(("make", "way"), [(dense, "cpu"), (packed, "grouped")])
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_prompts_blocks_and_likelihoods_are_transformers(geometry: str, make: Any, way: str) -> None:
    theirs, own = denoisers(make(geometry), way)
    ids = random_ids(theirs.model, 43, 1)
    for read in (
        lambda each: each.encode(ids[:1]),  # one id sees itself alone
        lambda each: each.encode(ids),
        lambda each: each.commit(random_ids(theirs.model, theirs.canvas_length, 2)),
        lambda each: each.encode(ids[:37] + random_ids(theirs.model, 9, 3)),  # another turn after most of the first
    ):
        for denoiser in (theirs, own):
            read(denoiser)
        check(theirs, own)


@pytest.mark.parametrize("make", [dense, packed])
def test_images_see_themselves_whole(make: Any) -> None:
    theirs, own = denoisers(make("narrow"), "cpu")
    vision, draw = theirs.model.config.vision_config, np.random.default_rng(5)
    grid = np.stack(np.meshgrid(np.arange(6), np.arange(6)), -1).reshape(-1, 2).astype(np.int32)
    patches = draw.random((36, 3 * vision.patch_size**2), dtype=np.float32)
    image = Image(patches, grid, 36 // vision.pooling_kernel_size**2)
    ids = random_ids(theirs.model, 24, 7)
    marked = [*ids[:9], *[theirs.model.config.image_token_id] * image.tokens, *ids[9:]]
    for denoiser in (theirs, own):
        denoiser.encode(marked, [image])
    check(theirs, own)


def test_wide_heads_in_pieces_see_what_the_mask_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a GPU does with heads that no fused kernel takes."""
    draw = torch.Generator().manual_seed(0)
    q, keys, values = (torch.randn(shape, generator=draw) for shape in ((2, 4, 7, 16), *((2, 2, 11, 16),) * 2))
    mask = torch.rand((2, 1, 7, 11), generator=draw) < 0.6
    mask[..., 0] = True
    wanted = attend_masked(q, keys, values, mask)
    monkeypatch.setattr(encoder, "_SCORES", 3 * 2 * 4 * 11)  # three queries at a time
    found = encoder._attend_in_pieces(q, keys, values, mask).transpose(1, 2)
    assert (found - wanted).abs().max() < 1e-5


def test_the_reference_reads_through_transformers_own_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    theirs, own = denoisers(dense("narrow"), "cpu")
    called: list[str] = []
    layer: Any = theirs.model.model.encoder.language_model.layers[0]
    hook = layer.register_forward_hook(lambda *_: called.append("layer"))
    try:
        own.encode(random_ids(own.model, 5, 1))
        assert not called
        theirs.encode(random_ids(own.model, 5, 1))
        assert called and theirs.stop_ids == STOP
    finally:
        hook.remove()
