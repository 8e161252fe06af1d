"""A line of a file in terminal cells: how each character is drawn, where it begins, and where the line may be wrapped.

Drawn text is sanitised, character by character, so only visible text is processed. Each character has the width of its
sanitised form. Tabs extend to the next multiple of four cells. A combining character stays with its base; without a
base it is drawn on a dotted circle.
"""

import sys
import unicodedata
from bisect import bisect_right
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt
from rich.cells import cell_len

from dgtui.text import sanitize

TAB: Final = 4
"""Cells from one tab stop to the next."""

_NO_BASE: Final = "\N{DOTTED CIRCLE}"
_JOINER: Final = "\u200d"
_SELECTORS: Final = "\ufe0e\ufe0f"  # they select the text or emoji form of the character before them


class Cells:
    """A text without line breaks, in cells."""

    __slots__ = ("_edges", "_plain", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self._plain = text.isascii() and "\t" not in text
        self._edges = None if self._plain else _edges(text)

    @property
    def width(self) -> int:
        """The width of the whole text."""
        return self.column(len(self.text))

    def column(self, index: int) -> int:
        """The first cell of a character."""
        return index if self._edges is None else int(self._edges[index])

    def at(self, column: int) -> int:
        """The character at a cell; the length of the text for cells after the last character."""
        if self._edges is None:
            return min(max(column, 0), len(self.text))
        return self.snap(max(0, int(np.searchsorted(self._edges, column, "right")) - 1))

    def snap(self, index: int) -> int:
        """The character, or the base that it combines with."""
        while self._joined(index):
            index -= 1
        return index

    def before(self, index: int) -> int:
        """The character to the left, where the cursor can stop."""
        return self.snap(max(0, index - 1))

    def after(self, index: int) -> int:
        """The character to the right, where the cursor can stop."""
        index = min(index + 1, len(self.text))
        while self._joined(index):
            index += 1
        return index

    def wrap(self, width: int) -> list[int]:
        """Where rows of `width` cells begin, with one more cell for a blank at their end.

        A row ends after a blank or beside a wide character if possible, otherwise anywhere. The last row may be empty:
        it holds the cursor after a blank that filled the row before.
        """
        # A list, because a long line has thousands of rows and numpy takes long for single numbers
        edges = range(len(self.text) + 1) if self._edges is None else self._edges.tolist()
        starts, end = [0], edges[-1]
        while end - edges[starts[-1]] > width:
            starts.append(self._row_end(edges, starts[-1], max(1, width)))
        return starts

    def drawn(self, start: int, end: int) -> str:
        """The characters from `start` to `end`, as they are drawn."""
        text = sanitize(self.text[start:end], newlines=False)
        if self._edges is None or (text.isprintable() and not _is_mark(text[:1])):
            return text
        return "".join(self._sign(index) for index in range(start, end))

    def _sign(self, index: int) -> str:
        sign = sanitize(self.text[index], newlines=False)
        if sign == _JOINER and not self.text[index + 1 : index + 2].isalpha():
            return ""  # emoji have cells of their own here
        if sign == "\t":
            return " " * (self.column(index + 1) - self.column(index))
        if _is_mark(sign) and not self._joined(index):
            return _NO_BASE + sign if unicodedata.category(sign)[0] == "M" and sign not in _SELECTORS else _NO_BASE
        return sign

    def _joined(self, index: int) -> bool:
        """Whether a character combines with the previous one."""
        text = self.text
        return not self._plain and 0 < index < len(text) and _is_mark(text[index]) and text[index - 1] != "\t"

    def _row_end(self, edges: Sequence[int], start: int, width: int) -> int:
        text = self.text
        end = start + width if self._plain else self.snap(bisect_right(edges, edges[start] + width, start) - 1)
        if end < len(text) and text[end] == " ":
            return end + 1
        if self._plain:
            return text.rfind(" ", start, end) + 1 or end
        for at in range(end, start, -1):
            if self._may_break(at):
                return at
        return max(end, self.after(start))

    def _may_break(self, at: int) -> bool:
        before, after = self.text[at - 1], self.text[at : at + 1]
        wide = max(_size(before), _size(after)) > 1
        return (before in " \t" or wide) and not self._joined(at)


def _is_mark(sign: str) -> bool:
    return bool(sign) and not sign.isascii() and _size(sign) == 0


@lru_cache(4096)
def _shown(sign: str) -> str:
    return sanitize(sign, newlines=False)


@lru_cache(4096)
def _size(sign: str) -> int:
    """The cells of a single character, as it is drawn."""
    return cell_len(_shown(sign))


@lru_cache(4096)
def _widening(base: str, mark: str) -> int:
    """The cells that a mark adds to its base."""
    return cell_len(base + mark) - cell_len(base)


_SIZES: Final = np.full(sys.maxunicode + 1, -1, np.int8)
"""The cells of each code point, -1 if it has not occurred yet."""
_SIZES[:0x7F] = 1


def _edges(text: str) -> npt.NDArray[np.int32]:
    """The first cell of each character, and the end of the last one."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    sizes = _SIZES[codes].astype(np.int32)
    if (unknown := codes[sizes < 0]).size:
        signs = np.unique(unknown)
        _SIZES[signs] = [_size(chr(code)) for code in signs.tolist()]
        sizes = _SIZES[codes].astype(np.int32)
    base, last, wider = "\t", -1, 0
    for index in np.flatnonzero(sizes == 0).tolist():
        if index > last + 1:
            base, wider = _shown(text[index - 1]), 0
        if base == "\t":
            base, sizes[index] = _NO_BASE, 1
        else:  # U+FE0F makes some characters wide
            if size := max(0, _widening(base, text[index]) - wider):
                sizes[index] = size
                wider += size
        last = index
    tabs = np.flatnonzero(codes == ord("\t")).tolist()
    sizes[tabs] = 0
    edges = np.concatenate([np.zeros(1, np.int32), np.cumsum(sizes, dtype=np.int32)])
    if tabs:
        steps, moved = np.zeros_like(edges), 0
        for index in tabs:
            steps[index + 1] = step = TAB - (int(edges[index]) + moved) % TAB
            moved += step
        edges += np.cumsum(steps, dtype=np.int32)
    return edges
