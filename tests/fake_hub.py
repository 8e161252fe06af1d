"""A hub in memory, under huggingface_hub's real client: it answers as the true one does, and breaks when told to."""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Final
from urllib.parse import unquote

from huggingface_hub import errors

httpx: Final[Any] = import_module(errors.HfHubHTTPError.__bases__[0].__module__.partition(".")[0])
"""The client that huggingface_hub uses."""

COMMIT: Final = "c0ffee" + "0" * 34
STORAGE: Final = "https://storage.test"
LARGE: Final = (".safetensors", "tokenizer.json", ".bin", ".gguf")
"""What is stored apart, behind a redirect."""


@dataclass
class FakeHub:
    """The repositories of a hub, and what it was asked for."""

    repos: dict[str, dict[str, bytes]]
    """Name → file → content."""
    commit: str = COMMIT
    refuse: dict[str, tuple[int, dict[str, str]]] = field(default_factory=dict)
    """Part of an address → the status and headers that are answered there."""
    break_after: int | None = None
    """Bytes after which the connection breaks, the next time something large is fetched; then it stays broken."""
    ranges: bool = True
    """Whether the storage can begin in the middle of a file."""
    lost: bool = False
    """Whether the network is gone."""
    damaged: bool = False
    """Whether the storage gives back other bytes than were put into it."""
    requests: list[Any] = field(default_factory=list)
    sent: int = 0
    """Bytes of large files that were sent, but for their beginnings."""
    peeked: int = 0
    """Bytes of the beginnings of large files that were asked for."""

    def client(self) -> Any:
        """A client of this hub, for `huggingface_hub.set_client_factory`."""
        return httpx.Client(transport=httpx.MockTransport(self._answer), follow_redirects=True)

    def asked(self) -> list[str]:
        """Method and path of every request."""
        return [f"{request.method} {request.url.path}" for request in self.requests]

    def fetched(self) -> set[str]:
        """The files whose content was asked for."""
        found = {re.search(r"/resolve/[^/]+/(.+)", path) for path in self.asked() if path.startswith("GET")}
        return {match[1] for match in found if match}

    def _answer(self, request: Any) -> Any:
        self.requests.append(request)
        if self.lost:
            raise httpx.ConnectError("Name or service not known", request=request)
        path = unquote(request.url.path)
        for part, (status, headers) in self.refuse.items():
            if part in path:
                return httpx.Response(status, headers=headers, request=request)
        if request.url.host == "storage.test":
            return self._stored(request, path.removeprefix("/"))
        match = re.fullmatch(r"/api/models/([^/]+/[^/]+)/revision/(.+)", path)
        if match:
            return self._info(match[1], match[2])
        match = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
        if match and match[3] in self.repos.get(match[1], {}):
            return self._file(request, self.repos[match[1]][match[3]], match[3])
        return httpx.Response(404, headers={"X-Error-Code": "EntryNotFound" if match else "RepoNotFound"})

    def _info(self, name: str, revision: str) -> Any:
        if name not in self.repos:
            return httpx.Response(401, headers={"X-Error-Code": "RepoNotFound"})
        if revision not in ("main", "v2", self.commit):
            return httpx.Response(404, headers={"X-Error-Code": "RevisionNotFound"})
        files = [
            {"rfilename": file, "size": len(content), "blobId": hashlib.sha1(content).hexdigest()}
            | ({"lfs": {"sha256": _sha256(content), "size": len(content), "pointerSize": 134}} if large(file) else {})
            for file, content in self.repos[name].items()
        ]
        return httpx.Response(200, json={"id": name, "sha": self.commit, "siblings": files})

    def _file(self, request: Any, content: bytes, name: str) -> Any:
        headers = {"X-Repo-Commit": self.commit, "ETag": f'"{hashlib.sha1(content).hexdigest()}"'}
        if large(name):
            linked = {"X-Linked-Etag": f'"{_sha256(content)}"', "X-Linked-Size": str(len(content))}
            return httpx.Response(302, headers=headers | linked | {"Location": f"{STORAGE}/{_sha256(content)}"})
        if request.method == "HEAD":
            return httpx.Response(200, headers=headers | {"Content-Length": str(len(content))})
        return httpx.Response(200, headers=headers, content=content)

    def _stored(self, request: Any, digest: str) -> Any:
        contents = [content for repo in self.repos.values() for content in repo.values()]
        content = next(content for content in contents if _sha256(content) == digest)
        if self.damaged:
            content = bytes(len(content))
        start = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("range", "")) if self.ranges else None
        begin, end = (int(start[1]), int(start[2] or len(content))) if start else (0, len(content))
        if start and begin >= len(content):
            return httpx.Response(416, headers={"Content-Range": f"bytes */{len(content)}"})
        whole, content = len(content), content[begin : end + 1]
        headers = {"Content-Length": str(len(content))}
        if start:
            headers["Content-Range"] = f"bytes {begin}-{begin + len(content) - 1}/{whole}"
        if start and start[2]:
            self.peeked += len(content)
            return httpx.Response(206, headers=headers, content=content)
        return httpx.Response(206 if start else 200, headers=headers, content=self._stream(request, content))

    def _stream(self, request: Any, content: bytes) -> Iterator[bytes]:
        for at in range(0, len(content), 1000):
            if self.break_after is not None and self.sent + 1000 > self.break_after:
                self.lost = True
                raise httpx.ReadError("connection reset", request=request)
            piece = content[at : at + 1000]
            self.sent += len(piece)
            yield piece


def large(name: str) -> bool:
    """Whether a file is stored apart."""
    return name.endswith(LARGE)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def repository(folder: Any) -> dict[str, bytes]:
    """The files of a checkpoint, as a repository has them."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
