"""The interface between screens or steering and the model: plain data and a few calls, served by the worker's thread.

Screens and steering import nothing else of the model. So the first paint does not wait for torch, and tests can use a
scripted model.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from dgtui.diffusion.control import Control
from dgtui.diffusion.events import Finished
from dgtui.diffusion.image import Image
from dgtui.diffusion.job import Job, SamplerSettings
from dgtui.diffusion.log import RunLog
from dgtui.message import Message
from dgtui.model_info import ModelInfo

Rows: TypeAlias = Sequence[tuple[str, str]]
"""The name of a measurement, and its value with the unit."""


@dataclass(frozen=True, slots=True)
class Stage:
    """Progress of a load, in bytes. `total` is 0 for a stage that is not counted in bytes."""

    what: str
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Facts:
    """Facts about a loaded model."""

    name: str
    device: str
    dtype: str
    model: ModelInfo
    settings: SamplerSettings
    "the checkpoint's sampler settings, with the user's settings applied"
    fingerprint: str
    stepper: str
    versions: Mapping[str, str]
    notes: tuple[str, ...] = ()
    "sentences for the user about how it is loaded"
    fixed: str = ""
    "why its canvas cannot be steered; empty if it can"


class RunHandle(Protocol):
    """A submitted job: see `worker.Run`."""

    @property
    def job(self) -> Job: ...
    @property
    def log(self) -> RunLog: ...
    @property
    def control(self) -> Control: ...
    @property
    def ended(self) -> "Future[Finished]": ...


class Backend(Protocol):
    """Requests to the model. All calls but `see` return at once; futures and sinks are called on other threads."""

    @property
    def facts(self) -> Facts | None:
        """The loaded model; None if there is none."""

    def load(self, name: str | None, progress: Callable[[Stage], None]) -> "Future[Facts]":
        """Unloads the current model and loads another by name (None: the default). If there is no model of that name,
        the current one stays."""

    def submit(self, job: Job, sink: Callable[[Any, int], None]) -> RunHandle:
        """Queues a job. The sink is called on the model's thread with the run and the length of its log."""

    def chat(self, messages: Sequence[Message], *, think: bool = False) -> list[int]:
        """The prompt of a conversation."""

    def see(self, path: Path, digest: str = "") -> tuple[str, Image]:
        """An image file's digest, as stored in conversations, and the image as the model's input.

        Takes up to a second for a large file. May be called on any thread.

        Raises:
            ImageRefused: The file is not a usable image, or has another digest than the one given.
            ModelBlind: The model has no vision tower.
        """

    def encode(self, text: str) -> list[int]:
        """Plain text to ids."""

    def pieces(self, ids: Sequence[int]) -> list[bytes]:
        """The bytes of each id; control ids have none."""

    def split_thought(self, ids: Sequence[int]) -> tuple[str, tuple[int, ...]]:
        """A reply's thought, and the ids of the answer."""

    def bench(self, progress: Callable[[str], None]) -> "Future[Rows]":
        """Measures the loaded model once earlier jobs have ended. An exception from `progress` ends the measurement."""

    def names(self) -> list[str]:
        """The names of the models on this machine."""

    def memory(self) -> tuple[int, str]:
        """Bytes in use, and their kind: "GPU" or "memory"."""

    def slow(self) -> str:
        """Why steps do not run in the fastest way for the device; empty if they do."""

    def close(self) -> None:
        """Cancels all runs. Returns within half a second."""
