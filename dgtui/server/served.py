"""A model on a server, with the interface of a loaded model: its tokenizer is local, its weights are not."""

import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from dgtui.config import KEY_VARIABLE
from dgtui.diffusion.settings import SamplerSettings
from dgtui.errors import DgtuiError, ModelNotFound
from dgtui.model_info import ModelInfo
from dgtui.server.client import Client, address, sent_in_the_clear
from dgtui.server.probe import Served, check_tokenizer, recognise
from dgtui.server.stepper import BlocksStepper, StepsStepper

if TYPE_CHECKING:
    from dgtui.model.tokenizer import ModelTokenizer

Mode = Literal["steps", "blocks"]
KEYRING_SERVICE: Final = "dgtui"


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
        return f"vLLM {self.served.version}".strip()

    @property
    def fingerprint(self) -> str:
        """Identifies the model, as far as the server's data allows."""
        return f"vllm:{self.served.model}:{self.served.version}"

    def stepper(self) -> StepsStepper:
        """A stepper for it."""
        return {"steps": StepsStepper, "blocks": BlocksStepper}[self.mode](self.client, self.served, self.info.stop_ids)


def api_key(environment: Mapping[str, str] = os.environ, url: str = "") -> str:
    """The key from `DGTUI_SERVER_KEY`, else from the keyring if that library is installed, else empty."""
    if key := environment.get(KEY_VARIABLE, ""):
        return key
    with suppress(Exception):  # no library, no keyring, or a locked one: the server reports whether it needs a key
        import keyring

        return keyring.get_password(KEYRING_SERVICE, url) or ""
    return ""


def connect(url: str, mode: Mode, name: str | None = None, *, client: Client | None = None) -> ServedModel:
    """Identify the model on a server and find its tokenizer on this machine.

    Args:
        url: The server's address, as the user wrote it.
        mode: "steps": one request per denoising step; "blocks": the server samples whole canvases.
        name: The served model, or a local checkpoint or folder with the same tokenizer.
        client: For tests.

    Raises:
        DgtuiError: The server cannot be used, or the tokenizer is not on this machine; the hint says what to do.
    """
    from dgtui.model.generation import read_generation
    from dgtui.model.shards import read_json
    from dgtui.model.tokenizer import ModelTokenizer

    started = time.monotonic()
    url = address(url)
    client = client or Client(url, api_key(url=url))
    served = _served(client, name)
    folder = _tokenizer_folder(served.model, name)
    tokenizer = ModelTokenizer.load(folder)
    check_tokenizer(client, served, tokenizer, tokenizer.vocab_size)
    config, generation = read_json(folder / "config.json"), read_json(folder / "generation_config.json")
    sampling = read_generation(generation, config, served.vocab_size)
    stop_ids = frozenset(sampling.stop_ids)
    end = tokenizer.turn_end_id if tokenizer.turn_end_id in stop_ids else tokenizer.eos_id
    end = min(stop_ids) if end is None else end
    info = ModelInfo(
        canvas_length=served.canvas_length,
        max_context=served.max_context,
        bos_id=tokenizer.bos_id,
        turn_end_id=end,
        fill_id=end if tokenizer.eos_id is None else tokenizer.eos_id,
        stop_ids=stop_ids,
        special_ids=tokenizer.special_ids,
        reads_marks=folder.name != "embedded",
    )
    notes = ["it runs without self-conditioning, one request per step"] if mode == "steps" else []
    if sent_in_the_clear(url):
        notes.append("prompts and replies are sent to another machine unencrypted: use https or a tunnel")
    return ServedModel(
        client, served, tokenizer, sampling.settings, info, mode, tuple(notes), time.monotonic() - started
    )


def _served(client: Client, name: str | None) -> Served:
    """The served model of that name; the first model if the name is only known locally."""
    from dgtui.server.probe import models

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
