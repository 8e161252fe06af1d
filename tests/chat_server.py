"""A chat server over real HTTP: it streams what a test gives it, and remembers what it was asked."""

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Part = bytes | dict[str, Any] | Callable[[], object]
"""Bytes as they are, an event, or something to do before the next part, such as waiting."""


def words(*contents: str, finish: str = "stop") -> list[Part]:
    """The events of a reply that comes in pieces."""
    events: list[Part] = [{"choices": [{"delta": {"content": text}}]} for text in contents]
    return [*events, {"choices": [{"delta": {}, "finish_reason": finish}]}, b"data: [DONE]\n\n"]


def frame(text: str, step: int = 1) -> dict[str, Any]:
    """A draft, as Unsloth's shim for llama.cpp sends it."""
    return {"choices": [{"delta": {}}], "type": "diffusion_frame", "block": 0, "step": step, "total": 48, "text": text}


class ChatServer(ThreadingHTTPServer):
    """Answers each request with the next reply of `replies`, and with the last one again after that.

    A reply that is not a list is sent as one JSON answer with its status.
    """

    daemon_threads = True

    def __init__(self, *replies: Sequence[Part] | tuple[int, Any]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.replies = list(replies)
        self.asked: list[dict[str, Any]] = []
        self.keys: set[str] = set()
        """The authorisations of all requests."""
        self.hung_up = threading.Event()
        """A client has closed its connection in the middle of a reply."""

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        self.hung_up.set()


class _Handler(BaseHTTPRequestHandler):
    server: ChatServer

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: a test reads what a terminal shows."""

    def do_GET(self) -> None:
        self.server.keys.add(self.headers.get("authorization", ""))
        known = self.path == "/v1/models"
        self._answer(200 if known else 404, {"data": [{"id": "storyteller"}]} if known else {"detail": "Not Found"})

    def do_POST(self) -> None:
        self.server.keys.add(self.headers.get("authorization", ""))
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.path != "/v1/chat/completions":
            self._answer(404, {"detail": "Not Found"})
            return
        self.server.asked.append(body)
        reply = self.server.replies[min(len(self.server.asked), len(self.server.replies)) - 1]
        if isinstance(reply, tuple):
            self._answer(*reply)
            return
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        for part in reply:
            if callable(part):
                part()
            else:
                self.wfile.write(part if isinstance(part, bytes) else f"data: {json.dumps(part)}\n\n".encode())
                self.wfile.flush()

    def _answer(self, status: int, body: Any) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@contextmanager
def serving(*replies: Sequence[Part] | tuple[int, Any]) -> Iterator[ChatServer]:
    """A server in a thread of its own."""
    with ChatServer(*replies) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()
