"""A line of a file as cells: what each character looks like, where it begins, and where the line may be wrapped.

What is drawn has passed the sanitiser. That works character by character, so nothing is looked at but what is drawn,
and each character has the cells of the sign that is shown for it. Tabs reach to the next multiple of four cells; what
combines with a character stays with it, and what has nothing to combine with is shown on a dotted circle.
"""

import unicodedata
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt
from rich.cells import cell_len

from dgtui.text import sanitize

TAB: Final = 4
"""Cells from one tab stop to the next."""

_NO_BASE: Final = "\N{DOTTED CIRCLE}"
_SELECTORS: Final = "\ufe0e\ufe0f"  # they choose between looks of the sign before them


class Cells:
    """A text without line breaks, as it is shown."""

    __slots__ = ("_edges", "_plain", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self._plain = text.isascii() and "\t" not in text
        self._edges = None if self._plain else _edges(text)

    @property
    def width(self) -> int:
        """The cells of all characters."""
        return self.column(len(self.text))

    def column(self, index: int) -> int:
        """The cell that a character begins in."""
        return index if self._edges is None else int(self._edges[index])

    def at(self, column: int) -> int:
        """The character that has a cell; behind the last one: the length of the text."""
        if self._edges is None:
            return min(max(column, 0), len(self.text))
        return self.snap(max(0, int(np.searchsorted(self._edges, column, "right")) - 1))

    def snap(self, index: int) -> int:
        """The character itself, or that which it combines with."""
        while self._joined(index):
            index -= 1
        return index

    def before(self, index: int) -> int:
        """Where the cursor goes when it moves left."""
        return self.snap(max(0, index - 1))

    def after(self, index: int) -> int:
        """Where the cursor goes when it moves right."""
        index = min(index + 1, len(self.text))
        while self._joined(index):
            index += 1
        return index

    def wrap(self, width: int) -> list[int]:
        """Where rows begin that have `width` cells, and one to spare for a blank at their end.

        A row ends behind a blank or beside a wide character, and where there is none, anywhere. The last row may be
        empty, for the cursor behind a blank that filled up the row before.
        """
        starts, end = [0], self.width
        while end - self.column(starts[-1]) > width:
            starts.append(self._row_end(starts[-1], max(1, width)))
        return starts

    def drawn(self, start: int, end: int) -> str:
        """The characters of a row from `start` to `end`, as they are written to the screen."""
        text = sanitize(self.text[start:end], newlines=False)
        if self._edges is None or (text.isprintable() and not _is_mark(text[:1])):
            return text
        return "".join(self._sign(index) for index in range(start, end))

    def _sign(self, index: int) -> str:
        sign = sanitize(self.text[index], newlines=False)
        if sign == "\t":
            return " " * (self.column(index + 1) - self.column(index))
        if _is_mark(sign) and not self._joined(index):
            return _NO_BASE + sign if unicodedata.category(sign)[0] == "M" and sign not in _SELECTORS else _NO_BASE
        return sign

    def _joined(self, index: int) -> bool:
        """Whether a character combines with the one before it."""
        text = self.text
        return not self._plain and 0 < index < len(text) and _is_mark(text[index]) and text[index - 1] != "\t"

    def _row_end(self, start: int, width: int) -> int:
        text = self.text
        if self._edges is None:
            end = start + width
        else:
            end = self.snap(int(np.searchsorted(self._edges, self._edges[start] + width, "right")) - 1)
        if end < len(text) and text[end] == " ":
            return end + 1
        if self._plain:
            return text.rfind(" ", start, end) + 1 or end
        breaks = (at for at in range(end, start, -1) if self._may_break(at))
        return next(breaks, max(end, self.after(start)))

    def _may_break(self, at: int) -> bool:
        before, behind = self.text[at - 1], self.text[at : at + 1]
        wide = max(_size(before), _size(behind)) > 1
        return (before in " \t" or wide) and not self._joined(at)


def _is_mark(sign: str) -> bool:
    return bool(sign) and not sign.isascii() and _size(sign) == 0


@lru_cache(4096)
def _size(sign: str) -> int:
    """The cells of a character by itself, as it is shown."""
    return cell_len(sanitize(sign, newlines=False))


def _edges(text: str) -> npt.NDArray[np.int32]:
    """The cell that each character begins in, and the end of the last."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    sizes = np.ones(len(codes), np.int32)
    others = np.flatnonzero(codes >= 0x7F)
    signs, which = np.unique(codes[others], return_inverse=True)
    sizes[others] = np.array([_size(chr(code)) for code in signs.tolist()], np.int32)[which]
    base, last, wider = "\t", -1, 0
    for index in np.flatnonzero(sizes == 0).tolist():
        if index > last + 1:
            base, wider = sanitize(text[index - 1], newlines=False), 0
        if base == "\t":
            base, sizes[index] = _NO_BASE, 1
        else:  # U+FE0F makes some signs wide
            sizes[index] = max(0, cell_len(base + text[index]) - cell_len(base) - wider)
            wider += sizes[index]
        last = index
    tabs = [index for index, sign in enumerate(text) if sign == "\t"] if "\t" in text else []
    sizes[tabs] = 0
    edges = np.concatenate([np.zeros(1, np.int32), np.cumsum(sizes, dtype=np.int32)])
    for index in tabs:
        edges[index + 1 :] += TAB - edges[index] % TAB
    return edges
