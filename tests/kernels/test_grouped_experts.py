"""Products with 4-bit weights, as the kernels compute them, are those of the unpacked weights."""

import pytest
import torch
from weights import KINDS, random_weight

from dgtui.kernels import experts

MOST = 5e-3
ARCHITECTURES = (80, 89, 90, 100)
"""one of each way to cut a product"""


def routes(counts: list[int], top: int) -> torch.Tensor:
    """(T, top) int32: expert i gets counts[i] routes, at random places."""
    each = torch.cat([torch.full((count,), i) for i, count in enumerate(counts)])
    return each[torch.randperm(len(each))].view(-1, top).int()


def error(found: torch.Tensor, exact: torch.Tensor) -> float:
    return float((found.double() - exact).norm() / exact.norm())


def experts_error(kind: str, counts: list[int], hidden: int = 192, width: int = 64, top: int = 2) -> float:
    gate_up, down = random_weight(kind, len(counts), 2 * width, hidden), random_weight(kind, len(counts), hidden, width)
    index = routes(counts, top)
    x, weights = torch.randn(len(index), hidden).bfloat16(), torch.rand(index.shape)
    found = experts.experts(x, index, weights, gate_up, down)
    return error(found, experts.experts_reference(x.double(), index, weights, gate_up, down))


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def cut(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Cuts products as for an architecture."""
    monkeypatch.setattr(experts, "architecture", lambda device: request.param)


@pytest.mark.parametrize(
    "counts",
    [[0, 1, 15, 16, 17, 31, 0, 0], [0, 0, 64, 0], [1, 0, 1, 0], [16, 16, 16, 16], [2, 0, 0, 0]],
    ids=["0, 1, 15, 16, 17, 31 rows an expert", "all to one", "one token", "16 each", "one token, one expert"],
)
@pytest.mark.parametrize("kind", ["nf4", "nf4-double", "nvfp4", "int4"])
def test_experts_are_right_however_tokens_are_routed(kind: str, counts: list[int]) -> None:
    assert experts_error(kind, counts) <= MOST


@pytest.mark.parametrize("kind", KINDS)
def test_experts_are_right_in_every_format(kind: str) -> None:
    hidden, width = (256, 128) if kind == "int4-128" else (128, 64)
    assert experts_error(kind, [0, 1, 17, 6], hidden, width) <= MOST


@pytest.mark.parametrize("kind", ["nf4", "nvfp4"])
@pytest.mark.parametrize("cut", ARCHITECTURES, indirect=True)
def test_experts_are_right_as_every_architecture_cuts_them(kind: str, cut: None) -> None:
    assert experts_error(kind, [40, 0, 3, 1], 128) <= MOST
    assert experts_error(kind, [70, 5, 64, 3], 128) <= MOST


def test_gate_up_and_down_may_have_different_formats() -> None:
    gate_up, down = random_weight("q4_k", 4, 128, 128), random_weight("nf4", 4, 128, 64)
    index = routes([60, 50, 0, 70], 2)
    x, weights = torch.randn(len(index), 128).bfloat16(), torch.rand(index.shape)
    found = experts.experts(x, index, weights, gate_up, down)
    assert error(found, experts.experts_reference(x.double(), index, weights, gate_up, down)) <= MOST


def test_the_same_input_gives_the_same_bits() -> None:
    gate_up, down = random_weight("nf4", 4, 128, 128), random_weight("nf4", 4, 128, 64)
    index = routes([7, 9, 0, 20], 2)
    x, weights = torch.randn(len(index), 128).bfloat16(), torch.rand(index.shape)
    first, second = (experts.experts(x, index, weights, gate_up, down) for _ in range(2))
    assert torch.equal(first, second)


def test_a_tokens_result_does_not_depend_on_the_tokens_beside_it() -> None:
    gate_up, down = random_weight("nf4", 4, 128, 128), random_weight("nf4", 4, 128, 64)
    index = routes([7, 9, 0, 20], 2)
    x, weights = torch.randn(len(index), 128).bfloat16(), torch.rand(index.shape)
    among = experts.experts(x, index, weights, gate_up, down)
    alone = experts.experts(x[3:4].contiguous(), index[3:4].contiguous(), weights[3:4].contiguous(), gate_up, down)
    assert torch.equal(among[3:4], alone)


@pytest.mark.parametrize("kind", KINDS)
def test_single_matrices_are_right_in_every_format(kind: str) -> None:
    x, weight = torch.randn(21, 128).bfloat16(), random_weight(kind, 1, 96, 128)
    assert error(experts.linear(x, weight), experts.linear_reference(x.double(), weight)) <= MOST


def test_a_dense_mlp_is_right() -> None:
    gate_up, down = random_weight("nf4", 1, 256, 192), random_weight("nf4", 1, 192, 128)
    x = torch.randn(70, 192).bfloat16()
    assert error(experts.mlp(x, gate_up, down), experts.mlp_reference(x.double(), gate_up, down)) <= MOST


def test_gelu_times_up_is_right() -> None:
    x = (3 * torch.randn(5, 2 * 1100)).bfloat16()
    assert error(experts.gated(x), experts.gated_reference(x.double())) <= MOST


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["nf4-double", "nvfp4"])
def test_experts_are_right_at_the_widths_of_the_published_model(kind: str) -> None:
    assert experts_error(kind, [0, 3], 2816, 704, top=1) <= MOST
    assert experts_error(kind, [1, 0, 1], 2816, 64) <= MOST
