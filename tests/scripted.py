"""A model for screens: whole words for tokens, a reply that is known beforehand and resolves within a few steps.

The engine, the stepper and the worker's rules are the real ones; only the logits are scripted. At every place one of a
few words is right, and which one depends on the noise there, so that a re-diffusion may change a word and a pin is seen
to hold one.
"""

import math
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dgtui.backend import Facts, Rows, Stage
from dgtui.diffusion import engine
from dgtui.diffusion.image import Image
from dgtui.diffusion.job import Job, SamplerSettings
from dgtui.diffusion.reference import ReferenceStepper
from dgtui.errors import ImageRefused, ModelBlind
from dgtui.message import Message
from dgtui.model_info import ModelInfo
from dgtui.worker import Run, RunLog

CANVAS = 48
EOS, TURN_END, START = 0, 1, 2
TALE = (
    "Mia|Ada", "the|a", "fox|hare|otter", "lived", "by|at", "the", "river|lake|sea.", "One|Some", "day|night", "she",
    "lost|found", "her", "key|map|bell", "and", "sat|stood", "down", "to", "think|wait|sing.",
)  # fmt: skip
WORDS = sorted({word for place in TALE for word in place.split("|")} | set("you say hello to me now why red".split()))
IDS = {word: at + 3 for at, word in enumerate(WORDS)}
VOCAB = 3 + len(WORDS)
ENDS = frozenset({EOS, TURN_END})
MODEL = ModelInfo(CANVAS, 2000, START, TURN_END, EOS, ENDS, ENDS | {START})


class Gate:
    """Where the model's thread waits until a test lets it pass. Open at first."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._passes = math.inf
        self.held = False
        "the model's thread waits here"

    def close(self) -> None:
        """Lets nothing pass."""
        self._set(0)

    def open(self) -> None:
        """Lets everything pass."""
        self._set(math.inf)

    def let(self, count: int) -> None:
        """Lets that many more pass."""
        self._set(self._passes + count)

    def _set(self, passes: float) -> None:
        with self._changed:
            self._passes = passes
            self._changed.notify_all()

    def wait(self) -> None:
        """Waits to pass: for the model's thread."""
        with self._changed:
            self.held = self._passes < 1
            self._changed.wait_for(lambda: self._passes >= 1)
            self.held = False
            self._passes -= 1


class ScriptedDenoiser:
    """Sure of one of the right words at each place, the surer the more steps it has taken."""

    canvas_length, vocab_size, max_context = CANVAS, VOCAB, 2000
    conditioning_dtype = torch.float32
    device, stop_ids = torch.device("cpu"), frozenset({EOS, TURN_END})

    def __init__(self, seconds: float, steps: int) -> None:
        self.seconds, self.steps = seconds, steps
        self.gate = Gate()
        "before each step"
        self.prefix: list[int] = []
        self._step = 0
        self._target = torch.zeros(0)
        words = [[IDS[word] for word in place.split("|")] for place in TALE]
        self._choices = [*words, [TURN_END], *[[EOS]] * (CANVAS - len(words) - 1)]

    def encode(self, ids: Sequence[int], images: Sequence[Image] = ()) -> None:
        self.prefix = list(ids)

    def commit(self, ids: Sequence[int]) -> None:
        self.prefix += ids

    def log_probs(self, canvas_ids: torch.Tensor) -> torch.Tensor:
        return torch.zeros(canvas_ids.shape)

    def logits(self, canvas_ids: torch.Tensor, self_conditioning: torch.Tensor | None) -> torch.Tensor:
        self.gate.wait()
        time.sleep(self.seconds)  # lets other threads run, as a GPU would
        if self_conditioning is None:
            self._step = 0
            rows = [[c[i % len(c)] for c, i in zip(self._choices, r, strict=True)] for r in canvas_ids.tolist()]
            self._target = torch.tensor(rows)
        self._step += 1
        sure = 14.0 * min(1.0, self._step / self.steps)
        out = torch.zeros((*canvas_ids.shape, VOCAB))
        target = self._target[: len(canvas_ids)]
        return out.scatter(-1, target[..., None], sure)


class ScriptedBackend:
    """`dgtui.backend.Backend` with a scripted model.

    Args:
        seconds: That a denoising step takes at least.
        steps: That the model needs to be sure.
        hold_load: `load_gate` is closed: nothing is loaded until a test opens it.
        hold_steps: `step_gate` is closed: no denoising step is taken until a test lets it.
        error: Of every load.
    """

    def __init__(
        self, *, seconds: float = 0.0, steps: int = 6, hold_load: bool = False, hold_steps: bool = False,
        error: Any = None,
    ) -> None:  # fmt: skip
        self.denoiser = ScriptedDenoiser(seconds, steps)
        self.load_gate, self.step_gate, self.see_gate = Gate(), self.denoiser.gate, Gate()
        if hold_load:
            self.load_gate.close()
        if hold_steps:
            self.step_gate.close()
        self.facts: Facts | None = None
        self.jobs: list[Job] = []
        self.runs: list[Run] = []
        self.loads: list[str | None] = []
        self.benches: list[Future[Rows]] = []
        self.sees = True
        self._error = error
        self._tasks: queue.SimpleQueue[Any] = queue.SimpleQueue()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        stepper = ReferenceStepper(self.denoiser)
        while (task := self._tasks.get()) is not None:
            task(stepper)

    def load(self, name: str | None, progress: Callable[[Stage], None]) -> "Future[Facts]":
        future: Future[Facts] = Future()
        self.loads.append(name)
        self.facts = None

        def task(_: Any) -> None:
            progress(Stage("reading", 1, 2))
            self.load_gate.wait()
            if self._error is not None:
                future.set_exception(self._error)
                return
            self.facts = Facts(
                name or "scripted", "cpu", "float32", MODEL, SamplerSettings(steps=24, entropy_bound=0.5), "0" * 8,
                "reference", {},
            )  # fmt: skip
            future.set_result(self.facts)

        self._tasks.put(task)
        return future

    def submit(self, job: Job, sink: Callable[[Run, int], None]) -> Run:
        run = Run(job, RunLog(job))
        self.jobs.append(job)
        self.runs.append(run)

        def task(stepper: ReferenceStepper) -> None:
            try:
                for event in engine.run(stepper, job, run.control):
                    sink(run, run.log.append(event))
            except BaseException as error:
                run.ended.set_exception(error)
            else:
                assert run.log.finished is not None
                run.ended.set_result(run.log.finished)

        self._tasks.put(task)
        return run

    def chat(self, messages: Sequence[Message], *, think: bool = False) -> list[int]:
        ids = [START]
        for message in messages:
            ids += [START] * sum(image.tokens for image in message.images)
            ids += [*(message.token_ids or self.encode(message.content)), TURN_END]
        return ids

    def see(self, path: Path, digest: str = "") -> tuple[str, Image]:
        """Any text file is an image of as many tokens as it has characters."""
        if not self.sees:
            raise ModelBlind("the scripted model does not see", hint="take one that does")
        try:
            text = path.read_text()
        except OSError:
            raise ImageRefused(f"{path.name} is gone") from None
        if digest not in ("", text):
            raise ImageRefused(f"{path.name} has changed since it was sent")
        self.see_gate.wait()
        patches = np.full((len(text), 1), sum(map(ord, text)), dtype=np.float32)
        return text, Image(patches, np.zeros((len(text), 2), dtype=np.int32), len(text))

    def encode(self, text: str) -> list[int]:
        return [IDS.get(word, IDS["red"]) for word in text.split()]

    def pieces(self, ids: Sequence[int]) -> list[bytes]:
        return [b"" if i < 3 else WORDS[i - 3].encode() + b" " for i in ids]

    def split_thought(self, ids: Sequence[int]) -> tuple[str, tuple[int, ...]]:
        return "", tuple(i for i in ids if i > 2)

    def bench(self, progress: Callable[[str], None]) -> "Future[Rows]":
        future: Future[Rows] = Future()

        def task(_: Any) -> None:
            try:
                for pair in range(3):
                    progress(f"pair {pair} of 3")
                    self.step_gate.wait()
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result([("a denoising step, \x1b[31mdgtui [/]", "1.00 ms")])
            self.benches.append(future)

        self._tasks.put(task)
        return future

    def names(self) -> list[str]:
        return ["scripted", "other"]

    def memory(self) -> tuple[int, str]:
        return 1_500_000_000, "memory"

    def slow(self) -> str:
        return ""

    def occupy(self) -> Gate:
        """Keeps the model's thread from beginning anything that is asked for from now on, until the gate opens."""
        gate = Gate()
        gate.close()
        self._tasks.put(lambda _: gate.wait())
        return gate

    def close(self) -> None:
        for run in self.runs:
            run.control.cancel()
        self.load_gate.open()
        self.step_gate.open()
        self.see_gate.open()
        self._tasks.put(None)
