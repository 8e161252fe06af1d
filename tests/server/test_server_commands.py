"""Commands over a server: the stub stands for vLLM with the embedded model behind it."""

import json
import logging
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from stub import StubServer

from dgtui import config
from dgtui.cli import main
from dgtui.cli.backend import WorkerBackend
from dgtui.errors import DgtuiError
from dgtui.model.tokenizer import ModelTokenizer
from dgtui.paths import embedded_dir
from dgtui.server import served
from dgtui.server.client import Client

KEY = "sk-planted-0123456789"
SECRET = "the lighthouse keeper's secret"
REPLY = "Clara sat by the river."
"""Of whole tokens: names are split here, as on a server."""


@pytest.fixture(scope="module")
def tokenizer() -> ModelTokenizer:
    return ModelTokenizer.load(embedded_dir())


@pytest.fixture
def stub(tokenizer: ModelTokenizer, monkeypatch: pytest.MonkeyPatch) -> Iterator[StubServer]:
    """A server that every command finds, whatever its address."""
    end = tokenizer.turn_end_id
    assert end is not None
    found = StubServer([*tokenizer.encode(REPLY), end], vocab=tokenizer.vocab_size, canvas=256, encode=tokenizer.encode)
    clients: list[Client] = []

    def client(url: str, key: str = "") -> Client:
        clients.append(Client(url, key, transport=found))
        clients[-1].first_wait = 0.0
        return clients[-1]

    monkeypatch.setattr(served, "Client", client)
    yield found
    for opened in clients:
        opened.close()


def dgtui(*arguments: str | Path) -> int:
    return main([*map(str, arguments), "--server", "http://here", "--model", "embedded"])


def prompts(folder: Path, *lines: Any) -> Path:
    file = folder / "prompts.jsonl"
    file.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return file


def rows(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_generate_asks_for_whole_blocks(stub: StubServer, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    assert dgtui("generate", "hello", "--json") == 0
    found = json.loads(capsysbinary.readouterr().out)
    assert (found["text"], found["steps"]) == (REPLY, [1])
    assert stub.completions()[0]["vllm_xargs"]["diffusion_max_steps"] > 1


def test_steps_are_asked_for_where_they_are_chosen(stub: StubServer) -> None:
    assert dgtui("generate", "hello", "--json", "--server-mode", "steps") == 0
    assert {body["vllm_xargs"]["diffusion_max_steps"] for body in stub.completions()} == {1}


def test_infill_takes_steps_and_keeps_all_other_bytes(
    stub: StubServer, tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    file = tmp_path / "tale.txt"
    file.write_text("Once there was a fox.\n")
    assert dgtui("infill", file, "--span", "1:16-1:21", "--length", "2", "--seed", "1") == 0
    out = capsysbinary.readouterr().out
    assert out.startswith(b"Once there was ") and out.endswith(b".\n")
    assert all(body["vllm_xargs"]["diffusion_max_steps"] == 1 for body in stub.completions())


def test_doctor_says_what_is_served(stub: StubServer, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    dgtui("doctor", "--json")
    (check,) = [c for c in json.loads(capsysbinary.readouterr().out)["checks"] if c["name"] == "server"]
    assert f"canvas of 256, {stub.vocab:,} ids" in check["found"]
    assert check["mark"] == "warn" and "unencrypted" in check["advice"]
    assert not stub.completions()


def test_bench_measures_both_modes(stub: StubServer, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    assert dgtui("bench", "--pairs", "1", "--json") == 0
    found = json.loads(capsysbinary.readouterr().out)
    assert found["blocks"]["requests"] == 1 and found["steps"]["requests"] > 1


@pytest.mark.parametrize("concurrency", ["1", "3"])
def test_a_batch_is_answered_in_order(stub: StubServer, tmp_path: Path, concurrency: str) -> None:
    given = [f"prompt {n}" for n in range(7)]
    out = tmp_path / "out.jsonl"
    file = prompts(tmp_path, *({"prompt": text} for text in given))
    assert dgtui("generate", "--batch", file, "--out", out, "--concurrency", concurrency) == 0
    assert [(row["line"], row["prompt"], row["text"]) for row in rows(out)] == [
        (n + 1, text, REPLY) for n, text in enumerate(given)
    ]


def test_a_batch_names_bad_lines_and_answers_the_others(
    stub: StubServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.jsonl"
    file = prompts(
        tmp_path, {"prompt": "one"}, "{broken", "", {"prompt": "two", "sed": 1}, {"prompt": "three", "seed": -1},
        {"prompt": "word " * 4000}, '"four"',
    )  # fmt: skip
    assert dgtui("generate", "--batch", file, "--out", out) == 1
    found = rows(out)
    assert [row["line"] for row in found] == [1, 2, 4, 5, 6, 7]
    assert [("error" in row) for row in found] == [False, True, True, True, True, False]
    assert "line 2 is not JSON" in found[1]["error"] and "unknown key: sed" in found[2]["error"]
    assert "line 2: line 2 is not JSON" in capsys.readouterr().err


def test_a_batch_continues_after_the_rows_that_are_there(stub: StubServer, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    file = prompts(tmp_path, *(f'{{"prompt": "p{n}"}}' for n in range(5)))
    assert dgtui("generate", "--batch", file, "--out", out, "--seed", "1") == 0
    whole = out.read_bytes()
    lines = whole.splitlines(keepends=True)
    out.write_bytes(b"".join(lines[:2]) + lines[2][:9])  # as a kill leaves it
    before = len(stub.completions())
    assert dgtui("generate", "--batch", file, "--out", out, "--seed", "1") == 0
    assert out.read_bytes() == whole
    assert len(stub.completions()) - before == 3


def test_a_batch_does_not_write_over_another_file(stub: StubServer, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    out.write_text("my notes\n")
    assert dgtui("generate", "--batch", prompts(tmp_path, {"prompt": "x"}), "--out", out) == 2
    assert out.read_text() == "my notes\n"


def test_a_server_that_dies_ends_a_batch_and_keeps_its_rows(
    stub: StubServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.jsonl"
    file = prompts(tmp_path, *({"prompt": f"p{n}"} for n in range(4)))
    answer = stub._complete

    def dying(body: dict[str, Any]) -> httpx.Response:
        if len(stub.completions()) > 2:
            raise httpx.ReadError("connection reset")
        return answer(body)

    stub._complete = dying  # type: ignore[method-assign]
    assert dgtui("generate", "--batch", file, "--out", out, "--concurrency", "1") == 1
    assert "connection to http://here was lost" in capsys.readouterr().err
    assert [row["line"] for row in rows(out)] == [1, 2]
    stub._complete = answer  # type: ignore[method-assign]
    assert dgtui("generate", "--batch", file, "--out", out, "--concurrency", "1") == 0
    assert [row["line"] for row in rows(out)] == [1, 2, 3, 4]


def test_a_batch_on_this_machine_runs_equal_prompts_together(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.jsonl"
    ask = {"prompt": "Write a short tale about Mia."}
    file = prompts(tmp_path, ask, ask, {"prompt": "What does p do?"})
    hot = ["--t-min", "3", "--t-max", "3", "--steps", "6"]  # different seeds give different texts
    batch = ["generate", "--batch", str(file), "--out", str(out), "--model", "embedded", "--seed", "3", *hot]
    assert main(batch) == 0
    found = rows(out)
    assert [row.get("candidate") for row in found] == [0, 1, None]
    assert all(row["text"] for row in found) and found[0]["text"] != found[1]["text"]


def test_the_key_is_no_misspelt_setting_and_appears_nowhere(
    stub: StubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    monkeypatch.setenv("DGTUI_SERVER_KEY", KEY)
    caplog.set_level(logging.DEBUG)
    assert config.load()[1] == []
    record = tmp_path / "run.dgtui"
    assert dgtui("generate", SECRET, "--record", record, "--server-mode", "steps") == 0
    assert {headers["authorization"] for _, _, headers in stub.requests} == {f"Bearer {KEY}"}
    stub.fail = [(500, {"error": {"message": "EngineCore encountered an issue."}})]
    assert dgtui("generate", SECRET) == 1
    said = "".join(capsys.readouterr()) + caplog.text
    files = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert KEY not in said and KEY.encode() not in files
    assert SECRET not in said and str(tmp_path) not in caplog.text


def test_no_traceback_shows_the_key(stub: StubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DGTUI_SERVER_KEY", KEY)
    stub.fail = [(500, {"error": {"message": "no"}})]
    with pytest.raises(DgtuiError) as error:
        served.connect("http://here", "steps", "embedded")
    chain: BaseException | None = error.value
    while chain is not None:
        shown = traceback.TracebackException.from_exception(chain, capture_locals=True)
        own = [f for f in shown.stack if "dgtui" in f.filename]
        assert own and KEY not in "".join(traceback.StackSummary.from_list(own).format())
        chain = chain.__cause__


def test_a_backend_connects_again_after_the_server_was_away(stub: StubServer) -> None:
    settings, _ = config.load(flags={"model.server": "http://here", "model.name": "embedded"})
    backend = WorkerBackend(settings)
    try:
        facts = backend.load(None, lambda stage: None).result(30)
        assert facts.stepper == "vllm-steps" and facts.model.canvas_length == 256
        stub.fail = [httpx.ConnectError("refused")] * 3
        with pytest.raises(DgtuiError, match="no server answers"):
            backend.load("embedded", lambda stage: None).result(30)
        assert backend.facts == facts  # it is still there
        assert backend.load("embedded", lambda stage: None).result(30).name == facts.name
    finally:
        backend.close()


def test_a_run_without_a_server_imports_no_client(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("dgtui.server")]:
        monkeypatch.delitem(sys.modules, name)
    assert main(["generate", "Write a short tale about Mia.", "--model", "embedded", "--max-tokens", "8"]) == 0
    assert not [name for name in sys.modules if name.startswith("dgtui.server")]
