"""Edits, and the order in which they are taken back.

A step is what one undo takes back: an edit, a group of them, or what was typed in one go. Every state of the text has a
number, its version, that it gets back when undo or redo return to it.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

PAUSE: Final = 1.0
"""Seconds without typing after which what is typed is a new step."""


@dataclass(frozen=True, slots=True)
class Edit:
    """Bytes that became others. `start` counts in the text as it was just before."""

    start: int
    old: bytes
    new: bytes

    @property
    def end(self) -> int:
        """The end of `old`."""
        return self.start + len(self.old)

    @property
    def inverse(self) -> "Edit":
        """What takes it back."""
        return Edit(self.start, self.new, self.old)


@dataclass(frozen=True, slots=True)
class Change:
    """An edit, and the version that it leads to."""

    edit: Edit
    version: int


class History:
    """Steps that are done and steps that were undone."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._done: list[list[tuple[Change, Change]]] = []
        self._undone: list[list[tuple[Change, Change]]] = []
        self._open: list[tuple[Change, Change]] | None = None
        self._caret: int | None = None
        self._typed = 0.0

    def add(self, edit: Edit, before: int, after: int, *, typing: bool) -> None:
        """An edit that led from one version to the next: a new step, or a part of the one that is going on."""
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
        """Begins a group. False: one is open already, and takes up the edits."""
        if self._open is not None:
            return False
        self._open = []
        return True

    def close(self) -> None:
        """Ends the group: it is one step."""
        if self._open:
            self._push(self._open)
        self._open = None
        self._caret = None

    def abandon(self) -> list[Change]:
        """Ends the group, which is no step: what takes it back."""
        edits, self._open, self._caret = self._open or [], None, None
        return [back for _, back in reversed(edits)]

    def break_typing(self) -> None:
        """What is typed next is a new step."""
        self._caret = None

    def undo(self) -> list[Change]:
        """What takes the last step back; nothing, if there is none."""
        self.break_typing()
        if not self._done:
            return []
        self._undone.append(self._done.pop())
        return [back for _, back in reversed(self._undone[-1])]

    def redo(self) -> list[Change]:
        """What does the step again that was undone last; nothing, if there is none, or an edit was made since."""
        self.break_typing()
        if not self._undone:
            return []
        self._done.append(self._undone.pop())
        return [forth for forth, _ in self._done[-1]]

    def came_by(self, version: int) -> bool:
        """Whether a step that is done, or a part of one, led to that version."""
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
    """The span from the first to the last byte that a row of edits has written, as they lie after it."""
    span: tuple[int, int] | None = None
    for edit in edits:
        low, high = span or (edit.start, edit.end)
        span = min(low, edit.start), edit.start + len(edit.new) + max(0, high - edit.end)
    return span
