"""One model thread: one job at a time, cancelled between steps, and every failure reaches whoever waits for it."""

import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoints import tiny_checkpoint

from dgtui.diffusion.events import Flag, Frame, StopReason
from dgtui.diffusion.job import Amendment, Job, SamplerSettings, Start
from dgtui.diffusion.stepper import CandidateStep, Stepper
from dgtui.errors import InvalidSettings, ModelNotFound, OutOfMemory, RunFailed
from dgtui.inference.forward import Decoder
from dgtui.model import devices, loader, skeleton
from dgtui.model.catalog import Checkpoint, resolve
from dgtui.model.open_checkpoint import open_checkpoint
from dgtui.model.parts import LoadOptions
from dgtui.model.weights import Progress
from dgtui.worker import Run, Worker, best_stepper

ENDLESS = SamplerSettings(steps=100_000, stability=-1)
SHORT = SamplerSettings(steps=2)
ALLOC_FAILED = RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return resolve(str(tiny_checkpoint(tmp_path_factory.mktemp("checkpoint") / "tiny")))


@pytest.fixture
def worker() -> Iterator[Worker]:
    worker = Worker()
    yield worker
    worker.close(timeout=5)


@pytest.fixture
def ready(worker: Worker, tiny: Checkpoint) -> Worker:
    worker.load(tiny, LoadOptions(device="cpu")).result(timeout=60)
    return worker


def job(name: str, settings: SamplerSettings = SHORT) -> Job:
    return Job(name, (2, 5, 9), seed=1, max_tokens=32, settings=settings)


class Sink:
    """Notes what it is told; `begun` is set by the third frame."""

    def __init__(self) -> None:
        self.told: list[tuple[str, int]] = []
        self.threads: set[int] = set()
        self.begun = threading.Event()

    def __call__(self, run: Run, upto: int) -> None:
        self.told.append((run.job.id, upto))
        self.threads.add(threading.get_ident())
        if len(run.log.frames()) >= 3:
            self.begun.set()


def test_a_sink_is_told_of_every_event_in_order(ready: Worker) -> None:
    sink = Sink()
    run = ready.submit(job("a"), sink)
    finished = run.wait()
    assert run.log.finished is finished
    assert sink.told == [("a", upto) for upto in range(1, len(run.log) + 1)]


def test_a_cancelled_job_stops_within_one_step(ready: Worker) -> None:
    sink = Sink()
    run = ready.submit(job("a", ENDLESS), sink)
    assert sink.begun.wait(30)
    run.control.cancel()
    before = len(run.log.frames())
    finished = run.ended.result(timeout=10)
    assert finished.reason is StopReason.CANCELLED
    assert len(run.log.frames()) - before <= 1


def test_the_next_job_starts_after_the_one_before_has_ended(ready: Worker) -> None:
    sink = Sink()
    first, second = ready.submit(job("first", ENDLESS), sink), ready.submit(job("second"), sink)
    assert sink.begun.wait(30)
    assert len(second.log) == 0
    first.control.cancel()
    second.ended.result(timeout=10)
    names = [name for name, _ in sink.told]
    assert names == ["first"] * len(first.log) + ["second"] * len(second.log)
    assert first.log.finished is not None


def test_a_job_cancelled_while_it_waits_takes_no_step(ready: Worker) -> None:
    sink = Sink()
    first, second = ready.submit(job("first", ENDLESS), sink), ready.submit(job("second", ENDLESS), sink)
    assert sink.begun.wait(30)
    second.control.cancel()
    first.control.cancel()
    assert second.ended.result(timeout=10).reason is StopReason.CANCELLED
    assert second.log.frames() == []


def test_a_load_that_fails_is_raised_and_the_worker_stays_usable(
    worker: Worker, tiny: Checkpoint, tmp_path: Path
) -> None:
    missing = Checkpoint("missing", tmp_path / "missing", "folder")
    with pytest.raises(ModelNotFound, match="there is no folder"):
        worker.load(missing).result(timeout=60)
    assert worker.loaded is None
    assert worker.load(tiny, LoadOptions(device="cpu")).result(timeout=60) is worker.loaded
    assert worker.submit(job("a")).wait().token_ids


def test_a_model_stays_when_there_is_none_of_the_name_that_is_asked_for(ready: Worker) -> None:
    def find() -> Checkpoint:
        raise ModelNotFound("there is no such model")

    before = ready.loaded
    with pytest.raises(ModelNotFound):
        ready.load(find).result(timeout=60)
    assert ready.loaded is before is not None
    assert ready.submit(job("a")).wait().token_ids


@pytest.mark.parametrize("make", [lambda: torch.OutOfMemoryError("CUDA out of memory"), lambda: ValueError("a bug")])
def test_a_load_that_fails_holds_on_to_no_weights(
    make: Callable[[], Exception], worker: Worker, tiny: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[weakref.ref[Any]] = []

    def laid_out(*given: Any, **named: Any) -> Any:
        model = skeleton.lay_out(*given, **named)
        made.extend((weakref.ref(model), weakref.ref(model.model.decoder.layers[0])))
        return model

    def fail(progress: Progress) -> None:
        if progress.done_bytes > progress.total_bytes / 2:
            raise make()

    monkeypatch.setattr(loader, "lay_out", laid_out)
    failed = worker.load(tiny, LoadOptions(device="cpu"), fail).exception(timeout=60)
    assert isinstance(failed, OutOfMemory | ValueError)  # still held, as a screen may hold it while it loads another
    assert made and [ref() for ref in made] == [None, None]


def test_a_gpu_that_failed_altogether_is_told_too(
    worker: Worker, tiny: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise torch.AcceleratorError("CUDA error: unspecified launch failure")

    monkeypatch.setattr(torch.cuda, "empty_cache", fail)
    error = worker.load(tiny, LoadOptions(device="cpu"), lambda at: fail()).exception(timeout=60)
    assert isinstance(error, RuntimeError) and "launch failure" in str(error)
    assert worker.load(tiny, LoadOptions(device="cpu")).result(timeout=60) is worker.loaded


def test_what_is_unloaded_is_given_back_to_the_device(ready: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    """What PyTorch's allocator holds unused counts as taken when the next model is planned."""
    left: list[bool] = []
    model = weakref.ref(ready.loaded.model)  # type: ignore[union-attr]
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: left.append(model() is not None))
    ready.connect(Countdown).result(timeout=10)
    assert left == [False]


def test_a_job_without_a_model_fails_and_says_so(worker: Worker, tiny: Checkpoint, tmp_path: Path) -> None:
    with pytest.raises(RunFailed, match="no model is loaded"):
        worker.submit(job("a")).wait()
    worker.load(tiny, LoadOptions(device="cpu")).result(timeout=60)
    with pytest.raises(ModelNotFound):  # the model before is unloaded
        worker.load(Checkpoint("missing", tmp_path / "missing", "folder")).result(timeout=60)
    with pytest.raises(RunFailed, match="no model is loaded"):
        worker.submit(job("b")).wait()


def test_a_job_that_does_not_fit_the_model_says_what_is_wrong(ready: Worker) -> None:
    with pytest.raises(InvalidSettings, match="outside the vocabulary"):
        ready.submit(Job("a", (99_999,), seed=1)).wait()


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError(), ALLOC_FAILED])
def test_a_run_out_of_memory_says_what_to_do_and_gives_it_back(
    error: BaseException, ready: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0
    compute = Decoder.states

    def exhausted(self: Decoder, *given: Any) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise error
        return compute(self, *given)

    monkeypatch.setattr(Decoder, "states", exhausted)
    with pytest.raises(OutOfMemory, match=r"out of memory at \d+ tokens") as caught:
        ready.submit(job("b", ENDLESS)).wait()
    assert "--context" in caught.value.hint
    denoiser: Any = ready._stepper.denoiser  # type: ignore[attr-defined]
    assert denoiser.prefix.ids == [] and not denoiser.prefix.cache.get_seq_length()
    assert len(ready.submit(job("a")).wait().token_ids[0])


def test_a_sink_that_raises_ends_its_run_and_no_other(ready: Worker) -> None:
    def broken(run: Run, upto: int) -> None:
        if isinstance(run.log[upto - 1], Frame):
            raise BrokenPipeError("gone")

    run = ready.submit(job("a", ENDLESS), broken)
    with pytest.raises(BrokenPipeError, match="gone"):
        run.wait()
    assert len(run.log.frames()) == 1
    assert ready.submit(job("b")).wait().token_ids


def test_a_run_after_a_broken_one_is_what_it_would_have_been(ready: Worker) -> None:
    def broken(run: Run, upto: int) -> None:
        raise ValueError

    expected = ready.submit(job("a")).wait().token_ids[0].tolist()
    with pytest.raises(ValueError):
        ready.submit(job("b"), broken).wait()
    assert ready.submit(job("c")).wait().token_ids[0].tolist() == expected


def test_everything_runs_on_one_thread(ready: Worker, tiny: Checkpoint) -> None:
    sink = Sink()
    ready.submit(job("a"), sink).wait()
    ready.load(tiny, LoadOptions(device="cpu")).result(timeout=60)
    ready.submit(job("b"), sink).wait()
    [thread] = [thread for thread in threading.enumerate() if thread.ident in sink.threads]
    assert len(sink.threads) == 1
    assert thread.name == "dgtui-model"


def test_close_cancels_what_runs_and_what_waits_and_ends_the_thread(tiny: Checkpoint) -> None:
    before = {thread.ident for thread in threading.enumerate()}
    worker, sink = Worker(), Sink()
    worker.load(tiny, LoadOptions(device="cpu")).result(timeout=60)
    running, waiting = worker.submit(job("a", ENDLESS), sink), worker.submit(job("b", ENDLESS), sink)
    assert sink.begun.wait(30)
    began = time.perf_counter()
    worker.close()
    assert time.perf_counter() - began < 0.5
    for run in (running, waiting):
        assert run.ended.result(timeout=5).reason is StopReason.CANCELLED
    for thread in threading.enumerate():
        if thread.ident not in before and thread.name == "dgtui-model":
            thread.join(5)
            assert not thread.is_alive()


def test_a_held_job_does_not_hold_up_close(tiny: Checkpoint) -> None:
    worker = Worker()
    worker.load(tiny, LoadOptions(device="cpu")).result(timeout=60)
    run = worker.submit(job("a", ENDLESS))
    run.control.pause()
    worker.close(timeout=5)
    assert run.ended.result(timeout=1).reason is StopReason.CANCELLED


def test_what_comes_after_close_is_refused_and_not_forgotten(worker: Worker, tiny: Checkpoint) -> None:
    worker.close(timeout=5)
    for future in (worker.submit(job("a")).ended, worker.load(tiny)):
        with pytest.raises(RunFailed, match="closed"):
            future.result(timeout=1)


def test_close_ends_a_load_and_leaves_nothing_half_written(
    worker: Worker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = resolve(str(tiny_checkpoint(tmp_path / "model", hidden=128)))
    whole = loader.plan_for(open_checkpoint(checkpoint), LoadOptions(device="cpu", context=300)).estimate
    monkeypatch.setattr(devices, "available", lambda device: whole.total - whole.weights["experts"] // 2)
    begun, closing = threading.Event(), threading.Event()

    def progress(at: Progress) -> None:
        if at.total_bytes:  # weights are read
            begun.set()
            closing.wait(30)

    future = worker.load(checkpoint, LoadOptions(device="cpu", context=300, cache=tmp_path / "cache"), progress)
    assert begun.wait(60)
    assert [path.name[0] for path in (tmp_path / "cache" / "nf4").iterdir()] == ["."]
    threading.Timer(0.05, closing.set).start()
    worker.close(timeout=5)
    with pytest.raises(RunFailed, match="closed"):
        future.result(timeout=5)
    assert [*(tmp_path / "cache" / "nf4").iterdir()] == []


class Countdown:
    """A stepper without PyTorch, as one for a server is: writes id 7 everywhere, then is done."""

    name, canvas_length, vocab_size, max_context, stop_ids = "countdown", 8, 100, 64, frozenset({1})

    def encode(self, ids: object, images: object = ()) -> None:
        self.prefix = list(ids)  # type: ignore[call-overload]

    def seed(self, candidate: int, seed: int) -> None: ...

    def rng_state(self, candidate: int) -> bytes:
        return b""

    def restore_rng(self, candidate: int, state: bytes) -> None: ...

    def begin(self, starts: Sequence[Start], settings: SamplerSettings, suppressed: object = ()) -> list[Any]:
        self.left = [2] * len(starts)
        return [np.zeros(8, np.int32) for _ in starts]

    def step(self) -> list[CandidateStep]:
        sevens, certain = np.full(8, 7, np.int32), np.zeros(8, np.float32)
        flags = np.full(8, Flag.ACCEPTED, np.uint8)
        self.left = [left - 1 for left in self.left]
        top = np.ones((8, 1), np.float32)
        return [
            CandidateStep(i, sevens, sevens, certain, flags, sevens[:, None], top, 0.0, 1.0, done=not left)
            for i, left in enumerate(self.left)
        ]

    def amend(self, amendment: Amendment) -> int:
        return 7

    def commit(self, ids: object) -> None:
        self.prefix += list(ids)  # type: ignore[call-overload]

    def log_probs(self, canvases: Sequence[Any]) -> list[Any]:
        return [np.zeros(8, np.float32) for _ in canvases]

    def interrupt(self) -> None: ...

    def release(self) -> None:
        self.prefix = []


def test_a_stepper_without_a_local_model_runs_jobs(ready: Worker) -> None:
    stepper: Stepper = Countdown()
    assert ready.connect(lambda: stepper).result(timeout=10) is stepper
    assert (ready.stepper, ready.loaded) == (stepper, None)
    run = ready.submit(Job("a", (2, 5), seed=1, max_tokens=16))
    assert [ids.tolist() for ids in run.wait().token_ids] == [[7] * 16]
    assert run.log.stepper == "countdown"


def test_a_model_stays_when_a_stepper_cannot_be_opened(ready: Worker) -> None:
    def refused() -> Stepper:
        raise RunFailed("the server refused the connection")

    with pytest.raises(RunFailed, match="refused"):
        ready.connect(refused).result(timeout=10)
    assert ready.submit(job("a")).wait().token_ids


def test_a_load_after_a_connection_runs_the_loaded_model(ready: Worker, tiny: Checkpoint) -> None:
    ready.connect(Countdown).result(timeout=10)
    ready.load(tiny, LoadOptions(device="cpu")).result(timeout=60)
    run = ready.submit(job("a"))
    run.wait()
    assert run.log.stepper == "device-cpu"


def test_the_stepper_of_a_loaded_model_is_chosen_by_who_made_the_worker(tiny: Checkpoint) -> None:
    made: list[Stepper] = []

    def make(loaded: loader.LoadedModel) -> Stepper:
        stepper = best_stepper(loaded, "reference")
        stepper.name = "other"  # type: ignore[misc]
        made.append(stepper)
        return stepper

    worker = Worker(make)
    try:
        loaded = worker.load(tiny, LoadOptions(device="cpu")).result(timeout=60)
        assert made == [worker.stepper] and worker.loaded is loaded
        run = worker.submit(job("a"))
        run.wait()
        assert run.log.stepper == "other"
    finally:
        worker.close(timeout=5)
