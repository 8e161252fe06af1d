"""A file that is being edited: the bytes that were read, the current text, and the journal of the edits.

Everything that reads or writes the file raises a `DgtuiError`; the user decides about a `Conflict`. Edits are in the
journal from `record` until they are saved.
"""

import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from dgtui.document import journal, source
from dgtui.document.buffer import Buffer
from dgtui.document.journal import Journal, Recovery
from dgtui.document.save import save
from dgtui.document.source import Source, plain
from dgtui.errors import DocumentRefused, RunFailed


class OpenFile:
    """A file that is being edited.

    Args:
        path: Created by the first save if it does not exist.
        encoding: A name that Python knows; None: UTF-8.

    Raises:
        DocumentRefused: It is not a text file. The text in its journal, if any, is then saved as a copy.
        RunFailed: It cannot be read.
    """

    def __init__(self, path: Path, encoding: str | None = None) -> None:
        self.path = path
        try:
            self.source = _read(path, encoding)
        except DocumentRefused as refused:
            recovery = journal.find(path)
            if recovery is None or not recovery.text or recovery.state == "in use":
                raise
            hint = f"the text in its journal was saved as {_copy(path, recovery)}"
            raise DocumentRefused(refused.message, hint=hint) from refused
        self.buffer = Buffer(self.source)
        self._journal = Journal(path, self.source.data)
        self._recorded = 0

    @property
    def is_new(self) -> bool:
        """The file does not exist yet."""
        return self.source.identity is None

    def record(self) -> None:
        """Writes the edits since the last call into the journal. Raises `RunFailed`; the text is kept."""
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
        """Saves the text under another name, which the file keeps. Raises the errors of `save`."""
        same = os.path.realpath(path) == os.path.realpath(self.path)
        self._write(path, self.source if same else None, force)
        if path != self.path:
            self.path = path
            self.source = replace(self.source, path=path)
            self._journal = Journal(path, self.buffer.data)

    def _write(self, path: Path, expected: Source | None, force: bool) -> None:
        with suppress(RunFailed):  # the save matters more than a journal that cannot be written
            self.record()
            self._journal.flush()
        identity = save(self.buffer.data, path, expected, force=force)
        self.source = replace(self.source, data=self.buffer.data, identity=identity)
        self.buffer.saved()
        self._journal.saved(self.buffer.data)

    def disk(self) -> str:
        """The text on disk. Raises `DocumentRefused` or `RunFailed`."""
        return plain(_read(self.path, self.source.encoding).data, self.source.encoding)

    def text(self) -> str:
        """The current text."""
        return plain(self.buffer.data, self.source.encoding)

    def reload(self) -> None:
        """Replaces the text with the file on disk, as one undo step. Raises `DocumentRefused` or `RunFailed`."""
        fresh = _read(self.path, self.source.encoding)
        self._replace(fresh.data)
        self.source = fresh
        self.record()
        self.buffer.saved()
        self._journal.saved(self.buffer.data)

    def left_behind(self) -> Recovery | None:
        """Edits of this file that a crash left behind, unless the file already has them. Raises `RunFailed`."""
        mine = self._journal.file
        while (left := journal.find(self.path, mine)) and left.state == "whole" and left.text == self.source.data:
            left.discard()  # its edits were saved
        return left

    def recover(self, recovery: Recovery) -> None:
        """Applies the edits of a journal, as one undo step. Raises `RunFailed` if they no longer apply."""
        data = recovery.data(self.source)
        if data is None:
            raise RunFailed(f"{self.path} has changed since", hint="save the recovered text as a copy")
        try:
            self._replace(data)
        except DocumentRefused as refused:
            raise RunFailed(refused.message, hint="open it with the --encoding that was used for editing") from refused
        self.record()
        self._journal.flush()
        recovery.discard()

    def copy(self, recovery: Recovery) -> Path:
        """Saves the recovered text under a new name in the same folder, and returns its path. Raises `RunFailed`."""
        return _copy(self.path, recovery)

    def close(self) -> None:
        """Ends the journal, because the text is saved or not wanted. Raises `RunFailed`."""
        self._journal.close()

    def _replace(self, data: bytes) -> None:
        """Replaces the text. Equal lines at both ends are not touched."""
        old = self.buffer.data
        first = self.buffer.first
        if data[:first] != old[:first]:
            raise RunFailed("the byte order mark was added or removed", hint="open the file again")
        low = _same(old, data, first)
        high = _same(old[low:][::-1], data[low:][::-1], 0)
        # Whole lines at both ends, because a byte may be a part of a character
        low = max(first, old.rfind(b"\n", 0, low) + 1)
        tail = old.find(b"\n", len(old) - high)
        end = len(old) if tail < 0 else tail + 1
        self.buffer.replace(low, end, data[low : len(data) - (len(old) - end)])


def _same(one: bytes, other: bytes, start: int) -> int:
    """The length in bytes of the common start of two texts that are equal up to `start`."""
    low, high = start, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _copy(path: Path, recovery: Recovery) -> Path:
    """Saves the recovered text next to a file, readable by the owner only, because the file may have been private."""
    names = (f"{path.name}.recovered{'' if n == 1 else n}" for n in range(1, 1000))
    copy = next(copy for name in names if not os.path.lexists(copy := path.with_name(name)))
    try:
        os.close(os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise RunFailed(
            f"{copy} could not be saved: {error.strerror}", hint="free some space, and open it again"
        ) from error
    save(recovery.text, copy, None, force=True)
    recovery.discard()
    return copy


def _read(path: Path, encoding: str | None) -> Source:
    try:
        return source.read(path, encoding)
    except DocumentRefused as error:
        if not isinstance(error.__cause__, FileNotFoundError):
            raise
    if not path.absolute().parent.is_dir():
        raise RunFailed(f"there is no folder {path.parent}", hint="create it first")
    return source.of_bytes(b"", encoding, path)
