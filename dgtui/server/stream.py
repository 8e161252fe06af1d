"""Reads a streamed response: server-sent events, read on the client's thread and passed on as they arrive.

If a server ignores `stream` and sends one JSON object, it counts as one event.
"""

import queue
from collections.abc import AsyncGenerator
from concurrent.futures import CancelledError, Future
from contextlib import aclosing
from typing import Any, Final

import httpx

from dgtui.diffusion.stepper import Interrupted
from dgtui.server.client import Body, Client, ServerError

LONGEST_LINE: Final = 1 << 24
"""Most bytes of one event."""
_END: Final = None


class Stream:
    """One streamed response. Call `read` on one thread; `close` may be called on any."""

    def __init__(self, client: Client, path: str, body: Body) -> None:
        self._client = client
        self._arrived: queue.SimpleQueue[dict[str, Any] | Exception | None] = queue.SimpleQueue()
        self._ended = False
        self.whole = False
        """Whether the server has reported that the response is complete."""
        self._future: Future[None] = client.start(self._receive(path, body))
        self._future.add_done_callback(self._stop)

    def read(self) -> list[dict[str, Any]]:
        """The events that have arrived since the last call; waits for at least one. Empty: the stream has ended.

        Raises:
            ServerError: The server refused, broke off, or sent an error.
            Interrupted: `close` was called.
        """
        events: list[dict[str, Any]] = []
        while not self._ended and not (events and self._arrived.empty()):
            event = self._arrived.get()
            if isinstance(event, Exception):
                if events:  # earlier events are returned first
                    self._arrived.put(event)
                    return events
                self._ended = True
                raise event
            if event is _END:
                self._ended = True
            else:
                events.append(event)
        return events

    def close(self) -> None:
        """Ends the request, which closes the connection. A waiting `read` raises `Interrupted`."""
        self._future.cancel()

    def _stop(self, future: Future[None]) -> None:
        try:
            future.result()
        except CancelledError:
            self._arrived.put(Interrupted())
        except Exception as error:  # passed on to the reader
            self._arrived.put(error)
        else:
            self._arrived.put(_END)

    async def _receive(self, path: str, body: Body) -> None:
        async with self._client.open("POST", path, body) as response, aclosing(_events(response)) as events:
            async for data in events:
                if data == b"[DONE]":
                    self.whole = True
                    return
                event = self._client.parsed(path, 200, data.decode(errors="replace"))
                if not isinstance(event, dict):
                    raise ServerError(
                        "the server's response is not valid", hint="check that it is an OpenAI-compatible server"
                    )
                self._arrived.put(event)


async def _events(response: httpx.Response) -> AsyncGenerator[bytes, None]:
    """The data of each event. Only line feeds end a line: JSON may hold other separators as they are."""
    left, data, plain = b"", [], []
    async for chunk in response.aiter_bytes():
        *lines, left = (left + chunk).split(b"\n")
        if len(left) > LONGEST_LINE:
            raise ServerError(
                "the server sends a line that is too long", hint="check that this is the address of a model server"
            )
        for line in lines:
            line = line.removesuffix(b"\r")
            if line.startswith(b"data:"):
                data.append(line[5:].removeprefix(b" "))
            elif not line and data:
                yield b"\n".join(data)
                data = []
            elif line and not line.startswith((b":", b"event:", b"id:", b"retry:")):
                plain.append(line)
    if left.startswith(b"data:"):
        data.append(left[5:].removeprefix(b" "))
    elif left:
        plain.append(left)
    if data:
        yield b"\n".join(data)
    if plain:
        yield b"\n".join(plain)
