"""The training loop: Muon for matrices, AdamW for the rest, resumable from one checkpoint file.

A checkpoint is a folder that transformers loads, plus `optimizer.safetensors` and `progress.json`; it is replaced as a
whole, so an interrupted run goes on from the last one.
"""

import json
import random
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import DiffusionGemmaForBlockDiffusion

from dgtui.model import nf4
from dgtui.model.parts import can_be_packed
from dgtui.train.items import Batch
from dgtui.train.muon import Muon
from dgtui.train.objective import losses

ENCODER_WEIGHT = 0.5


@dataclass(frozen=True, slots=True)
class Settings:
    """How long and how fast to train."""

    steps: int
    "optimizer steps in all"
    matrix_rate: float = 0.02
    "Muon's peak rate"
    vector_rate: float = 3e-3
    "AdamW's peak rate"
    warmup: int = 40
    "steps of linear rise"
    decay_from: float = 0.3
    "the part of the run after which the rate falls linearly to zero"
    packed_share: float = 0.0
    "the part of the steps in which the model computes with its weights as NF4 holds them"
    save_every: int = 100
    "steps between checkpoints"


class Trainer:
    """Owns the model, its optimizers and the step count."""

    def __init__(self, model: DiffusionGemmaForBlockDiffusion, settings: Settings, folder: Path, seed: int) -> None:
        self.model, self.settings, self.folder = model, settings, folder
        trained = [p for name, p in model.named_parameters() if "vision" not in name]
        embedding = model.get_input_embeddings().weight
        self.matrices = [p for p in trained if p.ndim >= 2 and p is not embedding]
        self.vectors = [p for p in trained if p.ndim < 2 or p is embedding]
        self.muon = Muon(self.matrices, lr=settings.matrix_rate)
        self.adam = torch.optim.AdamW(self.vectors, lr=settings.vector_rate, betas=(0.9, 0.98), weight_decay=0.0)
        self.step = 0
        self.rng = torch.Generator().manual_seed(seed)

    def rate(self) -> float:
        """The factor on the peak rates at this step."""
        s = self.settings
        fall = (s.steps - self.step) / max(1.0, s.steps * (1 - s.decay_from))
        return max(0.0, min(1.0, (self.step + 1) / s.warmup, fall))

    def train(self, steps: Iterator[list[Batch]]) -> None:
        """Runs to `settings.steps`, printing a line and saving now and then."""
        started, seen = time.monotonic(), 0
        sums = torch.zeros(3)
        self.model.train()
        while self.step < self.settings.steps:
            packed = torch.rand((), generator=self.rng) < self.settings.packed_share
            with as_packed(self.model) if packed else nullcontext():
                for batch in (micro := next(steps)):
                    result = losses(self.model, batch, self.rng)
                    total = (result.diffusion + ENCODER_WEIGHT * result.encoder) / len(micro)
                    total.backward()  # type: ignore[no-untyped-call]
                    now = [result.diffusion.detach(), result.encoder.detach(), result.accuracy.nan_to_num()]
                    sums += torch.stack(now) / len(micro)
                    seen += len(batch.canvas)
            factor = self.rate()
            for group in self.muon.param_groups:
                group["lr"] = self.settings.matrix_rate * factor
            for group in self.adam.param_groups:
                group["lr"] = self.settings.vector_rate * factor
            torch.nn.utils.clip_grad_norm_(self.vectors, 1.0)
            self.muon.step()
            self.adam.step()
            self.model.zero_grad(set_to_none=True)
            self.step += 1
            if self.step % 20 == 0:
                d, e, a = (sums / 20).tolist()
                sums.zero_()
                print(
                    f"step {self.step}/{self.settings.steps}  diffusion {d:.3f}  encoder {e:.3f}  "
                    f"corrupted right {a:.1%}  rate {factor:.2f}  {seen} examples  {time.monotonic() - started:.0f} s",
                    flush=True,
                )
            if self.step % self.settings.save_every == 0 or self.step == self.settings.steps:
                self.save()

    def save(self) -> None:
        """Replaces the checkpoint as a whole."""
        new, old = self.folder.with_name(self.folder.name + ".new"), self.folder.with_name(self.folder.name + ".old")
        shutil.rmtree(new, ignore_errors=True)
        self.model.save_pretrained(new)
        state = {f"momentum.{i}": self.muon.state[p]["momentum"] for i, p in enumerate(self.matrices)}
        for i, p in enumerate(self.vectors):
            state |= {f"adam.{i}.{key}": value for key, value in self.adam.state[p].items()}
        save_file(state, new / "optimizer.safetensors")
        (new / "progress.json").write_text(json.dumps({"step": self.step}))
        shutil.rmtree(old, ignore_errors=True)
        if self.folder.exists():
            self.folder.replace(old)
        new.replace(self.folder)
        shutil.rmtree(old, ignore_errors=True)

    def resume(self) -> bool:
        """Goes on from the checkpoint, if there is one; the random streams go on under a seed of their own."""
        if not (self.folder / "progress.json").exists():
            return False
        self.step = json.loads((self.folder / "progress.json").read_text())["step"]
        state = load_file(self.folder / "optimizer.safetensors")
        for i, p in enumerate(self.matrices):
            self.muon.state[p]["momentum"] = state[f"momentum.{i}"]
        for i, p in enumerate(self.vectors):
            self.adam.state[p] = {key: state[f"adam.{i}.{key}"] for key in ("step", "exp_avg", "exp_avg_sq")}
        self.rng.manual_seed(random.Random(self.step).getrandbits(40))
        return True


@contextmanager
def as_packed(model: DiffusionGemmaForBlockDiffusion) -> Iterator[None]:
    """Until the block ends, weights have the values that NF4 has for them; gradients go to the weights themselves."""
    weights = {
        weight: weight.detach().clone()
        for name, weight in model.model.decoder.named_parameters(prefix="model.decoder")
        if can_be_packed(name, tuple(weight.shape))
    }
    try:
        for weight, own in weights.items():
            weight.data.copy_(nf4.quantize(own).dequantize(own.dtype))
        yield
    finally:
        for weight, own in weights.items():
            weight.data.copy_(own)
