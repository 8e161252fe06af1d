"""`dgtui bench`: compares the engine with transformers' own `generate`, on the same weights, prompt and seed.

The two take turns, each with the same blocks and the same number of denoising steps, and the ratio is taken pair by
pair, so drifting machine speed does not distort it. Then the parts of a step are timed one by one.
"""

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from dgtui.cli import bench_floor, options
from dgtui.cli.terminal import note, put, redrawable
from dgtui.message import Message
from dgtui.paths import typed_path

if TYPE_CHECKING:
    from dgtui.config import Settings
    from dgtui.diffusion.stepper import Stepper
    from dgtui.model.loader import LoadedModel

Packing = Literal["full", "nf4", "nf4-double", "nf4-experts"]
PROMPT = "Write a short tale about Mia and Otto."


def command(
    pairs: Annotated[
        int, typer.Option(min=1, metavar="N", help="Number of pairs of runs; the median is reported.")
    ] = 7,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")] = False,
    steps: Annotated[int, typer.Option(min=1, metavar="N", help="Denoising steps per run.")] = 24,
    seed: options.Seed = None,
    model: options.Model = None,
    server: options.Server = None,
    device: options.Device = None,
    random_weights: Annotated[
        Path | None,
        typer.Option(
            metavar="CONFIG",
            parser=typed_path,
            help="Measure memory and step time with random weights for a config.json.",
        ),
    ] = None,
    compiled: Annotated[bool, typer.Option(help="Also time transformers' decoder under torch.compile.")] = False,
    packing: Annotated[Packing, typer.Option(help="How the random weights are held in memory.")] = "nf4",
    context: Annotated[int, typer.Option(min=2, metavar="TOKENS", help="Context length for --random-weights.")] = 8192,
    vision: Annotated[bool, typer.Option(help="Include the vision tower in --random-weights.")] = True,
) -> int:
    """Compare step time and tokens per second with transformers' own generate."""
    if random_weights is not None:
        from dgtui.cli import bench_random

        found = bench_random.measure(random_weights, packing, context, steps, vision, device or "auto", seed or 0)
        put(json.dumps(found, indent=2) + "\n" if as_json else bench_random.table(found))
        return 0
    settings = options.merged({"model.name": model, "model.device": device, "model.server": server})

    def progress(text: str) -> None:
        if redrawable():
            note(text)

    if settings.model.server:
        return _server(settings, progress, pairs, 1 if seed is None else seed, as_json)
    from dgtui.worker import Worker

    worker = Worker()
    try:
        options.load(worker, settings)
        drawn = 1 if seed is None else seed
        found = worker.use(
            lambda loaded: measure(
                loaded, progress, pairs=pairs, steps=steps, seed=drawn,
                wanted=settings.model.stepper, compiled=compiled,
            )
        ).result()  # fmt: skip
    finally:
        worker.close()
    if as_json:
        put(json.dumps(found, indent=2) + "\n")
    else:
        put(_table(rows(found)) + bench_floor.said(found["floor"]) + "\n")
    return 0


def _server(
    settings: "Settings", progress: Callable[[str], None], pairs: int, seed: int, as_json: bool
) -> int:  # fmt: skip
    from dgtui.cli import bench_server

    found = bench_server.measure(options.served(settings), PROMPT, progress, pairs=pairs, seed=seed)
    put(json.dumps(found, indent=2) + "\n" if as_json else _table(bench_server.rows(found)))
    return 0


def _table(rows: list[tuple[str, str]]) -> str:
    return "".join(f"{name:<42}{value:>36}\n" for name, value in rows)


def measure(
    loaded: "LoadedModel", progress: Callable[[str], None], *, pairs: int, steps: int, seed: int,
    wanted: str = "auto", compiled: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """The figures: medians over `pairs`; ratios are taken within a pair. Times in milliseconds.

    `progress` is called before each run; its exceptions end the measurement.
    """
    import dataclasses

    import psutil
    import torch

    from dgtui.diffusion import engine
    from dgtui.diffusion.events import Finished
    from dgtui.diffusion.job import Job
    from dgtui.diffusion.reference import ReferenceStepper
    from dgtui.inference import choice, profile
    from dgtui.inference.stepper import DeviceStepper
    from dgtui.model.denoiser import TransformersDenoiser
    from dgtui.model.open_checkpoint import open_checkpoint

    ids = tuple(loaded.tokenizer.chat([Message("user", PROMPT)]))
    # Neither side may stop early, because steps are timed: no draft can be stable for this long before the end
    fixed = dataclasses.replace(loaded.settings, steps=steps, stability=steps, proofread=0)
    model: Any = loaded.model
    canvas: int = model.config.canvas_length
    opened = choice.open_stepper(loaded, wanted)
    reference = ReferenceStepper(TransformersDenoiser(loaded.model, loaded.stop_ids))

    def engine_run(stepper: "Stepper") -> tuple[float, list[int]]:
        stepper.release()  # the prompt is encoded in every run, as in transformers
        began = time.perf_counter()
        *_, last = engine.run(stepper, Job("bench", ids, seed, canvas, fixed))
        assert isinstance(last, Finished) and last.steps == (steps,)
        return time.perf_counter() - began, last.token_ids[0].tolist()

    def theirs() -> tuple[float, list[int]]:
        torch.manual_seed(seed)
        began = time.perf_counter()
        out = model.generate(
            torch.tensor([ids], device=loaded.device),
            max_new_tokens=canvas, max_denoising_steps=steps, t_min=fixed.t_min, t_max=fixed.t_max,
            stability_threshold=steps, confidence_threshold=fixed.confidence,
        )  # fmt: skip
        new = out.sequences[0, len(ids) :].tolist()
        end = next((i for i, t in enumerate(new) if t in loaded.stop_ids or t == loaded.pad_id), len(new))
        return time.perf_counter() - began, new[:end]

    def theirs_compiled() -> tuple[float, list[int]]:
        eager = model.model.decoder.forward
        model.model.decoder.forward = compiled_decoder
        try:
            return theirs()
        finally:
            model.model.decoder.forward = eager

    compiled_decoder: Any = torch.compile(model.model.decoder.forward, dynamic=False) if compiled else None

    sides: dict[str, Callable[[], tuple[float, list[int]]]] = {
        "dgtui": lambda: engine_run(opened.stepper),
        "reference": lambda: engine_run(reference),
        "transformers": theirs,
    }
    if compiled:
        sides["compiled"] = theirs_compiled
    times: dict[str, list[float]] = {name: [] for name in sides}
    tokens: dict[str, list[int]] = {}
    order = list(sides)
    for pair in range(pairs + 1):
        for name in order:
            progress(f"pair {pair} of {pairs}: {name}" if pair else f"warming up: {name}")
            seconds, tokens[name] = sides[name]()
            if pair:  # the first round warms up
                times[name].append(seconds)
        order.reverse()  # the first of a round is the last of the next

    def ratio(a: str, b: str) -> float:
        return statistics.median(x / y for x, y in zip(times[a], times[b], strict=True))

    chat = Job("bench", ids, seed, canvas, loaded.settings)
    began = time.perf_counter()
    *_, last = engine.run(opened.stepper, chat)
    wall = time.perf_counter() - began
    assert isinstance(last, Finished)
    own = opened.stepper if isinstance(opened.stepper, DeviceStepper) else None
    parts = profile.parts(own, ids, max(4, steps // 2)) if own else {}
    step_ms = {name: round(statistics.median(t) / steps * 1000, 3) for name, t in times.items()}
    memory = psutil.Process().memory_info().rss
    if loaded.device.type == "cuda":
        memory = torch.cuda.max_memory_allocated(loaded.device)
    tensors = [(name, stored.elements) for name, stored in open_checkpoint(loaded.checkpoint).tensors.items()]
    return {
        "model": loaded.checkpoint.name,
        "device": str(loaded.device),
        "dtype": str(loaded.dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "pairs": pairs,
        "steps": steps,
        "stepper": opened.stepper.name,
        "reason": opened.reason,
        "step_ms": step_ms,
        "parts_ms": {name: round(value, 3) for name, value in parts.items()},
        "step_ratio": round(ratio("dgtui", "transformers"), 4),
        "reference_ratio": round(ratio("reference", "transformers"), 4),
        "same_tokens": tokens["reference"] == tokens["transformers"],
        "tokens_per_second_at": {count: round(1000 * count / step_ms["dgtui"], 1) for count in (15, 20)},
        "prefill_tokens_per_second": round(_prefill(opened.stepper), 1),
        "answer": {
            "tokens": len(last.token_ids[0]),
            "steps": sum(last.steps),
            "wall_s": round(wall, 4),
            "tokens_per_second": round(len(last.token_ids[0]) / wall, 1),
            "tokens_per_forward": round(len(last.token_ids[0]) / max(1, sum(last.steps)), 2),
        },
        "memory_gb": round(memory / 1e9, 3),
        "floor": bench_floor.measure(loaded.plan.estimate, tensors, model.config, loaded.device, loaded.dtype),
    }


def _prefill(stepper: "Stepper") -> float:
    """Prompt tokens encoded per second. Two runs are made, and the second is timed."""
    ids = [10 + i % 100 for i in range(min(1024, stepper.max_context - stepper.canvas_length))]
    for _ in range(2):
        stepper.release()
        began = time.perf_counter()
        stepper.encode(ids)
        seconds = time.perf_counter() - began
    return len(ids) / seconds


def rows(found: dict[str, Any]) -> list[tuple[str, str]]:
    """The result of `measure` as text."""
    step, answer, floor = found["step_ms"], found["answer"], found["floor"]
    how = [found["device"], found["dtype"], f"{found['threads']} threads", f"{found['pairs']} pairs"]
    return [
        (found["model"], " · ".join(how)),
        (f"denoising step, dgtui ({found['stepper']})", f"{step['dgtui']:.2f} ms"),
        ("denoising step, transformers generate", f"{step['transformers']:.2f} ms"),
        *([("the same, compiled", f"{step['compiled']:.2f} ms")] if "compiled" in step else []),
        ("dgtui / transformers, median of pairs", f"{found['step_ratio']:.3f}"),
        ("lower bound of a step on this machine", f"{floor['ms']:.2f} ms, by {floor['bound_by']}"),
        *((f"  of which {name}", f"{value:.2f} ms") for name, value in found["parts_ms"].items()),
        ("reference / transformers", f"{found['reference_ratio']:.3f}"),
        ("reference gives the same tokens as transformers", "yes" if found["same_tokens"] else "NO"),
        *((f"tokens per second at {n} per step", f"{value:.0f}") for n, value in found["tokens_per_second_at"].items()),
        *([("why no faster way runs", found["reason"])] if found["reason"] else []),
        ("prompt tokens encoded per second", f"{found['prefill_tokens_per_second']:.0f}"),
        ("answer with the model's own settings", f"{answer['tokens']} tokens, {answer['steps']} steps"),
        ("tokens per second, wall clock", f"{answer['tokens_per_second']:.0f}"),
        ("memory", f"{found['memory_gb']:.2f} GB"),
    ]
