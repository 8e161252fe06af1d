"""The one model thread: it alone loads, generates and unloads. Jobs go in, events come out through a sink.

One thread for everything, because CUDA-graph state belongs to the thread that captured it, and because two generations
must never overlap: a job starts only after the one before it has ended. Back to a running job go only the flags and
amendments of its `Control`, read between denoising steps. Headless commands and the app use the same worker.
"""

import gc
import platform
import queue
import sys
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from dgtui import __version__
from dgtui.diffusion.control import Control
from dgtui.diffusion.events import Finished
from dgtui.diffusion.job import BadJob, Job
from dgtui.diffusion.log import RunLog
from dgtui.errors import DgtuiError, InvalidSettings, OutOfMemory, RunFailed, out_of_memory

if TYPE_CHECKING:
    from dgtui.model.catalog import Checkpoint
    from dgtui.model.loader import LoadedModel
    from dgtui.model.parts import Wishes
    from dgtui.model.weights import Progress

Answer = TypeVar("Answer")

STEPPER = "reference"
"name of the stepper, for recordings: forks are exact only on the same one"


@dataclass(frozen=True, slots=True)
class Run:
    """A submitted job: its log grows while it runs, `control` steers it, `ended` holds how it ended or its error."""

    job: Job
    log: RunLog
    control: Control = field(default_factory=Control)
    ended: "Future[Finished]" = field(default_factory=Future)

    def wait(self) -> Finished:
        """Blocks until the run has ended. Raises what it raised, as a `DgtuiError` where a person can act on it."""
        return self.ended.result()


Sink = Callable[[Run, int], None]
"""Told on the model thread, after each event, how far the run's log goes."""


def versions() -> dict[str, str]:
    """What a run depends on beside the weights."""
    from importlib import metadata

    packages = {package: metadata.version(package) for package in ("torch", "transformers")}
    return {"python": platform.python_version(), "dgtui": __version__} | packages


class Worker:
    """Owner of the model thread. Methods may be called from any thread and return at once."""

    def __init__(self) -> None:
        self._tasks: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._runs: list[Run] = []
        self._lock = threading.Lock()
        self._closed = False
        self._loaded: LoadedModel | None = None
        self._stepper: object = None
        self._thread = threading.Thread(target=self._serve, name="dgtui-model", daemon=True)
        self._thread.start()

    @property
    def loaded(self) -> "LoadedModel | None":
        """What is in memory. Its tokenizer and settings may be read from any thread, its weights only by this one."""
        return self._loaded

    def load(
        self,
        checkpoint: "Checkpoint | Callable[[], Checkpoint]",
        wishes: "Wishes | None" = None,
        progress: "Callable[[Progress], None] | None" = None,
    ) -> "Future[LoadedModel]":
        """Loads a checkpoint, or what a function finds on the model thread, after unloading the present one.

        Where nothing is found the present one stays.
        `close` ends it at the next piece that is read, and nothing half written is left of a copy that it keeps.
        """
        future: Future[LoadedModel] = Future()

        def told(at: "Progress") -> None:
            if self._closed:
                raise _closed()
            if progress is not None:
                progress(at)

        def task() -> None:
            gc.disable()  # importing torch makes a million objects, and none of them is garbage
            try:
                found = checkpoint() if callable(checkpoint) else checkpoint
                self._unload()
                from dgtui.diffusion.stepper import ReferenceStepper
                from dgtui.model.denoiser import TransformersDenoiser
                from dgtui.model.loader import load

                model = load(found, wishes, told)
                plan = model.plan
                denoiser = TransformersDenoiser(model.model, model.stop_ids, plan.context, plan.snapshots)
                self._stepper = ReferenceStepper(denoiser, plan.rows)
                self._loaded = model
            except BaseException as error:
                _let_go(error)  # before what is left is frozen, and never looked at again
                raise
            finally:
                gc.freeze()
                gc.enable()
            future.set_result(model)

        self._put(task, future)
        return future

    def submit(self, job: Job, sink: Sink | None = None) -> Run:
        """Queues a job for the model that is loaded when its turn comes.

        What the sink raises ends the run, and is raised by `Run.wait`.
        """
        run = Run(job, RunLog(job))
        with self._lock:
            self._runs.append(run)

        def task() -> None:
            try:
                run.ended.set_result(self._run(run, sink))
            finally:
                with self._lock:
                    self._runs.remove(run)

        self._put(task, run.ended)
        return run

    def use(self, function: "Callable[[LoadedModel], Answer]") -> "Future[Answer]":
        """Calls a function on the model thread with the model that is loaded when its turn comes."""
        future: Future[Answer] = Future()

        def task() -> None:
            if self._loaded is None:
                raise RunFailed("no model is loaded")
            future.set_result(function(self._loaded))

        self._put(task, future)
        return future

    def unload(self) -> "Future[None]":
        """Gives the model's memory back."""
        future: Future[None] = Future()

        def task() -> None:
            self._unload()
            future.set_result(None)

        self._put(task, future)
        return future

    def close(self, timeout: float = 0.4) -> None:
        """Cancels what runs, loads or waits, and ends the thread; waits at most `timeout` seconds for it."""
        with self._lock:
            self._closed = True
            for run in self._runs:
                run.control.cancel()
            self._tasks.put(None)
        self._thread.join(timeout)

    def _put(self, task: Callable[[], None], future: "Future[Any]") -> None:
        def guarded() -> None:
            try:
                task()
            except BaseException as error:  # whoever waits for the future has to know
                _let_go(error)
                future.set_exception(_explained(error))

        with self._lock:  # nothing may be queued behind the end: nobody would answer for it
            if not self._closed:
                self._tasks.put(guarded)
                return
        future.set_exception(_closed())

    def _serve(self) -> None:
        while (task := self._tasks.get()) is not None:
            task()

    def _run(self, run: Run, sink: Sink | None) -> Finished:
        from dgtui.diffusion import engine
        from dgtui.diffusion.stepper import ReferenceStepper

        if not isinstance(self._stepper, ReferenceStepper):
            raise RunFailed("no model is loaded")
        exhausted = False
        try:
            for event in engine.run(self._stepper, run.job, run.control):
                upto = run.log.append(event)
                if sink:
                    sink(run, upto)
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            exhausted = True  # what was raised holds on to all that was computed: it has to be gone first
        if exhausted:
            self._stepper.release()
            tokens = len(run.job.prompt_ids) + (1 + len(run.log.blocks())) * self._stepper.canvas_length
            raise OutOfMemory(
                f"the memory ran out at {tokens:,} tokens of prompt and reply",
                hint=f"shorten the conversation, or load the model with --context {tokens // 2} or with less on the "
                "device: --gpu-memory, --no-vision",
            )
        finished = run.log.finished
        assert finished is not None, "the engine ends every run with Finished"
        return finished

    def _unload(self) -> None:
        if self._loaded is not None:
            self._loaded = self._stepper = None
            gc.unfreeze()
            _give_back()


def _closed() -> RunFailed:
    return RunFailed("the model thread has been closed")


def _give_back() -> None:
    """Memory that nothing holds any more: the next load is planned by what is free."""
    gc.collect()
    if "torch" in sys.modules:
        from dgtui.model import devices

        with suppress(RuntimeError):  # a GPU that has failed altogether: that is being told
            devices.give_back()


def _let_go(error: BaseException) -> None:
    """Takes from an error what its tracebacks hold, which may be most of a model; their lines stay."""
    chain: BaseException | None = error
    while chain is not None:
        traceback.clear_frames(chain.__traceback__)
        chain = chain.__cause__ or chain.__context__
    _give_back()


def _explained(error: BaseException) -> BaseException:
    """The typed error for what went wrong, where there is one."""
    if isinstance(error, DgtuiError):
        return error
    if isinstance(error, BadJob):
        return InvalidSettings(str(error))
    if out_of_memory(error):
        return OutOfMemory("the memory ran out", hint="close what else uses memory, or take a smaller model")
    return error
