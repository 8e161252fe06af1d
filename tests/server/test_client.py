"""Every failure of a server is a sentence that says what to do; the key appears nowhere."""

import json
import logging
import socket
import threading
import traceback
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stub import DATA, StubServer, transcript

from dgtui.errors import DgtuiError, UsageError
from dgtui.server.client import Client, Interrupted, Refused, ServerError, address, sent_in_the_clear

KEY = "sk-planted-0123456789"


def answering(status: int, body: Any, headers: dict[str, str] | None = None) -> Client:
    text = body if isinstance(body, str) else json.dumps(body)
    return Client(
        "http://here", transport=httpx.MockTransport(lambda _: httpx.Response(status, text=text, headers=headers))
    )


REFUSALS = sorted(p.stem for p in DATA.glob("case_*.json") if transcript(p.stem)["status"] != 200)


@pytest.mark.parametrize("name", REFUSALS)
def test_every_refusal_of_a_real_server_is_one_sentence_with_its_own_words(name: str) -> None:
    case = transcript(name)
    client = answering(case["status"], case["response"])
    with pytest.raises(ServerError) as error:
        client.post("/v1/completions", {})
    assert isinstance(error.value, Refused) == (case["status"] == 400)
    said = case["response"].get("error", case["response"])
    words = str(said.get("message", said.get("detail"))).split()
    assert " ".join(words)[:60] in error.value.message
    assert error.value.hint and "\n" not in error.value.message


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (401, {}, "rejected the key"),
        (403, {}, "rejected the key"),
        (404, {"detail": "Not Found"}, "Not Found"),
        (413, "", "too large"),
        (429, {}, "busy"),
        (500, {"error": {"message": "EngineCore encountered an issue."}}, "EngineCore"),
        (502, "<html>Bad gateway</html>", "Bad gateway"),
        (503, {}, "failed (503)"),
        (200, "not JSON", "broke off"),
        (200, {"error": {"message": "EngineCore encountered an issue."}}, "EngineCore"),
        (302, "", "answered 302"),
    ],
)
def test_every_status_has_its_sentence(status: int, body: Any, words: str) -> None:
    client = answering(status, body, {"retry-after": "0"})
    client.first_wait = 0.0
    with pytest.raises(ServerError, match=words.replace("(", r"\(").replace(")", r"\)")) as error:
        client.get("/v1/models")
    assert error.value.hint


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (httpx.ReadTimeout("x"), "did not answer"),
        (httpx.RemoteProtocolError("peer closed connection"), "peer closed"),
        (httpx.ProxyError("407 Proxy Authentication Required"), "proxy rejected"),
        (httpx.ConnectError("[SSL: CERTIFICATE_VERIFY_FAILED] self-signed"), "certificate"),
        (httpx.ConnectError("Connection refused"), "no server answers"),
    ],
)
def test_every_broken_connection_has_its_sentence(failure: httpx.HTTPError, words: str) -> None:
    stub = StubServer([])
    stub.fail = [failure] * 3
    client = Client("http://here", transport=stub)
    client.first_wait = 0.0
    with pytest.raises(ServerError, match=words):
        client.get("/v1/models")


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("HTTPS_PROXY", "carrier-pigeon://here", "network settings"),
        ("SSL_CERT_FILE", "/no/such/file.pem", "network settings"),
    ],
)
def test_an_environment_that_cannot_be_used_has_its_sentence(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, words: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ServerError, match=words) as error:
        Client("https://here")
    assert variable in error.value.hint


@pytest.mark.parametrize("tail", ["\x00", "é", "\nx: y", "\x7f"])
def test_a_key_that_cannot_be_sent_is_refused_without_being_shown(tail: str) -> None:
    with pytest.raises(UsageError) as error:
        Client("http://here", KEY + tail)
    shown = traceback.TracebackException.from_exception(error.value, capture_locals=True)
    own = [frame for frame in shown.stack if "dgtui" in frame.filename]
    assert own and KEY not in "".join(traceback.StackSummary.from_list(own).format())
    assert KEY not in error.value.message + error.value.hint


def test_blanks_around_a_key_are_not_sent() -> None:
    stub = StubServer([])
    Client("http://here", f" {KEY}\n", transport=stub).get("/v1/models")
    assert stub.requests[0][2]["authorization"] == f"Bearer {KEY}"


def test_only_what_cannot_have_been_sampled_is_tried_again() -> None:
    stub = StubServer([5])
    client = Client("http://here", transport=stub)
    stub.fail = [httpx.ConnectError("refused"), (503, {})]
    assert client.get("/v1/models")["data"]
    assert len(stub.requests) == 3
    stub.requests.clear()
    stub.fail = [httpx.ReadError("reset"), (200, {})]
    with pytest.raises(ServerError):
        client.post("/v1/completions", {"prompt": [1]})
    assert len(stub.requests) == 1


def test_a_waiting_request_is_given_up_within_half_a_second(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        server.listen()
        server.settimeout(20)
        client = Client("http://here", transport=httpx.AsyncHTTPTransport(uds=str(tmp_path / "s")))
        ended: list[str] = []

        def call() -> None:
            try:
                client.post("/v1/completions", {})
            except (Interrupted, ServerError) as error:
                ended.append(type(error).__name__)

        thread = threading.Thread(target=call, daemon=True)
        thread.start()
        connection, _ = server.accept()
        request = b""
        while not request.endswith(b"{}"):
            request += connection.recv(65536)
        client.interrupt()
        thread.join(0.5)
        assert not thread.is_alive()
        assert ended == ["Interrupted"]
        assert connection.recv(1) == b""  # the server sees that nobody waits any more
        connection.close()


def test_the_key_is_sent_and_shown_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    stub = StubServer([])
    client = Client("http://here", KEY, transport=stub)
    client.get("/v1/models")
    assert stub.requests[0][2]["authorization"] == f"Bearer {KEY}"
    stub.fail = [(500, {"error": {"message": "x"}})]
    with pytest.raises(ServerError) as error:
        client.get("/v1/models")
    shown = "".join(traceback.TracebackException.from_exception(error.value, capture_locals=True).format())
    assert KEY not in shown + repr(client) + repr(vars(client)) + caplog.text


@pytest.mark.parametrize(
    ("given", "known"),
    [
        ("localhost:8000", "http://localhost:8000"),
        ("http://localhost:8000/", "http://localhost:8000"),
        ("https://gpu.example/v1/", "https://gpu.example"),
        ("https://gpu.example/serving/v1", "https://gpu.example/serving"),
    ],
)
def test_addresses_are_taken_as_people_write_them(given: str, known: str) -> None:
    assert address(given) == known


@pytest.mark.parametrize(
    "given",
    [
        "ftp://x",
        "http://",
        "http://user:secret@x",
        "http://user:secret@x:0",
        "http://x:99999",
        "http://[::1",
        "http://a\x00",
    ],
)
def test_other_addresses_are_usage_errors_without_the_password(given: str) -> None:
    with pytest.raises(UsageError) as error:
        address(given)
    assert "secret" not in error.value.message + error.value.hint


@pytest.mark.parametrize(
    ("url", "warned"),
    [
        ("http://localhost:8000", False),
        ("http://127.0.0.1", False),
        ("http://[::1]:80", False),
        ("https://far.example", False),
        ("http://far.example", True),
        ("http://10.0.0.5:8000", True),
    ],
)
def test_plain_http_to_another_machine_is_noticed(url: str, warned: bool) -> None:
    assert sent_in_the_clear(url) == warned


@given(st.integers(100, 599), st.one_of(st.text(), st.recursive(st.none() | st.integers() | st.text(), st.lists)))
def test_no_answer_crashes_the_client(status: int, body: Any) -> None:
    client = answering(status, body)
    client.first_wait = 0.0
    try:
        client.get("/v1/models")
    except DgtuiError as error:
        assert error.message


def test_the_data_of_these_tests_is_there() -> None:
    assert len(REFUSALS) > 30 and Path(DATA).is_dir()
