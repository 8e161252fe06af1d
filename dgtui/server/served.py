"""A model on a server, with the interface of a loaded model: its tokenizer is local, its weights are not."""

import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from dgtui.config import KEY_VARIABLE
from dgtui.diffusion.settings import SamplerSettings
from dgtui.errors import DgtuiError, ModelNotFound
from dgtui.model_info import ModelInfo
from dgtui.server.chat import CANVAS, CONTEXT, FIXED, ChatStepper, ChatTokenizer
from dgtui.server.client import Client, ServerError, address, sent_in_the_clear
from dgtui.server.probe import NotSteerable, Served, check_tokenizer, models, recognise
from dgtui.server.stepper import BlocksStepper, StepsStepper

if TYPE_CHECKING:
    from dgtui.model.tokenizer import ModelTokenizer

Mode = Literal["steps", "blocks", "chat"]
KEYRING_SERVICE: Final = "dgtui"
UNENCRYPTED: Final = "prompts and replies are sent to another machine unencrypted: use https or a tunnel"


@dataclass(frozen=True, slots=True, eq=False)
class ServedModel:
    """Has the attributes of `model.loader.LoadedModel` that commands and screens use."""

    client: Client
    served: Served
    tokenizer: "ModelTokenizer"
    settings: SamplerSettings
    info: ModelInfo
    mode: Mode
    notes: tuple[str, ...]
    load_seconds: float
    most_tokens: int | None = None
    """Of a reply in the mode "chat", as the server counts them; None: its own limit."""
    images: None = None
    checkpoint: None = None

    @property
    def name(self) -> str:
        """The served name and the server."""
        return f"{self.served.model} on {self.client.url.partition('://')[2]}"

    @property
    def stop_ids(self) -> frozenset[int]:
        """Ids that end a reply."""
        return self.info.stop_ids

    @property
    def device(self) -> str:
        """Where it runs."""
        return "server"

    @property
    def held(self) -> str:
        """What serves it, such as "vLLM 0.32"."""
        return "text only" if self.fixed else f"vLLM {self.served.version}".strip()

    @property
    def fixed(self) -> str:
        """Why its canvas cannot be steered; empty if it can."""
        return FIXED if self.mode == "chat" else ""

    def limit(self, tokens: int) -> int:
        """At how many tokens a reply is cut here. A server of text counts its own."""
        return self.info.max_context if self.mode == "chat" else tokens

    @property
    def fingerprint(self) -> str:
        """Identifies the model, as far as the server's data allows."""
        return f"{'chat' if self.fixed else 'vllm'}:{self.served.model}:{self.served.version}"

    def stepper(self, most_tokens: int | None = None) -> StepsStepper:
        """A stepper for it; `most_tokens` overrides the limit of the mode "chat"."""
        if isinstance(self.tokenizer, ChatTokenizer):
            most = most_tokens or self.most_tokens
            return ChatStepper(self.client, self.served, self.tokenizer, self.info.turn_end_id, most)
        return {"steps": StepsStepper, "blocks": BlocksStepper}[self.mode](self.client, self.served, self.info.stop_ids)


def api_key(environment: Mapping[str, str] = os.environ, url: str = "") -> str:
    """The key from `DGTUI_SERVER_KEY`, else from the keyring if that library is installed, else empty."""
    if key := environment.get(KEY_VARIABLE, ""):
        return key
    with suppress(Exception):  # no library, no keyring, or a locked one: the server reports whether it needs a key
        import keyring

        return keyring.get_password(KEYRING_SERVICE, url) or ""
    return ""


def connect(
    url: str, mode: Mode, name: str | None = None, *, otherwise_chat: bool = False, most_tokens: int | None = None,
    client: Client | None = None,
) -> ServedModel:  # fmt: skip
    """Identifies the model on a server and finds its tokenizer on this machine.

    Args:
        url: The server's address, as the user wrote it.
        mode: "steps": one request per denoising step; "blocks": the server samples whole canvases; "chat": messages are
            sent and text comes back, which every OpenAI-compatible server can do.
        name: The served model, or a local checkpoint or folder with the same tokenizer.
        otherwise_chat: Use the mode "chat" if the server accepts no canvas.
        most_tokens: Limit of a reply in the mode "chat".
        client: For tests.

    Raises:
        DgtuiError: The server cannot be used, or the tokenizer is not on this machine; the hint says what to do.
    """
    started = time.monotonic()
    url = address(url)
    client = client or Client(url, api_key(url=url))
    notes = [UNENCRYPTED] if sent_in_the_clear(url) else []
    served = None
    try:
        served = None if mode == "chat" else _served(client, name)
    except NotSteerable as refused:
        if not otherwise_chat:
            raise
        notes.insert(0, f"{refused.message}: replies come as text and cannot be steered")
    if served is None:
        return _chat(client, name, notes, most_tokens, started)
    from dgtui.model.tokenizer import ModelTokenizer

    folder = _tokenizer_folder(served.model, name)
    tokenizer = ModelTokenizer.load(folder)
    check_tokenizer(client, served, tokenizer, tokenizer.vocab_size)
    if mode == "steps":
        notes.insert(0, "it runs without self-conditioning, one request per step")
    settings, info = _described(folder, tokenizer, served)
    return ServedModel(client, served, tokenizer, settings, info, mode, tuple(notes), time.monotonic() - started)


def _chat(
    client: Client, name: str | None, notes: Sequence[str], most_tokens: int | None, started: float
) -> ServedModel:  # fmt: skip
    """A model that is sent messages. Its text is shown in tokens of the named checkpoint, or of the embedded model."""
    from dgtui.model.catalog import resolve
    from dgtui.paths import embedded_dir

    known: list[str] = [model["id"] for model in models(client)]
    if not known:
        raise ServerError(f"{client.url} serves no model", hint="load one on the server")
    model = name if name is not None and name in known else known[0]
    folder = embedded_dir()
    with suppress(DgtuiError):
        folder = resolve(name or model).path
    tokenizer = ChatTokenizer.load(folder)
    served = Served(model, "", CANVAS, tokenizer.ids_in_use, CONTEXT)
    settings, info = _described(folder, tokenizer, served)
    settings = replace(settings, steps=CANVAS)  # as many as there can be
    return ServedModel(
        client, served, tokenizer, settings, info, "chat", tuple(notes), time.monotonic() - started, most_tokens
    )


def _described(folder: Path, tokenizer: "ModelTokenizer", served: Served) -> tuple[SamplerSettings, ModelInfo]:
    """The sampler settings of a checkpoint's files, and what the program has to know of the model."""
    from dgtui.model.generation import read_generation
    from dgtui.model.shards import read_json

    config, generation = read_json(folder / "config.json"), read_json(folder / "generation_config.json")
    sampling = read_generation(generation, config, served.vocab_size)
    stop_ids = frozenset(sampling.stop_ids)
    end = tokenizer.turn_end_id if tokenizer.turn_end_id in stop_ids else tokenizer.eos_id
    end = min(stop_ids) if end is None else end
    return sampling.settings, ModelInfo(
        canvas_length=served.canvas_length,
        max_context=served.max_context,
        bos_id=tokenizer.bos_id,
        turn_end_id=end,
        fill_id=end if tokenizer.eos_id is None else tokenizer.eos_id,
        stop_ids=stop_ids,
        special_ids=tokenizer.special_ids,
        reads_marks=folder.name != "embedded",
    )


def _served(client: Client, name: str | None) -> Served:
    """The served model of that name; the first model if the name is only known locally."""
    known = {model["id"] for model in models(client)}
    return recognise(client, name if name in known else None)


def _tokenizer_folder(served: str, name: str | None) -> Path:
    """The folder with the tokenizer: of the named local checkpoint, or of the one with the served model's name."""
    from dgtui.model.catalog import REAL, resolve

    for candidate in dict.fromkeys([name, served, REAL] if name is None else [name, served]):
        if candidate:
            with suppress(DgtuiError):
                return resolve(candidate).path
    raise ModelNotFound(
        f"the tokenizer of {served} is not on this machine",
        hint=f"run dgtui model pull --tokenizer-only {REAL}, or name a folder that has it with --model",
    )
