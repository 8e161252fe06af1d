"""Inputs that once ended the program, or never let it end: each is refused now. `scripts/fuzz.py` looks for more."""

import json
import time
from pathlib import Path

import httpx
import pytest

from dgtui.cli import infill
from dgtui.document import journal
from dgtui.errors import CorruptCheckpoint, UsageError
from dgtui.model.gguf_file import GgufFile
from dgtui.server.client import Client, ServerError
from dgtui.server.probe import NotSteerable, recognise

MANY_DIGITS = "9" * 5000
"""More than Python turns into a number."""


def answering(*answers: httpx.Response) -> Client:
    left = list(answers)
    client = Client("http://127.0.0.1:9", transport=httpx.MockTransport(lambda request: left.pop(0)))
    client.first_wait = 0.0
    return client


def test_a_gguf_file_with_a_count_beyond_its_end_is_refused_at_once(tmp_path: Path) -> None:
    def number(value: int, size: int) -> bytes:
        return value.to_bytes(size, "little")

    key = b"tokenizer.ggml.scores"
    header = b"GGUF" + number(3, 4) + number(0, 8) + number(1, 8)
    array = number(len(key), 8) + key + number(9, 4) + number(6, 4) + number(2**60, 8)
    (tmp_path / "model.gguf").write_bytes(header + array + b"\0" * 64)
    began = time.monotonic()
    with pytest.raises(CorruptCheckpoint, match="damaged or cut short"):
        GgufFile(tmp_path / "model.gguf")
    assert time.monotonic() - began < 5


def test_a_deeply_nested_answer_of_a_server_is_refused() -> None:
    client = answering(httpx.Response(200, text="[" * 100_000))
    with pytest.raises(ServerError):
        client.get("/v1/models")
    client.close()


def test_a_wait_that_is_no_number_is_not_waited_for() -> None:
    client = answering(httpx.Response(503, headers={"retry-after": b"\xb2"}), httpx.Response(200, text="{}"))
    assert client.get("/version") == {}
    client.close()


def test_a_number_that_is_too_long_in_an_answer_is_refused() -> None:
    error = {"error": {"message": f"must hold exactly {MANY_DIGITS} ids"}}
    models = httpx.Response(200, json={"data": [{"id": "m"}]})
    client = answering(models, httpx.Response(400, json=error), httpx.Response(200, json={}))
    with pytest.raises(NotSteerable):
        recognise(client)
    client.close()


def test_a_number_that_is_too_long_on_the_command_line_is_wrong_usage() -> None:
    with pytest.raises(UsageError):
        infill._length(MANY_DIGITS)


@pytest.mark.parametrize("owner", ["1e999", "[" * 100_000])
def test_a_damaged_journal_is_told_and_left(owner: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"one")
    header = f'{{"pid": {owner}, "path": {json.dumps(str(path))}}}'.encode()
    frame = journal._FRAME.pack(0, 0, len(header), journal._chain(0, 0, header, 0)) + header
    file = journal._folder() / f"{journal._key(path)}-1.journal"
    file.write_bytes(journal._MAGIC + frame)
    found = journal.find(path)
    assert found is not None and found.state == "unreadable"
