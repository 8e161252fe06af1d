"""The model's proposals for spans of a file: all that were made, and the review of one.

A `Passage` is a set of spans that are written in one run. It follows them through edits and keeps all their proposals.
A `Review` compares one proposal with the current text as hunks, which are accepted or rejected in any order. The buffer
changes only on accept. One accept is one undo step.
"""

import itertools
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from dgtui.backend import RunHandle
from dgtui.diffusion.job import Job
from dgtui.document.buffer import Anchor, Buffer
from dgtui.document.changes import hunks
from dgtui.errors import InputRefused
from dgtui.steering.infill import Infill, Proposal
from dgtui.steering.search import Search

Span = tuple[int, int]
"""Bytes, the end exclusive."""

_CHARACTERS: Final = re.compile(r"\r\n|.", re.DOTALL)
"""Matches one character of `plain` text."""


class Passage:
    """Spans of a buffer that are written in one run, and all proposals for them.

    Args:
        buffer: The text.
        spans: In order.
    """

    def __init__(self, buffer: Buffer, spans: Sequence[Span]) -> None:
        self.buffer = buffer
        self.proposals: list[Proposal] = []
        self.at = 0
        "the proposal that is shown"
        self._placed: list[tuple[int, tuple[Anchor, ...]]] = []
        "the version of the buffer in which the spans were placed, and the spans"
        self.place(spans)

    def place(self, spans: Sequence[Span]) -> None:
        """Sets the positions of the spans after an accept, which changes them. Undo restores the previous positions."""
        self._placed.append((self.buffer.version, tuple(self.buffer.anchor(start, end) for start, end in spans)))

    @property
    def spans(self) -> tuple[Span, ...] | None:
        """The current spans; None if an edit has changed one of them."""
        for version, anchors in reversed(self._placed):
            if self.buffer.came_by(version) and all(anchor.alive for anchor in anchors):
                return tuple((anchor.start, anchor.end) for anchor in anchors)
        return None

    @property
    def proposal(self) -> Proposal | None:
        """The one that is shown."""
        return self.proposals[self.at] if self.proposals else None

    def add(self, proposals: Iterable[Proposal]) -> None:
        """Keeps new proposals and shows the first of them. Equal texts are kept once."""
        added = []
        for proposal in proposals:
            at = next((at for at, kept in enumerate(self.proposals) if kept.texts == proposal.texts), None)
            if at is None:
                at = len(self.proposals)
                self.proposals.append(proposal)
            added.append(at)
        self.at = added[0] if added else self.at

    def cycle(self, by: int) -> bool:
        """Shows the next or the previous proposal; the first follows the last. False if there is no other."""
        if len(self.proposals) < 2:
            return False
        self.at = (self.at + by) % len(self.proposals)
        return True

    def parts(self) -> list[str]:
        """The text for `Infill`: kept, to be written, kept, … Raises `InputRefused` if the spans are gone."""
        spans = self.spans
        if spans is None:
            raise InputRefused("the passage has been edited since", hint="select it again")
        edges = [self.buffer.first, *itertools.chain.from_iterable(spans), len(self.buffer.data)]
        return [plain(self.buffer.text(start, end)) for start, end in itertools.pairwise(edges)]


class Passages:
    """All passages of a buffer that were sent to the model."""

    def __init__(self, buffer: Buffer) -> None:
        self._buffer = buffer
        self._all: list[Passage] = []

    def of(self, spans: Iterable[Span]) -> Passage:
        """The passage of these spans; touching spans are merged."""
        wanted = joined(spans)
        for passage in reversed(self._all):
            if passage.spans == tuple(wanted):
                return passage
        self._all.append(Passage(self._buffer, wanted))
        return self._all[-1]

    def near(self, start: int, end: int) -> Passage | None:
        """The newest passage with proposals and a span at these bytes."""
        for passage in reversed(self._all):
            if passage.proposals and any(low <= end and start <= high for low, high in passage.spans or ()):
                return passage
        return None


class InfillSearch(Search[Infill]):
    """A search for proposals for a passage."""

    def __init__(self, passage: Passage, infill: Infill, submit: Callable[[Job], RunHandle]) -> None:
        super().__init__(infill, submit)
        self.passage = passage


@dataclass(slots=True, eq=False)
class Change:
    """A hunk of a proposal, with its position in the buffer."""

    anchor: Anchor
    old: str
    new: str
    state: Literal["open", "accepted", "rejected"] = "open"


class Review:
    """A proposal compared with the current text.

    Args:
        passage: Must have spans and a proposal.
    """

    def __init__(self, passage: Passage) -> None:
        self.passage, self.buffer = passage, passage.buffer
        self.changes: list[Change] = []
        proposal, spans = passage.proposal, passage.spans
        assert proposal is not None and spans is not None
        for (start, end), text in zip(spans, proposal.texts, strict=True):
            self.changes += _changes(self.buffer, start, end, text)
        self.at = 0
        "the change that keys act on"

    @property
    def open(self) -> list[Change]:
        """The changes that are neither accepted nor rejected."""
        return [change for change in self.changes if change.state == "open"]

    @property
    def current(self) -> Change | None:
        """The change that keys act on; None if none is open."""
        change = self.changes[self.at] if self.changes else None
        return change if change is not None and change.state == "open" else None

    def move(self, by: int) -> None:
        """Moves to the next or previous open change; stops at the ends."""
        at = self.at + by
        while 0 <= at < len(self.changes):
            if self.changes[at].state == "open":
                self.at = at
                return
            at += by

    def accept(self) -> None:
        """Applies the current change, as one undo step. Raises `DocumentRefused` if it cannot be encoded."""
        if (change := self.current) is not None:
            self._put([change])

    def accept_all(self) -> None:
        """Applies all open changes, as one undo step. Raises `DocumentRefused` if they cannot be encoded."""
        if self.open:
            self._put(self.open)

    def reject(self) -> None:
        """Rejects the current change."""
        if (change := self.current) is not None:
            change.state = "rejected"
            self._to_open()

    def reject_all(self) -> None:
        """Rejects all open changes."""
        for change in self.open:
            change.state = "rejected"

    def _put(self, changes: Sequence[Change]) -> None:
        spans = self.passage.spans
        assert spans is not None
        places = [(change.anchor.start, change.anchor.end) for change in changes]
        encoded = [self.buffer.encode(change.new, change.anchor.start) for change in changes]
        with self.buffer.group():
            for change, new in zip(changes, encoded, strict=True):
                self.buffer.replace(change.anchor.start, change.anchor.end, new)
        edits = [(start, end, len(new)) for (start, end), new in zip(places, encoded, strict=True)]
        self.passage.place(_moved(spans, edits))
        for change in changes:
            change.state = "accepted"
        self._to_open()

    def _to_open(self) -> None:
        """Moves to the next open change, else to the last one before."""
        before = self.at
        self.move(1)
        if self.at == before:
            self.move(-1)


def joined(spans: Iterable[Span]) -> list[Span]:
    """The spans in order; overlapping or touching ones are merged."""
    result: list[Span] = []
    for start, end in sorted(spans):
        if result and start <= result[-1][1]:
            result[-1] = result[-1][0], max(end, result[-1][1])
        else:
            result.append((start, end))
    return result


def plain(text: str) -> str:
    """The text with LF line breaks, as the model reads and writes it."""
    return text.replace("\r\n", "\n")


def _changes(buffer: Buffer, start: int, end: int, new: str) -> list[Change]:
    """The hunks of a span. Texts are compared with LF line breaks, so an unchanged break keeps its own bytes."""
    raw = buffer.text(start, end)
    at = [*(character.start() for character in _CHARACTERS.finditer(raw)), len(raw)]

    def byte(character: int) -> int:
        return start + len(raw[: at[character]].encode(buffer.encoding))

    return [Change(buffer.anchor(byte(h.start), byte(h.end)), h.old, h.new) for h in hunks(plain(raw), plain(new))]


def _moved(spans: Sequence[Span], edits: Sequence[tuple[int, int, int]]) -> list[Span]:
    """The spans after edits inside them. An edit is start, end (both before the edits) and new length."""
    moved = []
    for start, end in spans:
        before = sum(size - (b - a) for a, b, size in edits if b < start)
        inside = sum(size - (b - a) for a, b, size in edits if start <= a and b <= end)
        moved.append((start + before, end + before + inside))
    return moved
