"""`dgtui bench --random-weights CONFIG`: measures loading, memory and speed with random weights for a config.json.

For machines without the real checkpoint. Needs only torch, transformers, safetensors, typer and rich. Encodes a prompt
of random ids that fills the context, writes one block, and reports planned and peak memory.
"""

import ctypes
import itertools
import json
import statistics
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dgtui.cli import bench_floor
from dgtui.cli.terminal import note, redrawable, size
from dgtui.errors import CorruptCheckpoint, OutOfMemory, UsageError, reason

if TYPE_CHECKING:
    import torch

    from dgtui.diffusion.stepper import Stepper
    from dgtui.inference.choice import Opened
    from dgtui.model.plan import Estimate, Plan
    from dgtui.model.stored import StoredTensor


class Peak:
    """Current and peak memory: on a GPU what is allocated, else anonymous pages (mapped files do not count).

    Counted from its creation.
    """

    def __init__(self, device: "torch.device") -> None:
        self._device = device
        if device.type == "cuda":
            import torch

            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats(device)
        else:
            with suppress(OSError):
                Path("/proc/self/clear_refs").write_text("5")  # resets the kernel's peak value
        self._before = self._taken()

    def now(self) -> int:
        """Bytes."""
        return self._taken() - self._before

    def most(self) -> int:
        """Bytes."""
        if self._device.type == "cuda":
            import torch

            return int(torch.cuda.max_memory_allocated(self._device)) - self._before
        resident = _status()
        of_files = resident.get("RssFile", 0) + resident.get("RssShmem", 0)  # these hardly change during the run
        return resident.get("VmHWM", 0) - of_files - self._before

    def _taken(self) -> int:
        if self._device.type == "cuda":
            import torch

            return int(torch.cuda.memory_allocated(self._device))
        return _status().get("RssAnon", 0)


def _status() -> dict[str, int]:
    """The memory figures of this process in bytes; empty on systems other than Linux."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return {}
    return {line.split(":")[0]: 1024 * int(line.split()[1]) for line in lines if line.endswith(" kB")}


@dataclass(frozen=True)
class Taken:
    """A model of random weights that encoded a prompt and wrote a block, and the memory and time this took."""

    loaded: "_Loaded"
    opened: "Opened"
    geometry: Any
    tensors: "Mapping[str, StoredTensor]"
    planned: "Estimate"
    prompt: tuple[int, ...]
    load_s: float
    prefill_s: float
    step_s: list[float]
    """From the start to the first frame, then from frame to frame."""
    weights: int
    """Bytes."""
    load_peak: int
    peak: int


def take(path: Path, packing: str, context: int, steps: int, vision: bool, device: str, seed: int) -> Taken:
    """Load random weights, encode a prompt, write a block and encode the next prompt. See `measure`."""
    from dgtui.model.offline import go_offline

    go_offline()
    import torch

    from dgtui.inference import choice
    from dgtui.inference.stepper import DeviceStepper
    from dgtui.model import devices
    from dgtui.model.geometry import read_geometry
    from dgtui.model.parts import Packing, held_formats
    from dgtui.model.plan import Plan, estimate
    from dgtui.model.random_weights import RandomWeights
    from dgtui.model.skeleton import lay_out
    from dgtui.model.weights import fill

    geometry, place = read_geometry(_config(path)), devices.choose_device(device)
    dtype = devices.choose_dtype(place)
    wanted = Packing(packing != "full", packing == "nf4-double", packing == "nf4-experts", vision)
    canvas, vocab = geometry.canvas_length, geometry.text_config.vocab_size
    if context <= canvas:
        raise UsageError(f"--context {context} leaves no room for a prompt next to the canvas of {canvas} tokens")
    longest = geometry.text_config.max_position_embeddings
    if context > longest:
        raise UsageError(f"--context {context} is more than the {longest} tokens that this config allows")
    source = RandomWeights(geometry, place, seed, _report)
    tensors = source.tensors
    planned = estimate(geometry, tensors, wanted, dtype, context, snapshots=1, device=place.type)
    if planned.total > (free := devices.available(place)):
        raise OutOfMemory(
            f"{packing} weights and a step take {size(planned.total)}, but only {size(free)} are free",
            hint="use --packing nf4-double, --no-vision or a smaller --context",
        )
    free_at_once()
    warm_up(place)
    peak = Peak(place)
    began = time.perf_counter()
    model = lay_out(geometry, held_formats(source.tensors, wanted), dtype, vision=vision)
    fill(model, source, wanted, place)
    weights, load_peak, load_s = peak.now(), peak.most(), time.perf_counter() - began
    draw = torch.Generator().manual_seed(seed)
    prompt = tuple(torch.randint(vocab, (context - canvas,), generator=draw).tolist())
    loaded = _Loaded(model, Plan(place, dtype, wanted, (), context, 1, 1, planned, free, ""))
    opened = choice.open_stepper(loaded)
    if not isinstance(opened.stepper, DeviceStepper):
        planned = estimate(geometry, tensors, wanted, dtype, context, snapshots=1, device=place.type, reference=True)
    began = time.perf_counter()
    opened.stepper.encode(prompt)
    _wait(place)
    prefill_s = time.perf_counter() - began
    step_s = _step_times(opened.stepper, prompt, steps, seed)
    opened.stepper.encode(prompt[::-1])  # as the next message is read: the canvas's keys and values are still held
    most = peak.most()
    return Taken(
        loaded, opened, geometry, tensors, planned, prompt, load_s, prefill_s, step_s, weights, load_peak, most
    )  # fmt: skip


def measure(path: Path, packing: str, context: int, steps: int, vision: bool, device: str, seed: int) -> dict[str, Any]:
    """Measure. Bytes exclude the interpreter and its libraries; times are in seconds and milliseconds.

    Args:
        path: A config.json, or a folder that contains one.
        packing: "full", "nf4", "nf4-double" or "nf4-experts".
        context: Tokens of prompt and canvas together.
        steps: Denoising steps of the block.
        vision: Keep the vision tower.
        device: As for `--device`.
        seed: For weights, prompt and noise.
    """
    taken = take(path, packing, context, steps, vision, device, seed)
    import torch

    from dgtui.inference import choice, profile
    from dgtui.inference.stepper import DeviceStepper
    from dgtui.model import bnb

    loaded, stepper, planned, place = taken.loaded, taken.opened.stepper, taken.planned, taken.loaded.device
    first, *gaps = taken.step_s
    own = stepper if isinstance(stepper, DeviceStepper) else None
    parts = profile.parts(own, taken.prompt, max(1, steps // 4)) if own else {}
    stepper.release()
    try:
        another = choice.open_stepper(loaded, "reference").stepper
        _, *reference = _step_times(another, taken.prompt, max(2, steps // 8), seed)
    except torch.OutOfMemoryError:  # it takes more than was planned for
        reference = []
    sizes = [(name, entry.elements) for name, entry in taken.tensors.items()]
    median = 1000 * statistics.median(gaps) if gaps else None
    return {
        "config": str(path),
        "device": torch.cuda.get_device_name(place) if place.type == "cuda" else str(place),
        "dtype": str(loaded.dtype).removeprefix("torch."),
        "packing": packing,
        "vision": vision,
        "bitsandbytes": bnb.native(place.type),
        "context": context,
        "load_s": round(taken.load_s, 3),
        "stepper": stepper.name,
        "reason": "; ".join(filter(None, [taken.opened.reason, loaded.slow])),
        "prefill_s": round(taken.prefill_s, 3),
        "prefill_tokens_per_second": round(len(taken.prompt) / taken.prefill_s, 1),
        "first_step_s": round(first, 3),
        "step_ms": median and round(median, 3),
        "parts_ms": {name: round(value, 3) for name, value in parts.items()},
        "reference_step_ms": round(1000 * statistics.median(reference), 3) if reference else None,
        "tokens_per_second_at": {count: round(1000 * count / median, 1) for count in (15, 20)} if median else None,
        "steps": steps,
        "weights_bytes": taken.weights,
        "planned_weights_bytes": sum(planned.weights.values()),
        "load_peak_bytes": taken.load_peak,
        "peak_bytes": taken.peak,
        "peak_reserved_bytes": torch.cuda.max_memory_reserved(place) if place.type == "cuda" else None,
        "planned_peak_bytes": planned.total,
        "planned_over_measured": round(planned.total / taken.peak, 4) if taken.peak > 0 else None,
        "floor": bench_floor.measure(planned, sizes, taken.geometry, place, loaded.dtype),
    }


def _step_times(runs: "Stepper", prompt: tuple[int, ...], count: int, seed: int) -> list[float]:
    """Seconds: from the start to the first frame, then from frame to frame."""
    from dgtui.diffusion import engine
    from dgtui.diffusion.events import Frame
    from dgtui.diffusion.job import Job, SamplerSettings

    canvas = runs.canvas_length
    times = [time.perf_counter()]
    for event in engine.run(runs, Job("bench", prompt, seed, canvas, SamplerSettings(steps=count, stability=-1))):
        if isinstance(event, Frame):
            times.append(time.perf_counter())
    return [later - earlier for earlier, later in itertools.pairwise(times)]


@dataclass
class _Loaded:
    """What the choice of a stepper needs of a model."""

    model: Any
    plan: "Plan"
    stop_ids: frozenset[int] = frozenset()
    slow: str = ""

    @property
    def device(self) -> "torch.device":
        return self.plan.device

    @property
    def dtype(self) -> "torch.dtype":
        return self.plan.dtype

    def slow_down(self, why: str) -> None:
        self.slow = why


def _wait(place: "torch.device") -> None:
    """Waits for a GPU."""
    import torch

    if place.type == "cuda":
        torch.cuda.synchronize(place)


def _config(path: Path) -> dict[str, Any]:
    """The path of config.json, which may be given by its folder."""
    file = path / "config.json" if path.is_dir() else path
    try:
        found = json.loads(file.read_text("utf-8"))
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {reason(error)}") from error
    except ValueError as error:
        raise CorruptCheckpoint(f"{file} is not JSON") from error
    if not isinstance(found, dict) or not isinstance(found.get("text_config"), dict):
        raise CorruptCheckpoint(f"{file} does not describe a DiffusionGemma: it has no text_config")
    return found


def free_at_once() -> None:
    """Makes the C library return freed memory to the system. Otherwise it keeps a varying part of it."""
    with suppress(OSError, AttributeError):  # the C library lacks this setting
        mallopt = ctypes.CDLL(None).mallopt
        for parameter in (-1, -3):  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD
            mallopt(parameter, 128 * 1024)


def warm_up(place: "torch.device") -> None:
    """Uses the libraries once, to not count the memory of their first use."""
    import torch

    from dgtui.model import bnb, nf4

    bnb.native(place.type)
    a = torch.randn(512, 512, device=place)
    heads = a.view(1, 4, 128, 512)
    torch.nn.functional.scaled_dot_product_attention(heads, heads, heads)
    nf4.quantize(a).dequantize(a.dtype)
    (a @ a).softmax(-1).sum().item()


_said = 0.0


def _report(progress: Any) -> None:
    """Shows an occasional line of progress, on a terminal."""
    global _said
    if redrawable() and time.monotonic() - _said > 2:
        _said = time.monotonic()
        note(f"{progress.stage}: {size(progress.done_bytes)} of {size(progress.total_bytes)}")


def table(found: dict[str, Any]) -> str:
    """The result of `measure` as text."""
    floor, reserved, speeds = found["floor"], found["peak_reserved_bytes"], found["tokens_per_second_at"] or {}
    rows = [
        ("weights", f"{size(found['weights_bytes'])}, {size(found['planned_weights_bytes'])} planned"),
        ("peak", f"{size(found['peak_bytes'])}, {size(found['planned_peak_bytes'])} planned"),
        ("peak while loading", size(found["load_peak_bytes"])),
        ("loading (weights drawn and packed)", f"{found['load_s']:.1f} s"),
        (f"prompt of {found['context']:,} tokens minus the canvas", f"{found['prefill_s']:.2f} s"),
        ("prompt tokens encoded per second", f"{found['prefill_tokens_per_second']:.0f}"),
        (f"denoising step ({found['stepper']})", _milliseconds(found["step_ms"])),
        *((f"  of which {name}", _milliseconds(value)) for name, value in found["parts_ms"].items()),
        *((f"tokens per second at {n} per step", f"{value:.0f}") for n, value in speeds.items()),
        ("step of the reference on the same weights", _milliseconds(found["reference_step_ms"])),
        ("lower bound of a step on this machine", f"{floor['ms']:.2f} ms, by {floor['bound_by']}"),
    ]
    if reserved:
        rows.insert(2, ("peak, including memory that PyTorch holds unused", size(reserved)))
    head = " · ".join([found["config"], found["device"], found["dtype"], found["packing"]])
    if found["reason"]:
        rows.append(("why no faster way runs", found["reason"]))
    lines = [head, *(f"  {name:<56}{value:>32}" for name, value in rows), f"  {bench_floor.said(floor)}"]
    return "\n".join(lines) + "\n"


def _milliseconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f} ms"
