"""What `dgtui model pull`, `remove` and `list` promise: real client code over a hub in memory, real folders."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import typer
from checkpoints import opened
from fake_hub import COMMIT, FakeHub, httpx, repository
from huggingface_hub import constants

from dgtui import paths
from dgtui.cli import model_store
from dgtui.model import catalog, hub, hub_files
from dgtui.model.shards import SINGLE
from dgtui.model.tokenizer import ModelTokenizer

NAME = "someone/finetune"


@pytest.fixture(autouse=True)
def cache(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hub cache that does not exist yet."""
    monkeypatch.setattr(catalog, "embedded_dir", lambda: tiny)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


@pytest.fixture
def server(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A hub with one checkpoint, asked by huggingface_hub's own client."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1000)
    monkeypatch.setattr(hub, "_PATIENCE", ())
    monkeypatch.delenv("HF_TOKEN", raising=False)
    server = FakeHub({NAME: repository(tiny)})
    huggingface_hub.set_client_factory(server.client)
    yield server
    huggingface_hub.close_session()


@pytest.fixture
def sharded(server: FakeHub, tmp_path: Path) -> dict[str, bytes]:
    """The same hub with a checkpoint in several files."""
    from checkpoints import tiny_checkpoint

    server.repos[NAME] = repository(tiny_checkpoint(tmp_path / "sharded", max_shard_size="300KB"))
    return server.repos[NAME]


def folder(cache: Path, name: str = NAME) -> Path:
    return cache / f"models--{name.replace('/', '--')}"


def put_in_cache(cache: Path, name: str, tiny: Path, commit: str = COMMIT) -> Path:
    """A checkpoint as huggingface_hub lays it out; returns the folder of all its versions."""
    root = folder(cache, name)
    snapshot = root / "snapshots" / commit
    (root / "refs").mkdir(parents=True, exist_ok=True)
    (root / "blobs").mkdir(exist_ok=True)
    snapshot.mkdir(parents=True)
    (root / "refs" / "main").write_text(commit)
    for file in tiny.iterdir():
        shutil.copy(file, root / "blobs" / file.name)
        (snapshot / file.name).symlink_to(f"../../blobs/{file.name}")
    return root


def put_copy(name: str = "finetune-c0ffee", of: str | None = NAME) -> Path:
    """An NF4 copy as the first load leaves it."""
    copy = paths.cache_dir() / "nf4" / name
    copy.mkdir(parents=True)
    source = {"quant_method": "dgtui_nf4", "source": {"name": of, "fingerprint": "0" * 32}}
    if of is not None:
        (copy / "config.json").write_text(json.dumps({"quantization_config": source}))
    (copy / SINGLE).write_bytes(bytes(3_000_000))
    return copy


# dgtui model pull


def test_pull_brings_a_checkpoint_that_loads_and_prints_where_it_is(
    dgtui: Any, server: FakeHub, cache: Path, tiny: Path
) -> None:
    done = dgtui("model", "pull", NAME)
    snapshot = folder(cache) / "snapshots" / COMMIT
    assert (done.code, done.out) == (0, f"{snapshot}\n".encode())
    assert catalog.resolve(NAME) == catalog.Checkpoint(NAME, snapshot, "hub")
    assert repository(snapshot) == repository(tiny)
    assert f"dgtui chat --model {NAME}" in done.err and "\x1b" not in done.err
    assert list(cache.rglob("*.incomplete")) == []


def test_without_a_name_the_published_checkpoint_is_fetched(dgtui: Any, server: FakeHub) -> None:
    server.repos[catalog.REAL] = server.repos.pop(NAME)
    assert dgtui("model", "pull").code == 0
    assert catalog.resolve(catalog.REAL).source == "hub"


def test_a_second_pull_transfers_no_weights(dgtui: Any, server: FakeHub) -> None:
    dgtui("model", "pull", NAME)
    sent = server.sent
    done = dgtui("model", "pull", NAME)
    assert done.code == 0
    assert server.sent == sent
    assert "already here" in done.err


@pytest.mark.parametrize("broken", [10_000, 500_000])
def test_after_a_break_off_only_the_rest_is_transferred(
    broken: int, dgtui: Any, server: FakeHub, sharded: dict[str, bytes], cache: Path
) -> None:
    server.break_after = broken
    done = dgtui("model", "pull", NAME)
    assert (done.code, done.out) == (3, b"")
    assert "connection" in done.err and "continues where it stopped" in done.err
    server.break_after, server.lost = None, False
    done = dgtui("model", "pull", NAME)
    assert done.code == 0
    assert "are already downloaded" in done.err
    weights = sum(len(content) for file, content in sharded.items() if file.endswith(".safetensors"))
    assert weights <= server.sent <= weights + len(sharded["tokenizer.json"]) + 1000
    assert repository(folder(cache) / "snapshots" / COMMIT) == sharded


def test_a_connection_that_breaks_and_comes_back_is_taken_up_in_the_same_run(
    dgtui: Any, server: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    def back(seconds: float) -> None:
        server.break_after, server.lost = None, False

    monkeypatch.setattr(hub, "_PATIENCE", (1.0,))
    monkeypatch.setattr(hub.time, "sleep", back)
    server.break_after = 300_000
    assert dgtui("model", "pull", NAME).code == 0
    assert server.sent <= sum(map(len, server.repos[NAME].values()))


@pytest.mark.parametrize("kind", ["no ranges", "no such place", "too much"])
def test_what_cannot_be_gone_on_with_is_fetched_from_the_start(
    kind: str, dgtui: Any, server: FakeHub, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = hub.look(NAME)
    weights = next(file for file in plan.files if file.name == SINGLE)
    part = plan.blob(weights).with_name(f"{weights.sha256}.incomplete")
    part.parent.mkdir(parents=True)
    part.write_bytes(server.repos[NAME][SINGLE][:5000] + bytes(10**6 if kind == "too much" else 0))
    server.ranges = kind != "no ranges"
    if kind == "no such place":
        real = hub_files.http_get

        def get(url: str, into: Any, **given: Any) -> None:
            if given.get("resume_size"):
                server.refuse = {"/": (416, {})}
            try:
                real(url, into, **given)
            finally:
                server.refuse = {}

        monkeypatch.setattr(hub_files, "http_get", get)
    assert dgtui("model", "pull", NAME).code == 0
    assert repository(plan.snapshot) == server.repos[NAME]


def test_weights_that_come_damaged_are_thrown_away(dgtui: Any, server: FakeHub, cache: Path) -> None:
    server.damaged = True
    done = dgtui("model", "pull", NAME)
    assert done.code == 3
    assert "damaged" in done.err
    server.damaged = False
    assert dgtui("model", "pull", NAME).code == 0


def test_a_blob_that_was_cut_short_is_mended(dgtui: Any, server: FakeHub, cache: Path) -> None:
    dgtui("model", "pull", NAME)
    os.truncate(catalog.resolve(NAME).path / SINGLE, 1000)
    assert dgtui("model", "pull", NAME).code == 0
    opened(NAME)


def test_the_tokenizer_alone_is_a_few_small_files(dgtui: Any, server: FakeHub, cache: Path) -> None:
    done = dgtui("model", "pull", NAME, "--tokenizer-only")
    assert done.code == 0 and f"dgtui chat --server URL --model {NAME}" in done.err
    assert server.fetched() and not [file for file in server.fetched() if file.endswith(".safetensors")]
    assert ModelTokenizer.load(catalog.resolve(NAME).path).vocab_size
    asked = len(server.requests)
    assert dgtui("model", "pull", NAME, "--tokenizer-only").out == done.out
    assert len(server.requests) == asked
    assert dgtui("model", "pull", NAME).code == 0  # the weights can follow
    opened(NAME)


def test_only_what_is_needed_is_fetched_and_no_pickles_or_code(dgtui: Any, server: FakeHub, cache: Path) -> None:
    needed = set(server.repos[NAME])
    server.repos[NAME] |= {
        "pytorch_model.bin": b"pickle",
        "modeling_x.py": b"print()",
        "README.md": b"# x",
        "model.gguf": b"GGUF",
        "consolidated.safetensors": b"other weights",
        "onnx/model.safetensors": b"other weights",
        "processor_config.json": b"{}",
    }
    assert dgtui("model", "pull", NAME).code == 0
    assert server.fetched() == needed | {"processor_config.json"}


@pytest.mark.parametrize(
    "hostile", ["../../../evil.json", "/etc/evil.json", "..", "a\\..\\evil.json", ".hidden.json", "x\x1b[2J.json"]
)
def test_hostile_names_in_a_repository_reach_no_disk(
    hostile: str, dgtui: Any, server: FakeHub, cache: Path, tmp_path: Path
) -> None:
    expected = set(server.repos[NAME])
    server.repos[NAME][hostile] = b'{"evil": 1}'
    assert dgtui("model", "pull", NAME).code == 0
    assert {path.name for path in (folder(cache) / "snapshots" / COMMIT).iterdir()} == expected
    assert not list(tmp_path.rglob("*evil*"))


def test_an_index_cannot_lead_out_of_the_repository(dgtui: Any, server: FakeHub, sharded: dict[str, bytes]) -> None:
    sharded["model.safetensors.index.json"] = b'{"weight_map": {"a": "../../x.safetensors"}}'
    done = dgtui("model", "pull", NAME)
    assert done.code == 3
    assert "cannot be a shard" in done.err
    assert server.sent == 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({SINGLE: None}, "has no weights"),
        ({SINGLE: None, "model.gguf": b"GGUF"}, "not a GGUF file"),
        ({SINGLE: None, "pytorch_model.bin": b"pickle"}, "pickled"),
        ({"config.json": b'{"model_type": "llama"}'}, "a llama model"),
        ({"config.json": b"{"}, "not JSON"),
        ({"config.json": None}, "no config.json"),
    ],
)
def test_what_could_not_be_loaded_is_refused_before_anything_is_kept(
    change: dict[str, bytes | None], said: str, dgtui: Any, server: FakeHub, cache: Path
) -> None:
    changed = server.repos[NAME] | change
    server.repos[NAME] = {file: content for file, content in changed.items() if content is not None}
    done = dgtui("model", "pull", NAME)
    assert (done.code, done.out) == (3, b"")
    assert said in done.err
    assert server.sent == 0
    assert not folder(cache).exists()


def test_a_disk_that_is_too_small_is_said_before_anything_is_fetched(
    dgtui: Any, server: FakeHub, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(hub.shutil, "disk_usage", lambda path: usage._replace(free=5000))
    done = dgtui("model", "pull", NAME)
    assert (done.code, server.sent) == (1, 0)
    assert "GB free" in done.err and "HF_HUB_CACHE" in done.err


def test_a_disk_that_fills_up_is_said_and_keeps_what_there_is(
    dgtui: Any, server: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any, **given: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    real = hub_files.http_get
    monkeypatch.setattr(hub_files, "http_get", lambda url, into, **given: (full if given else real)(url, into, **given))
    done = dgtui("model", "pull", NAME)
    assert done.code == 1
    assert "is full" in done.err


@pytest.mark.parametrize("where", ["/api/", "/resolve/"])
@pytest.mark.parametrize(
    ("status", "headers", "said"),
    [
        (403, {"X-Error-Code": "GatedRepo"}, ("is gated", "accept it on", "hf auth login", "HF_TOKEN")),
        (401, {"X-Error-Code": "GatedRepo"}, ("is gated", "accept it on")),
        (401, {"X-Error-Message": "Invalid credentials in Authorization header"}, ("401", "token", "hf auth login")),
        (403, {}, ("403", "licence")),
        (404, {"X-Error-Code": "RepoNotFound"}, ("has no model", "private")),
        (429, {}, ("429", "wait")),
        (503, {}, ("503", "the server has a problem")),
        (500, {}, ("500",)),
    ],
)
def test_a_hub_that_refuses_is_explained(
    where: str,
    status: int,
    headers: dict[str, str],
    said: tuple[str, ...],
    dgtui: Any,
    server: FakeHub,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from huggingface_hub.utils import _http

    monkeypatch.setattr(_http.time, "sleep", lambda seconds: None)
    server.refuse = {where: (status, headers)}
    done = dgtui("model", "pull", NAME)
    assert (done.code, done.out) == (3, b"")
    assert all(word in done.err for word in said), done.err
    assert "Traceback" not in done.err and len(done.err.splitlines()) == 2


def test_a_missing_model_and_a_missing_revision_end_with_3(dgtui: Any, server: FakeHub) -> None:
    done = dgtui("model", "pull", "nobody/nothing")
    assert done.code == 3 and "nobody/nothing" in done.err
    done = dgtui("model", "pull", NAME, "--revision", "nowhere")
    assert done.code == 3 and "no revision nowhere" in done.err


def test_without_a_network_it_ends_at_once_and_says_so(dgtui: Any, server: FakeHub, cache: Path) -> None:
    server.lost = True
    done = dgtui("model", "pull", NAME)
    assert (done.code, done.out, len(server.requests)) == (3, b"", 1)
    assert "the connection to the hub failed" in done.err and "proxy" in done.err
    assert not cache.exists()


def test_offline_mode_is_obeyed_and_explained(dgtui: Any, server: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    done = dgtui("model", "pull", NAME)
    assert (done.code, server.requests) == (3, [])
    assert "HF_HUB_OFFLINE" in done.err


def test_a_login_page_in_between_is_recognised(dgtui: Any, server: FakeHub) -> None:
    server.refuse = {"/api/": (200, {})}
    done = dgtui("model", "pull", NAME)
    assert done.code == 3
    assert "login page" in done.err


@pytest.mark.parametrize(
    "args", [("embedded",), ("finetune",), ("a/b/c",), ("../x",), ("a--b/c",), (NAME, "--revision", "../../x")]
)
def test_a_name_or_revision_that_cannot_be_ends_with_2_and_asks_nobody(
    args: tuple[str, ...], dgtui: Any, server: FakeHub
) -> None:
    assert dgtui("model", "pull", *args).code == 2
    assert server.requests == []


def test_another_revision_leaves_main_alone_and_is_used_by_its_folder(dgtui: Any, server: FakeHub, cache: Path) -> None:
    dgtui("model", "pull", NAME)
    main = catalog.resolve(NAME)
    server.commit = "beef" * 10
    done = dgtui("model", "pull", NAME, "--revision", "v2")
    assert done.code == 0
    assert catalog.resolve(NAME) == main
    assert done.out.decode().strip().endswith(server.commit) and f"--model {done.out.decode().strip()}" in done.err


def test_an_update_that_breaks_off_leaves_the_old_version_in_use(dgtui: Any, server: FakeHub, cache: Path) -> None:
    dgtui("model", "pull", NAME)
    old = catalog.resolve(NAME)
    server.commit = "beef" * 10
    weights = bytearray(server.repos[NAME][SINGLE])
    weights[-1] ^= 1
    server.repos[NAME][SINGLE] = bytes(weights)
    server.break_after = server.sent + 100_000
    assert dgtui("model", "pull", NAME).code == 3
    assert catalog.resolve(NAME) == old
    opened(old.path)
    server.break_after, server.lost = None, False
    assert dgtui("model", "pull", NAME).code == 0
    assert catalog.resolve(NAME).path.name == server.commit


def test_no_telemetry_is_sent_and_the_token_goes_to_the_hub_alone(
    dgtui: Any, server: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", False)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert dgtui("model", "pull", NAME).code == 0
    for request in server.requests:
        agent = request.headers["user-agent"]
        assert agent.startswith("dgtui/") and "torch" not in agent and "agent/" not in agent
        assert ("authorization" in request.headers) == (request.url.host != "storage.test")
    assert {path.split("/")[1] for path in server.asked() if "resolve" in path or "api" in path} == {"api", "someone"}


def test_two_pulls_at_once_do_not_write_into_one_file(dgtui: Any, server: FakeHub, cache: Path) -> None:
    import fcntl

    plan = hub.look(NAME)
    weights = next(file for file in plan.files if file.name == SINGLE)
    locks = cache / ".locks" / folder(cache).name
    locks.mkdir(parents=True)
    with (locks / f"{weights.sha256}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = dgtui("model", "pull", NAME)
    assert done.code == 1
    assert "another process" in done.err


STALLING = """
import sys, time
sys.path.insert(0, sys.argv.pop(1))
import huggingface_hub
from huggingface_hub import constants
from fake_hub import FakeHub, repository
from pathlib import Path
from dgtui.__main__ import run
from dgtui.model import catalog

constants.HF_HUB_OFFLINE, constants.DOWNLOAD_CHUNK_SIZE = False, 1000
where, tiny = sys.argv[1:3]
server = FakeHub({"someone/finetune": repository(Path(tiny))})
stream, answer = server._stream, server._answer

def stall():
    print("stalled", file=sys.stderr, flush=True)
    time.sleep(60)

def slowly(request, content):
    for piece in stream(request, content):
        if server.sent > 300_000:
            stall()
        yield piece

if where == "weights":
    server._stream = slowly
else:
    server._answer = lambda request: stall()
huggingface_hub.set_client_factory(server.client)
sys.argv[1:] = ["model", "pull", "someone/finetune"]
run()
"""


@pytest.mark.slow
@pytest.mark.parametrize(("where", "number"), [("weights", signal.SIGHUP), ("first answer", signal.SIGINT)])
def test_a_signal_ends_it_at_once_with_130_and_says_that_it_goes_on(
    where: str, number: signal.Signals, tiny: Path, cache: Path
) -> None:
    command = [sys.executable, "-c", STALLING, str(Path(__file__).parent.parent), where, str(tiny)]
    process = subprocess.Popen(command, bufsize=0, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stderr is not None
    while process.stderr.readline() != b"stalled\n":
        assert process.poll() is None
    process.send_signal(number)
    out, err = process.communicate(timeout=5)
    assert (process.returncode, out) == (130, b"")
    assert b"Traceback" not in err
    if where == "weights":
        assert f"run dgtui model pull {NAME} to continue".encode() in err
        [part] = cache.rglob("*.incomplete")
        assert part.stat().st_size > 200_000


def test_progress_tells_bytes_rate_and_time_left() -> None:
    line = model_store._progress("downloading model.safetensors", (0.0, 10**9), (10.0, 2 * 10**9), 52 * 10**9)
    assert line == "downloading model.safetensors: 2.00 of 52.00 GB, 100 MB/s, 8 min left"
    assert "/s" not in model_store._progress("downloading x", (0.0, 5), (0.0, 5), 100)


# dgtui model list


def test_the_list_has_checkpoints_and_copies_with_their_size_on_disk(dgtui: Any, cache: Path, tiny: Path) -> None:
    root = put_in_cache(cache, NAME, tiny)
    put_in_cache(cache, NAME, tiny, "beef" * 10)  # two versions that share all blobs
    copy = put_copy()
    models = {model["name"]: model for model in dgtui("model", "list", "--json").json["models"]}
    blobs = sum(file.stat().st_size for file in tiny.iterdir())
    assert models[NAME]["disk_bytes"] == blobs + len(COMMIT)
    found = models["nf4/finetune-c0ffee"]
    assert (found["source"], found["of"], found["path"]) == ("nf4", NAME, str(copy))
    assert found["disk_bytes"] == sum(file.stat().st_size for file in copy.iterdir())
    done = dgtui("model", "list")
    assert "3 MB" in done.out.decode() and str(root) in done.out.decode()
    assert f"the NF4 copy of {NAME}" in done.err


def test_an_unfinished_download_is_marked_with_what_to_do(dgtui: Any, server: FakeHub, cache: Path) -> None:
    server.break_after = 300_000
    dgtui("model", "pull", NAME)
    done = dgtui("model", "list")
    assert any(line.split()[:2] == ["!", NAME] for line in done.out.decode().splitlines())
    assert f"! {NAME}: the download is not finished" in done.err
    assert f"run dgtui model pull {NAME} to continue, or dgtui model remove {NAME} to delete it" in done.err
    [found] = [model for model in dgtui("model", "list", "--json").json["models"] if model["name"] == NAME]
    assert found["unfinished"] and found["left_over_bytes"] > 200_000


def test_a_copy_that_was_cut_off_is_listed_and_can_be_removed(dgtui: Any) -> None:
    copy = put_copy("half", of=None)
    assert "! nf4/half: the copy is incomplete" in dgtui("model", "list").err
    assert dgtui("model", "remove", "nf4/half", "--yes").code == 0
    assert not copy.exists()


# dgtui model remove


def test_remove_deletes_all_versions_and_nothing_beside_them(dgtui: Any, cache: Path, tiny: Path) -> None:
    root = put_in_cache(cache, NAME, tiny)
    other = put_in_cache(cache, "someone/else", tiny)  # with the same commit, as a duplicated repository has
    copy = put_copy()
    done = dgtui("model", "remove", NAME, "--yes")
    assert done.code == 0
    assert done.out.decode().startswith(f"deleted {NAME}: ")
    assert not root.exists()
    opened(other / "snapshots" / COMMIT)
    assert copy.exists() and "dgtui model remove nf4/finetune-c0ffee" in done.err


def test_remove_takes_the_copies_along_where_it_is_told_to(dgtui: Any, cache: Path, tiny: Path) -> None:
    root, copy, stranger = put_in_cache(cache, NAME, tiny), put_copy(), put_copy("other", of="some/other")
    assert dgtui("model", "remove", NAME, "--yes", "--copies").code == 0
    assert not root.exists() and not copy.exists() and stranger.exists()


def test_remove_deletes_a_copy_alone(dgtui: Any, cache: Path, tiny: Path) -> None:
    root, copy = put_in_cache(cache, NAME, tiny), put_copy()
    assert dgtui("model", "remove", "nf4/finetune-c0ffee", "--yes").code == 0
    assert root.exists() and not copy.exists()


def test_what_a_broken_download_left_can_be_removed(dgtui: Any, server: FakeHub, cache: Path) -> None:
    server.break_after = 300_000
    dgtui("model", "pull", NAME)
    shutil.rmtree(folder(cache) / "snapshots")
    assert dgtui("model", "remove", NAME, "--yes").code == 0
    assert not folder(cache).exists()


def test_without_a_terminal_nothing_is_deleted_unasked(dgtui: Any, cache: Path, tiny: Path) -> None:
    root = put_in_cache(cache, NAME, tiny)
    done = dgtui("model", "remove", NAME, stdin=b"y\n")
    assert done.code == 2
    assert "--yes" in done.err
    assert root.exists()


@pytest.mark.parametrize(
    ("answers", "left"), [([True, True], set()), ([True, False], {"copy"}), ([False], {"root", "copy"})]
)
def test_on_a_terminal_it_asks_for_each_with_its_size(
    answers: list[bool], left: set[str], dgtui: Any, cache: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = {"root": put_in_cache(cache, NAME, tiny), "copy": put_copy()}
    asked = []

    def confirm(question: str, **given: Any) -> bool:
        asked.append(question)
        return answers[len(asked) - 1]

    monkeypatch.setattr(model_store, "is_terminal", lambda stream: True)
    monkeypatch.setattr(model_store, "redrawable", lambda: True)
    monkeypatch.setattr(typer, "confirm", confirm)
    done = dgtui("model", "remove", NAME)
    assert done.code == (0 if answers[0] else 1)
    assert {name for name, path in there.items() if path.exists()} == left
    assert len(asked) == len(answers)
    assert str(there["root"]) in asked[0] and "kB" in asked[0]


def test_the_embedded_model_and_folders_of_ones_own_are_never_deleted(
    dgtui: Any, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = shutil.copytree(tiny, tmp_path / "own" / "model")
    monkeypatch.chdir(tmp_path)
    for name in ("embedded", str(own), "own/model", "./own/model", ".", "~", "../own"):
        done = dgtui("model", "remove", name, "--yes")
        assert done.code in (2, 3), name
        assert done.out == b""
    assert repository(own) == repository(tiny)


def test_another_programs_model_is_not_deleted(dgtui: Any, cache: Path, tiny: Path) -> None:
    root = put_in_cache(cache, "else/llama", tiny)
    (root / "blobs" / "config.json").write_text('{"model_type": "llama"}')
    done = dgtui("model", "remove", "else/llama", "--yes")
    assert done.code == 2
    assert "hf cache rm" in done.err
    assert root.exists()


@pytest.mark.parametrize(
    "link", ["repository", "snapshots", "snapshot", "file", "blobs", "blob", "copy", "in copy", "nf4"]
)
def test_no_link_leads_it_out_of_the_caches(link: str, dgtui: Any, cache: Path, tiny: Path, tmp_path: Path) -> None:
    precious = Path(shutil.copytree(tiny, tmp_path / "precious"))
    before = repository(precious)
    name = NAME
    if link in ("copy", "in copy", "nf4"):
        copy = put_copy()
        name = "nf4/finetune-c0ffee"
        if link == "copy":
            shutil.rmtree(copy)
            copy.symlink_to(precious)
        elif link == "in copy":
            (copy / "inside").symlink_to(precious)
        else:
            shutil.move(copy.parent, tmp_path / "elsewhere")
            copy.parent.symlink_to(tmp_path / "elsewhere")
    else:
        root = put_in_cache(cache, NAME, tiny)
        snapshot = root / "snapshots" / COMMIT
        place = {
            "repository": root, "snapshots": root / "snapshots", "snapshot": snapshot,
            "file": snapshot / SINGLE, "blobs": root / "blobs", "blob": root / "blobs" / SINGLE,
        }[link]  # fmt: skip
        if place.is_dir():
            shutil.rmtree(place)
        else:
            place.unlink()
        place.symlink_to(precious / SINGLE if link in ("file", "blob") else precious)
    dgtui("model", "remove", name, "--yes")
    assert repository(precious) == before
    if link == "nf4":
        assert (tmp_path / "elsewhere" / "finetune-c0ffee" / SINGLE).exists()


def test_no_other_command_fetches_anything(dgtui: Any, server: FakeHub) -> None:
    for args in (("model", "list"), ("model", "info", NAME), ("generate", "hi", "-m", NAME), ("doctor",)):
        dgtui(*args)
    assert server.requests == []


def test_the_fake_is_asked_by_the_real_client(server: FakeHub) -> None:
    assert isinstance(huggingface_hub.get_session(), httpx.Client)
