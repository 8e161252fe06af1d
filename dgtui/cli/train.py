"""`dgtui train`: fine-tunes a model on the user's own examples."""

import os
import shutil
import signal
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from dgtui.cli.terminal import note, redrawable
from dgtui.errors import UsageError
from dgtui.text import sanitize, truncate

if TYPE_CHECKING:
    from dgtui.train.data import Record
    from dgtui.train.trainer import Progress


SUDOKU_SHARE: Final = 0.25
ADAPTER_SHARE: Final = 0.1
"""Shares of the time of `dgtui train embedded` that its Sudoku model and each of its adapters get."""


def command(
    file: Annotated[Path, typer.Argument(metavar="DATA", help="A file with one JSON object per line (see "
                                         "docs/train.md), or the name of a generator, such as sudoku.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the trained model and its checkpoints.")],
    model: Annotated[
        str, typer.Option("--model", "-m", metavar="NAME", help="The model to start from: a name, or a folder.")
    ] = "embedded",
    steps: Annotated[int, typer.Option(min=1, metavar="N", help="Optimizer steps.")] = 400,
    rate: Annotated[float, typer.Option(min=0.0, metavar="X", help="Factor for the learning rates.")] = 0.2,
    rows: Annotated[int, typer.Option(min=2, metavar="N", help="Rows per step.")] = 8,
    length: Annotated[int, typer.Option(min=64, metavar="TOKENS", help="Tokens per row.")] = 512,
    validation: Annotated[float, typer.Option(min=0.0, max=0.5, metavar="SHARE", help="Share of the examples that is "
                                              "held back for validation.")] = 0.05,
    lora: Annotated[bool, typer.Option("--lora", help="Train an adapter (LoRA) instead of the weights, which may be "
                                       "quantized.")] = False,
    rank: Annotated[int, typer.Option(min=1, max=512, metavar="N", help="Rank of the adapter.")] = 16,
    minutes: Annotated[float, typer.Option(min=1.0, metavar="N", help="Time for `dgtui train embedded`, which trains "
                                           "a new embedded model from random weights.")] = 9.0,
    examples: Annotated[int, typer.Option(min=1, metavar="N", help="Examples that a generator makes.")] = 4000,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Seed for the order of the data and the noise.")] = 1,
    device: Annotated[str, typer.Option(metavar="NAME", help="auto, cpu, cuda, cuda:1 …")] = "auto",
) -> int:  # fmt: skip
    """Fine-tune a model on your own examples.

    A stopped run continues from its last checkpoint in DIR. Load the result with `--model DIR`.
    """
    from dgtui.train import data

    if str(file) == "embedded" and not file.exists():
        return _embedded(out, minutes, seed)
    records = _records(file, examples, seed)
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file", hint="give --out a folder")
    from dgtui.model.catalog import resolve
    from dgtui.model.devices import available, choose_device
    from dgtui.model.offline import go_offline
    from dgtui.model.open_checkpoint import open_checkpoint

    go_offline()
    import torch

    from dgtui.model.loader import LoadOptions, load
    from dgtui.train import finetune
    from dgtui.train.lora import Lora
    from dgtui.train.trainer import processes

    opened = open_checkpoint(resolve(model))
    where = choose_device(device)
    if not lora:
        finetune.check_fits(opened, available(where))
    process = processes()
    first = process.rank == 0
    held = load(opened, LoadOptions(device=str(where) if lora else "cpu", dtype=torch.float32, vision=False))
    tokenizer, info = held.tokenizer, held.info
    found = data.items(
        records, tokenizer, info, length - info.canvas_length if length > info.canvas_length else length // 2
    )
    training, kept = data.split(found, validation, seed)
    checkpoint = out / "checkpoint"
    started = (checkpoint / "progress.json").exists()
    torch.manual_seed(seed)
    trained, adapter = held.model, Lora(held.model, rank, opened.checkpoint.name) if lora else None
    del held
    if adapter is None:
        on: Any = finetune.resumed(checkpoint) if started else finetune.in_full(opened)
        trained = on.to(where)
    elif started:
        adapter.resume(checkpoint)
    tuning = finetune.Tuning(steps, rate, rows, length, seed, where)
    out.mkdir(parents=True, exist_ok=True)
    run = finetune.FineTuning(trained, tokenizer, info, tuning, training, kept, checkpoint, process, adapter)
    run.trainer.resume()
    if first:
        parts = f"{len(training):,} training canvases, {len(kept):,} held back"
        note(f"{parts}; starting at step {run.trainer.step} of {steps}")
    stopped: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda got, _: stopped.append(got))
    report = _Report(run) if first else (lambda _: None)
    run.run(report, lambda: bool(stopped), every=max(1, min(20, steps // 20)))
    if stopped:
        if first:
            note(f"stopped at step {run.trainer.step}; run the same command again to continue")
        return 130
    if first:
        dtype = getattr(torch, opened.dtype, torch.bfloat16)
        run.save(opened.checkpoint.path, out, dtype)
        use = f"--model {model} --adapter {out}" if lora else f"--model {out}"
        note(f"the trained {'adapter' if lora else 'model'} is in {out}; to use it: dgtui chat {use}")
    return 0


def _embedded(out: Path, minutes: float, seed: int) -> int:
    """The whole recipe of the embedded model, its Sudoku model and its adapters, unattended."""
    import torch

    from dgtui.model.catalog import EDITS, SOLVER, TALES
    from dgtui.train import adapters, sudoku
    from dgtui.train.embedded import EMBEDDED
    from dgtui.train.recipe import Recipe, run

    on_gpu = torch.cuda.is_available()
    workers = max(1, (os.cpu_count() or 2) - 2) if on_gpu else 0
    of = partial(Recipe, parts=8 if on_gpu else 2, seed=seed, workers=workers)
    whole = (
        run(of(out / "work", out, minutes=(1 - SUDOKU_SHARE - 2 * ADAPTER_SHARE) * minutes), EMBEDDED)
        and run(of(out / "work-sudoku", out / SOLVER, minutes=SUDOKU_SHARE * minutes), sudoku.kind(out))
        and all(
            run(of(out / f"work-{name}", out / name, minutes=ADAPTER_SHARE * minutes), adapters.kind(out, name))
            for name in (EDITS, TALES)
        )
    )
    return 0 if whole else 130


def _records(file: Path, examples: int, seed: int) -> "list[Record]":
    from dgtui.train import data
    from dgtui.train.lessons import LESSONS

    if not file.exists() and str(file) in (data.ALL, *LESSONS):
        return data.generated(str(file), examples, seed)
    return data.read(file)


class _Report:
    """On a terminal, a line and a sample that are redrawn. In a pipe, one line per report."""

    def __init__(self, run: Any) -> None:
        self._run = run
        self._redraw = redrawable()
        self._curve: list[float] = []

    def __call__(self, now: "Progress") -> None:
        measured = self._run.validate()
        held = (
            f"  held back {measured.diffusion.item():.3f} ({measured.accuracy.item():.0%} right)"
            if measured is not None
            else ""
        )
        self._curve = [*self._curve, now.diffusion][-24:]
        line = (
            f"step {now.step}/{now.steps}  loss {now.diffusion:.3f}{held}  {now.right:.0%} right  "
            f"{now.tokens_per_second:,.0f} tok/s  {_time(now.left)} left"
        )
        if self._redraw:
            end = "\n\n" if now.step == now.steps else ""
            width = shutil.get_terminal_size().columns - 1
            shown = truncate(f"{_bars(self._curve)} {line}", width)
            sample = truncate(sanitize(self._run.sample(), newlines=False, tabs="replace"), width)
            with suppress(OSError):  # the terminal is gone, but the training continues
                text = f"\r\x1b[2K{shown}\n\r\x1b[2K{sample}\x1b[1A\r"
                print(text, end=end, file=sys.stderr, flush=True)
        else:
            note(line)


def _bars(values: list[float]) -> str:
    """The loss curve, with the newest value on the right."""
    low, high = min(values), max(values)
    return "".join("▁▂▃▄▅▆▇█"[int((v - low) / (high - low or 1) * 7)] for v in values)


def _time(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes}:{rest:02}"
