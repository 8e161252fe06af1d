"""The worker as a `dgtui.backend.Backend`: finds checkpoints by name, and describes the loaded model as plain data."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from dgtui.backend import Facts, Rows, Stage
from dgtui.cli.options import load_options, new_worker, sampler_settings, served
from dgtui.config import Settings
from dgtui.diffusion.job import Job
from dgtui.errors import RunFailed
from dgtui.message import Message
from dgtui.text import decode_utf8
from dgtui.worker import Run, versions

if TYPE_CHECKING:
    from dgtui.diffusion.image import Image
    from dgtui.diffusion.stepper import Stepper
    from dgtui.model.catalog import Checkpoint
    from dgtui.model.loader import LoadedModel
    from dgtui.model.open_checkpoint import OpenCheckpoint
    from dgtui.model.weights import Progress
    from dgtui.server.served import ServedModel


class WorkerBackend:
    """A `dgtui.backend.Backend` with its own worker."""

    def __init__(self, settings: Settings, text: bool = False) -> None:
        """`text`: whether the screen supports a server that only sends text."""
        self._settings, self._text = settings, text
        self._worker = new_worker(settings)
        self._served: ServedModel | None = None
        self.facts: Facts | None = None

    def load(self, name: str | None, progress: Callable[[Stage], None]) -> "Future[Facts]":
        """Finds and loads a model on the model thread, because importing torch alone takes seconds."""
        before, self.facts = self.facts, None
        if self._settings.model.server:
            return self._connect(name, before, progress)

        def find() -> "Checkpoint | OpenCheckpoint":
            progress(Stage("starting PyTorch", 0, 0))
            from dgtui.model.offline import go_offline
            from dgtui.model.selection import select

            checkpoint = select(name or self._settings.model.name)
            go_offline()
            import transformers.models.diffusion_gemma.modeling_diffusion_gemma  # noqa: F401

            return checkpoint

        def report(at: "Progress") -> None:
            progress(Stage(at.stage, at.done_bytes, at.total_bytes))

        facts: Future[Facts] = Future()

        def loaded(future: "Future[LoadedModel]") -> None:
            if error := future.exception():
                self.facts = (
                    before if self._worker.loaded else None
                )  # there is no such model, and the previous one is still loaded
                facts.set_exception(error)
                return
            try:
                self.facts = self._facts(future.result())
            except Exception as wrong:
                facts.set_exception(wrong)
            else:
                facts.set_result(self.facts)

        self._worker.load(find, load_options(self._settings), report).add_done_callback(loaded)
        return facts

    def _connect(self, name: str | None, before: Facts | None, progress: Callable[[Stage], None]) -> "Future[Facts]":
        """The same for the model of a server."""
        facts: Future[Facts] = Future()
        found: list[ServedModel] = []

        def open_stepper() -> "Stepper":
            progress(Stage("asking the server", 0, 0))
            found.append(served(self._settings, name, text=self._text))
            return found[0].stepper()

        def connected(future: "Future[Stepper]") -> None:
            if error := future.exception():
                self.facts = before
                facts.set_exception(error)
                return
            if self._served is not None:
                self._served.client.close()
            (self._served,) = found
            self.facts = self._facts(self._served)
            facts.set_result(self.facts)

        self._worker.connect(open_stepper).add_done_callback(connected)
        return facts

    def _facts(self, loaded: "LoadedModel | ServedModel") -> Facts:
        stepper = self._worker.stepper
        assert stepper is not None, "a loaded model has a stepper"
        return Facts(
            name=loaded.name,
            device=str(loaded.device),
            dtype=loaded.held,
            model=loaded.info,
            settings=sampler_settings(self._settings, loaded.settings),
            fingerprint=loaded.fingerprint,
            stepper=stepper.name,
            versions=versions(),
            notes=loaded.notes,
            fixed=self._served.fixed if self._served is not None else "",
        )

    @property
    def _loaded(self) -> "LoadedModel | ServedModel":
        loaded = self._served or self._worker.loaded
        if loaded is None:
            raise RunFailed("no model is loaded", hint="load one with /model")
        return loaded

    def submit(self, job: Job, sink: Callable[[Run, int], None]) -> Run:
        """Queues a job."""
        if self._served is not None and (most := self._served.limit(job.max_tokens)) != job.max_tokens:
            job = replace(job, max_tokens=most)
        return self._worker.submit(job, sink)

    def chat(self, messages: Sequence[Message], *, think: bool = False) -> list[int]:
        """The prompt of a conversation."""
        return self._loaded.tokenizer.chat(messages, think=think)

    def see(self, path: Path, digest: str = "") -> "tuple[str, Image]":
        """An image file's digest, and the image as the model's input."""
        from dgtui.model.images import open_picture, seeing

        loaded = self._loaded
        reader = seeing(loaded.images, loaded.checkpoint)
        picture = open_picture(path, digest)
        return picture.digest, reader.read(picture)

    def encode(self, text: str) -> list[int]:
        """Plain text to ids."""
        return self._loaded.tokenizer.encode(text)

    def pieces(self, ids: Sequence[int]) -> list[bytes]:
        """The bytes of each id."""
        return self._loaded.tokenizer.pieces(ids)

    def split_thought(self, ids: Sequence[int]) -> tuple[str, tuple[int, ...]]:
        """A reply's thought, and the ids of the answer."""
        thought = self._loaded.tokenizer.split_thought(ids)
        return decode_utf8(thought.thought or b""), thought.answer_ids

    def bench(self, progress: Callable[[str], None]) -> "Future[Rows]":
        """A shorter `dgtui bench`, which takes a few seconds with the embedded model."""
        if self._served is not None:
            refused: Future[Rows] = Future()
            refused.set_exception(
                RunFailed("this model runs on a server", hint="use dgtui bench --server URL to measure it")
            )
            return refused
        from dgtui.cli.bench import measure, rows

        return self._worker.use(lambda loaded: rows(measure(loaded, progress, pairs=3, steps=12, seed=1)))

    def names(self) -> list[str]:
        """The models on this machine."""
        from dgtui.model import catalog

        return [checkpoint.name for checkpoint in catalog.listing()]

    def memory(self) -> tuple[int, str]:
        """GPU memory in use if the model is on a GPU, else the resident memory of the process."""
        loaded = self._worker.loaded
        if loaded is not None and loaded.device.type == "cuda":
            import torch

            return torch.cuda.memory_allocated(loaded.device), "GPU"
        import psutil

        size: int = psutil.Process().memory_info().rss
        return size, "memory"

    def slow(self) -> str:
        """Why steps do not run in the fastest way for the device; empty if they do."""
        loaded = self._worker.loaded
        return loaded.slow if loaded else ""

    def close(self) -> None:
        """Cancels all runs and ends the model thread."""
        self._worker.close()
