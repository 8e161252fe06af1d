"""However a prefix came to hold its ids, the model sees the same: reuse saves time and changes nothing."""

from collections.abc import Sequence

import pytest
import torch
from checkpoints import VOCAB, tiny_config, tiny_model
from transformers import DiffusionGemmaForBlockDiffusion
from transformers.cache_utils import DynamicCache

from dgtui.model.denoiser import CACHE, TransformersDenoiser
from dgtui.model.prefix import Prefix, common_length

WINDOW = 32
CANVAS = 16
TOLERANCE = 1e-4
"""Largest difference of a logit (they reach tens) between a prefix read in pieces and one read at once, in fp32: sums
over other shapes differ in their last bits. A wrong cache differs by whole units."""


@pytest.fixture(scope="module")
def model() -> DiffusionGemmaForBlockDiffusion:
    return tiny_model(tiny_config(layers=3, canvas=CANVAS, sliding_window=WINDOW), seed=2)


@pytest.fixture
def warm(model: DiffusionGemmaForBlockDiffusion) -> TransformersDenoiser:
    return TransformersDenoiser(model, frozenset({1}))


@pytest.fixture
def ids() -> list[int]:
    return random_ids(160, 1)


def random_ids(count: int, seed: int) -> list[int]:
    draw = torch.Generator().manual_seed(seed)
    return [int(i) for i in torch.randint(10, VOCAB, (count,), generator=draw)]


CANVASES = torch.tensor([random_ids(CANVAS, seed) for seed in (101, 102, 103)])


def check(warm: TransformersDenoiser, ids: Sequence[int]) -> None:
    """The prefix holds `ids`, and the model sees them as if it had read them at once."""
    assert warm.prefix.ids == list(ids)
    assert [layer.get_seq_length() for layer in warm.prefix.cache.layers] == [len(ids)] * 3
    cold = TransformersDenoiser(warm.model, warm.stop_ids)
    cold.encode(ids)
    got, wanted = (d.logits(CANVASES[:1], None) for d in (warm, cold))
    assert wanted.abs().max() > 5
    torch.testing.assert_close(got, wanted, rtol=0, atol=TOLERANCE)


def become(warm: TransformersDenoiser, ids: Sequence[int]) -> int:
    """Encodes, checks the outcome, and says how many ids were read for it."""
    before = warm.prefix.encoded
    warm.encode(ids)
    count = warm.prefix.encoded - before
    check(warm, ids)
    return count


def test_the_tolerance_tells_a_wrong_prefix_from_a_right_one(warm: TransformersDenoiser, ids: list[int]) -> None:
    """One id changed anywhere that a layer still sees moves some logit by far more."""
    warm.encode(ids[:60])
    right = warm.logits(CANVASES[:1], None)
    for place in (0, 30, 59):
        other = TransformersDenoiser(warm.model, warm.stop_ids)
        other.encode([*ids[:place], ids[place] - 1, *ids[place + 1 : 60]])
        assert (other.logits(CANVASES[:1], None) - right).abs().max() > 100 * TOLERANCE


@pytest.mark.parametrize("sizes", [(10, 20), (20, 40), (50, 51), (31, 32, 33), (5, 10, 15, 20, 25, 30, 35, 40, 45)])
def test_extending_reads_only_what_is_new(sizes: tuple[int, ...], warm: TransformersDenoiser, ids: list[int]) -> None:
    before = 0
    for size in sizes:
        assert become(warm, ids[:size]) == size - before
        before = size


def test_what_is_held_already_is_not_read_again(warm: TransformersDenoiser, ids: list[int]) -> None:
    become(warm, ids[:50])
    assert become(warm, ids[:50]) == 0


def test_a_finished_block_extends_the_prefix(warm: TransformersDenoiser, ids: list[int]) -> None:
    become(warm, ids[:40])
    warm.commit(ids[40:56])
    check(warm, ids[:56])
    assert warm.prefix.encoded == 56


@pytest.mark.parametrize("place", [1, 12, 29])
def test_rolling_back_inside_the_window_reads_nothing_again(
    place: int, warm: TransformersDenoiser, ids: list[int]
) -> None:
    become(warm, ids[:30])
    assert become(warm, ids[:place]) == 0
    branch = [*ids[:place], *random_ids(45, 9)]
    assert become(warm, branch) == 45


def test_the_last_length_inside_the_window_and_the_first_past_it(warm: TransformersDenoiser, ids: list[int]) -> None:
    become(warm, ids[:20])
    become(warm, ids[: WINDOW - 1])
    assert become(warm, ids[:25]) == 0
    become(warm, ids[:WINDOW])
    assert become(warm, ids[: WINDOW - 2]) == WINDOW - 2 - 20  # back at the boundary of 20


@pytest.mark.parametrize(("place", "again"), [(100, 0), (99, 39), (60, 0), (70, 10), (61, 1)])
def test_rolling_back_past_the_window_goes_on_from_the_nearest_boundary(
    place: int, again: int, warm: TransformersDenoiser, ids: list[int]
) -> None:
    for boundary in (20, 60, 100, 140):
        warm.encode(ids[:boundary])
    assert become(warm, ids[:place]) == again
    branch = [*ids[:place], *random_ids(30, 9)]
    assert become(warm, branch) == 30


def test_rolling_back_before_every_boundary_reads_all_again(warm: TransformersDenoiser, ids: list[int]) -> None:
    for boundary in (50, 90, 130):
        warm.encode(ids[:boundary])
    assert become(warm, ids[:49]) == 49
    assert become(warm, ids[:130]) == 81


def test_another_beginning_reads_all_again(warm: TransformersDenoiser, ids: list[int]) -> None:
    become(warm, ids[:50])
    assert become(warm, random_ids(70, 5)) == 70
    become(warm, ids[:10])
    assert become(warm, random_ids(12, 5)) == 12


def test_alternating_branches_stay_right(warm: TransformersDenoiser, ids: list[int]) -> None:
    trunk = ids[:70]
    become(warm, trunk)
    left, right = ([*trunk, *random_ids(48, seed)] for seed in (20, 21))
    for _ in range(2):
        for branch in (left, right):
            for end in (86, 102, 118):
                assert become(warm, branch[:end]) == 16
    assert become(warm, trunk) == 0
    assert become(warm, [*trunk[:35], *left[35:50]]) == 50  # inside the trunk: no boundary there
    assert become(warm, left) == 68


def test_random_walks_over_a_tree_of_prefixes_stay_right(warm: TransformersDenoiser, ids: list[int]) -> None:
    draw = torch.Generator().manual_seed(4)
    held = ids[:20]
    for _ in range(40):
        cut, grow, branch = (int(torch.randint(0, n, (1,), generator=draw)) for n in (len(held) + 1, 40, 3))
        held = [*held[: max(1, cut)], *random_ids(grow, branch)][:150]
        become(warm, held)


def test_boundaries_are_bounded(warm: TransformersDenoiser, ids: list[int]) -> None:
    for end in range(10, 160, 10):
        warm.encode(ids[:end])
    assert len(warm.prefix._snapshots) == 8
    held = [t for s in warm.prefix._snapshots for pair in s.sliding for t in pair]
    assert len(held) == 8 * 2 * 2  # two sliding layers; keys and values
    for tensor in held:  # and none keeps more alive than it shows
        assert tensor.shape[-2] <= WINDOW - 1
        assert tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()
    assert become(warm, ids[:80]) == 0
    assert become(warm, ids[:70]) == 70  # its boundary was the eighth last but is gone by now


def test_going_back_keeps_the_boundaries_before(warm: TransformersDenoiser, ids: list[int]) -> None:
    for end in (40, 80, 120):
        warm.encode(ids[:end])
    assert become(warm, ids[:80]) == 0
    assert become(warm, ids[:40]) == 0
    assert become(warm, ids[:81]) == 41


@pytest.mark.parametrize("layer", [0, 1, 2])
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_read_that_fails_leaves_an_empty_prefix_that_works(
    layer: int, error: type[BaseException], warm: TransformersDenoiser, ids: list[int]
) -> None:
    def fail(*_: object) -> None:
        raise error

    become(warm, ids[:50])
    hook = warm.model.model.encoder.language_model.layers[layer].register_forward_pre_hook(fail)
    try:
        with pytest.raises(error):
            warm.encode(ids[:90])
    finally:
        hook.remove()
    assert warm.prefix.ids == []
    assert warm.prefix.encoded == 50
    assert become(warm, ids[:90]) == 90


@pytest.mark.parametrize("length", [10, WINDOW - 1, WINDOW, 90])
def test_a_batch_over_one_prefix_is_each_canvas_over_it(
    length: int, warm: TransformersDenoiser, ids: list[int]
) -> None:
    warm.encode(ids[:length])
    conditioning = warm.logits(CANVASES, None)
    batch = warm.logits(CANVASES, conditioning)
    for row in range(3):
        single = warm.logits(CANVASES[row : row + 1], conditioning[row : row + 1])
        torch.testing.assert_close(batch[row : row + 1], single, rtol=0, atol=TOLERANCE)
    assert (batch[0] - batch[1]).abs().max() > 1
    check(warm, ids[:length])  # the batch left nothing behind
    warm.commit(ids[length : length + 5])
    check(warm, ids[: length + 5])


@pytest.mark.parametrize("length", [1, WINDOW - 1, 60])
def test_canvases_are_read_from_left_to_right_and_the_prefix_stays(
    length: int, warm: TransformersDenoiser, ids: list[int]
) -> None:
    warm.encode(ids[:length])
    found = warm.log_probs(CANVASES)
    check(warm, ids[:length])
    encoder, cap = warm.model.model.encoder, warm.model.final_logit_softcapping
    for row, canvas in zip(found, CANVASES, strict=True):  # all of it read at once, one id predicting the next
        whole = torch.tensor([[*ids[:length], *canvas.tolist()]])
        with torch.inference_mode():
            states = encoder(input_ids=whole, **{CACHE: DynamicCache(config=warm.model.config.text_config)})
            logits = warm.model.lm_head(states.last_hidden_state[0, length:-1])
        expected = ((logits / cap).tanh() * cap).log_softmax(-1)[range(CANVAS - 1), canvas[1:]]
        torch.testing.assert_close(row[1:], expected, rtol=0, atol=TOLERANCE)
        assert row[0] == 0 and row[1:].max() < 0


@pytest.mark.parametrize(("context", "groups"), [(400, [3]), (160, [2, 1]), (100, [1, 1, 1])])
def test_no_more_canvases_are_read_at_once_than_memory_is_planned_for(
    context: int, groups: list[int], model: DiffusionGemmaForBlockDiffusion, ids: list[int]
) -> None:
    """All of them together are no longer than the longest prompt; and none of their keys is kept."""
    denoiser = TransformersDenoiser(model, frozenset({1}), context)
    denoiser.encode(ids[:60])
    views: list[DynamicCache] = []
    expanded = denoiser.prefix.expanded

    def seen(rows: int) -> DynamicCache:
        views.append(expanded(rows))
        return views[-1]

    denoiser.prefix.expanded = seen  # type: ignore[method-assign]
    found = denoiser.log_probs(CANVASES)
    assert [len(view.layers[0].keys) for view in views] == groups  # type: ignore[arg-type]
    for view in views:
        for own, layer in zip(denoiser.prefix.cache.layers, view.layers, strict=True):
            assert layer.keys.data_ptr() == own.keys.data_ptr()  # type: ignore[union-attr]
            assert layer.values.data_ptr() == own.values.data_ptr()  # type: ignore[union-attr]
    torch.testing.assert_close(found, wide_open(model, ids[:60]), rtol=0, atol=TOLERANCE)


def wide_open(model: DiffusionGemmaForBlockDiffusion, ids: list[int]) -> torch.Tensor:
    denoiser = TransformersDenoiser(model, frozenset({1}))
    denoiser.encode(ids)
    return denoiser.log_probs(CANVASES)


def test_a_batch_copies_no_keys(warm: TransformersDenoiser, ids: list[int]) -> None:
    warm.encode(ids[:50])
    for own, seen in zip(warm.prefix.cache.layers, warm.prefix.expanded(4).layers, strict=True):
        assert seen.keys.shape[0] == 4
        assert seen.keys.data_ptr() == own.keys.data_ptr()
        assert own.keys.shape[0] == 1


def test_the_first_difference_ends_what_is_common() -> None:
    assert common_length([1, 2, 3], [1, 2, 4]) == 2
    assert common_length([1, 2], [1, 2, 3]) == common_length([1, 2, 3], [1, 2]) == 2
    assert common_length([], [1]) == common_length([2], [1]) == 0


def test_nothing_is_read_for_nothing() -> None:
    def never(ids: Sequence[int], cache: DynamicCache, start: int) -> None:
        raise AssertionError

    prefix = Prefix(never, DynamicCache, 8)
    prefix.extend_to([])
    prefix.append([])
    assert (prefix.ids, prefix.encoded) == ([], 0)
