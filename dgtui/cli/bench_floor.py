"""The machine's floor: how long a denoising step takes if nothing holds it up but the memory, or but the arithmetic.

The parts of a step follow one another, so the floor is a sum: for each part the longer of the two. Each weight that a
step uses is read once, the embedding twice (by the output layer and by the self-conditioning). Every position of the
canvas is multiplied by those that it uses: of the experts, its own. Attention itself, activations and sampling are left
out, so a step cannot be faster, unless the weights fit into a cache. Both rates are measured here: copying a large
tensor, and multiplying two large matrices in the model's type.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import torch

    from dgtui.model.plan import Estimate

_COPIED: Final = 256_000_000
# Bytes: more than caches hold.
_TRIES: Final = 5
# Of which the fastest counts.


def measure(
    taken: "Estimate", tensors: Iterable[tuple[str, int]], config: Any, device: "torch.device", dtype: "torch.dtype"
) -> dict[str, Any]:
    """The floor of a step of one canvas, and what it follows from.

    Args:
        taken: The bytes of the weights, as they are held.
        tensors: Name and numbers of each.
        config: A `DiffusionGemmaConfig`.
        device: Where the model runs.
        dtype: In which it computes.
    """
    from dgtui.model.parts import count_parts

    numbers, text = count_parts(tensors), config.text_config
    held = Counter(taken.weights) + Counter({"experts": taken.streamed})
    if text.num_experts:
        numbers["experts"] = numbers["experts"] * text.top_k_experts // text.num_experts
    apart = ("experts", "embedding")
    phases = {
        "experts": (held["experts"], numbers["experts"]),
        "other layers": tuple(
            sum(count for part, count in each.items() if part not in (*apart, "vision")) for each in (held, numbers)
        ),
        "output layer": (held["embedding"], numbers["embedding"]),
        "soft embedding": (held["embedding"], numbers["embedding"]),
    }
    bandwidth, rate = _rates(device, dtype)
    size, flop = (sum(each[at] for each in phases.values()) for at in range(2))
    flop *= 2 * config.canvas_length
    seconds = {
        name: max(read / bandwidth, 2 * config.canvas_length * used / rate) for name, (read, used) in phases.items()
    }
    return {
        "ms": round(1000 * sum(seconds.values()), 3),
        "parts_ms": {name: round(1000 * value, 3) for name, value in seconds.items()},
        "bound_by": "memory" if size / bandwidth > flop / rate else "arithmetic",
        "read_bytes": size,
        "flop": flop,
        "gb_per_second": round(bandwidth / 1e9, 1),
        "tflop_per_second": round(rate / 1e12, 4),
    }


def said(floor: dict[str, Any]) -> str:
    """What the floor is, a line."""
    return (
        f"floor: part by part, the longer of reading weights at {floor['gb_per_second']:.0f} GB/s and multiplying at "
        f"{floor['tflop_per_second']:.3g} TFLOP/s"
    )


def _rates(device: "torch.device", dtype: "torch.dtype") -> tuple[float, float]:
    """Bytes that are read or written, and floating-point operations, in a second."""
    import torch

    source, target = (torch.zeros(_COPIED, dtype=torch.uint8, device=device) for _ in range(2))
    side = 1024 if device.type == "cpu" else 4096
    left, right = (torch.ones((side, side), dtype=dtype, device=device) for _ in range(2))
    copying = _fastest(lambda: target.copy_(source), device)
    return 2 * _COPIED / copying, 2 * side**3 / _fastest(lambda: left @ right, device)


def _fastest(work: Callable[[], object], device: "torch.device") -> float:
    """Seconds."""
    import torch

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        elif device.type == "mps":
            torch.mps.synchronize()

    times = []
    for _ in range(1 + _TRIES):  # the first one warms up
        wait()
        began = time.perf_counter()
        work()
        wait()
        times.append(time.perf_counter() - began)
    return min(times[1:])
