"""What is read, byte for byte, and what is refused with the reason."""

import os
from pathlib import Path

import pytest

from dgtui.document import source
from dgtui.document.source import Identity
from dgtui.errors import DocumentRefused, RunFailed

ODD = "a\r\nb\nlone\rform\ffeed\x0b\x1b[0m\x85\u2028\u2029ü だ 😀 e\u0301 no newline"


@pytest.mark.parametrize("data", [b"", ODD.encode(), b"\xef\xbb\xbf" + ODD.encode(), "\ufeff\ufeff".encode()])
def test_utf8_is_kept_byte_for_byte(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "text.md"
    path.write_bytes(data)
    read = source.read(path)
    assert (read.path, read.data, read.encoding) == (path, data, "utf-8")
    assert read.identity == Identity.of(path.stat())
    assert path.read_bytes() == data


@pytest.mark.parametrize(
    ("encoding", "text"),
    [("latin-1", "naïve\x85"), ("cp1252", "“naïve” €"), ("shift_jis", "表示ソ"), ("gbk", "汉字 丂")],
)
def test_a_named_encoding_is_kept_byte_for_byte(encoding: str, text: str) -> None:
    data = text.encode(encoding)
    assert source.of_bytes(data, encoding).data == data


def test_a_byte_order_mark_may_be_asked_for() -> None:
    assert source.of_bytes(b"\xef\xbb\xbfa", "utf-8-sig").encoding == "utf-8"


def test_a_link_is_followed(tmp_path: Path) -> None:
    path, link = tmp_path / "text.md", tmp_path / "link.md"
    path.write_text("a")
    link.symlink_to(path)
    assert source.read(link).identity == Identity.of(path.stat())


def test_undecodable_bytes_are_refused_with_their_place_and_a_way_on() -> None:
    with pytest.raises(DocumentRefused, match="byte 4 in line 2") as raised:
        source.of_bytes(b"one\n\xff\n")
    assert "--encoding" in raised.value.hint


@pytest.mark.parametrize("data", [b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82"])
def test_utf8_is_strict(data: bytes) -> None:
    with pytest.raises(DocumentRefused, match="byte 0"):
        source.of_bytes(data)


def test_binary_is_refused() -> None:
    with pytest.raises(DocumentRefused, match="byte 2 is NUL"):
        source.of_bytes(b"ab\0c", "latin-1")
    with pytest.raises(DocumentRefused) as raised:
        source.of_bytes("text".encode("utf-16"))
    assert "UTF-16" in raised.value.hint


def test_what_would_not_come_back_as_it_was_is_refused() -> None:
    with pytest.raises(DocumentRefused, match="line 2"):
        source.of_bytes(b"fine\n\x87\x90", "cp932")  # a second code of "≒"


@pytest.mark.parametrize(
    "encoding",
    "utf-16 utf-16-le utf-32 utf-7 iso2022_jp hz punycode unicode_escape raw_unicode_escape cp037 big5hkscs "
    "shift_jis_2004 mac_arabic base64 rot13 idna undefined nonsense".split(),
)
def test_an_encoding_that_cannot_be_edited_in_place_is_refused(encoding: str) -> None:
    with pytest.raises(DocumentRefused) as raised:
        source.of_bytes(b"", encoding)
    assert raised.value.hint


def test_too_large_a_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(source.LIMIT + 1)
    with pytest.raises(DocumentRefused, match="64 MiB"):
        source.read(path)


def test_what_is_no_file_is_refused_without_waiting_for_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DocumentRefused, match="not a regular file"):
        source.read(tmp_path / "pipe")
    with pytest.raises(DocumentRefused, match="is a folder"):
        source.read(tmp_path)


def test_a_missing_file_is_refused_as_input(tmp_path: Path) -> None:
    with pytest.raises(DocumentRefused, match=r"there is no file .*missing"):
        source.read(tmp_path / "missing")


@pytest.mark.parametrize("name", ["nul\0", "x" * 300])
def test_an_unreadable_file_says_why(tmp_path: Path, name: str) -> None:
    with pytest.raises(RunFailed, match="cannot be read: "):
        source.read(tmp_path / name)
