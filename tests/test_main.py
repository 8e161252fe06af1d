"""The entry point sets what has to be set before torch is imported."""

import os

import pytest

from dgtui import __main__ as entry


@pytest.mark.parametrize(("given", "seen"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_threads_sleep_while_they_wait_unless_the_user_decides(
    given: str | None, seen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", given or "")
    if given is None:
        monkeypatch.delenv("OMP_WAIT_POLICY")
    monkeypatch.setattr(entry.signal, "signal", lambda number, action: None)
    found: list[str] = []

    def main() -> int:
        found.append(os.environ["OMP_WAIT_POLICY"])
        return 0

    monkeypatch.setattr(entry, "main", main)
    monkeypatch.setattr(entry.os, "_exit", lambda code: (_ for _ in ()).throw(SystemExit(code)))
    with pytest.raises(SystemExit):
        entry.run()
    assert found == [seen]
