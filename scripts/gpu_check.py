"""A first check on a GPU: whether every kernel is right there, and how its time compares with the prediction.

    PYTHONPATH=. python scripts/gpu_check.py --out gpu.json [--config FOLDER] [--seconds 300]
    PYTHONPATH=. TRITON_INTERPRET=1 python scripts/gpu_check.py --smoke     # without a GPU: that the script runs

Needs a source tree with torch, triton, safetensors, transformers, typer and rich, and a C compiler. In order: what the
machine can do (copy, matrix product); the self-test in every format; the time of each kernel, captured in a CUDA graph,
with the weights of four layers in rotation, more than the cache holds; then `dgtui bench --random-weights` on the
geometry in `--config`. What was found is written after each part. The exit status is 1 if a kernel is wrong.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "kernels")]

import torch  # noqa: E402

BEGAN = time.monotonic()
LAYERS = 4
FORMATS = ("nf4", "nf4-double", "nvfp4", "int4", "q4_k")


class Sizes:
    """The sizes of the published model, or small ones."""

    def __init__(self, smoke: bool) -> None:
        self.experts, self.hidden, self.width, self.top = (4, 128, 64, 2) if smoke else (128, 2816, 704, 8)
        self.vocabulary, self.canvas = (3000, 4) if smoke else (262144, 256)
        self.attention = ((2, 1, 32),) if smoke else ((16, 8, 256), (16, 2, 512))
        self.device = torch.device("cpu" if smoke else "cuda")


def say(*words: object) -> None:
    print(f"[{time.monotonic() - BEGAN:5.0f} s]", *words, flush=True)


def milliseconds(run: Callable[[int], object], count: int = 20) -> float:
    """Median time of `count` runs of a captured graph that holds one run with each layer's weights, for one of them."""
    if not torch.cuda.is_available():
        run(0)
        return 0.0
    for i in range(LAYERS):
        run(i)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for i in range(LAYERS):
            run(i)
    times = []
    for _ in range(count):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        graph.replay()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end) / LAYERS)
    return sorted(times)[count // 2]


def machine(sizes: Sizes) -> dict[str, Any]:
    """The GPU and its peak rates."""
    import triton

    found: dict[str, Any] = {"torch": torch.__version__, "triton": triton.__version__}
    if sizes.device.type == "cpu":
        return found
    properties = torch.cuda.get_device_properties(0)
    found |= {"name": properties.name, "multiprocessors": properties.multi_processor_count}
    found["capability"] = [properties.major, properties.minor]
    source = torch.empty((LAYERS, 1 << 28), dtype=torch.uint8, device="cuda").random_()
    to = torch.empty_like(source)
    found["copy_tb_s"] = 2 * source[0].numel() / milliseconds(lambda i: to[i].copy_(source[i])) / 1e9
    a, b = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    found["bf16_tflop_s"] = 2 * 8192**3 / milliseconds(lambda i: a @ b) / 1e9
    return found


def right(sizes: Sizes, formats: tuple[str, ...]) -> dict[str, Any]:
    """The self-test: errors, and the failure if there is one."""
    from weights import random_weight

    from dgtui.kernels import availability, ops, self_test

    if sizes.device.type == "cuda" and (reason := availability.unavailable(sizes.device)):
        return {"failure": reason}
    widths = self_test.Widths(sizes.hidden, sizes.experts, sizes.top, sizes.vocabulary, 30.0, sizes.attention)
    found: dict[str, Any] = {"errors": {}, "failure": None}
    for kind in formats:
        e, h, w, device = sizes.experts, sizes.hidden, sizes.width, sizes.device.type
        pair = random_weight(kind, e, 2 * w, h, device), random_weight(kind, e, h, w, device)
        single = random_weight(kind, 1, 2 * h, h, device)
        outcome = self_test.check(ops.TRITON, widths, sizes.device, [pair], [single])
        found["errors"][kind] = outcome.errors
        found["failure"] = found["failure"] or outcome.failure
        say(kind, outcome.failure or f"right, the largest error is {max(outcome.errors.values()):.1e}")
    return found


def experts_time(sizes: Sizes, kind: str, copy: float) -> dict[str, float]:
    """One layer's experts: milliseconds, the time to copy its bytes on this machine, and 30 times the first."""
    from weights import random_weight

    from dgtui.kernels import experts

    e, h, w, device = sizes.experts, sizes.hidden, sizes.width, sizes.device.type
    layers = [(random_weight(kind, e, 2 * w, h, device), random_weight(kind, e, h, w, device)) for _ in range(LAYERS)]
    tokens = sizes.canvas
    skew = torch.rand(e, device=device)
    index = (torch.rand(tokens, e, device=device) * skew).topk(sizes.top, -1).indices.int()
    x, weights = torch.randn(tokens, h, device=device).bfloat16(), torch.rand(tokens, sizes.top, device=device)
    ms = milliseconds(lambda i: experts.experts(x, index, weights, *layers[i]))
    size = sum(t.numel() * t.element_size() for each in layers[0] for t in (each.codes, each.scales))
    return {"ms": ms, "bytes_ms": size / copy / 1e9 if copy else 0.0, "of_30_layers_ms": 30 * ms}


def others(sizes: Sizes) -> dict[str, float]:
    """Milliseconds of the other kernels of a step, once each."""
    from weights import random_weight

    from dgtui.kernels import experts, norms, sampler
    from dgtui.kernels.sampler import Draws, Pins

    h, c, v, device = sizes.hidden, sizes.canvas, sizes.vocabulary, sizes.device
    x, y = torch.randn(2, c, h, device=device).bfloat16().unbind()
    w = torch.ones(h, device=device)
    single = random_weight("nf4", 1, 2 * h, h, device.type)
    logits = (4 * torch.randn(1, c, v, device=device)).bfloat16()
    no = torch.zeros((1, c), dtype=torch.long, device=device)
    pins = Pins(no, no.bool(), torch.zeros(v, dtype=torch.bool, device=device))
    draws = Draws(torch.ones(1, dtype=torch.long, device=device), no[0, :1].int(), no[0, :2].int())
    one = torch.ones((), device=device)
    found = sampler.sample(logits, one, 30.0, pins, draws)
    live = torch.ones(1, dtype=torch.bool, device=device)
    scores, scale = torch.randn(c, sizes.experts, device=device), torch.ones(sizes.experts, device=device)
    runs: dict[str, Callable[[int], object]] = {
        "residual_norm": lambda i: norms.residual_norm(x, [(y, w)], None, None, [w, w, w], 1e-6),
        "route": lambda i: norms.route(scores, scale, sizes.top),
        "linear, NF4": lambda i: experts.linear(x, single),
        "sample": lambda i: sampler.sample(logits, one, 30.0, pins, draws),
        "accept": lambda i: sampler.accept(found, pins, one),
        "probabilities": lambda i: sampler.probabilities(logits, found.normalizer, one, 30.0, pins, live),
    }
    for heads, kv, d in sizes.attention:
        qkv = torch.randn(1, c, (heads + 2 * kv) * d, device=device).bfloat16()
        keys, values = torch.zeros(2, 1, kv, 2 * c, d, device=device).bfloat16().unbind()
        angles, ones = torch.rand(c, d, device=device), torch.ones(d, device=device)
        given = (qkv, ones, ones, angles, angles, keys, values, no[0, 0].int(), heads, 1e-6)
        runs[f"rotate, heads of {d}"] = lambda i, given=given: norms.rotate(*given)  # type: ignore[misc]
    return {name: milliseconds(run) for name, run in runs.items()}


def bench(config: Path, seconds: float) -> dict[str, Any]:
    """Runs `dgtui bench --random-weights` in a separate process, after freeing this one's memory."""
    command = [sys.executable, "-m", "dgtui", "bench", "--random-weights", str(config), "--context", "8192", "--json"]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=max(seconds, 1))
    except subprocess.TimeoutExpired:
        return {"failure": f"not done after {seconds:.0f} s"}
    if done.returncode:
        return {"failure": done.stderr[-2000:]}
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, help="a file for the figures, in JSON")
    parser.add_argument("--config", type=Path, help="a config.json, or its folder, for the whole step at the end")
    parser.add_argument("--seconds", type=float, default=420, help="when to stop")
    parser.add_argument("--smoke", action="store_true", help="small sizes, on the CPU, in the interpreter")
    options = parser.parse_args()
    if options.smoke:
        from interpreter import install

        install()
    sizes = Sizes(options.smoke)
    torch.manual_seed(0)
    found: dict[str, Any] = {}

    def keep(part: str, figures: Any) -> None:
        found[part] = figures
        say(part, json.dumps(figures))
        if options.out:
            options.out.write_text(json.dumps(found, indent=1))

    formats = FORMATS[:1] if options.smoke else FORMATS
    with torch.inference_mode():
        keep("machine", machine(sizes))
        keep("self_test", right(sizes, formats))
        if found["self_test"]["failure"] is None:
            for kind in formats:
                keep(f"experts, {kind}", experts_time(sizes, kind, found["machine"].get("copy_tb_s", 0.0)))
            keep("others", others(sizes))
    if options.config:
        torch.cuda.empty_cache()
        keep("bench", bench(options.config, options.seconds - (time.monotonic() - BEGAN)))
    return 1 if found["self_test"]["failure"] else 0


if __name__ == "__main__":
    sys.exit(main())
