"""A stub of a vLLM server behind httpx's transport, which answers as a real server did in its transcripts."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

DATA = Path(__file__).parent / "data"
VOCAB, CANVAS = 40, 12

Answer = Callable[[dict[str, Any]], Any]


def transcript(name: str) -> dict[str, Any]:
    """What a real server was asked and what it answered."""
    found: dict[str, Any] = json.loads((DATA / f"{name}.json").read_text())
    return found


class StubServer(httpx.AsyncBaseTransport):
    """Answers like vLLM 0.32 for a model of 40 ids and 12 places.

    `target` is the text that the model is sure of. `requests` keeps every body. `answer` may replace what a completion
    returns, and `fail` is raised or returned instead of the next answers.
    """

    def __init__(self, target: list[int]) -> None:
        self.target = (target + [1] * CANVAS)[:CANVAS]
        self.requests: list[tuple[str, dict[str, Any], dict[str, str]]] = []
        self.sureness = 12.0
        self.fail: list[Exception | tuple[int, Any]] = []

    def completions(self) -> list[dict[str, Any]]:
        """Bodies of the completion requests after the ones that only recognise the server."""
        return [
            body for path, body, _ in self.requests
            if path == "/v1/completions" and "logprobs" in body
        ]  # fmt: skip

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content) if request.content else {}
        self.requests.append((request.url.path, body, dict(request.headers)))
        if self.fail:
            failure = self.fail.pop(0)
            if isinstance(failure, Exception):
                raise failure
            return httpx.Response(failure[0], json=failure[1])
        match request.url.path:
            case "/v1/models":
                return httpx.Response(200, json={"data": [{"id": "tiny", "max_model_len": 256}]})
            case "/version":
                return httpx.Response(200, json={"version": "0.32.0"})
            case "/tokenize":
                return httpx.Response(200, json={"tokens": [ord(c) % VOCAB for c in body["prompt"]]})
            case "/v1/completions":
                return self._complete(body)
        return httpx.Response(404, json={"detail": "Not Found"})

    def _complete(self, body: dict[str, Any]) -> httpx.Response:
        extra = body.get("vllm_xargs", {})
        length = extra.get("diffusion_canvas_length", CANVAS)
        canvas = extra.get("diffusion_seed_canvas")
        if canvas is not None and len(canvas) != length:
            return _refused(f"diffusion_seed_canvas must hold exactly {length} ids, got {len(canvas)}.")
        if canvas is not None and not all(0 <= i < VOCAB for i in canvas):
            return _refused(f"diffusion_seed_canvas ids must be in [0, {VOCAB}).")
        for name in ("temperature", "seed", "min_p", "top_k", "echo", "prompt_logprobs"):
            if name in body:
                return _refused(f"{name} is not supported with diffusion models")
        target = (self.target * 3)[:length]
        others = [-self.sureness - 0.05 * k for k in range(1, 20)]
        rows = [
            {f"token_id:{(t + k) % VOCAB}": log_prob for k, log_prob in enumerate([-0.0001, *others])} for t in target
        ]
        choice = {"token_ids": target, "logprobs": {"top_logprobs": rows}, "finish_reason": "length"}
        return httpx.Response(200, json={"choices": [choice]})


def _refused(message: str) -> httpx.Response:
    return httpx.Response(400, json={"error": {"message": message, "code": 400}})
