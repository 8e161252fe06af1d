"""Every kernel compiles for every architecture without a GPU: no spills, expected opcodes, few instructions a weight.

The compiler runs in other processes, for in this one Triton interprets.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
AOT = ROOT / "tests" / "kernels" / "aot.py"
QUICK = 89


def compiled(architectures: tuple[int, ...], folder: Path, only: str = "") -> dict[str, Any]:
    """The report of `aot.py` for some architectures."""
    report = folder / "report.json"
    # Triton's cache is kept between runs
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TRITON_CACHE_DIR": str(folder / "cache")}
    names = ",".join(map(str, architectures))
    command = [sys.executable, str(AOT), "--arch", names, "--json", str(report), "--only", only]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert report.exists(), done.stdout + done.stderr
    found: dict[str, Any] = json.loads(report.read_text())
    return found


def assert_clean(report: dict[str, Any]) -> None:
    assert report["compiled"] or report["decoders"]
    assert [(case["name"], case["errors"]) for case in report["compiled"] if case["errors"]] == []
    assert [each for each in report["decoders"] if each["lane_instructions"] > each["most"]] == []


def test_the_product_that_bounds_a_step_compiles_clean(tmp_path: Path) -> None:
    assert_clean(compiled((QUICK,), tmp_path, "gate_up nf4, 16|down nf4, 16|decode NF4"))


@pytest.mark.slow
@pytest.mark.parametrize("architectures", [(80, 86, 89), (90, 100, 120)], ids=str)
def test_every_kernel_compiles_clean(architectures: tuple[int, ...], tmp_path: Path) -> None:
    report = compiled(architectures, tmp_path)
    assert_clean(report)
    counted = {
        case["arch"]: case["issue_slots"] for case in report["compiled"] if case["name"] == "gate_up nf4, 16 rows"
    }
    assert [*counted] == [*architectures]
    assert all(3 < slots <= 5.5 for slots in counted.values()), counted


def test_a_kernel_that_spills_is_found(tmp_path: Path) -> None:
    """With too few registers the same product spills, and the tool says so and fails."""
    code = (
        "import dataclasses, aot, cases\n"
        "case = next(iter(cases.products(80)))\n"
        "(found,) = aot.measure([dataclasses.replace(case, options=case.options | {'maxnreg': 40})])\n"
        "print(found.spills, found.errors)\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(AOT.parent)])
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    spills, errors = done.stdout.strip().split(" ", 1)
    assert int(spills) > 0
    assert "spills" in errors
