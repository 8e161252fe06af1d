"""A text that is being edited: the bytes of its file with spans replaced, every other byte as it was.

Offsets count bytes of the file, lines and columns count from 0, columns in characters. A byte order mark is before the
text and never touched. Lines end at LF or CRLF and at nothing else. Only the lines that are asked for are decoded, so
that a keystroke in a large file costs a copy of it and no more.
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
    """A span that follows the edits around it; made by `Buffer.anchor`.

    What is put at its borders stays outside. Undo and redo bring it back to where it was.
    """

    def __init__(self, start: int, end: int, version: int) -> None:
        self.start = start
        self.end = end
        self.alive = True
        """False: an edit has cut into the span, or replaced it. `start` and `end` are then where that happened."""
        self._known = {version: (start, end, True)}

    def follow(self, edit: Edit, version: int) -> None:
        """Moves along with an edit that leads to `version`."""
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
    """The text of a source, and its edits.

    Args:
        source: What was read.
        clock: Seconds, to tell a pause in typing.
    """

    def __init__(self, source: Source, clock: Callable[[], float] = time.monotonic) -> None:
        self.data = source.data
        """The file as it is now."""
        self.encoding = source.encoding
        """Python's name of it."""
        self.first = len(BOM_UTF8) if source.encoding == "utf-8" and source.data.startswith(BOM_UTF8) else 0
        """Where the text begins: behind the byte order mark, if there is one."""
        self.version = 0
        """The number of this state of the text. It changes with every edit; undo brings the old one back."""
        self._saved = 0
        self._versions = itertools.count(1)
        self._lines = Lines(self.data, self.first)
        self._history = History(clock)
        self._anchors: WeakSet[Anchor] = WeakSet()
        self._edits: list[Edit] = []

    @property
    def lines(self) -> int:
        """How many lines there are: one more than line breaks."""
        return len(self._lines)

    def line(self, line: int) -> str:
        """The text of a line, without its ending."""
        return self._decoded(*self.line_span(line))

    def line_span(self, line: int) -> tuple[int, int]:
        """Start and end of a line, without its ending. Raises `DocumentRefused` if there is no such line."""
        if not 0 <= line < self.lines:
            raise DocumentRefused(f"there is no line {line + 1}", hint=f"the last line is {self.lines}")
        start = self._lines.start(line)
        if line + 1 == self.lines:
            return start, len(self.data)
        end = self._lines.start(line + 1) - 1
        return start, end - (end > start and self.data[end - 1] == ord("\r"))

    def ending_of(self, line: int) -> bytes:
        """What ends a line: LF, CRLF, or nothing, for the last."""
        _, end = self.line_span(line)
        return self.data[end : self._lines.start(line + 1)] if line + 1 < self.lines else b""

    def ending_at(self, offset: int) -> bytes:
        """The line ending that is used around `offset`: that of its line, or of the one before; LF if there is none."""
        line = self._lines.at(offset)
        return self.ending_of(line) or self.ending_of(max(0, line - 1)) or b"\n"

    def offset(self, line: int, column: int) -> int:
        """The byte at a place; the column behind the last character is the end of the line.

        Raises:
            DocumentRefused: There is no such place.
        """
        text, (start, _) = self.line(line), self.line_span(line)
        if not 0 <= column <= len(text):
            raise DocumentRefused(
                f"there is no column {column + 1} in line {line + 1}", hint=f"the line ends at column {len(text) + 1}"
            )
        return start + len(text[:column].encode(self.encoding))

    def place(self, offset: int) -> tuple[int, int]:
        """Line and column of a byte; between CR and LF, of the end of the line.

        Raises:
            DocumentRefused: The offset is outside of the text, or inside of a character.
        """
        self._check(offset)
        line = self._lines.at(offset)
        start, end = self.line_span(line)
        return line, len(self._decoded(start, min(offset, end)))

    def text(self, start: int, end: int) -> str:
        """The text from byte to byte, its line endings as they are. Raises `DocumentRefused` for a bad span."""
        self._check_span(start, end)
        return self._decoded(start, end)

    def encode(self, text: str, near: int) -> bytes:
        """The bytes of a text in this file, its line breaks as they are around `near`.

        Raises:
            DocumentRefused: The encoding has no bytes for one of its characters.
        """
        text = text.replace("\r\n", "\n").replace("\n", self.ending_at(near).decode("ascii"))
        if (new := self._encoded(text)) is None:
            sign = next(sign for sign in text if self._encoded(sign) is None)
            raise DocumentRefused(
                f"{sign!r} (U+{ord(sign):04X}) cannot be written in {self.encoding}",
                hint="leave it out" if sign == "\0" or self.encoding == "utf-8" else "convert the file to UTF-8 first",
            )
        return new

    def replace(self, start: int, end: int, new: bytes, *, typing: bool = False) -> Edit:
        """Puts `new` in the place of the bytes from `start` to `end`.

        Args:
            start: On a character.
            end: Likewise.
            new: Text in the encoding of the file, see `encode`. If it is what is there, nothing happens.
            typing: It is a keystroke: one undo takes back what is typed or deleted in one go.

        Returns:
            The edit.

        Raises:
            DocumentRefused: `new` is no text, or the span is outside of the text or cuts a character.
        """
        self._check_span(start, end)
        try:
            valid = self._encoded(new.decode(self.encoding)) == new
        except UnicodeDecodeError:
            valid = False
        if not valid:
            raise DocumentRefused(f"what is to be put at byte {start} is no text in {self.encoding}")
        edit = Edit(start, self.data[start:end], new)
        if edit.new != edit.old:
            after = next(self._versions)
            self._history.add(edit, self.version, after, typing=typing)
            self._apply([Change(edit, after)])
        return edit

    @contextmanager
    def group(self) -> Iterator[None]:
        """The edits of the block are one undo step. If it raises, they are taken back.

        Each edit counts in the text as the one before left it. No undo or redo may be inside.
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
        """What is typed next is a new undo step: the cursor was moved, something else was done."""
        self._history.break_typing()

    def undo(self) -> tuple[int, int] | None:
        """Takes the last step back. The span that changed, as it is now; None: there is nothing to take back."""
        return self._apply(self._history.undo())

    def redo(self) -> tuple[int, int] | None:
        """Does again what was undone last. The span that changed, as it is now; None: there is nothing to do again."""
        return self._apply(self._history.redo())

    def anchor(self, start: int, end: int) -> Anchor:
        """A span that follows the edits for as long as it is kept. Raises `DocumentRefused` for a bad span."""
        self._check_span(start, end)
        anchor = Anchor(start, end, self.version)
        self._anchors.add(anchor)
        return anchor

    def came_by(self, version: int) -> bool:
        """Whether the text had that version on its way here: not one that was undone, and then written over."""
        return version in (0, self.version) or self._history.came_by(version)

    @property
    def changed(self) -> bool:
        """Whether the text is another one than that which was read, or saved last."""
        return self.version != self._saved

    def saved(self) -> None:
        """The file holds the text as it is now."""
        self._saved = self.version
        self._history.break_typing()

    def edits_since(self, count: int) -> Sequence[Edit]:
        """All edits but the first `count`, in their order; what undo and redo did are edits like any other."""
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
                f"byte {offset} is outside of the text", hint=f"it goes from byte {self.first} to {len(self.data)}"
            )
        if self._is_inside(offset):
            raise DocumentRefused(f"byte {offset} is inside of a character")

    def _is_inside(self, offset: int) -> bool:
        if self.encoding == "utf-8":
            return offset < len(self.data) and self.data[offset] & 0xC0 == 0x80
        try:  # elsewhere the second byte of a character may look like a whole one: only its line tells
            self._decoded(self._lines.start(self._lines.at(offset)), offset)
        except UnicodeDecodeError:
            return True
        return False

    def _decoded(self, start: int, end: int) -> str:
        return self.data[start:end].decode(self.encoding)

    def _encoded(self, text: str) -> bytes | None:
        """None: the bytes would not be read as that text."""
        try:
            data = text.encode(self.encoding)
            return data if "\0" not in text and data.decode(self.encoding) == text else None
        except UnicodeError:
            return None
