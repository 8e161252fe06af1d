"""The model thread: only this thread loads, generates and unloads. It takes jobs and sends events to a sink.

A single thread does everything because CUDA-graph state belongs to the thread that captured it, and because two runs
must never overlap: a job starts only after the previous one has ended. A running job is steered only through its
`Control`, which is read between denoising steps. Headless commands and the app use the same worker.
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
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from dgtui import __version__
from dgtui.diffusion.control import Control
from dgtui.diffusion.events import Finished
from dgtui.diffusion.job import BadJob, Job
from dgtui.diffusion.log import RunLog
from dgtui.errors import DgtuiError, InvalidSettings, OutOfMemory, RunFailed, out_of_memory

if TYPE_CHECKING:
    from dgtui.diffusion.stepper import Stepper
    from dgtui.model.catalog import Checkpoint
    from dgtui.model.loader import LoadedModel
    from dgtui.model.open_checkpoint import OpenCheckpoint
    from dgtui.model.parts import LoadOptions
    from dgtui.model.weights import Progress

Answer = TypeVar("Answer")

MakeStepper: TypeAlias = "Callable[[LoadedModel], Stepper]"
"""Makes the stepper that runs a loaded model. Called on the model thread."""


def best_stepper(loaded: "LoadedModel", wanted: str = "auto", alone: bool = False) -> "Stepper":
    """The fastest stepper that works here, or the wanted one. If a faster one fails, the reason is added to the notes.

    Unless `alone`: if there is a Sudoku model beside the loaded one, it solves 9×9 Sudokus, and small ones are checked;
    if there are adapters for edits or tales, these are written with them.

    `wanted` is "auto" or one of `inference.choice.NAMES`; if it does not work, the next one is used.
    """
    from dgtui.inference.adapted import Adapted, PromptReader
    from dgtui.inference.choice import open_stepper
    from dgtui.inference.grid_solver import GridPrompt, GridSolver
    from dgtui.inference.routed import RoutedStepper
    from dgtui.model.catalog import EDITS, TALES
    from dgtui.model.specialists import adapted_model, sudoku_model

    opened = open_stepper(loaded, wanted)
    if opened.reason:
        loaded.slow_down(opened.reason)
    if alone:
        return opened.stepper
    info, chat = loaded.info, loaded.tokenizer.chat
    found: list[GridSolver | Adapted] = []
    if (solver := sudoku_model(loaded)) is not None:
        large = open_stepper(solver, wanted).stepper
        found.append(GridSolver(large, GridPrompt(chat, 9), info.canvas_length, info.fill_id))
        found.append(GridSolver(opened.stepper, GridPrompt(chat, 4), info.canvas_length, info.fill_id, whole=True))
    for name in EDITS, TALES:
        if (adapted := adapted_model(loaded, name)) is not None:
            reader = PromptReader(chat, loaded.tokenizer.decode)
            found.append(Adapted(open_stepper(adapted, wanted).stepper, reader, name, loaded.settings))
    return RoutedStepper(opened.stepper, found) if found else opened.stepper


@dataclass(frozen=True, slots=True)
class Run:
    """A submitted job: its log grows while it runs, `control` steers it, `ended` is its result or its error."""

    job: Job
    log: RunLog
    control: Control = field(default_factory=Control)
    ended: "Future[Finished]" = field(default_factory=Future)

    def wait(self) -> Finished:
        """Blocks until the run has ended. Raises its error, as a `DgtuiError` if the user can act on it."""
        return self.ended.result()


Sink = Callable[[Run, int], None]
"""Called on the model thread after each event, with the new length of the run's log."""


def versions() -> dict[str, str]:
    """The versions of everything a run depends on besides the weights."""
    from importlib import metadata

    packages = {package: metadata.version(package) for package in ("torch", "transformers")}
    return {"python": platform.python_version(), "dgtui": __version__} | packages


class Worker:
    """Owns the model thread. Methods may be called from any thread and return at once.

    `make_stepper` chooses how loaded models run. `connect` uses a stepper without local weights.
    """

    def __init__(self, make_stepper: MakeStepper = best_stepper) -> None:
        self._make_stepper = make_stepper
        self._tasks: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._runs: list[Run] = []
        self._lock = threading.Lock()
        self._closed = False
        self._loaded: LoadedModel | None = None
        self._stepper: Stepper | None = None
        self._thread = threading.Thread(target=self._serve, name="dgtui-model", daemon=True)
        self._thread.start()

    @property
    def loaded(self) -> "LoadedModel | None":
        """The loaded model. Tokenizer and settings may be read on any thread, weights only on the model thread."""
        return self._loaded

    @property
    def stepper(self) -> "Stepper | None":
        """The current stepper. Only its name, sizes and stop ids may be read outside the model thread."""
        return self._stepper

    def load(
        self,
        checkpoint: "Checkpoint | OpenCheckpoint | Callable[[], Checkpoint | OpenCheckpoint]",
        options: "LoadOptions | None" = None,
        progress: "Callable[[Progress], None] | None" = None,
    ) -> "Future[LoadedModel]":
        """Unloads the current model and loads a checkpoint, or the one that a function finds on the model thread.

        If the function raises, the current model stays. `close` ends a load at the next piece that is read, and
        removes a half-written copy.
        """
        future: Future[LoadedModel] = Future()

        def report(at: "Progress") -> None:
            if self._closed:
                raise _closed()
            if progress is not None:
                progress(at)

        def task() -> None:
            gc.disable()  # importing torch creates a million objects, none of which is garbage
            try:
                chosen = checkpoint() if callable(checkpoint) else checkpoint
                self._unload()
                from dgtui.model.loader import load

                model = load(chosen, options, report)
                self._stepper = self._make_stepper(model)
                self._loaded = model
            except BaseException as error:
                _drop_frames(error)  # before the freeze: frozen objects are never collected
                raise
            finally:
                gc.freeze()
                gc.enable()
            future.set_result(model)

        self._put(task, future)
        return future

    def connect(self, open_stepper: "Callable[[], Stepper]") -> "Future[Stepper]":
        """Unloads the current model and uses a stepper without local weights, such as a server's.

        `open_stepper` is called on the model thread. If it raises, the current model stays. `loaded` becomes None.
        """
        future: Future[Stepper] = Future()

        def task() -> None:
            stepper = open_stepper()
            self._unload()
            self._stepper = stepper
            future.set_result(stepper)

        self._put(task, future)
        return future

    def submit(self, job: Job, sink: Sink | None = None) -> Run:
        """Queues a job, which runs on the model that is loaded at that time.

        An exception from the sink ends the run, and `Run.wait` raises it.
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
        """Queues a function, which is called on the model thread with the model that is loaded at that time."""
        future: Future[Answer] = Future()

        def task() -> None:
            if self._loaded is None:
                raise RunFailed("no model is loaded")
            future.set_result(function(self._loaded))

        self._put(task, future)
        return future

    def close(self, timeout: float = 0.4) -> None:
        """Cancels all jobs and loads and ends the thread. Waits at most `timeout` seconds for that."""
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
            except BaseException as error:  # passed on through the future
                _drop_frames(error)
                future.set_exception(_explained(error))

        with self._lock:  # anything queued after the end would never run
            if not self._closed:
                self._tasks.put(guarded)
                return
        future.set_exception(_closed())

    def _serve(self) -> None:
        while (task := self._tasks.get()) is not None:
            task()

    def _run(self, run: Run, sink: Sink | None) -> Finished:
        from dgtui.diffusion import engine

        if (stepper := self._stepper) is None:
            raise RunFailed("no model is loaded")
        run.log.stepper = stepper.name
        run.control.on_cancel(stepper.interrupt)
        exhausted = False
        try:
            for event in engine.run(stepper, run.job, run.control):
                length = run.log.append(event)
                if sink:
                    sink(run, length)
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            exhausted = True  # released below: the exception still refers to all intermediate tensors
        if exhausted:
            stepper.release()
            tokens = len(run.job.prompt_ids) + (1 + len(run.log.blocks())) * stepper.canvas_length
            raise OutOfMemory(
                f"out of memory at {tokens:,} tokens of prompt and reply",
                hint=f"shorten the conversation, or load the model with --context {tokens // 2}; --gpu-memory and "
                "--no-vision also reduce its use of the device's memory",
            )
        finished = run.log.finished
        assert finished is not None, "every run ends with Finished"
        return finished

    def _unload(self) -> None:
        if self._stepper is not None:
            self._loaded = self._stepper = None
            gc.unfreeze()
            _free_memory()


def _closed() -> RunFailed:
    return RunFailed("the model thread has been closed")


def _free_memory() -> None:
    """Collects garbage and empties PyTorch's allocator, because the next load is planned from the free memory."""
    gc.collect()
    if "torch" in sys.modules:
        from dgtui.model import devices

        with suppress(RuntimeError):  # the GPU has failed altogether; that error is already being reported
            devices.give_back()


def _drop_frames(error: BaseException) -> None:
    """Clears the frames of an error's tracebacks, which may hold most of a model. The line numbers stay."""
    chain: BaseException | None = error
    while chain is not None:
        traceback.clear_frames(chain.__traceback__)
        chain = chain.__cause__ or chain.__context__
    _free_memory()


def _explained(error: BaseException) -> BaseException:
    """The matching typed error, or the error itself."""
    if isinstance(error, DgtuiError):
        return error
    if isinstance(error, BadJob):
        return InvalidSettings(str(error))
    if out_of_memory(error):
        return OutOfMemory("out of memory", hint="close other programs that use memory, or use a smaller model")
    return error
