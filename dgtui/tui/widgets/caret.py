"""Cursor and selection on a canvas. Both are positions and stay in place while the text under them changes."""

from dgtui.tui.widgets.places import Places


class Caret:
    """A cursor, and the anchor of its selection. `places` is replaced with every frame."""

    def __init__(self) -> None:
        self.places = Places((), (), ())
        self.reset()

    def reset(self) -> None:
        """Moves to the first position and clears the selection."""
        self._place = 0  # where the cursor was put; the token there may no longer have text
        self._anchor: int | None = None
        self._selecting = False  # every move extends the selection
        self._column: int | None = None  # the column that up and down aim for

    @property
    def cursor(self) -> int:
        """The token under the cursor: the one it was put on, or the nearest one with text."""
        if not self.places:
            return 0
        near = self.places.near(self._place)
        if self._anchor is not None and near < min(self._anchor, self._place):
            return min(self._place, len(self.places.tokens) - 1)  # stays in the selection
        return near

    @property
    def selection(self) -> tuple[int, int] | None:
        """Start and end (exclusive) of the selection, which includes the cursor. Characters are never split."""
        if self._anchor is None:
            return None
        first, last = sorted((self._anchor, self._place))
        return (first, self.places.whole(last)) if first < len(self.places.tokens) else None

    @property
    def row(self) -> int:
        """The row of the cursor; 0 on an empty canvas."""
        return self.places.home(self.places.near(self._place))[0] if self.places else 0

    def go(self, place: int, select: bool = False) -> None:
        """Moves the cursor. With `select`, or after `anchor`, extends the selection; otherwise clears it."""
        if not (select or self._selecting):
            self._anchor = None
        elif self._anchor is None:
            self._anchor = self.cursor
        self._place, self._column = max(0, place), None

    def move(self, where: str, select: bool, page: int) -> None:
        """Moves left, right, up, down, home, end, page_up, page_down, word_left or word_right; `page` is in rows."""
        if not self.places:
            return
        places, at = self.places, self.cursor
        rows = {"up": -1, "down": 1, "page_up": -page, "page_down": page}
        if where in rows:
            column = self._column if self._column is not None else places.home(places.near(at))[1]
            self.go(places.vertical(places.near(at), rows[where], column), select)
            self._column = column
        else:
            step = {"left": places.left, "right": places.right, "home": places.line_start, "end": places.line_end,
                    "word_left": places.word_left, "word_right": places.word_right}[where]  # fmt: skip
            self.go(step(places.near(at)), select)

    def anchor(self) -> None:
        """Starts a selection that every move extends; a second call clears it."""
        if self._selecting:
            self.let_go()
        elif self.places:
            self._place = self._anchor = self.cursor
            self._selecting = True

    def select(self, start: int, end: int) -> None:
        """Selects the positions from `start` to `end` (exclusive) and moves the cursor to the last of them."""
        if 0 <= start < end:
            self._anchor, self._place, self._selecting, self._column = start, end - 1, False, None
        else:
            self.let_go()

    def let_go(self) -> None:
        """Clears the selection; the cursor stays."""
        self._anchor, self._selecting = None, False
