"""Where the lines of a text begin, kept up to date edit by edit.

A line ends behind LF, CRLF being one of these, and nowhere else. An edit costs a look at its own bytes and a shift of
what follows.
"""

import numpy as np
import numpy.typing as npt


class Lines:
    """The offsets at which lines begin. There is at least one; the last may be empty.

    Args:
        data: The bytes of the text.
        first: Where its first line begins.
    """

    def __init__(self, data: bytes, first: int = 0) -> None:
        self._starts = np.concatenate([np.array([first], np.int64), first + _behind_breaks(data[first:])])

    def __len__(self) -> int:
        return len(self._starts)

    def start(self, line: int) -> int:
        """The offset of a line's first byte."""
        return int(self._starts[line])

    def at(self, offset: int) -> int:
        """The line that holds `offset`; a line break belongs to the line that it ends."""
        return max(0, int(np.searchsorted(self._starts, offset, "right")) - 1)

    def splice(self, start: int, end: int, new: bytes) -> None:
        """Follows an edit: the bytes from `start` to `end` became `new`."""
        low, high = np.searchsorted(self._starts, [start, end], "right")
        inside = start + _behind_breaks(new)
        self._starts[high:] += start + len(new) - end
        if len(inside) or high > low:
            self._starts = np.concatenate([self._starts[:low], inside, self._starts[high:]])


def _behind_breaks(data: bytes) -> npt.NDArray[np.int64]:
    return np.flatnonzero(np.frombuffer(data, np.uint8) == ord("\n")).astype(np.int64, copy=False) + 1
