"""A run on disk: what is read is what was written, or it is refused."""

import dataclasses
import json
import os
import stat
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dgtui.diffusion.events import Action, Amended, BlockFinished, BlockStarted, Finished, Frame, StopReason
from dgtui.diffusion.image import Image
from dgtui.diffusion.job import Amendment, Fork, Job, SamplerSettings, Start
from dgtui.diffusion.log import RunLog
from dgtui.errors import RecordingRefused, RunFailed
from dgtui.session import recording
from dgtui.session.recording import Recording, load, save
from dgtui.session.run_pack import occurring_ids

LENGTH, TOP_K, VOCABULARY = 6, 3, 50
HERE = {"fingerprint": "f00d", "stepper": "reference", "device": "cpu", "versions": {"torch": "2.9.0", "dgtui": "1.0"}}
many = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def piece(token: int) -> bytes:
    return [b"", b"\xf0\x9f", b"word", b" ", "é".encode()][token % 5]


def scripted(seed: int = 0, blocks: int = 2, steps: int = 3, candidates: int = 1, job: Job | None = None) -> RunLog:
    """A run with every kind of event in it."""
    rng = np.random.default_rng(seed)
    job = job or Job("run", (2, 5, 9), seed=seed, max_tokens=blocks * LENGTH, starts=(Start(),) * candidates)

    def ids(*shape: int) -> Any:
        return rng.integers(0, VOCABULARY, shape or (LENGTH,), dtype=np.int32)

    log = RunLog(job)
    first = len(job.blocks)
    for block in range(first, first + blocks):
        canvas = tuple(ids() for _ in range(job.candidates))
        states = tuple(rng.bytes(8 + i) for i in range(job.candidates))
        pinned = tuple(rng.random(LENGTH) < 0.3 for _ in range(job.candidates))
        most = job.settings.steps
        log.append(BlockStarted(job.id, block, canvas, pinned, states, most, (most + 1) // 2, rng.random()))
        for step in range(1, steps + 1):
            for candidate in range(job.candidates):
                frame = Frame(
                    job=job.id,
                    candidate=candidate,
                    block=block,
                    step=step,
                    max_steps=job.settings.steps,
                    ids=ids(),
                    canvas=ids(),
                    entropy=rng.random(LENGTH, dtype=np.float32),
                    flags=rng.integers(0, 16, LENGTH, dtype=np.uint8),
                    top_ids=ids(LENGTH, TOP_K),
                    top_probs=rng.random((LENGTH, TOP_K), dtype=np.float32),
                    mean_entropy=rng.random(),
                    temperature=0.1 + 0.7,
                    seconds=rng.random(),
                )
                log.append(frame)
            log.append(Amended(job.id, job.candidates - 1, block, step, step % LENGTH, Action.PIN, 7))
            log.append(Amended(job.id, 0, block, step, 0, Action.UNPIN, 48))
        for candidate in range(job.candidates):
            likely = rng.random(LENGTH, dtype=np.float32) if job.likelihood else None
            log.append(BlockFinished(job.id, candidate, block, ids(), steps, block == 0, rng.random(), likely))
    ends = tuple(ids(4 + i) for i in range(job.candidates))
    log.append(Finished(job.id, StopReason.EOS, ends, (steps,) * blocks, rng.random()))
    return log


def write(path: Path, log: RunLog, **other: Any) -> Path:
    pieces = {i: piece(i) for i in range(VOCABULARY + 50)}
    save(path, Recording(log, **{"pieces": pieces, "special_ids": {1, 2}, "model": "embedded", **HERE, **other}))
    return path


def assert_equal(read: Any, written: Any) -> None:
    """The same type and value all the way down; arrays of the same type, shape and bytes."""
    assert type(read) is type(written)
    if isinstance(written, np.ndarray):
        assert (read.dtype, read.shape, read.tobytes()) == (written.dtype, written.shape, written.tobytes())
        assert not read.flags.writeable
    elif dataclasses.is_dataclass(written):
        for field in dataclasses.fields(written):
            assert_equal(getattr(read, field.name), getattr(written, field.name))
    elif isinstance(written, tuple):
        assert len(read) == len(written)
        for one, other in zip(read, written, strict=True):
            assert_equal(one, other)
    else:
        assert read == written


def assert_same_run(read: RunLog, written: RunLog) -> None:
    assert_equal(read.job, written.job)
    assert_equal(tuple(read), tuple(written))


# What comes back


def test_every_event_comes_back_as_it_was(tmp_path: Path) -> None:
    log = scripted()
    read = load(write(tmp_path / "run", log))
    assert_same_run(read.log, log)
    assert read.pieces == {i: piece(i) for i in occurring_ids(log).tolist()}
    assert read.special_ids == {1, 2}
    assert {name: getattr(read, name) for name in HERE} == HERE
    assert read.model == "embedded"


def image(seed: int, tokens: int = 2) -> Image:
    rng = np.random.default_rng(seed)
    return Image(rng.random((4, 3), dtype=np.float32), np.array([[0, 0], [1, 0], [-1, -1], [-1, -1]], np.int32), tokens)


def test_a_run_with_images_comes_back_and_forks(tmp_path: Path) -> None:
    asked = Job("run", (2, 5, 9, 9, 9), seed=1, max_tokens=2 * LENGTH, images=(image(1), image(2, 1)))
    log = scripted(job=asked)
    path = write(tmp_path / "run", log)
    read = load(path)
    assert_same_run(read.log, log)
    assert read.log.job.images == asked.images
    assert read.log.fork(1, 2, "fork", 7).images == asked.images
    assert contents(path.read_bytes())[1]["version"] == "2"


def test_a_run_without_images_is_one_that_older_programs_read(tmp_path: Path) -> None:
    arrays, metadata = contents(write(tmp_path / "run", scripted()).read_bytes())
    assert metadata["version"] == "1"
    assert "images" not in json.loads(metadata["json"])["run"]["job"]
    assert not any("images" in name for name in arrays)


@pytest.mark.parametrize("tokens", [[9], [0], ["2"], [2, 2], 2, None])
def test_images_that_cannot_be_are_refused(tokens: Any, tmp_path: Path) -> None:
    path = write(tmp_path / "run", scripted(job=Job("run", (2, 5, 9), seed=1, max_tokens=12, images=(image(1),))))
    arrays, metadata = contents(path.read_bytes())
    facts = json.loads(metadata["json"])
    facts["run"]["job"]["images"] = tokens
    metadata["json"] = json.dumps(facts)
    metadata["sha256"] = recording._digest(arrays, metadata["json"])
    safetensors.numpy.save_file(arrays, path, metadata)
    with pytest.raises(RecordingRefused, match="damaged"):
        load(path)


numbers = st.integers(0, VOCABULARY - 1)
canvases = st.tuples(*[numbers] * LENGTH)
amendments = st.builds(
    Amendment, st.integers(0, LENGTH - 1), st.sampled_from(Action), st.none() | numbers, st.integers(0, 3)
)
seeds = st.integers(0, 2**63 - 1)
steps = st.integers(0, 48)
jobs = st.builds(
    Job,
    id=st.text(st.characters(exclude_categories=[]), max_size=8),
    prompt_ids=st.lists(numbers, min_size=1, max_size=9).map(tuple),
    seed=seeds,
    max_tokens=st.integers(1, 5000),
    settings=st.builds(
        SamplerSettings,
        steps=st.integers(1, 99),
        t_max=st.floats(0.5, 9),
        stability=st.integers(-1, 4),
        proofread=st.integers(0, 9),
    ),
    starts=st.tuples(
        st.builds(
            Start,
            ids=canvases,
            pinned=st.frozensets(st.integers(0, LENGTH - 1)),
            strength=st.floats(0.01, 1),
            noised=st.booleans(),
        )
        | st.just(Start())
    ),
    blocks=st.lists(canvases, max_size=3).map(tuple),
    fork=st.none()
    | st.builds(
        Fork,
        rng=st.binary(max_size=20),
        amendments=st.lists(st.tuples(steps, amendments), max_size=3).map(tuple),
        reseeds=st.lists(st.tuples(steps, seeds), max_size=3).map(tuple),
    ),
)


@many
@given(job=jobs, seed=st.integers(0, 99), blocks=st.integers(0, 3), steps=st.integers(0, 3), cut=st.integers(0, 40))
def test_any_run_comes_back_also_unfinished(
    tmp_path: Path, job: Job, seed: int, blocks: int, steps: int, cut: int
) -> None:
    log = scripted(seed, blocks, steps, job=job)
    log = RunLog(job, list(log)[: max(0, len(log) - cut)])
    assert_same_run(load(write(tmp_path / "run", log)).log, log)


@given(candidates=st.integers(2, 4))
@many
def test_candidates_come_back(tmp_path: Path, candidates: int) -> None:
    log = scripted(blocks=1, candidates=candidates)
    assert_same_run(load(write(tmp_path / "run", log)).log, log)


@given(
    starts=st.lists(
        st.builds(Start, canvases, st.frozensets(st.integers(0, LENGTH - 1)), noised=st.booleans()) | st.just(Start()),
        min_size=1,
        max_size=4,
    )
)
@many
def test_candidates_with_starts_of_their_own_come_back(tmp_path: Path, starts: list[Start]) -> None:
    job = Job("run", (2, 5), 3, starts=tuple(starts), suppressed=frozenset({0, 7}), likelihood=True)
    log = scripted(blocks=1, job=job)
    read = load(write(tmp_path / "run", log)).log
    assert_same_run(read, log)
    last = len(starts) - 1
    assert read.fork(0, 1, "fork", 4, last) == log.fork(0, 1, "fork", 4, last)


def test_numbers_that_are_not_finite_come_back(tmp_path: Path) -> None:
    log = scripted(blocks=1)
    events = [
        dataclasses.replace(e, entropy=np.full(LENGTH, np.nan, dtype=np.float32), mean_entropy=float("inf"))
        if isinstance(e, Frame)
        else e
        for e in log
    ]
    log = RunLog(log.job, events)
    assert_same_run(load(write(tmp_path / "run", log)).log, log)


@many
@given(job=jobs, block=st.integers(0, 1), step=st.integers(0, 3), seed=seeds)
def test_a_fork_of_the_recording_is_the_fork_of_the_run(
    tmp_path: Path, job: Job, block: int, step: int, seed: int
) -> None:
    log = scripted(job=job)
    read = load(write(tmp_path / "run", log)).log
    block += len(job.blocks)
    assert read.fork(block, step, "fork", seed) == log.fork(block, step, "fork", seed)
    if step:
        assert read.fork_from_canvas(block, step, "fork", seed) == log.fork_from_canvas(block, step, "fork", seed)


def test_every_token_that_occurs_has_its_piece(tmp_path: Path) -> None:
    log = scripted(job=Job("run", (2, 99), seed=1, starts=(Start((61, 62, 63, 64, 65, 66)),), blocks=((70,) * LENGTH,)))
    read = load(write(tmp_path / "run", log))
    assert {2, 99, 61, 66, 70, 48} <= read.pieces.keys()
    own = scripted(blocks=1, job=Job("run", (2,), 1, starts=(Start(), Start((71,) * LENGTH))))
    assert 71 in load(write(tmp_path / "own", own)).pieces
    for event in read.log:
        if isinstance(event, Frame):
            assert all(int(i) in read.pieces for i in [*event.top_ids.flat, *event.canvas, *event.ids])


def test_a_log_that_goes_on_growing_is_written_as_long_as_it_was(tmp_path: Path) -> None:
    log = scripted()

    class Growing(dict[int, bytes]):
        def __contains__(self, token: object) -> bool:
            log.append(log[1])
            return True

        def __missing__(self, token: int) -> bytes:
            return b"x"

    before = list(log)
    write(tmp_path / "run", log, pieces=Growing())
    assert_equal(tuple(load(tmp_path / "run").log), tuple(before))


def test_events_of_another_run_are_not_written(tmp_path: Path) -> None:
    log = scripted()
    log.append(Finished("another", StopReason.EOS, (), (), 0.0))
    with pytest.raises(ValueError, match="not of job"):
        write(tmp_path / "run", log)
    with pytest.raises(ValueError, match="no piece of id"):
        write(tmp_path / "run", scripted(), pieces={})
    assert list(tmp_path.glob("*run*")) == []


# How it is written


def test_only_its_owner_may_read_it(tmp_path: Path) -> None:
    old = tmp_path / "run"
    old.write_text("old")
    old.chmod(0o666)
    assert stat.S_IMODE(write(old, scripted()).stat().st_mode) == 0o600


@pytest.mark.parametrize("step", ["replace", "fsync"])
def test_an_interrupted_save_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    path = write(tmp_path / "run", scripted(1))
    before = path.read_bytes()

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, step, full)
        with pytest.raises(RunFailed, match="No space left"):
            write(path, scripted(2))
    assert path.read_bytes() == before
    assert [file for file in tmp_path.iterdir() if file.is_file()] == [path]


def test_what_is_no_file_is_not_replaced_and_a_link_is_followed(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    for name in ("pipe", "link"):
        with pytest.raises(RunFailed, match="not a file"):
            write(tmp_path / name, scripted())
    assert (tmp_path / "pipe").is_fifo() and (tmp_path / "link").is_symlink()
    (tmp_path / "other").symlink_to("run")
    write(tmp_path / "other", scripted())
    assert (tmp_path / "other").is_symlink() and recording.load(tmp_path / "run").log.frames()


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(RunFailed, match="No such file"):
        write(tmp_path / "no" / "run", scripted())


def test_a_run_too_long_for_a_recording_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "MOST_BYTES", 1000)
    with pytest.raises(RunFailed, match="too long"):
        write(tmp_path / "run", scripted())


# What is refused


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write(tmp_path_factory.mktemp("good") / "run", scripted(steps=2)).read_bytes()


@many
@given(data=st.data())
def test_a_file_cut_short_is_refused(tmp_path: Path, good: bytes, data: st.DataObject) -> None:
    path = tmp_path / "run"
    path.write_bytes(good[: data.draw(st.integers(0, len(good) - 1))])
    with pytest.raises(RecordingRefused):
        load(path)


@settings(many, max_examples=300)
@given(data=st.data())
def test_a_flipped_byte_is_refused_or_makes_no_difference(tmp_path: Path, good: bytes, data: st.DataObject) -> None:
    header = 8 + int.from_bytes(good[:8], "little")
    at = data.draw(st.integers(0, header - 1) | st.integers(0, len(good) - 1))
    damaged = bytearray(good)
    damaged[at] ^= data.draw(st.integers(1, 255))
    path = tmp_path / "run"
    path.write_bytes(damaged)
    try:
        read = load(path)
    except RecordingRefused:
        return
    assert at < header  # white space, or another spelling of the same
    assert_same_run(read.log, scripted(steps=2))


@many
@given(data=st.binary(max_size=300), length=st.integers(0, 2**64 - 1) | st.integers(0, 300))
def test_any_other_bytes_are_refused(tmp_path: Path, data: bytes, length: int) -> None:
    path = tmp_path / "run"
    for content in (data, struct.pack("<Q", length) + data):
        path.write_bytes(content)
        with pytest.raises(RecordingRefused):
            load(path)


def test_a_header_said_to_be_huge_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "run"
    with path.open("wb") as file:
        file.write(struct.pack("<Q", 2**29))
        file.truncate(2**29 + 8)  # takes no room on the disk
    with pytest.raises(RecordingRefused, match="header has"):
        load(path)
    with path.open("ab") as file:
        file.truncate(2**40)
    with pytest.raises(RecordingRefused, match="too large"):
        load(path)


def test_what_is_not_a_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, tmp_path / "nothing"):
        with pytest.raises(RecordingRefused):
            load(path)


def test_another_programs_safetensors_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    for metadata in (None, {"format": "pt"}):
        safetensors.numpy.save_file({"weight": np.zeros(3)}, path, metadata)
        with pytest.raises(RecordingRefused, match="not a recording"):
            load(path)


def contents(good: bytes) -> tuple[dict[str, Any], dict[str, str]]:
    header = int.from_bytes(good[:8], "little")
    return safetensors.numpy.load(good), json.loads(good[8 : 8 + header])["__metadata__"]


@pytest.mark.parametrize(
    ("version", "hint"),
    [("3", "update dgtui"), ("0", ""), ("", ""), ("1.0", ""), ("9" * 5000, ""), ("²", ""), ("one", "")],
)
def test_an_unknown_version_is_refused(tmp_path: Path, good: bytes, version: str, hint: str) -> None:
    arrays, metadata = contents(good)
    path = tmp_path / "run"
    safetensors.numpy.save_file(arrays, path, {**metadata, "version": version})
    with pytest.raises(RecordingRefused, match="reads versions 1 to 2") as refused:
        load(path)
    assert refused.value.hint == hint


def forged(path: Path, good: bytes, change: Callable[[dict[str, Any], Any], None]) -> Path:
    """A recording somebody made up: its digest is right."""
    arrays, metadata = contents(good)
    arrays = {name: array.copy() for name, array in arrays.items()}
    facts = json.loads(metadata["json"])
    change(arrays, facts)
    metadata["json"] = json.dumps(facts)
    metadata["sha256"] = recording._digest(arrays, metadata["json"])
    safetensors.numpy.save_file(arrays, path, metadata)
    return path


def put(name: str, at: Any, value: Any) -> Callable[[dict[str, Any], Any], None]:
    def change(arrays: dict[str, Any], facts: Any) -> None:
        arrays[name][at] = value

    return change


def reshape(name: str, array: Any) -> Callable[[dict[str, Any], Any], None]:
    def change(arrays: dict[str, Any], facts: Any) -> None:
        arrays[name] = array

    return change


def start_with(ids: list[int], pinned: list[int]) -> Callable[[dict[str, Any], Any], None]:
    def change(arrays: dict[str, Any], facts: Any) -> None:
        for name, values in (("job.starts.ids", ids), ("job.starts.pinned", pinned)):
            arrays[name] = np.array(values, np.int32)
            arrays[f"{name}.lengths"] = np.array([len(values)], np.int64)

    return change


def say(value: Any, *way: Any) -> Callable[[dict[str, Any], Any], None]:
    def change(arrays: dict[str, Any], facts: Any) -> None:
        for key in way[:-1]:
            facts = facts[key]
        facts[way[-1]] = value

    return change


@pytest.mark.parametrize(
    "change",
    [
        put("order", 0, 9),
        put("order", 0, 1),
        put("order", -2, 4),
        put("order", 1, 0),
        reshape("order", np.zeros(0, np.uint8)),
        reshape("order", np.ones(2**20 + 1, np.uint8)),
        put("frames.ids", (0, 0), -1),
        put("frames.canvas", (0, 0), -1),
        put("frames.top_ids", (0, 0, 0), -5),
        put("frames.flags", (0, 0), 16),
        put("frames.numbers", (0, 0), 1),
        put("frames.numbers", (0, 1), 7),
        put("frames.numbers", (0, 2), -1),
        put("frames.numbers", (0, 3), 0),
        reshape("frames.entropy", np.zeros((4, LENGTH), np.float64)),
        reshape("frames.entropy", np.zeros((4, 1), np.float32)),
        reshape("frames.top_probs", np.zeros((4, LENGTH, 0), np.float32)),
        put("started.pinned", (0, 0), 2),
        put("started.rng.lengths", 0, 2**62),
        put("started.rng.lengths", 0, -1),
        put("started.canvas", (0, 0), -1),
        put("amended", (0, 0), 1),
        put("amended", (0, 3), LENGTH),
        put("amended", (0, 4), 2),
        put("amended", (0, 5), -1),
        put("blocks.ids", (0, 0), -1),
        put("job.prompt_ids", 0, -2),
        reshape("job.prompt_ids", np.zeros(0, np.int32)),
        reshape("job.prompt_ids", np.zeros(2**20 + 1, np.int32)),
        reshape("job.blocks.lengths", np.zeros(2**20 + 1, np.int64)),
        put("job.starts.ids.lengths", 0, 1),
        put("job.starts.pinned.lengths", 0, 1),
        reshape("job.starts.ids.lengths", np.zeros(2, np.int64)),
        start_with([3], []),
        start_with([3], [1]),
        start_with([-3], []),
        start_with([3], [-1]),
        put("pieces.ids", 0, 4000),
        put("pieces.lengths", 0, 1000),
        put("special_ids", 0, -1),
        put("finished.token_ids", 0, -1),
        reshape("finished.token_ids.lengths", np.zeros(0, np.int64)),
        say("1", "run", "job", "seed"),
        say(-1, "run", "job", "seed"),
        say(2**63, "run", "job", "seed"),
        say(True, "run", "job", "max_tokens"),
        say(2**31 - 1, "run", "job", "candidates"),
        say(0, "run", "job", "settings", "steps"),
        say(float("nan"), "run", "job", "settings", "t_min"),
        say(10**400, "run", "job", "settings", "t_max"),
        say(1, "run", "job", "settings", "unknown"),
        say(0.5, "run", "job", "starts", 0, 0),
        say(1, "run", "job", "starts", 0, 1),
        say(True, "run", "job", "starts", 0, 1),
        say([], "run", "job", "starts"),
        say([[1.0, False]], "run", "job", "starts"),
        say([[1.0, False, False]] * 2, "run", "job", "starts"),
        say({"amendments": [], "reseeds": []}, "run", "job", "fork"),
        say([], "run", "job", "fork"),
        say(5, "run", "job", "id"),
        say(0, "run", "canvas_length"),
        say(10**9, "run", "canvas_length"),
        say(10**9, "run", "top_k"),
        say([], "run", "started"),
        say([[0, 0, 0, 0.0]] * 2, "run", "started"),
        say([[0, 48, 48, 0.0, 5]] * 2, "run", "started"),
        say([[0, 48, 49, 0.0], [1, 48, 48, 0.0]], "run", "started"),
        say([[0, 0, 2, 1, 0.0]] * 2, "run", "blocks"),
        say([["boredom", [2, 2], 0.0]], "run", "finished"),
        say([["eos", 5, 0.0]], "run", "finished"),
        say([["eos", [2, 2], "0"]], "run", "finished"),
        say([["eos", [2, 2], 0.0]] * 2, "run", "finished"),
        say(None, "run"),
        say([], "versions"),
        say({"torch": 2}, "versions"),
        say(None, "fingerprint"),
        lambda arrays, facts: facts.pop("model"),
        lambda arrays, facts: arrays.pop("frames.ids"),
        lambda arrays, facts: arrays.pop("pieces"),
    ],
)
def test_forged_contents_are_refused(
    tmp_path: Path, good: bytes, change: Callable[[dict[str, Any], Any], None]
) -> None:
    with pytest.raises(RecordingRefused, match="damaged"):
        load(forged(tmp_path / "run", good, change))


def test_an_honest_copy_is_not_refused(tmp_path: Path, good: bytes) -> None:
    assert_same_run(load(forged(tmp_path / "run", good, lambda arrays, facts: None)).log, scripted(steps=2))


def test_deep_nesting_is_refused(tmp_path: Path, good: bytes) -> None:
    arrays, metadata = contents(good)
    metadata["json"] = "[" * 100_000
    metadata["sha256"] = recording._digest(arrays, metadata["json"])
    safetensors.numpy.save_file(arrays, tmp_path / "run", metadata)
    with pytest.raises(RecordingRefused):
        load(tmp_path / "run")


def test_importing_it_loads_neither_torch_nor_the_screen() -> None:
    code = "import sys, dgtui.session.recording; print(*{'torch', 'transformers', 'textual'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr
