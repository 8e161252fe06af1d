"""Offsets at which the lines of a text begin, updated with every edit.

A line ends after LF (and so after CRLF), and nowhere else. An edit scans its own bytes and shifts the later offsets.
"""

import numpy as np
import numpy.typing as npt


class Lines:
    """Start offsets of all lines. There is at least one line, and the last may be empty.

    Args:
        data: The bytes of the file.
        first: Offset of the first line.
    """

    def __init__(self, data: bytes, first: int = 0) -> None:
        self._starts = np.concatenate([np.array([first], np.int64), first + _after_breaks(data[first:])])

    def __len__(self) -> int:
        return len(self._starts)

    def start(self, line: int) -> int:
        """Returns the offset of a line's first byte."""
        return int(self._starts[line])

    def at(self, offset: int) -> int:
        """Returns the line that contains `offset`. A line break belongs to the line that it ends."""
        return max(0, int(np.searchsorted(self._starts, offset, "right")) - 1)

    def splice(self, start: int, end: int, new: bytes) -> None:
        """Updates the offsets after the bytes from `start` to `end` were replaced with `new`."""
        low, high = np.searchsorted(self._starts, [start, end], "right")
        inside = start + _after_breaks(new)
        self._starts[high:] += start + len(new) - end
        if len(inside) or high > low:
            self._starts = np.concatenate([self._starts[:low], inside, self._starts[high:]])


def _after_breaks(data: bytes) -> npt.NDArray[np.int64]:
    return np.flatnonzero(np.frombuffer(data, np.uint8) == ord("\n")).astype(np.int64, copy=False) + 1
