"""The file behind the edit screen: what was read, the text as it is now, and the journal between the two.

Knows no screen. Everything that reads or writes the file raises a `DgtuiError`; a `Conflict` is for the person to
settle. What was typed is in the journal as soon as `record` is called, and gone from it once it is saved.
"""

import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from dgtui.document import journal, source
from dgtui.document.buffer import Buffer
from dgtui.document.journal import Journal, Recovery
from dgtui.document.save import save
from dgtui.document.source import Source
from dgtui.errors import DocumentRefused, RunFailed


class OpenFile:
    """A file that is being edited.

    Args:
        path: It need not be there: then it is made by the first save.
        encoding: A name that Python knows; None: UTF-8.

    Raises:
        DocumentRefused: It is no text file. What a program that died while it saved has left of it is then a copy.
        RunFailed: It cannot be read.
    """

    def __init__(self, path: Path, encoding: str | None = None) -> None:
        self.path = path
        try:
            self.source = _read(path, encoding)
        except DocumentRefused as refused:
            found = journal.find(path)
            if found is None or not found.text or found.state == "in use":
                raise
            hint = f"what dgtui had of it is saved as {_copy(path, found)}"
            raise DocumentRefused(refused.message, hint=hint) from refused
        self.buffer = Buffer(self.source)
        self._journal = Journal(path, self.source.data)
        self._recorded = 0

    @property
    def is_new(self) -> bool:
        """There is no such file yet."""
        return self.source.identity is None

    def record(self) -> None:
        """Puts into the journal what was edited since the last time. Raises `RunFailed`; nothing is lost by that."""
        edits = self.buffer.edits_since(self._recorded)
        self._recorded += len(edits)
        if edits:
            self._journal.record(*edits)

    def save(self, *, force: bool = False) -> None:
        """Saves the text.

        Raises:
            Conflict: The file changed on disk since it was read; `force` saves over it.
            RunFailed: It cannot be saved.
        """
        self._write(self.path, self.source, force)

    def save_as(self, path: Path, *, force: bool = False) -> None:
        """Saves the text under another name, which is the file's from then on. Raises as `save` does."""
        same = os.path.realpath(path) == os.path.realpath(self.path)
        self._write(path, self.source if same else None, force)
        if path != self.path:
            self.path = path
            self.source = replace(self.source, path=path)
            self._journal = Journal(path, self.buffer.data)

    def _write(self, path: Path, expected: Source | None, force: bool) -> None:
        with suppress(RunFailed):  # a journal that cannot be written: saving is the better protection
            self.record()
            self._journal.flush()
        identity = save(self.buffer.data, path, expected, force=force)
        self.source = replace(self.source, data=self.buffer.data, identity=identity)
        self.buffer.saved()
        self._journal.saved(self.buffer.data)

    def disk(self) -> str:
        """The text that is on disk now. Raises as reading it does."""
        return plain(_read(self.path, self.source.encoding).data, self.source.encoding)

    def text(self) -> str:
        """The text as it is now."""
        return plain(self.buffer.data, self.source.encoding)

    def reload(self) -> None:
        """Takes the file as it is on disk now; undo brings the text before back. Raises as reading it does."""
        fresh = _read(self.path, self.source.encoding)
        self._replace(fresh.data)
        self.source = fresh
        self.record()
        self.buffer.saved()
        self._journal.saved(self.buffer.data)

    def left_behind(self) -> Recovery | None:
        """What a program that died has left of this file, if it is worth a question. Raises `RunFailed`."""
        mine = self._journal.file
        while (found := journal.find(self.path, mine)) and found.state == "whole" and found.text == self.source.data:
            found.discard()  # it was saved
        return found

    def recover(self, recovery: Recovery) -> None:
        """Makes the edits of a journal again, as one undo step. Raises `RunFailed` where they do not apply any more."""
        data = recovery.data(self.source)
        if data is None:
            raise RunFailed(f"{self.path} is another file by now", hint="save what was recovered as a copy")
        try:
            self._replace(data)
        except DocumentRefused as refused:
            raise RunFailed(refused.message, hint="open it with the --encoding that it was edited in") from refused
        self.record()
        self._journal.flush()
        recovery.discard()

    def copy(self, recovery: Recovery) -> Path:
        """Saves what was recovered beside the file, under a name that is free; which one. Raises `RunFailed`."""
        return _copy(self.path, recovery)

    def close(self) -> None:
        """Nothing is to be recovered: the text is saved, or not wanted. Raises `RunFailed`."""
        self._journal.close()

    def _replace(self, data: bytes) -> None:
        """The whole text by another one, of which the lines at both ends that are the same stay."""
        old = self.buffer.data
        first = self.buffer.first
        if data[:first] != old[:first]:
            raise RunFailed("the byte order mark came or went", hint="open the file again")
        low = _same(old, data, first)
        high = _same(old[low:][::-1], data[low:][::-1], 0)
        # Whole lines at both ends, so that no character is cut
        low = max(first, old.rfind(b"\n", 0, low) + 1)
        tail = old.find(b"\n", len(old) - high)
        end = len(old) if tail < 0 else tail + 1
        self.buffer.replace(low, end, data[low : len(data) - (len(old) - end)])


def _same(one: bytes, other: bytes, start: int) -> int:
    """How many bytes are the same from `start` on, counted from the beginning."""
    low, high = start, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _copy(path: Path, recovery: Recovery) -> Path:
    """Saves what was recovered beside a file, for its owner alone: the file may have been."""
    names = (f"{path.name}.recovered{'' if n == 1 else n}" for n in range(1, 1000))
    copy = next(copy for name in names if not os.path.lexists(copy := path.with_name(name)))
    try:
        os.close(os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise RunFailed(f"{copy} could not be saved: {error.strerror}", hint="make room, and open it again") from error
    save(recovery.text, copy, None, force=True)
    recovery.discard()
    return copy


def _read(path: Path, encoding: str | None) -> Source:
    try:
        return source.read(path, encoding)
    except RunFailed as error:
        if not isinstance(error.__cause__, FileNotFoundError):
            raise
    if not path.absolute().parent.is_dir():
        raise RunFailed(f"there is no folder {path.parent}", hint="make it first")
    return source.of_bytes(b"", encoding, path)


def plain(data: bytes, encoding: str) -> str:
    """A file's text to be looked at: without its mark, with LF for line breaks."""
    return data.decode(encoding, "replace").removeprefix("\ufeff").replace("\r\n", "\n")
