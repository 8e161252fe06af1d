"""Norms, rotary embedding and router, as the kernels compute them, are those of the references."""

import pytest
import torch

from dgtui.kernels import norms

EPS = 1e-6


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def rows(*shape: int) -> torch.Tensor:
    return torch.randn(shape).bfloat16()


def weights(count: int, width: int) -> list[torch.Tensor]:
    return [(1 + 0.2 * torch.randn(width)).bfloat16() for _ in range(count)]


@pytest.mark.parametrize("outputs", [0, 1, 2, 3])
@pytest.mark.parametrize("end", [False, True], ids=["after attention", "at the end of a layer"])
def test_the_residual_norm_is_right(end: bool, outputs: int) -> None:
    x, y, z = (rows(5, 96) for _ in range(3))
    w = weights(6, 96)
    branches = [(y, w[0]), (z, w[1])] if end else [(y, w[0])]
    post, scale = (w[2], torch.tensor([0.7])) if end else (None, None)
    stream, normed = norms.residual_norm(x, branches, post, scale, w[3 : 3 + outputs], EPS)
    exact, expected = norms.residual_norm_reference(x, branches, post, scale, w[3 : 3 + outputs], EPS)
    assert len(normed) == outputs
    torch.testing.assert_close([stream, *normed], [exact, *expected], rtol=8e-3, atol=1e-5)


@pytest.mark.parametrize("own_v", [True, False], ids=["k and v", "k is v too"])
def test_q_and_k_are_normed_and_turned_and_the_cache_is_written_in_place(own_v: bool) -> None:
    b, c, heads, kv, d, length, start = 2, 3, 4, 2, 24, 9, 4
    qkv = rows(b, c, (heads + (2 if own_v else 1) * kv) * d)
    q_norm, k_norm = weights(2, d)
    angles = torch.rand(c, d)
    given = (q_norm, k_norm, angles.cos(), angles.sin())
    place = torch.tensor(start, dtype=torch.int32)
    caches = torch.full((4, b, length, kv, d), 7.0).bfloat16().transpose(2, 3)  # strides that are not the usual ones
    q = norms.rotate(qkv, *given, caches[0], caches[1], place, heads, EPS)
    exact = norms.rotate_reference(qkv, *given, caches[2], caches[3], place, heads, EPS)
    torch.testing.assert_close([q, *caches[:2]], [exact, *caches[2:]], rtol=8e-3, atol=1e-3)
    outside = [i for i in range(length) if not start <= i < start + c]
    assert (caches[:2, :, :, outside] == 7).all()


@pytest.mark.parametrize(("experts", "k"), [(128, 8), (12, 3), (4, 4)])
def test_the_router_chooses_the_likeliest_experts(experts: int, k: int) -> None:
    scores, scale = torch.randn(6, experts), torch.rand(experts)
    found, index = norms.route(scores, scale, k)
    expected, chosen = norms.route_reference(scores, scale, k)
    assert torch.equal(index, chosen)
    torch.testing.assert_close(found, expected)


def test_of_equal_scores_the_first_expert_is_taken() -> None:
    _, index = norms.route(torch.zeros(1, 8), torch.ones(8), 2)
    assert index.tolist() == [[0, 1]]
