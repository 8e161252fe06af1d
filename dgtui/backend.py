"""The model's side as the screens see it: plain data and a few calls, answered by the worker in another thread.

The screens import nothing of it but this protocol, so that the first paint does not wait for torch, and tests can put
a scripted model behind them.
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
"""What was measured, and the figure with its unit."""


@dataclass(frozen=True, slots=True)
class Stage:
    """How far a load is; `total` is 0 where bytes say nothing."""

    what: str
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Facts:
    """A loaded model."""

    name: str
    device: str
    dtype: str
    model: ModelInfo
    settings: SamplerSettings
    "its own sampler settings"
    fingerprint: str
    stepper: str
    versions: Mapping[str, str]
    load_seconds: float
    notes: tuple[str, ...] = ()
    "what a person should know of how it is held, a sentence each"


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
    """What the screens ask of the model. Calls but `see` return at once; futures and sinks answer on other threads."""

    @property
    def facts(self) -> Facts | None:
        """What is loaded."""

    def load(self, name: str | None, progress: Callable[[Stage], None]) -> "Future[Facts]":
        """Loads a model by name (None: the default one) after unloading the present one, which stays if there is no
        model of that name."""

    def submit(self, job: Job, sink: Callable[[Any, int], None]) -> RunHandle:
        """Queues a job; the sink is told, on the model's thread, how far its log goes."""

    def chat(self, messages: Sequence[Message], *, think: bool = False) -> list[int]:
        """The prompt of a conversation."""

    def see(self, path: Path, digest: str = "") -> tuple[str, Image]:
        """An image file's digest, as conversations keep it, and what the model is given of it.

        Takes a second for a large one, and may be called on any thread. Raises `ImageRefused`, also where a digest is
        given and the file's is another; or `ModelBlind` for a model that does not see.
        """

    def encode(self, text: str) -> list[int]:
        """Plain text to ids."""

    def pieces(self, ids: Sequence[int]) -> list[bytes]:
        """The bytes of each id; markup has none."""

    def split_thought(self, ids: Sequence[int]) -> tuple[str, tuple[int, ...]]:
        """A reply's thought, and the ids that are left to be read."""

    def bench(self, progress: Callable[[str], None]) -> "Future[Rows]":
        """Measures the loaded model, after what is queued before. What `progress` raises ends it."""

    def names(self) -> list[str]:
        """The models that can be loaded from this machine."""

    def memory(self) -> tuple[int, str]:
        """Bytes in use, and of what ("GPU", "memory")."""

    def close(self) -> None:
        """Stops what runs; returns within half a second."""
