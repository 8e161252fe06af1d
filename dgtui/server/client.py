"""HTTP to an OpenAI-compatible server: every failure is one sentence that says what to do.

Only requests that cannot have been sampled are repeated: those that never reached the server, and those that it
rejected with 429 or 503. The key is sent in one header and appears nowhere else, not even in `repr` or a traceback.
"""

import asyncio
import ipaddress
import json
import threading
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import httpx

from dgtui.diffusion.stepper import Interrupted
from dgtui.errors import DgtuiError, UsageError

Body = Mapping[str, Any]
Answer = TypeVar("Answer")

CONNECT_SECONDS: Final = 5.0
READ_SECONDS: Final = 600.0
TRIES: Final = 3
LONGEST_WAIT: Final = 10.0
"""Most seconds to wait when a server asks to retry later."""
_TURNED_AWAY: Final = (429, 503)


class ServerError(DgtuiError):
    """A server could not be used: it is unreachable, rejected the request, or broke off the response."""

    exit_code = 1


class Refused(ServerError):
    """The server answered a request with 400; `message` quotes it."""


class NotThere(ServerError):
    """The server does not know this address or model."""


class _Key(httpx.Auth):
    """The key of the server, kept out of every representation."""

    def __init__(self, key: str) -> None:
        self.__key = key

    def auth_flow(self, request: httpx.Request) -> Any:
        request.headers["authorization"] = f"Bearer {self.__key}"
        yield request

    def __repr__(self) -> str:
        return "<key>"


def address(url: str) -> str:
    """The server's address without a trailing slash or `/v1`.

    Raises:
        UsageError: Not an http or https address, or one with a password in it.
    """
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        httpx.URL(parts.geturl())
    except (ValueError, httpx.InvalidURL):
        valid = False
    if "@" in url:
        raise UsageError("the address of the server holds a password", hint="put the key into DGTUI_SERVER_KEY instead")
    if not valid:
        raise UsageError(f"{url!r} is not the address of a server", hint="write it like http://localhost:8000")
    path = parts.path.rstrip("/").removesuffix("/v1")
    return f"{parts.scheme}://{parts.netloc}{path}"


def sent_in_the_clear(url: str) -> bool:
    """Whether prompts are sent to another machine unencrypted."""
    parts = urlsplit(url)
    if parts.scheme != "http":
        return False
    host = parts.hostname or ""
    with suppress(ValueError):
        return not ipaddress.ip_address(host).is_loopback
    return host != "localhost" and not host.endswith(".localhost")


class Client:
    """One server. Calls block; `interrupt` ends them from another thread, and the server stops computing for them.

    Args:
        url: In the form that `address` returns.
        key: Sent as a bearer token; empty if the server needs none.
        transport: For tests.

    Raises:
        UsageError: The key cannot be sent.
        ServerError: The environment names a proxy or certificates that cannot be used.
    """

    def __init__(self, url: str, key: str = "", transport: httpx.AsyncBaseTransport | None = None) -> None:
        self.url = url
        fits = key.strip().isascii() and key.strip().isprintable()
        auth = _Key(key.strip()) if key.strip() else None
        del key  # no traceback of what follows holds it
        if not fits:  # the HTTP library would quote it in its refusal
            raise UsageError("the server's key contains an invalid character", hint="copy it again")
        try:
            self._http = httpx.AsyncClient(
                base_url=url,
                auth=auth,
                timeout=httpx.Timeout(READ_SECONDS, connect=CONNECT_SECONDS),
                limits=httpx.Limits(max_connections=64),
                transport=transport,
            )
        except (ValueError, ImportError, OSError) as error:
            raise ServerError(
                f"the network settings of this machine cannot be used: {error}",
                hint="check HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY and SSL_CERT_FILE",
            ) from None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="dgtui-server", daemon=True)
        self._thread.start()
        self._lock = threading.Lock()
        self._waiting: set[Future[Any]] = set()
        self._interrupted = False
        self.first_wait = 0.3
        """Seconds before the first retry of a request; doubles each time."""

    def __repr__(self) -> str:
        return f"Client({self.url!r})"

    def close(self) -> None:
        """Ends waiting calls and closes all connections. May be called again."""
        if self._loop.is_closed():
            return
        self.interrupt()
        asyncio.run_coroutine_threadsafe(self._shut_down(), self._loop).result(2)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(2)
        self._loop.close()

    async def _shut_down(self) -> None:
        await self._http.aclose()
        await self._loop.shutdown_asyncgens()  # of streams that were not read to their end

    def interrupt(self) -> None:
        """Ends the waiting calls, and further ones until `resume`, with `Interrupted`."""
        with self._lock:
            self._interrupted = True
            waiting = list(self._waiting)
        for future in waiting:
            future.cancel()

    def resume(self) -> None:
        """Allows calls again after `interrupt`."""
        with self._lock:
            self._interrupted = False

    def get(self, path: str) -> Any:
        """GET, parsed JSON. Raises `ServerError`."""
        return self._wait([self._call("GET", path, None)])[0]

    def post(self, path: str, body: Body) -> Any:
        """POST of JSON, parsed JSON. Raises `ServerError`, `Refused` for a 400."""
        return self.post_all(path, [body])[0]

    def post_all(self, path: str, bodies: Sequence[Body]) -> list[Any]:
        """Several requests at once; the answers in order. The first failure ends the others."""
        return self._wait([self._call("POST", path, body) for body in bodies])

    def start(self, call: Coroutine[Any, Any, Answer]) -> Future[Answer]:
        """Runs a coroutine on the client's thread; `interrupt` cancels it. Raises `Interrupted` after one."""
        with self._lock:
            if self._interrupted:
                call.close()
                raise Interrupted
            future = asyncio.run_coroutine_threadsafe(call, self._loop)
            self._waiting.add(future)
        future.add_done_callback(self._forget)
        return future

    def _forget(self, future: Future[Any]) -> None:
        with self._lock:
            self._waiting.discard(future)

    def _wait(self, calls: list[Coroutine[Any, Any, Any]]) -> list[Any]:
        async def together() -> list[Any]:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(call) for call in calls]
            return [task.result() for task in tasks]

        try:
            return self.start(together()).result()
        except Interrupted:
            for call in calls:
                call.close()
            raise
        except CancelledError:
            raise Interrupted from None
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None

    async def _call(self, method: str, path: str, body: Body | None) -> Any:
        async with self.open(method, path, body) as response:
            return self.parsed(path, 200, (await response.aread()).decode(errors="replace"))

    @asynccontextmanager
    async def open(self, method: str, path: str, body: Body | None) -> AsyncIterator[httpx.Response]:
        """Sends a request, and again where it cannot have been sampled; yields a response with status 200, not read
        yet. On the client's thread only. Raises `ServerError`, `Refused` for a 400."""
        request = self._http.build_request(method, path, json=body)
        try:
            response = await self._answered(request)
            try:
                if response.status_code != 200:
                    self.parsed(path, response.status_code, (await response.aread()).decode(errors="replace"))
                yield response
            finally:
                await response.aclose()
        except httpx.HTTPError as error:
            raise self._broken(error) from None

    async def _answered(self, request: httpx.Request) -> httpx.Response:
        """The first answer that does not turn the request away, or the last."""
        wait = self.first_wait
        for attempt in range(1, TRIES + 1):
            try:
                response = await self._http.send(request, stream=True)
            except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
                if attempt == TRIES:
                    raise self._unreachable(error) from None
            else:
                if response.status_code not in _TURNED_AWAY or attempt == TRIES:
                    return response
                await response.aclose()
                asked = response.headers.get("retry-after", "")
                wait = min(float(asked), LONGEST_WAIT) if asked.isascii() and asked.isdigit() else wait
            await asyncio.sleep(wait)
            wait *= 2
        raise AssertionError("the last try returns or raises")

    def parsed(self, path: str, status: int, text: str) -> Any:
        """The JSON of an answer. Raises `ServerError` for a failure, also one that is sent under status 200."""
        try:
            answer = json.loads(text)
        except (ValueError, RecursionError):
            answer = None
        said = _said(answer) or " ".join(text.split())[:200]
        if status == 200 and answer is not None and not (isinstance(answer, dict) and "error" in answer):
            return answer
        raise self._failed(path, status, said)

    def _failed(self, path: str, status: int, said: str) -> ServerError:
        where = f"the server at {self.url}"
        match status:
            case 400 | 422:
                return Refused(
                    f"{where} rejected the request: {said}",
                    hint="update dgtui and vLLM; if that does not help, report it",
                )
            case 401 | 403:
                return ServerError(f"{where} rejected the key ({status})", hint="set DGTUI_SERVER_KEY, then try again")
            case 404 | 405 | 501:
                return NotThere(
                    f"{where} has no {path}: {said}", hint="check that it is a vLLM server, and the model's name"
                )
            case 413:
                return ServerError(f"{where} rejected the request as too large", hint="shorten the conversation")
            case 429:
                return ServerError(f"{where} is busy (429)", hint="try again in a while, or lower --concurrency")
            case 200:
                return ServerError(
                    f"{where} broke off the response: {said}",
                    hint="the text so far is kept; look at the server's log, and restart it",
                )
            case _ if status >= 500:
                return ServerError(
                    f"{where} failed ({status}): {said}", hint="look at the server's log, and restart it if it has died"
                )
            case _:
                return ServerError(
                    f"{where} answered {status}: {said}", hint="check that this is the address of a vLLM server"
                )

    def _unreachable(self, error: httpx.HTTPError) -> ServerError:
        text = str(error)
        if "CERTIFICATE" in text.upper() or "SSL" in text.upper():
            return ServerError(
                f"the certificate of {self.url} cannot be verified: {text}",
                hint="set SSL_CERT_FILE to the certificate of your authority",
            )
        return ServerError(
            f"no server answers at {self.url}: {text}", hint="check that it is running and that the address is right"
        )

    def _broken(self, error: httpx.HTTPError) -> ServerError:
        if isinstance(error, httpx.TimeoutException):
            return ServerError(
                f"the server at {self.url} did not answer within {READ_SECONDS:.0f} s", hint="look at the server's log"
            )
        if isinstance(error, httpx.ProxyError):
            return ServerError(
                f"the proxy rejected the connection: {error}", hint="check HTTP_PROXY, HTTPS_PROXY and NO_PROXY"
            )
        return ServerError(
            f"the connection to {self.url} was lost: {error or type(error).__name__}",
            hint="the text so far is kept; try again when the server is back",
        )


def _said(answer: Any) -> str:
    """The error message in a response, shortened; empty if there is none."""
    if isinstance(answer, dict):
        error = answer.get("error", answer.get("detail", answer.get("message")))
        if isinstance(error, dict):
            error = error.get("message")
        if error:
            return " ".join(str(error).split())[:200]
    return ""
