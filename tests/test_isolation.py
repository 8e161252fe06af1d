"""What `conftest.py` promises: no test reaches the network or the person's folders."""

import socket
from pathlib import Path

import pytest

from dgtui import paths


def test_the_network_is_out_of_reach() -> None:
    with pytest.raises(AssertionError, match="over the network"):
        socket.create_connection(("127.0.0.1", 9))


def test_local_sockets_still_work() -> None:
    one, other = socket.socketpair()
    with one, other:
        one.sendall(b"x")
        assert other.recv(1) == b"x"


def test_every_folder_is_the_tests_own(tmp_path: Path) -> None:
    for folder in (paths.config_dir, paths.data_dir, paths.cache_dir, paths.state_dir):
        assert folder().is_relative_to(tmp_path)
