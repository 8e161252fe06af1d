"""Memory is this process's share: in a container it is what the container may have, and plans and refusals know it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dgtui.model.memory_limit import Limit, memory_limit

GB = 10**9


def group(folder: Path, names: tuple[str, str, str], limit: object, used: int, droppable: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / names[0]).write_text(f"{limit}\n")
    (folder / names[1]).write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 5\n{names[2]} {droppable}\n")


V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
V2 = ("memory.max", "memory.current", "inactive_file")


def test_the_tightest_group_counts_in_version_2(tmp_path: Path) -> None:
    (tmp_path / "own").write_text("0::/user/job\n")
    group(tmp_path / "fs" / "user" / "job", V2, 8 * GB, 2 * GB, GB)
    group(tmp_path / "fs" / "user", V2, 6 * GB, 4 * GB, 0)
    group(tmp_path / "fs", V2, "max", 9 * GB, 0)
    limit = memory_limit(tmp_path / "fs", tmp_path / "own")
    assert limit == Limit(6 * GB, 4 * GB) and limit.free == 2 * GB


def test_version_1_counts_its_memory_controller(tmp_path: Path) -> None:
    (tmp_path / "own").write_text("4:memory:/box\n1:cpu:/other\n0::/\n")
    group(tmp_path / "fs" / "memory" / "box", V1, 3 * GB // 2, GB, GB // 2)
    group(tmp_path / "fs" / "memory", V1, 9223372036854771712, GB, 0)
    assert memory_limit(tmp_path / "fs", tmp_path / "own") == Limit(3 * GB // 2, GB // 2)


def test_a_path_of_the_host_is_looked_up_at_the_containers_root(tmp_path: Path) -> None:
    (tmp_path / "own").write_text("0::/docker/0123\n")
    group(tmp_path / "fs", V2, 2 * GB, GB, 0)
    assert memory_limit(tmp_path / "fs", tmp_path / "own") == Limit(2 * GB, GB)


@pytest.mark.parametrize("own", ["", "0::/\n", "nonsense", "4:memory:/x\n"])
def test_without_a_limit_there_is_none(own: str, tmp_path: Path) -> None:
    (tmp_path / "own").write_text(own)
    assert memory_limit(tmp_path / "fs", tmp_path / "own") is None
    assert memory_limit(tmp_path / "fs", tmp_path / "missing") is None


@pytest.fixture
def box() -> Iterator[Path]:
    """A real memory group of 1.5 GB, of either version."""
    name = f"dgtui-test-{os.getpid()}"
    for root, limit in ((Path("/sys/fs/cgroup/memory"), V1[0]), (Path("/sys/fs/cgroup"), V2[0])):
        folder = root / name
        try:
            folder.mkdir()
            (folder / limit).write_text(str(1_500_000_000))
        except OSError:
            if folder.exists():
                folder.rmdir()
            continue
        yield folder
        folder.rmdir()
        return
    pytest.skip("memory groups cannot be made here")


def inside(box: Path, *command: object) -> subprocess.CompletedProcess[str]:
    enter = f'echo $$ > {box}/cgroup.procs && exec "$@"'
    return subprocess.run(
        ["sh", "-c", enter, "sh", sys.executable, "-m", "dgtui", *map(str, command)], capture_output=True, text=True
    )


@pytest.mark.slow
def test_in_a_group_of_1_5_gb_plans_are_right_and_nothing_is_killed(box: Path) -> None:
    real = Path(__file__).parent.parent / "data" / "diffusiongemma-26B-A4B-it" / "config.json"
    doctor = inside(box, "doctor")
    assert "of 1.5 GB that this process may use" in doctor.stdout
    assert doctor.returncode == 0, doctor.stdout
    answer = inside(box, "generate", "Hello", "--steps", "2", "--max-tokens", "16")
    assert answer.returncode == 0, answer.stderr
    bench = inside(box, "bench", "--random-weights", real, "--steps", "1")
    assert bench.returncode == 5 and "free" in bench.stderr, (bench.returncode, bench.stderr)
