"""Edits and their undo history.

One undo reverts one step: an edit, a group of edits, or a run of typing. Every state of the text has a version number.
Undo and redo restore the version number together with the text.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

PAUSE: Final = 1.0
"""Seconds without typing after which the next keystroke starts a new step."""


@dataclass(frozen=True, slots=True)
class Edit:
    """A replacement of bytes. `start` is an offset in the text just before the edit."""

    start: int
    old: bytes
    new: bytes

    @property
    def end(self) -> int:
        """Offset after `old`."""
        return self.start + len(self.old)

    @property
    def inverse(self) -> "Edit":
        """The edit that reverts this one."""
        return Edit(self.start, self.new, self.old)


@dataclass(frozen=True, slots=True)
class Change:
    """An edit and the version that it leads to."""

    edit: Edit
    version: int


class History:
    """The steps that were made, and the steps that were undone."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._done: list[list[tuple[Change, Change]]] = []
        self._undone: list[list[tuple[Change, Change]]] = []
        self._open: list[tuple[Change, Change]] | None = None
        self._caret: int | None = None
        self._typed = 0.0

    def add(self, edit: Edit, before: int, after: int, *, typing: bool) -> None:
        """Adds an edit from version `before` to version `after`: a new step, or a part of the current one."""
        both = Change(edit, after), Change(edit.inverse, before)
        now = self._clock()
        if self._open is not None:
            self._open.append(both)
        elif typing and self._continues(edit, now):
            self._done[-1].append(both)
        else:
            self._push([both])
        self._caret = edit.start + len(edit.new) if typing else None
        self._typed = now

    def open(self) -> bool:
        """Starts a group. Returns False if one is already open; it then takes the edits."""
        if self._open is not None:
            return False
        self._open = []
        return True

    def close(self) -> None:
        """Ends the group and adds it as one step."""
        if self._open:
            self._push(self._open)
        self._open = None
        self._caret = None

    def abandon(self) -> list[Change]:
        """Ends the group without adding a step. Returns the changes that revert it."""
        edits, self._open, self._caret = self._open or [], None, None
        return [back for _, back in reversed(edits)]

    def break_typing(self) -> None:
        """Starts a new step at the next keystroke."""
        self._caret = None

    def undo(self) -> list[Change]:
        """Returns the changes that revert the last step. Empty if there is none."""
        self.break_typing()
        if not self._done:
            return []
        self._undone.append(self._done.pop())
        return [back for _, back in reversed(self._undone[-1])]

    def redo(self) -> list[Change]:
        """Returns the changes that repeat the last undone step. Empty if there is none or an edit was made since."""
        self.break_typing()
        if not self._undone:
            return []
        self._done.append(self._undone.pop())
        return [forth for forth, _ in self._done[-1]]

    def came_by(self, version: int) -> bool:
        """Whether a step, or a part of one, led to that version and is not undone."""
        return any(forth.version == version for step in reversed(self._done) for forth, _ in step)

    def _push(self, step: list[tuple[Change, Change]]) -> None:
        self._done.append(step)
        self._undone.clear()

    def _continues(self, edit: Edit, now: float) -> bool:
        if self._caret not in (edit.start, edit.end) or now - self._typed > PAUSE:
            return False
        last = self._done[-1][-1][0].edit
        return bool(last.new) == bool(edit.new) and b"\n" not in edit.old + edit.new


def reach(edits: Iterable[Edit]) -> tuple[int, int] | None:
    """Returns the span that successive edits have written, as offsets in the final text. None without edits."""
    span: tuple[int, int] | None = None
    for edit in edits:
        low, high = span or (edit.start, edit.end)
        span = min(low, edit.start), edit.start + len(edit.new) + max(0, high - edit.end)
    return span
