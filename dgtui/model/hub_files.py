"""The files of a repository on the hub at one commit: read whole, by their beginning, or from a place on."""

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
"""How the hub is told who asks."""

_JSON_LIMIT: Final = 64_000_000  # bytes of a config or an index, which are read into memory
_START: Final = 65_536  # bytes of a file that tell what it is; most headers end within them
_TIMEOUT: Final = 10.0  # seconds


class Repository:
    """The files at one commit. Methods raise what huggingface_hub raises; see `hub_errors`."""

    def __init__(self, name: str, commit: str, files: Mapping[str, Any]) -> None:
        """`files`: name → what the hub says of it, those at the top alone."""
        self.name, self.commit, self.files = name, commit, files

    def size(self, file: str) -> int:
        """Bytes of a file."""
        return int(self.files[file].size or 0)

    def read(self, file: str) -> bytes:
        """A small file. Raises `CorruptCheckpoint` if it is large."""
        if self.size(file) > _JSON_LIMIT:
            raise CorruptCheckpoint(f"{file} of {self.name} is far too large")
        content = io.BytesIO()
        self.append(file, content)
        return content.getvalue()

    def json(self, file: str) -> dict[str, Any]:
        """A JSON object. Raises `CorruptCheckpoint` if it is none."""
        return parse_json(self.read(file), f"{file} of {self.name}")

    def append(self, file: str, into: BinaryIO, **options: Any) -> None:
        """Puts a file, or the rest of it, at the end of `into`."""
        http_get(self._url(file), into, headers=self._headers(), **options)

    def shard(self, file: str) -> Shard:
        """What a safetensors file holds, by its header. Raises `CorruptCheckpoint` if it is none."""
        start = self.start(file)
        length = header_size(start[:8], self.size(file), file)
        header = start[8 : 8 + length]
        if len(header) < length:
            header += self.start(file, length - len(header), begin=len(start))
        return parse_shard(catalog.hub_folder(self.name) / "snapshots" / self.commit / file, self.size(file), header)

    def start(self, file: str, length: int = _START, begin: int = 0) -> bytes:
        """`length` bytes of a file from `begin` on, or as many as there are."""
        headers = self._headers() | {"Range": f"bytes={begin}-{begin + length - 1}"}
        data = b""
        with get_session().stream(
            "GET", self._url(file), headers=headers, follow_redirects=True, timeout=_TIMEOUT
        ) as response:
            hf_raise_for_status(response)
            skip = 0 if response.status_code == 206 else begin  # a server that gives the whole file
            for piece in response.iter_bytes():
                data += piece
                if len(data) >= skip + length:
                    break
        return data[skip : skip + length]

    def _url(self, file: str) -> str:
        return hf_hub_url(self.name, file, revision=self.commit)

    def _headers(self) -> dict[str, str]:
        return build_hf_headers(**CLIENT) | {"Accept-Encoding": "identity"}  # places in it are those of the content
