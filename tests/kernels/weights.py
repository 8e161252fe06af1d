"""Weights with random codes: any code is drawn, whatever a quantizer would make."""

import torch

from dgtui.kernels.packed import COMPRESSED, HALVES, NESTED_BLOCK, PackedWeight, int4, nf4, nvfp4

KINDS = ("nf4", "nf4-double", "nvfp4", "int4", "int4-128", "q4_k", "q4_0")


def random_weight(kind: str, e: int, n: int, k: int, device: str = "cpu") -> PackedWeight:
    """A stack (E, N, K) of one of `KINDS`, with scales of one size about it."""
    codes = torch.randint(256, (e, n, k // 2), dtype=torch.uint8, device=device)

    def scales(group: int, most: float = 0.1) -> torch.Tensor:
        return torch.empty((e, k // group, n), device=device).uniform_(most / 8, 9 * most / 8)

    if kind == "nf4":
        return nf4(codes, scales(64), (e, n, k))
    if kind == "nf4-double":
        blocks = e * n * k // 64
        meaning = torch.linspace(-1, 1, 256, device=device)
        coded = torch.randint(256, (e, k // 64, n), dtype=torch.uint8, device=device)
        each = torch.empty(-(-blocks // NESTED_BLOCK), device=device).uniform_(0, 0.02)
        return nf4(codes, coded, (e, n, k), (meaning, each, torch.tensor(0.05, device=device)))
    if kind == "nvfp4":
        parts = torch.empty((e, 2), device=device).uniform_(0.5, 1.5)
        each = torch.empty((e, k // 64, n, 4), device=device).uniform_(0.1 / 8, 0.9 / 8)
        return nvfp4(codes, each.to(torch.float8_e4m3fn).view(torch.int32).squeeze(-1), parts)
    if kind == "q4_k":
        return int4(codes, scales(32).half(), scales(32, 0.7).half(), HALVES)
    if kind == "q4_0":
        return int4(codes, scales(32).half(), order=HALVES)
    return int4(codes, scales(128 if kind == "int4-128" else 64), order=COMPRESSED)
