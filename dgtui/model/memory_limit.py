"""The memory limit that a container or a service manager sets for this process.

The kernel kills a process that exceeds it, even if the machine has free memory. Control groups nest; all limits apply.
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
    """Bytes that its processes may use."""
    used: int
    """Bytes that they use, without file pages that the kernel can drop."""

    @property
    def free(self) -> int:
        """Bytes left."""
        return max(0, self.bytes - self.used)


def memory_limit(root: Path = _ROOT, own: Path = _OWN) -> Limit | None:
    """The tightest limit of the groups that this process is in; None if there is none.

    Args:
        root: Where control groups (version 1, 2 or both) are mounted.
        own: The file that lists this process's groups.
    """
    limits = [limit for folder, names in _groups(root, own) if (limit := _read(folder, *names)) is not None]
    return min(limits, key=lambda limit: limit.free, default=None)


def _groups(root: Path, own: Path) -> Iterator[tuple[Path, tuple[str, str, str]]]:
    """Each group of this process and its parents, with its limit and usage files and the field for droppable pages."""
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
            # In a container, its own group is mounted as the root, but the path may be the host's
            for folder in (inside, *inside.parents):
                if folder == mount or mount in folder.parents:
                    yield folder, names


def _read(folder: Path, limit: str, usage: str, droppable: str) -> Limit | None:
    try:
        most, used = (folder / limit).read_text().strip(), int((folder / usage).read_text())
        stat = dict(line.split(" ", 1) for line in (folder / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return None
    if not most.isdigit() or int(most) >= 1 << 60:  # "max", or version 1's equivalent
        return None
    return Limit(int(most), max(0, used - int(stat.get(droppable, 0))))
