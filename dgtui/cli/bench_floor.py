"""The lower bound of a denoising step's time, if only memory bandwidth or arithmetic limits it.

The parts of a step run one after another, so the bound is a sum: for each part, the longer of the two. Each weight that
a step uses is read once, the embedding twice (by the output layer and by the self-conditioning). Each position of the
canvas is multiplied by the weights that it uses: of the experts, only its own. Attention itself, activations and
sampling are left out, so a step cannot be faster unless the weights fit into a cache. Both rates are measured here, by
copying a large tensor and by multiplying two large matrices in the model's type.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import torch

    from dgtui.model.plan import Estimate

_COPIED: Final = 256_000_000
# In bytes: more than caches hold.
_TRIES: Final = 5
# The fastest try counts.


def measure(
    taken: "Estimate", tensors: Iterable[tuple[str, int]], config: Any, device: "torch.device", dtype: "torch.dtype"
) -> dict[str, Any]:
    """The lower bound of a step of one canvas, and the figures it follows from.

    Args:
        taken: Bytes of the weights in memory, by part.
        tensors: Name and number of elements of each tensor.
        config: A `DiffusionGemmaConfig`.
        device: Where the model runs.
        dtype: The type that it computes in.
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
    """A line that explains the lower bound."""
    return (
        f"bound: for each part, the longer of reading weights at {floor['gb_per_second']:.0f} GB/s and multiplying at "
        f"{floor['tflop_per_second']:.3g} TFLOP/s"
    )


def _rates(device: "torch.device", dtype: "torch.dtype") -> tuple[float, float]:
    """Bytes read and written, and floating-point operations, per second."""
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
    for _ in range(1 + _TRIES):  # the first is a warm-up
        wait()
        began = time.perf_counter()
        work()
        wait()
        times.append(time.perf_counter() - began)
    return min(times[1:])
