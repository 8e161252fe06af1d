"""Fine-tuning a checkpoint on a user's data: all weights, for models whose optimizer fits into memory."""

import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import torch
from transformers import DiffusionGemmaForBlockDiffusion

from dgtui.errors import ModelUnloadable, OutOfMemory
from dgtui.model.catalog import Checkpoint
from dgtui.model.loader import LoadOptions, load
from dgtui.model.open_checkpoint import OpenCheckpoint
from dgtui.train import data
from dgtui.train.items import Item
from dgtui.train.lora import Lora
from dgtui.train.objective import Losses, losses
from dgtui.train.packed import PackedPass, pack
from dgtui.train.trainer import Process, Progress, Schedule, Trainer

if TYPE_CHECKING:
    from dgtui.model.tokenizer import ModelTokenizer
    from dgtui.model_info import ModelInfo

FULL_CANVAS_SHARE: Final = 0.25
"""Share of the steps whose canvases have their full length, end-of-sequence included."""
BYTES_PER_WEIGHT: Final = 16
"""Weight, gradient and two optimizer states in fp32."""
SMALL_FILES: Final = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json")


@dataclass(frozen=True, slots=True)
class Tuning:
    """The options of a run."""

    steps: int
    rate: float
    """Factor for the peak rates of training from scratch."""
    rows: int
    length: int
    """Rows of a step and their length, per process."""
    seed: int
    device: torch.device


def check_fits(opened: OpenCheckpoint, memory: int) -> None:
    """Raises unless all weights can be trained in `memory` bytes."""
    name = opened.checkpoint.name
    if opened.quant_method is not None and opened.checkpoint.source != "embedded":
        raise ModelUnloadable(
            f"{name} is quantized, and quantized weights cannot be trained", hint="use the original checkpoint"
        )
    needed = opened.parameters * BYTES_PER_WEIGHT
    if needed > memory:
        raise OutOfMemory(
            f"training all {opened.parameters / 1e9:.1f} billion weights of {name} takes {needed / 1e9:,.0f} GB, but "
            f"only {memory / 1e9:,.0f} GB are free",
            hint="train a smaller model",
        )


def resumed(folder: Path) -> DiffusionGemmaForBlockDiffusion:
    """The model of a trainer's checkpoint in fp32, on the CPU."""
    model: Any = DiffusionGemmaForBlockDiffusion.from_pretrained(folder, dtype=torch.float32, use_safetensors=True)
    model.set_experts_implementation("eager")
    return cast(DiffusionGemmaForBlockDiffusion, model)


def in_full(checkpoint: Checkpoint | OpenCheckpoint) -> DiffusionGemmaForBlockDiffusion:
    """The model of a checkpoint in fp32, on the CPU, with gradients. Quantized weights are decoded."""
    held = load(checkpoint, LoadOptions(device="cpu", dtype=torch.float32, decoded=True)).model
    model: Any = DiffusionGemmaForBlockDiffusion(held.config)
    model.load_state_dict(held.state_dict())
    model.set_experts_implementation("eager")
    return cast(DiffusionGemmaForBlockDiffusion, model)


class FineTuning:
    """A run on items for one model: its trainer, and the loss on the held-back items."""

    def __init__(
        self, model: DiffusionGemmaForBlockDiffusion, tokenizer: "ModelTokenizer", info: "ModelInfo", tuning: Tuning,
        training: list[Item], validation: list[Item], folder: Path, process: Process, lora: Lora | None = None,
    ) -> None:  # fmt: skip
        self.model, self.tuning, self.info, self.process = model, tuning, info, process
        self.training, self.validation = training, validation
        self.through = PackedPass(
            model, low=lora is not None and tuning.device.type == "cuda", recompute=lora is not None
        )
        self.tokenizer, self.lora = tokenizer, lora
        self.pad = tokenizer.pad_id or 0
        decay = tuning.steps // 3
        schedule = Schedule(
            tuning.steps, 0.02 * tuning.rate, 3e-3 * tuning.rate, max(1, min(40, tuning.steps // 10)), decay
        )
        self.trainer = Trainer(model, schedule, folder, tuning.seed, self._step, process, lora)

    def _pack(self, items: Iterator[Item], rng: random.Random, whole: bool = False) -> Any:
        """`whole`: canvases have their full length, as in inference."""
        window = int(getattr(self.through.config, "sliding_window", 0) or self.tuning.length)
        return pack(
            items, self.tuning.rows, self.tuning.length, self.pad, self.info.fill_id, window,
            self.info.canvas_length if whole else None, rng,
        ).to(self.tuning.device)  # fmt: skip

    def _step(self, step: int, noise: torch.Generator) -> Iterator[tuple[Losses, int]]:
        seed, process = self.tuning.seed, self.process
        rng = random.Random(f"{seed} {step} {process.rank}")
        each = max(1, self.tuning.rows * self.tuning.length // self._mean_places())
        whole = self.tuning.length > self.info.canvas_length and rng.random() < FULL_CANVAS_SHARE
        found = self._pack(data.stream(self.training, seed, step, process.rank, process.world, each), rng, whole)
        content = int(((found.weight == 1.0) | ((found.example >= 0) & ~found.canvas)).sum())
        yield losses(self.through, found, noise), content

    def _mean_places(self) -> int:
        sample = self.training[:200]
        return sum(len(item.prefix) + len(item.reply) + 9 for item in sample) // len(sample)

    @torch.no_grad()
    def validate(self) -> Losses | None:
        """The losses on the held-back items, always with the same noise."""
        if not self.validation:
            return None
        found = self._pack(iter(self.validation), random.Random(0))
        return losses(self.through, found, torch.Generator().manual_seed(0))

    @torch.no_grad()
    def sample(self, steps: int = 4) -> str:
        """The model's reply for the first held-back canvas, from pure noise in a few coarse steps."""
        if not self.validation:
            return ""
        found = self._pack(iter(self.validation[:1]), random.Random(0))
        generator = torch.Generator().manual_seed(0)
        noise = torch.randint(int(self.through.config.vocab_size), tuple(found.ids.shape), generator=generator)
        ids = torch.where(found.free, noise.to(found.ids.device), found.ids)
        soft = None
        for _ in range(steps):
            states = self.through.states(ids, found, soft)
            guess = self.through.logits(states).softmax(-1)
            soft = self.through.soft(guess) * found.canvas[..., None]
            ids = torch.where(found.free, guess.argmax(-1), found.ids)
        reply = ids[found.canvas].tolist()
        end = next((at for at, token in enumerate(reply) if token in self.info.stop_ids), len(reply))
        return self.tokenizer.decode_bytes(reply[:end]).decode("utf-8", "replace")

    def run(self, report: Callable[[Progress], None], stop: Callable[[], bool], every: int) -> None:
        """Trains to the end, or until `stop`."""
        self.trainer.train(report, every, stop=stop)

    def save(self, source: Path, out: Path, dtype: torch.dtype) -> None:
        """Writes the adapter, or a folder for `--model`: weights, config, and the source's tokenizer files."""
        if self.lora is not None:
            self.lora.save(out)
            return
        model: Any = self.model
        model.to(dtype).save_pretrained(out)
        for name in SMALL_FILES:
            if (source / name).exists():
                shutil.copyfile(source / name, out / name)
