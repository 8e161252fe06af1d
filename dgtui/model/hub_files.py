"""Reads files of a hub repository at one commit: whole, their first bytes, or from an offset on."""

import io
from collections.abc import Mapping
from typing import Any, BinaryIO, Final

from huggingface_hub import hf_hub_url
from huggingface_hub.file_download import http_get
from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

from dgtui import __version__
from dgtui.errors import CorruptCheckpoint
from dgtui.model import catalog
from dgtui.model.shards import Shard, header_size, parse_json, parse_shard

CLIENT: Final[dict[str, Any]] = {"library_name": "dgtui", "library_version": __version__}
"""The client name that is sent to the hub."""

_JSON_LIMIT: Final = 64_000_000  # bytes of a config or an index, which are read into memory
_START: Final = 65_536  # first bytes of a file that are read; most headers fit
_TIMEOUT: Final = 10.0  # seconds


class Repository:
    """The files at one commit. Methods raise what huggingface_hub raises; see `hub_errors`."""

    def __init__(self, name: str, commit: str, files: Mapping[str, Any]) -> None:
        """`files`: name → the hub's data about it; top-level files only."""
        self.name, self.commit, self.files = name, commit, files

    def size(self, file: str) -> int:
        """Bytes of a file."""
        return int(self.files[file].size or 0)

    def read(self, file: str) -> bytes:
        """A small file. Raises `CorruptCheckpoint` if it is large."""
        if self.size(file) > _JSON_LIMIT:
            raise CorruptCheckpoint(f"{file} of {self.name} is too large to be valid")
        content = io.BytesIO()
        self.append(file, content)
        return content.getvalue()

    def json(self, file: str) -> dict[str, Any]:
        """A JSON object. Raises `CorruptCheckpoint` if the file is something else."""
        return parse_json(self.read(file), f"{file} of {self.name}")

    def append(self, file: str, into: BinaryIO, **options: Any) -> None:
        """Appends a file, or the rest of it, to `into`."""
        http_get(self._url(file), into, headers=self._headers(), **options)

    def shard(self, file: str) -> Shard:
        """A safetensors file's header. Raises `CorruptCheckpoint` if it is not such a file."""
        start = self.start(file)
        length = header_size(start[:8], self.size(file), file)
        header = start[8 : 8 + length]
        if len(header) < length:
            header += self.start(file, length - len(header), begin=len(start))
        return parse_shard(catalog.hub_folder(self.name) / "snapshots" / self.commit / file, self.size(file), header)

    def start(self, file: str, length: int = _START, begin: int = 0) -> bytes:
        """Up to `length` bytes of a file from `begin` on."""
        headers = self._headers() | {"Range": f"bytes={begin}-{begin + length - 1}"}
        data = b""
        with get_session().stream(
            "GET", self._url(file), headers=headers, follow_redirects=True, timeout=_TIMEOUT
        ) as response:
            hf_raise_for_status(response)
            skip = 0 if response.status_code == 206 else begin  # the server sends the whole file
            for piece in response.iter_bytes():
                data += piece
                if len(data) >= skip + length:
                    break
        return data[skip : skip + length]

    def _url(self, file: str) -> str:
        return hf_hub_url(self.name, file, revision=self.commit)

    def _headers(self) -> dict[str, str]:
        return build_hf_headers(**CLIENT) | {"Accept-Encoding": "identity"}  # ranges refer to uncompressed bytes
