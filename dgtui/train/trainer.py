"""The training loop: Muon for matrices, AdamW for the rest, exactly resumable, on one process or several.

A step's data and noise depend only on (seed, step, process). A run that is killed and resumed takes the same steps and
ends with the same weights, bit for bit, on the same machine with the same number of processes.

A checkpoint is a folder that transformers can load, plus `optimizer.safetensors` and `progress.json`. It is replaced as
a whole. Start several processes with torchrun; gradients are averaged, and process 0 writes.
"""

import json
import math
import shutil
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from transformers import DiffusionGemmaForBlockDiffusion

from dgtui.train.lora import Lora
from dgtui.train.muon import Muon
from dgtui.train.nf4_aware import as_packed
from dgtui.train.objective import Losses

SAVE_SECONDS = 300.0
"""Seconds between two checkpoints."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """Length and learning rates of a run: a linear warm-up, a constant part, a linear decay to zero."""

    steps: int
    """Total number of optimizer steps."""
    matrix_rate: float = 0.02
    """Muon's peak rate."""
    vector_rate: float = 3e-3
    """AdamW's peak rate."""
    warmup: int = 40
    decay: int = 0
    """Number of decay steps at the end."""
    packed_from: float = 1.0
    """The fraction of the run after which weights are rounded to NF4 in the forward pass."""

    def factor(self, step: int) -> float:
        """The factor for the peak rates at a step, counted from 0."""
        left = (self.steps - step) / self.decay if self.decay else 1.0
        return max(0.0, min(1.0, (step + 1) / self.warmup, left))


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of a run; losses are means since the last report, in nats per token."""

    step: int
    steps: int
    diffusion: float
    encoder: float
    right: float
    """Share of corrupted positions whose argmax is right."""
    tokens_per_second: float
    """Content tokens of all processes per second of wall time."""
    seconds: float
    left: float
    """Seconds left at this speed."""


@dataclass(frozen=True, slots=True)
class Process:
    """The rank of this process, and the number of processes."""

    rank: int = 0
    world: int = 1


def processes() -> Process:
    """This process; joins the others if torchrun started it."""
    if not dist.is_torchelastic_launched():
        return Process()
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    return Process(dist.get_rank(), dist.get_world_size())


class Trainer:
    """Owns the model's optimizers and the step count.

    Args:
        step_losses: (step, generator) → pairs of losses and content tokens, one per part of the step.
        trained: The parameters to train; AdamW handles the embedding and vectors.
        lora: The adapter to train instead of the model, with AdamW.
    """

    def __init__(
        self,
        model: DiffusionGemmaForBlockDiffusion,
        schedule: Schedule,
        folder: Path,
        seed: int,
        step_losses: Callable[[int, torch.Generator], Iterable[tuple[Losses, int]]],
        process: Process = Process(),
        lora: Lora | None = None,
    ) -> None:
        self.model, self.schedule, self.folder, self.seed, self.process = model, schedule, folder, seed, process
        self.step_losses, self.lora = step_losses, lora
        embedding = model.get_input_embeddings().weight
        trained = [p for name, p in model.named_parameters() if p.requires_grad and "vision" not in name]
        self.matrices = [p for p in trained if p.ndim >= 2 and p is not embedding and lora is None]
        self.vectors = [p for p in trained if p.ndim < 2 or p is embedding or lora is not None]
        self.muon = Muon(self.matrices or [torch.nn.Parameter(torch.empty(0, 0))], lr=schedule.matrix_rate)
        self.adam = torch.optim.AdamW(self.vectors, lr=schedule.vector_rate, betas=(0.9, 0.98), weight_decay=0.0)
        self.step = 0

    def train(
        self, report: Callable[[Progress], None], every: int = 20, stop: Callable[[], bool] = lambda: False
    ) -> None:
        """Runs to the end of the schedule, or until `stop`; reports and saves periodically, and at the end."""
        started = saved = time.monotonic()
        sums, tokens, since, counted = torch.zeros(3), 0, started, 0
        self.model.train()
        while self.step < self.schedule.steps and not stop():
            late = self.lora is None and self.step >= self.schedule.packed_from * self.schedule.steps
            context: AbstractContextManager[None] = as_packed(self.model) if late else nullcontext()
            with context:
                result, seen = self._gradients()
            self._update()
            self.step += 1
            sums, tokens, counted = sums + result, tokens + seen * self.process.world, counted + 1
            now = time.monotonic()
            if counted == every or self.step == self.schedule.steps:
                diffusion, encoder, right = (sums / counted).tolist()
                pace = (now - since) / counted
                left = (self.schedule.steps - self.step) * pace
                report(Progress(self.step, self.schedule.steps, diffusion, encoder, right, tokens / (now - since),
                                now - started, left))  # fmt: skip
                sums, tokens, since, counted = torch.zeros(3), 0, now, 0
            if now - saved > SAVE_SECONDS and self.process.rank == 0:
                self.save()
                saved = time.monotonic()
        if self.process.rank == 0:
            self.save()

    def _gradients(self) -> tuple[torch.Tensor, int]:
        """Accumulates the step's gradients and averages them over processes; returns mean losses and content tokens."""
        rng = torch.Generator().manual_seed(hash((self.seed, self.step, self.process.rank)) & (2**63 - 1))
        means, seen, parts = torch.zeros(3), 0, 0
        for losses, tokens in self.step_losses(self.step, rng):
            losses.total.backward()  # type: ignore[no-untyped-call]
            means += torch.stack((losses.diffusion.detach(), losses.encoder.detach(), losses.accuracy)).cpu()
            seen, parts = seen + tokens, parts + 1
        gradients = [p.grad for p in (*self.matrices, *self.vectors) if p.grad is not None]
        torch._foreach_mul_(gradients, 1 / (parts * self.process.world))
        if self.process.world > 1:
            flat = torch.cat([g.flatten() for g in gradients])
            dist.all_reduce(flat)
            for gradient, part in zip(gradients, torch.split(flat, [g.numel() for g in gradients]), strict=True):
                gradient.copy_(part.view_as(gradient))
        return means / parts, seen

    def _update(self) -> None:
        factor = self.schedule.factor(self.step)
        for optimizer, rate in ((self.muon, self.schedule.matrix_rate), (self.adam, self.schedule.vector_rate)):
            for group in optimizer.param_groups:
                group["lr"] = rate * factor
        norm = torch.nn.utils.clip_grad_norm_(self.vectors, 1.0)
        if math.isfinite(float(norm)):
            self.muon.step()
            self.adam.step()
        self.model.zero_grad(set_to_none=True)

    def save(self) -> None:
        """Replaces the checkpoint as a whole."""
        new, old = self.folder.with_name(self.folder.name + ".new"), self.folder.with_name(self.folder.name + ".old")
        shutil.rmtree(new, ignore_errors=True)
        (self.lora.save if self.lora else self.model.save_pretrained)(new)
        state = {f"muon.{i}": self.muon.state[p]["momentum"] for i, p in enumerate(self.matrices)}
        for i, p in enumerate(self.vectors):
            state |= {f"adam.{i}.{key}": value for key, value in self.adam.state[p].items()}
        save_file(state, new / "optimizer.safetensors")
        (new / "progress.json").write_text(json.dumps({"step": self.step, "seed": self.seed}))
        shutil.rmtree(old, ignore_errors=True)
        if self.folder.exists():
            self.folder.replace(old)
        new.replace(self.folder)
        shutil.rmtree(old, ignore_errors=True)

    def resume(self) -> bool:
        """Restores the step count and the optimizers' state from the checkpoint, if there is one.

        A checkpoint without `optimizer.safetensors` (a small one, for a repository) starts with new optimizers.
        """
        progress = self.folder / "progress.json"
        if not progress.exists():
            return False
        self.step = json.loads(progress.read_text())["step"]
        if (self.folder / "optimizer.safetensors").exists():
            state = load_file(self.folder / "optimizer.safetensors")
            for i, p in enumerate(self.matrices):
                self.muon.state[p]["momentum"] = state[f"muon.{i}"].to(p.device)
            for i, p in enumerate(self.vectors):
                keys = ("step", "exp_avg", "exp_avg_sq")
                self.adam.state[p] = {
                    key: state[f"adam.{i}.{key}"].to(p.device if key != "step" else "cpu") for key in keys
                }
        return True
