"""A stub of a vLLM server behind httpx's transport, which answers as a real server did in its transcripts."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

DATA = Path(__file__).parent / "data"
VOCAB, CANVAS = 40, 12


def transcript(name: str) -> dict[str, Any]:
    """What a real server was asked and what it answered."""
    found: dict[str, Any] = json.loads((DATA / f"{name}.json").read_text())
    return found


class StubServer(httpx.AsyncBaseTransport):
    """Answers like vLLM 0.32 for a model of 40 ids and 12 places.

    `target` is the text that the model is sure of. `requests` keeps every body. `answer` may replace what a completion
    returns, and `fail` is raised or returned instead of the next answers.
    """

    def __init__(
        self, target: list[int], *, vocab: int = VOCAB, canvas: int = CANVAS,
        encode: Callable[[str], list[int]] = lambda text: [ord(c) % VOCAB for c in text],
    ) -> None:  # fmt: skip
        self.vocab, self.canvas, self.encode = vocab, canvas, encode
        self.target = (target + [1] * canvas)[:canvas]
        self.requests: list[tuple[str, dict[str, Any], dict[str, str]]] = []
        self.sureness = 12.0
        self.fail: list[Exception | tuple[int, Any]] = []

    def completions(self) -> list[dict[str, Any]]:
        """Bodies of the completion requests after the ones that only recognise the server."""
        return [
            body for path, body, _ in self.requests
            if path == "/v1/completions" and "ignore_eos" in body
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
                return httpx.Response(200, json={"data": [{"id": "tiny", "max_model_len": 2048}]})
            case "/version":
                return httpx.Response(200, json={"version": "0.32.0"})
            case "/tokenize":
                return httpx.Response(200, json={"tokens": self.encode(body["prompt"])})
            case "/v1/completions":
                return self._complete(body)
        return httpx.Response(404, json={"detail": "Not Found"})

    def _complete(self, body: dict[str, Any]) -> httpx.Response:
        extra = body.get("vllm_xargs", {})
        length = extra.get("diffusion_canvas_length", self.canvas)
        canvas = extra.get("diffusion_seed_canvas")
        if canvas is not None and len(canvas) != length:
            return _refused(f"diffusion_seed_canvas must hold exactly {length} ids, got {len(canvas)}.")
        if canvas is not None and not all(0 <= i < self.vocab for i in canvas):
            return _refused(f"diffusion_seed_canvas ids must be in [0, {self.vocab}).")
        for name in ("temperature", "seed", "min_p", "top_k", "echo", "prompt_logprobs"):
            if name in body:
                return _refused(f"{name} is not supported with diffusion models")
        target = (self.target * 3)[:length]
        others = [-self.sureness - 0.05 * k for k in range(1, 20)]
        rows = [
            {f"token_id:{(t + k) % self.vocab}": log_prob for k, log_prob in enumerate([-0.0001, *others])}
            for t in target
        ]
        read = {"top_logprobs": rows} if "logprobs" in body else None
        choice = {"token_ids": target, "logprobs": read, "finish_reason": "length"}
        return httpx.Response(200, json={"choices": [choice]})


def _refused(message: str) -> httpx.Response:
    return httpx.Response(400, json={"error": {"message": message, "code": 400}})
