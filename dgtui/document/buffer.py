"""The text of an open file: its bytes, with spans replaced. All other bytes stay as they were.

Offsets count bytes of the file. Lines and columns count from 0, columns in characters. A byte order mark stands before
the text and is never changed. Only LF and CRLF end a line. Only requested lines are decoded: a keystroke in a large
file costs one copy of its bytes.
"""

import itertools
import time
from codecs import BOM_UTF8
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from weakref import WeakSet

from dgtui.document.lines import Lines
from dgtui.document.source import Source
from dgtui.document.undo import Change, Edit, History, reach
from dgtui.errors import DocumentRefused


class Anchor:
    """A span that moves with the edits around it. `Buffer.anchor` creates it.

    Text inserted at its borders stays outside. Undo and redo restore its position.
    """

    def __init__(self, start: int, end: int, version: int) -> None:
        self.start = start
        self.end = end
        self.alive = True
        """False once an edit has overlapped the span. `start` and `end` are then both the start of that edit."""
        self._known = {version: (start, end, True)}

    def follow(self, edit: Edit, version: int) -> None:
        """Moves the span for an edit that leads to `version`."""
        if version not in self._known:
            self._known[version] = self._moved(edit)
        self.start, self.end, self.alive = self._known[version]

    def _moved(self, edit: Edit) -> tuple[int, int, bool]:
        if edit.end <= self.start:
            shift = len(edit.new) - len(edit.old)
            return self.start + shift, self.end + shift, self.alive
        if edit.start >= self.end:
            return self.start, self.end, self.alive
        return edit.start, edit.start, False


class Buffer:
    """The text of a `Source`, and its edits.

    Args:
        source: The file as it was read.
        clock: Returns seconds. It detects pauses in typing.
    """

    def __init__(self, source: Source, clock: Callable[[], float] = time.monotonic) -> None:
        self.data = source.data
        """All bytes of the edited file."""
        self.encoding = source.encoding
        """Python's name of the encoding."""
        self.first = len(BOM_UTF8) if source.encoding == "utf-8" and source.data.startswith(BOM_UTF8) else 0
        """Offset of the text: after the byte order mark if there is one, else 0."""
        self.version = 0
        """The number of this state of the text. Every edit changes it. Undo restores the old number."""
        self._saved = 0
        self._versions = itertools.count(1)
        self._lines = Lines(self.data, self.first)
        self._history = History(clock)
        self._anchors: WeakSet[Anchor] = WeakSet()
        self._edits: list[Edit] = []

    @property
    def lines(self) -> int:
        """Number of lines: one more than line breaks."""
        return len(self._lines)

    def line(self, line: int) -> str:
        """Returns the text of a line without its ending. Raises `DocumentRefused` if there is no such line."""
        return self._decoded(*self.line_span(line))

    def line_span(self, line: int) -> tuple[int, int]:
        """Returns start and end of a line without its ending. Raises `DocumentRefused` if there is no such line."""
        if not 0 <= line < self.lines:
            raise DocumentRefused(f"there is no line {line + 1}", hint=f"the last line is {self.lines}")
        start = self._lines.start(line)
        if line + 1 == self.lines:
            return start, len(self.data)
        end = self._lines.start(line + 1) - 1
        return start, end - (end > start and self.data[end - 1] == ord("\r"))

    def ending_of(self, line: int) -> bytes:
        """Returns the ending of a line: LF, CRLF, or nothing for the last line."""
        _, end = self.line_span(line)
        return self.data[end : self._lines.start(line + 1)] if line + 1 < self.lines else b""

    def ending_at(self, offset: int) -> bytes:
        """Returns the line ending used around `offset`: of its line, else of the previous line, else LF."""
        line = self._lines.at(offset)
        return self.ending_of(line) or self.ending_of(max(0, line - 1)) or b"\n"

    def offset(self, line: int, column: int) -> int:
        """Returns the byte offset of a line and column. The column after the last character is the end of the line.

        Raises:
            DocumentRefused: There is no such line or column.
        """
        text, (start, _) = self.line(line), self.line_span(line)
        if not 0 <= column <= len(text):
            raise DocumentRefused(
                f"there is no column {column + 1} in line {line + 1}", hint=f"the line ends at column {len(text) + 1}"
            )
        return start + len(text[:column].encode(self.encoding))

    def place(self, offset: int) -> tuple[int, int]:
        """Returns line and column of a byte offset. Between CR and LF that is the end of the line.

        Raises:
            DocumentRefused: The offset is outside the text or inside a character.
        """
        self._check(offset)
        line = self._lines.at(offset)
        start, end = self.line_span(line)
        return line, len(self._decoded(start, min(offset, end)))

    def text(self, start: int, end: int) -> str:
        """Returns the text of a byte span with its line endings. Raises `DocumentRefused` for an invalid span."""
        self._check_span(start, end)
        return self._decoded(start, end)

    def encode(self, text: str, near: int) -> bytes:
        """Encodes text for this file, with the line endings that are used around the offset `near`.

        Raises:
            DocumentRefused: The encoding cannot represent one of the characters.
        """
        text = text.replace("\r\n", "\n").replace("\n", self.ending_at(near).decode("ascii"))
        if (new := self._encoded(text)) is None:
            sign = next(sign for sign in text if self._encoded(sign) is None)
            raise DocumentRefused(
                f"{sign!r} (U+{ord(sign):04X}) cannot be encoded in {self.encoding}",
                hint="remove it" if sign == "\0" or self.encoding == "utf-8" else "convert the file to UTF-8 first",
            )
        return new

    def replace(self, start: int, end: int, new: bytes, *, typing: bool = False) -> Edit:
        """Replaces the bytes from `start` to `end` with `new`.

        Args:
            start: Offset of the first replaced byte, at a character boundary.
            end: Offset after the last replaced byte, at a character boundary.
            new: Text in the encoding of the file (see `encode`). If it equals the old bytes, nothing changes.
            typing: The edit is a keystroke. One undo reverts a whole run of typing or deleting.

        Returns:
            The edit.

        Raises:
            DocumentRefused: `new` is not valid text, or the span is outside the text or splits a character.
        """
        self._check_span(start, end)
        try:
            valid = self._encoded(new.decode(self.encoding)) == new
        except UnicodeDecodeError:
            valid = False
        if not valid:
            raise DocumentRefused(f"the replacement at byte {start} is not valid {self.encoding}")
        edit = Edit(start, self.data[start:end], new)
        if edit.new != edit.old:
            after = next(self._versions)
            self._history.add(edit, self.version, after, typing=typing)
            self._apply([Change(edit, after)])
        return edit

    @contextmanager
    def group(self) -> Iterator[None]:
        """Makes all edits inside the `with` block one undo step. If the block raises, they are reverted.

        Each edit's offsets refer to the text after the edit before it. Do not undo or redo inside the block.
        """
        if not self._history.open():
            yield
            return
        try:
            yield
        except BaseException:
            self._apply(self._history.abandon())
            raise
        self._history.close()

    def break_typing(self) -> None:
        """Starts a new undo step at the next keystroke, for example after a cursor movement."""
        self._history.break_typing()

    def undo(self) -> tuple[int, int] | None:
        """Reverts the last step. Returns the changed span in the new text, or None if there was nothing to undo."""
        return self._apply(self._history.undo())

    def redo(self) -> tuple[int, int] | None:
        """Repeats the last undone step. Returns the changed span in the new text, or None if there was none."""
        return self._apply(self._history.redo())

    def anchor(self, start: int, end: int) -> Anchor:
        """Returns a span that follows all later edits. Raises `DocumentRefused` for an invalid span."""
        self._check_span(start, end)
        anchor = Anchor(start, end, self.version)
        self._anchors.add(anchor)
        return anchor

    def came_by(self, version: int) -> bool:
        """Whether the current text was built on that version. False for a version that was undone and then replaced."""
        return version in (0, self.version) or self._history.came_by(version)

    @property
    def changed(self) -> bool:
        """Whether the text differs from the last saved (or first read) version."""
        return self.version != self._saved

    def saved(self) -> None:
        """Marks the current version as saved."""
        self._saved = self.version
        self._history.break_typing()

    def edits_since(self, count: int) -> Sequence[Edit]:
        """Returns all edits after the first `count`, in order. Undo and redo count as edits too."""
        return self._edits[count:]

    def _apply(self, changes: Sequence[Change]) -> tuple[int, int] | None:
        for change in changes:
            edit = change.edit
            view = memoryview(self.data)
            self.data = b"".join((view[: edit.start], edit.new, view[edit.end :]))
            self._lines.splice(edit.start, edit.end, edit.new)
            for anchor in self._anchors:
                anchor.follow(edit, change.version)
            self._edits.append(edit)
            self.version = change.version
        return reach(change.edit for change in changes)

    def _check_span(self, start: int, end: int) -> None:
        if end < start:
            raise DocumentRefused(f"the span ends at byte {end}, before its start at byte {start}")
        self._check(start)
        self._check(end)

    def _check(self, offset: int) -> None:
        if not self.first <= offset <= len(self.data):
            raise DocumentRefused(
                f"byte {offset} is outside the text", hint=f"the text spans bytes {self.first} to {len(self.data)}"
            )
        if self._is_inside(offset):
            raise DocumentRefused(f"byte {offset} is inside a character")

    def _is_inside(self, offset: int) -> bool:
        if self.encoding == "utf-8":
            return offset < len(self.data) and self.data[offset] & 0xC0 == 0x80
        try:  # in other encodings a second byte may look like a whole character, so decode from the line's start
            self._decoded(self._lines.start(self._lines.at(offset)), offset)
        except UnicodeDecodeError:
            return True
        return False

    def _decoded(self, start: int, end: int) -> str:
        return self.data[start:end].decode(self.encoding)

    def _encoded(self, text: str) -> bytes | None:
        """Returns None if the encoded bytes would not decode to the same text."""
        try:
            data = text.encode(self.encoding)
            return data if "\0" not in text and data.decode(self.encoding) == text else None
        except UnicodeError:
            return None
