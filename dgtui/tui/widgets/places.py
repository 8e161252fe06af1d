"""The positions of tokens on a laid-out canvas, and cursor moves between them. No widgets, no colours."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence

from rich.cells import cell_len

from dgtui.layout import Line


class Places:
    """The tokens in their lines. A place is the index of a token; rows and columns are cells, counted from 0.

    The cursor only stops at tokens with text; only these may be passed to methods that return rows or columns.
    Everything is computed on demand, because the cursor does not move in most frames.
    """

    def __init__(self, tokens: Sequence[str], lines: Sequence[Line], pieces: Sequence[bytes] = ()) -> None:
        """`lines` are the laid-out `tokens`; `pieces`, their bytes, show which tokens continue a character."""
        self.tokens, self.lines, self._pieces = tokens, lines, pieces

    def __bool__(self) -> bool:
        return bool(self.lines)

    def near(self, place: int) -> int:
        """The place itself if it has text, else the nearest earlier place with text, else the nearest later one."""
        last = min(place, len(self.tokens) - 1)
        return self._first(range(last, -1, -1), self._first(range(last + 1, len(self.tokens)), 0))

    def rows(self, place: int) -> tuple[int, int]:
        """The first and the last row of a token."""
        first = bisect_left(self.lines, place, key=lambda line: line[-1].token)
        return first, bisect_right(self.lines, place, lo=first, key=lambda line: line[0].token) - 1

    def home(self, place: int) -> tuple[int, int]:
        """Row and column where the text of a token begins, after its leading blanks."""
        first, last = self.rows(place)
        blank: tuple[int, int] | None = None
        for row in range(first, last + 1):
            run = next(run for run in self.lines[row] if run.token == place)
            ink = run.text.lstrip(" ")
            if ink:
                return row, run.column + len(run.text) - len(ink)
            blank = blank or (row, run.column)
        assert blank is not None, "a token without text has no row"
        return blank

    def at(self, row: int, column: int) -> int:
        """The place at a cell; beyond the text, the last place of the nearest line."""
        line = self.lines[max(0, min(row, len(self.lines) - 1))]
        return next((run.token for run in line if column < run.column + run.cells), line[-1].token)

    def whole(self, place: int) -> int:
        """The end (exclusive) of the character at a place: the next tokens may hold the rest of its bytes."""
        end = min(place + 1, len(self.tokens))
        while end < len(self._pieces) and self._pieces[end] and not self.tokens[end]:
            end += 1
        return end

    def left(self, place: int) -> int:
        """The previous place."""
        return self._first(range(place - 1, -1, -1), place)

    def right(self, place: int) -> int:
        """The next place."""
        return self._first(range(place + 1, len(self.tokens)), place)

    def vertical(self, place: int, by: int, column: int) -> int:
        """The place `by` rows below, or above if negative, at a column."""
        first, last = self.rows(place)
        if by == 1:
            return self.at(last + 1, column) if last + 1 < len(self.lines) else place
        if by == -1:
            return self.at(first - 1, column) if first else place
        return self.at(self.home(place)[0] + by, column)

    def line_start(self, place: int) -> int:
        """The first place that begins on the same row."""
        row = self.home(place)[0]
        return next(run.token for run in self.lines[row] if self.home(run.token)[0] == row)

    def line_end(self, place: int) -> int:
        """The last place on the same row."""
        return self.lines[self.home(place)[0]][-1].token

    def word_left(self, place: int) -> int:
        """The beginning of the word, or of the previous word."""
        before = range(place - 1, -1, -1)
        return next((p for p in before if self._begins_word(p)), self.near(0))

    def word_right(self, place: int) -> int:
        """The beginning of the next word."""
        after = range(place + 1, len(self.tokens))
        return next((p for p in after if self._begins_word(p)), self.near(len(self.tokens)))

    def _begins_word(self, place: int) -> bool:
        text = self.tokens[place]
        if not text.strip():
            return False
        before = self.left(place)
        return before == place or text[0].isspace() or self.tokens[before][-1].isspace() or cell_len(text[0]) > 1

    def _first(self, places: Iterable[int], default: int) -> int:
        return next((place for place in places if self.tokens[place]), default)
