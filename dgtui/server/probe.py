"""Finds out what a server serves, from its responses rather than its description.

`/v1/models` and `/version` do not tell whether a model is a diffusion model. A canvas of the wrong length does: vLLM's
error names the right one. The error for an id outside the vocabulary names the vocabulary size.
"""

import re
from dataclasses import dataclass
from typing import Any, Final, Protocol

from dgtui.errors import DgtuiError
from dgtui.server.client import Client, NotThere, Refused, ServerError

SAMPLES: Final = ("Once there was a fox.", "def f(x):\n    return x + 2\n", "naïve 12×12 — «ß»\t", "<turn|>")
"""Texts for which the local tokenizer and the server must give the same ids."""


class Tokenizer(Protocol):
    """What is compared between a local tokenizer and the server's."""

    def encode(self, text: str) -> list[int]: ...


class NotSteerable(DgtuiError):
    """The server does not serve a diffusion model, or its version does not support steering."""

    exit_code = 3


@dataclass(frozen=True, slots=True)
class Served:
    """A model on a server."""

    model: str
    version: str
    canvas_length: int
    vocab_size: int
    max_context: int


def models(client: Client) -> list[dict[str, Any]]:
    """The served models: `id`, and from vLLM also `max_model_len`."""
    answer = client.get("/v1/models")
    data = answer.get("data") if isinstance(answer, dict) else None
    if not isinstance(data, list) or not all(isinstance(m, dict) and isinstance(m.get("id"), str) for m in data):
        raise ServerError(f"{client.url} lists no models", hint="check that this is the address of a vLLM server")
    return data


def recognise(client: Client, model: str | None = None) -> Served:
    """Find out what the server serves.

    Raises:
        ServerError: It cannot be reached, has no such model, or fails.
        NotSteerable: Its model is autoregressive, or its version does not take canvases.
    """
    served = models(client)
    chosen = next((m for m in served if model in (None, m["id"])), None)
    if chosen is None:
        names = ", ".join(m["id"] for m in served)
        raise ServerError(
            f"the server has no model {model!r}", hint=f"its models: {names}" if names else "it has no models"
        )
    name = chosen["id"]
    length = _number(r"must hold exactly (\d{1,6}) ids", _refusal(client, name, [0]))
    if length is None:
        raise NotSteerable(
            f"{name} on {client.url} does not accept a canvas",
            hint="serve a DiffusionGemma checkpoint with vLLM 0.32 or newer",
        )
    vocab = _number(r"must be in \[0, (\d{1,9})\)", _refusal(client, name, [2**31 - 1] * length))
    if vocab is None:
        raise NotSteerable(
            f"{name} on {client.url} does not check the ids of a canvas", hint="serve it with vLLM 0.32 or newer"
        )
    context = chosen.get("max_model_len")
    return Served(name, _version(client), length, vocab, context if isinstance(context, int) else 8192)


def check_tokenizer(client: Client, served: Served, tokenizer: Tokenizer, vocab_size: int) -> None:
    """Raises `NotSteerable` unless the local tokenizer gives the same ids as the server's."""
    if vocab_size > served.vocab_size:
        raise NotSteerable(
            f"the local tokenizer has {vocab_size:,} entries, but the server's model has {served.vocab_size:,}",
            hint="choose the tokenizer of the served model with --model",
        )
    for text in SAMPLES:
        body = {"model": served.model, "prompt": text, "add_special_tokens": False}
        answer = client.post("/tokenize", body)
        theirs = answer.get("tokens") if isinstance(answer, dict) else None
        if theirs != tokenizer.encode(text) and "<" not in text:
            raise NotSteerable(
                f"the local tokenizer and the server's differ on {text!r}",
                hint="choose the tokenizer of the served model with --model",
            )


def _refusal(client: Client, model: str, canvas: list[int]) -> str:
    """The server's error for a canvas; empty if it accepts it, or has no completions."""
    body = {"model": model, "prompt": [1], "max_tokens": 1, "vllm_xargs": {"diffusion_seed_canvas": canvas}}
    try:
        client.post("/v1/completions", body)
    except Refused as error:
        return error.message
    except NotThere:
        return ""
    return ""


def _number(pattern: str, text: str) -> int | None:
    found = re.search(pattern, text)
    return int(found[1]) if found else None


def _version(client: Client) -> str:
    try:
        answer = client.get("/version")
    except ServerError:
        return ""
    return str(answer.get("version", "")) if isinstance(answer, dict) else ""
