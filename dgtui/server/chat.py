"""Chat with any OpenAI-compatible server: it gets messages and sends text, so there is no canvas to steer.

The text is shown on a canvas of tokens of a local tokenizer, so transcript, history and recordings stay one code. A
server that streams its drafts (`"type": "diffusion_frame"`, as Unsloth's shim for llama.cpp does) is shown with them.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

import numpy as np

from dgtui.diffusion.events import Flag, Ids
from dgtui.diffusion.image import Image
from dgtui.diffusion.job import Amendment, SamplerSettings, Start
from dgtui.diffusion.stepper import CandidateStep, frozen
from dgtui.errors import RunFailed
from dgtui.message import Message, Role
from dgtui.model.tokenizer import ModelTokenizer
from dgtui.server.client import Client, Refused, ServerError
from dgtui.server.probe import Served
from dgtui.server.stepper import StepsStepper
from dgtui.server.stream import Stream

PATH: Final = "/v1/chat/completions"
CANVAS: Final = 256
"""Number of local tokens that are shown together."""
CONTEXT: Final = 1 << 20
"""Most tokens of a conversation here. The server reports its own limit."""
LONGEST: Final = 1 << 18
"""Most characters of a reply, for a server that does not stop."""
FIXED: Final = "this server sends text only"
"""Why the canvas cannot be steered."""
_ROLES: Final[tuple[Role, ...]] = ("system", "user", "model")
_NAMES: Final = {"model": "assistant"}
"""Roles with a different name in the protocol."""
_OPTIONAL: Final = ("seed", "chat_template_kwargs")
"""Left out if a server rejects them."""


class ChatTokenizer(ModelTokenizer):
    """A local tokenizer whose prompts can be split into messages again.

    Each message is an id above the vocabulary, which stands for its role, and the ids of its text.
    """

    def chat(self, messages: Sequence[Message], *, think: bool = False) -> list[int]:
        """The ids that stand for a conversation. `think`: the server is asked to let its model think."""
        ids = [self._think_id] if think else []
        for message in messages:
            ids += [self.vocab_size + _ROLES.index(message.role), *self.encode(message.content)]
        return ids

    @property
    def _think_id(self) -> int:
        return self.vocab_size + len(_ROLES)

    @property
    def ids_in_use(self) -> int:
        """Ids are below this."""
        return self._think_id + 1

    def request(self, ids: Sequence[int]) -> dict[str, Any]:
        """The part of a request that says what `chat` was given."""
        parts: list[tuple[str, list[int]]] = []
        for token in ids:
            if self.vocab_size <= token < self._think_id:
                role = _ROLES[token - self.vocab_size]
                parts.append((_NAMES.get(role, role), []))
            elif token < self.vocab_size and parts:
                parts[-1][1].append(token)
            elif token < self.vocab_size:  # a prompt without a role, as `--raw` gives it
                parts.append(("user", [token]))
        messages = [{"role": role, "content": self.decode(text)} for role, text in parts]
        thinking = {"chat_template_kwargs": {"enable_thinking": True}} if self._think_id in ids else {}
        return {"messages": messages, **thinking}


class _Reply:
    """The reply received so far."""

    def __init__(self) -> None:
        self.content, self.thought, self.draft = "", "", ""
        self.finish = ""
        """Why the server ended it; empty while it is being written."""

    def take(self, event: Mapping[str, Any]) -> None:
        """Adds an event. Raises `ServerError` for one of another protocol."""
        if event.get("type") == "diffusion_frame":
            self.draft = str(event.get("text", ""))
            return
        choices = event.get("choices")
        if not isinstance(choices, list):
            raise _nonsense("no choices")
        for choice in choices[:1]:  # the last event may have none
            if not isinstance(choice, dict):
                raise _nonsense("a choice that is not an object")
            delta = choice.get("delta", choice.get("message")) or {}
            if not isinstance(delta, dict):
                raise _nonsense("a message that is not an object")
            self._add(delta.get("content"), delta.get("reasoning_content", delta.get("reasoning")))
            if finish := choice.get("finish_reason"):
                self.finish, self.draft = str(finish), ""

    def _add(self, content: object, thought: object) -> None:
        if isinstance(thought, str) and not self.content:
            self.thought += thought
        if isinstance(content, str) and content:
            self.content, self.draft = self.content + content, ""
        if len(self.content) + len(self.thought) > LONGEST:
            self.finish = "length"

    @property
    def settled(self) -> bytes:
        """The text that will not change any more, after its thought in the form that `split_thought` expects."""
        thought = f"<think>{self.thought}" if self.thought else ""
        if thought and (self.content or self.finish):
            thought += "</think>"
        return _utf8(thought + self.content)


class ChatStepper(StepsStepper):
    """Shows a streamed reply as the steps of a canvas. Nothing can be pinned, and a seed need not repeat a reply."""

    name = "chat (not repeatable)"

    def __init__(
        self, client: Client, served: Served, tokenizer: ChatTokenizer, stop_id: int, most: int | None
    ) -> None:
        """`most`: tokens of a reply, as the server counts them; None: its own limit."""
        super().__init__(client, served, frozenset({stop_id}))
        self._tokenizer, self._stop_id, self._most = tokenizer, stop_id, most
        self._seed = 0
        self._left_out: set[str] = set()
        self._stream: Stream | None = None
        self._reply, self._shown = _Reply(), 0
        self._drawn = ""
        """The draft that was shown last."""
        self._settled = 0
        """How many settled tokens were shown last."""
        self._failure: ServerError | None = None

    def encode(self, ids: Sequence[int], images: Sequence[Image] = ()) -> None:
        """Makes `ids` the conversation. The request is sent with the first step."""
        self.interrupt()
        super().encode(ids, images)
        self._stream, self._reply, self._shown, self._drawn, self._failure = None, _Reply(), 0, "", None

    def seed(self, candidate: int, seed: int) -> None:
        """Keeps the seed for the request."""
        super().seed(candidate, seed)
        self._seed = seed

    def interrupt(self) -> None:
        """Ends the request. Safe from any thread."""
        if (stream := self._stream) is not None:
            stream.close()

    def begin(self, starts: Sequence[Start], settings: SamplerSettings, suppressed: Collection[int] = ()) -> list[Ids]:
        """Lays out an empty canvas. Raises `RunFailed` for anything that needs a canvas on the server."""
        held = [len(start.pinned) for start in starts]
        if held not in ([0], [self.canvas_length]) or suppressed:
            raise RunFailed(FIXED, hint="steering needs vLLM with a DiffusionGemma checkpoint")
        self._settled = 0
        return super().begin(starts, settings, suppressed)

    def _noise(self, candidate: int) -> Ids:
        return np.full(self.canvas_length, self._stop_id, dtype=np.int32)

    def amend(self, amendment: Amendment) -> int:
        """Raises `RunFailed`: not supported."""
        raise RunFailed(FIXED, hint="steering needs vLLM with a DiffusionGemma checkpoint")

    def commit(self, ids: Ids) -> None:
        """Continues with the text after a finished canvas."""
        self._shown += len(self._tokenizer.decode_bytes(ids.tolist()))

    def release(self) -> None:
        """Ends the request and drops the reply."""
        self.interrupt()
        super().release()
        self._stream, self._reply = None, _Reply()

    def step(self) -> list[CandidateStep]:
        """Waits for a new draft, or for enough text that the steps that are left suffice for a canvas."""
        (row,) = self._rows
        least = max(math.ceil(self.canvas_length / self._settings.steps) * (row.steps + 1), self._settled + 1)
        last = row.steps + 1 >= self._settings.steps
        while True:
            settled = self._ids(self._reply.settled[self._shown :])
            if self._reply.finish or len(settled) >= self.canvas_length:
                return [self._show(settled, done=True)]
            if not last and (len(settled) >= least or self._reply.draft not in ("", self._drawn)):
                return [self._show(settled, done=False)]
            self._read()

    def _show(self, settled: list[int], done: bool) -> CandidateStep:
        """The canvas with the text so far, padded with the id that ends a reply."""
        row, draft = self._rows[0], self._reply.draft
        ids = settled if done or not draft else self._ids(self._reply.settled[self._shown :] + _utf8(draft))
        self._drawn, self._settled = draft, len(settled)
        canvas = np.full(self.canvas_length, self._stop_id, dtype=np.int32)
        count = min(len(ids), self.canvas_length)
        canvas[:count] = ids[:count]
        places = np.arange(self.canvas_length)
        open_ = (places >= len(settled)) & (places < count)
        flags = np.where(open_, int(Flag.RENOISED), int(Flag.ACCEPTED)) + (open_ & (canvas != row.draft)) * int(
            Flag.CHANGED
        )
        entropy = np.where(open_, math.log(self.vocab_size), 0.0)
        row.draft, row.done, row.steps = canvas, done, row.steps + 1
        return CandidateStep(
            candidate=0,
            ids=frozen(canvas, np.int32),
            canvas=frozen(canvas, np.int32),
            entropy=frozen(entropy, np.float32),
            flags=frozen(flags, np.uint8),
            top_ids=frozen(canvas[:, None], np.int32),
            top_probs=frozen(np.ones((self.canvas_length, 1)), np.float32),
            mean_entropy=float(entropy.mean()),
            temperature=1.0,
            done=done,
            cut=self._reply.finish == "length",
        )

    def _read(self) -> None:
        """Processes the received part of the reply; sends the request first."""
        if self._failure is not None:
            raise self._failure
        if self._stream is None:
            self._stream = Stream(self.client, PATH, self._body())
        try:
            events = self._stream.read()
        except Refused as refused:
            unwanted = {name for name in self._body() if name in _OPTIONAL and name in refused.message}
            if not unwanted:
                raise
            self._left_out |= unwanted
            self._stream = None
            return
        for count, event in enumerate(events):
            try:
                self._reply.take(event)
            except ServerError as error:
                if not count:
                    raise
                self._failure = error  # the text before it is shown first
                break
        if not events:
            if not self._stream.whole:
                raise ServerError(
                    f"the server at {self.client.url} broke off the reply",
                    hint="the text so far is kept; look at the server's log",
                )
            self._reply.finish = self._reply.finish or "stop"
        if self._reply.finish == "length":  # also where the limit is the one of this program
            self._stream.close()

    def _body(self) -> dict[str, Any]:
        """The request, without what this server has refused."""
        most = {"max_tokens": self._most} if self._most else {}
        body = {"model": self.served.model, "stream": True, "seed": self._seed % 2**31, **most}
        body |= self._tokenizer.request(self._prefix)
        return {name: value for name, value in body.items() if name not in self._left_out}

    def _ids(self, data: bytes) -> list[int]:
        """The ids of as much of `data` as a canvas holds, or of all of it."""
        size = 16 * self.canvas_length
        ids = self._encoded(data[:size])
        while len(ids) < self.canvas_length and size < len(data):
            size *= 4
            ids = self._encoded(data[:size])
        return ids[: self.canvas_length]

    def _encoded(self, data: bytes) -> list[int]:
        """Ids of bytes that may begin or end inside a character."""
        begin = next((at for at, byte in enumerate(data) if byte & 0xC0 != 0x80), len(data))
        try:
            text, rest = data[begin:].decode(), b""
        except UnicodeDecodeError as error:
            end = begin + error.start
            text, rest = data[begin:end].decode(), data[end:]
        inside = self._tokenizer.encode(text)
        return [*self._tokenizer.byte_ids(data[:begin]), *inside, *self._tokenizer.byte_ids(rest)]


def _utf8(text: str) -> bytes:
    """`text` in UTF-8; halves of a character that came apart are joined, and lone ones replaced."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").encode()


def _nonsense(what: str) -> ServerError:
    return ServerError(
        f"the server's response is not valid: {what}", hint="check that it is an OpenAI-compatible server"
    )
