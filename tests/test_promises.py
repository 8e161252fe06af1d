"""docs/promises.md names tests that exist, and says where there is none."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
ROWS = [line for line in (ROOT / "docs" / "promises.md").read_text().splitlines() if line.startswith("| ")][1:]


def test_every_test_that_a_promise_names_exists() -> None:
    code = "\n".join(path.read_text() for path in sorted((ROOT / "tests").rglob("test_*.py")))
    there = set(re.findall(r"^(?:async )?def (test_\w+)", code, re.MULTILINE))
    named = {name for row in ROWS for name in re.findall(r"`(test_\w+)`", row)}
    assert named
    assert named - there == set()


def test_every_path_of_a_promise_has_a_test_or_is_named_as_a_gap() -> None:
    without = [row for row in ROWS if not re.search(r"\| (gap|`test_\w+`.*) \|$", row)]
    assert without == []
