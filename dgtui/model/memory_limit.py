"""This process's share of the machine's memory: what a container or a service manager lets it have.

The kernel ends a process that takes more, whatever the machine has left. Control groups nest, and each of them counts.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_ROOT: Final = Path("/sys/fs/cgroup")
_OWN: Final = Path("/proc/self/cgroup")


@dataclass(frozen=True, slots=True)
class Limit:
    """A control group with a limit."""

    bytes: int
    """The most memory that its processes may have."""
    used: int
    """What they have, without file pages that the kernel drops when it needs room."""

    @property
    def free(self) -> int:
        """What is left."""
        return max(0, self.bytes - self.used)


def memory_limit(root: Path = _ROOT, own: Path = _OWN) -> Limit | None:
    """The limit that leaves the least, of the groups that this process is in; None where there is none.

    Args:
        root: Where control groups are mounted, of version 1, 2 or both.
        own: The file that names this process's groups.
    """
    limits = [limit for folder, names in _groups(root, own) if (limit := _read(folder, *names)) is not None]
    return min(limits, key=lambda limit: limit.free, default=None)


def _groups(root: Path, own: Path) -> Iterator[tuple[Path, tuple[str, str, str]]]:
    """Every group of this process and above it, with its files for limit and use and the name of droppable pages."""
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers == "":
            mounts, names = [root, root / "unified"], ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            mounts = [root / "memory"]
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        for mount in mounts:
            inside = mount / path.lstrip("/")
            # In a container its own group is mounted as the root, while the path may be that of the host
            for folder in (inside, *inside.parents):
                if folder == mount or mount in folder.parents:
                    yield folder, names


def _read(folder: Path, limit: str, usage: str, droppable: str) -> Limit | None:
    try:
        most, used = (folder / limit).read_text().strip(), int((folder / usage).read_text())
        stat = dict(line.split(" ", 1) for line in (folder / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return None
    if not most.isdigit() or int(most) >= 1 << 60:  # "max", or what version 1 has for it
        return None
    return Limit(int(most), max(0, used - int(stat.get(droppable, 0))))
