"""What the model proposes for spans of a file: the search for it, every proposal kept, and its review.

A `Passage` is a set of spans that are written in one run. It follows them through edits and keeps all their proposals.
An `InfillSearch` is the runs of one search. A `Review` compares one proposal with the text as it is now: hunks that are
accepted or rejected in any order. The buffer changes on accept and at no other time. One accept is one undo.
"""

import itertools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from dgtui.backend import Backend, Facts, RunHandle
from dgtui.diffusion.events import Finished, StopReason
from dgtui.diffusion.job import Job, SamplerSettings
from dgtui.document.buffer import Anchor, Buffer
from dgtui.document.changes import hunks
from dgtui.errors import InputRefused, RunFailed
from dgtui.message import Message
from dgtui.steering.infill import Infill, Tokens, check
from dgtui.steering.instructions import message

Span = tuple[int, int]
"""Bytes, the end exclusive."""

EMBEDDED: Final = "embedded"
"""The model that is told the instruction alone: see `instructions`."""

_CHARACTERS: Final = re.compile(r"\r\n|.", re.DOTALL)
"""What is one character of `plain` text."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """A text for each span, and how it came about."""

    texts: tuple[str, ...]
    "one for each span, with LF for line breaks"
    score: float
    "mean probability of its tokens"
    tokens: int
    steps: int
    "denoising steps of the whole search"
    lengths: int
    "that were tried"
    seconds: float
    seed: int
    instruction: str | None = None
    stopped: bool = False
    "the search was stopped: it had not settled"


class Passage:
    """Spans of a buffer that go in one run, and all that was proposed for them.

    Args:
        buffer: The text.
        spans: In their order; they do not touch.
    """

    def __init__(self, buffer: Buffer, spans: Sequence[Span]) -> None:
        self.buffer = buffer
        self.proposals: list[Proposal] = []
        self.at = 0
        "the proposal that is shown"
        self._placed: list[tuple[int, tuple[Anchor, ...]]] = []
        "the version at which they were placed, and the spans"
        self.place(spans)

    def place(self, spans: Sequence[Span]) -> None:
        """Says where the spans are after an accept, which cut into them. Undo brings the place before back."""
        self._placed.append((self.buffer.version, tuple(self.buffer.anchor(start, end) for start, end in spans)))

    @property
    def spans(self) -> tuple[Span, ...] | None:
        """Where the spans are now; None: an edit has cut into one of them."""
        for version, anchors in reversed(self._placed):
            if self.buffer.came_by(version) and all(anchor.alive for anchor in anchors):
                return tuple((anchor.start, anchor.end) for anchor in anchors)
        return None

    @property
    def proposal(self) -> Proposal | None:
        """The one that is shown."""
        return self.proposals[self.at] if self.proposals else None

    def add(self, proposals: Iterable[Proposal]) -> None:
        """Keeps proposals, and shows the first of them. A text that was offered before is not kept twice."""
        shown: int | None = None
        for proposal in proposals:
            known = next((at for at, kept in enumerate(self.proposals) if kept.texts == proposal.texts), None)
            if known is None:
                known = len(self.proposals)
                self.proposals.append(proposal)
            shown = known if shown is None else shown
        self.at = self.at if shown is None else shown

    def cycle(self, by: int) -> bool:
        """Shows the next or the previous proposal, round and round. False: there is no other."""
        if len(self.proposals) < 2:
            return False
        self.at = (self.at + by) % len(self.proposals)
        return True

    def parts(self) -> list[str]:
        """The text as `Infill` is given it: held, to be written, held, …"""
        inner = itertools.chain.from_iterable(self.spans or ())
        edges = [self.buffer.first, *inner, len(self.buffer.data)]
        return [plain(self.buffer.text(start, end)) for start, end in itertools.pairwise(edges)]


class Passages:
    """All passages of a buffer that anything was asked for."""

    def __init__(self, buffer: Buffer) -> None:
        self._buffer = buffer
        self._all: list[Passage] = []

    def of(self, spans: Iterable[Span]) -> Passage:
        """The passage of these spans; spans that touch are one."""
        wanted = joined(spans)
        for passage in reversed(self._all):
            if passage.spans == tuple(wanted):
                return passage
        self._all.append(Passage(self._buffer, wanted))
        return self._all[-1]

    def near(self, start: int, end: int) -> Passage | None:
        """The newest passage with proposals that has a span at these bytes."""
        for passage in reversed(self._all):
            if passage.proposals and any(low <= end and start <= high for low, high in passage.spans or ()):
                return passage
        return None


class InfillSearch:
    """A search for proposals, run by run: `job`, submit, `begin`, and `end` when the run has ended, until `done`."""

    def __init__(
        self, passage: Passage, search: Infill, seed: int, instruction: str | None, stop_ids: frozenset[int]
    ) -> None:
        self.passage, self.search, self.seed, self.instruction = passage, search, seed, instruction
        self.stop_ids = stop_ids
        self.run: RunHandle | None = None
        self.steps = self.lengths = 0
        self.seconds = 0.0
        self.stopping = False
        self.done = False

    def job(self) -> Job | None:
        """What to run next; None: the search is over."""
        return None if self.done else self.search.job()

    def begin(self, run: RunHandle) -> None:
        """The job that was handed out last is being run."""
        self.run = run
        self.lengths = max(self.lengths, self.search.lengths)
        if self.stopping:
            run.control.cancel()

    def stop(self) -> None:
        """Ends the search within a denoising step; what is there is kept."""
        self.stopping = True
        if self.run is not None:
            self.run.control.cancel()

    def end(self) -> None:
        """Takes what the run has left.

        Raises:
            RunFailed: It is no text.
        """
        assert self.run is not None
        log = self.run.log
        finished = log.finished
        assert isinstance(finished, Finished)
        self.steps += sum(finished.steps)
        self.seconds += finished.seconds
        if self.stopping or finished.reason is StopReason.CANCELLED:
            self.done = self.stopping = True
            self.search.stop(log)
        else:
            self.search.take(log)
            self.done = bool(self.search.proposals)

    def proposals(self) -> list[Proposal]:
        """What was found, best first."""
        return [
            Proposal(
                found.texts, found.score, found.tokens, self.steps, self.lengths, self.seconds, self.seed,
                self.instruction, self.stopping,
            )
            for found in self.search.proposals
        ]  # fmt: skip


def infill_search(
    passage: Passage, backend: Backend, settings: SamplerSettings, seed: int, instruction: str | None
) -> InfillSearch:
    """A search for a passage, with the model that is loaded.

    Raises:
        RunFailed: No model is loaded.
        InputRefused: The spans are gone, or do not fit one canvas.
        BadJob: The settings contradict each other.
    """
    facts = backend.facts
    if facts is None:
        raise RunFailed("no model is loaded yet")
    if passage.spans is None:
        raise InputRefused("the passage has been edited since", hint="select it again")
    parts = passage.parts()
    check(parts, facts.model)
    tokens: Tokens = backend
    prompt_ids = None if instruction is None else _prompt(backend, facts, instruction, parts)
    search = Infill(parts, tokens, facts.model, settings, seed, prompt_ids=prompt_ids)
    return InfillSearch(passage, search, seed, instruction, facts.model.stop_ids)


def _prompt(backend: Backend, facts: Facts, instruction: str, parts: Sequence[str]) -> list[int]:
    told = message(instruction, parts, embedded=facts.name == EMBEDDED)
    return backend.chat([Message("user", told)], False)


@dataclass(slots=True, eq=False)
class Change:
    """A hunk of a proposal, at its place in the buffer."""

    anchor: Anchor
    old: str
    new: str
    state: Literal["open", "accepted", "rejected"] = "open"


class Review:
    """A proposal against the text as it is now.

    Args:
        passage: Its spans are there, and it has a proposal.
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
        """What is neither accepted nor rejected yet."""
        return [change for change in self.changes if change.state == "open"]

    @property
    def current(self) -> Change | None:
        """What keys act on; None: nothing is open."""
        change = self.changes[self.at] if self.changes else None
        return change if change is not None and change.state == "open" else None

    def move(self, by: int) -> None:
        """To the next or previous open change; stays at the ends."""
        at = self.at + by
        while 0 <= at < len(self.changes):
            if self.changes[at].state == "open":
                self.at = at
                return
            at += by

    def accept(self) -> None:
        """Puts the current change into the text, as one undo step. Raises `DocumentRefused` if it cannot be encoded."""
        if (change := self.current) is not None:
            self._put([change])

    def accept_all(self) -> None:
        """Puts everything that is open into the text, as one undo step. Raises `DocumentRefused` likewise."""
        if self.open:
            self._put(self.open)

    def reject(self) -> None:
        """Leaves the text as it is at the current change."""
        if (change := self.current) is not None:
            change.state = "rejected"
            self._go_on()

    def reject_all(self) -> None:
        """Leaves the text as it is."""
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
        self._go_on()

    def _go_on(self) -> None:
        """To the next change that is open, or else the last before."""
        before = self.at
        self.move(1)
        if self.at == before:
            self.move(-1)


def joined(spans: Iterable[Span]) -> list[Span]:
    """The spans in their order, those that overlap or touch as one."""
    found: list[Span] = []
    for start, end in sorted(spans):
        if found and start <= found[-1][1]:
            found[-1] = found[-1][0], max(end, found[-1][1])
        else:
            found.append((start, end))
    return found


def plain(text: str) -> str:
    """The text with LF for its line breaks, as the model reads and writes it."""
    return text.replace("\r\n", "\n")


def _changes(buffer: Buffer, start: int, end: int, new: str) -> list[Change]:
    """The hunks of a span. They are found with LF for all line breaks, so that each break that stays keeps its own."""
    raw = buffer.text(start, end)
    found = hunks(plain(raw), plain(new))
    at = [*(character.start() for character in _CHARACTERS.finditer(raw)), len(raw)]

    def byte(character: int) -> int:
        return start + len(raw[: at[character]].encode(buffer.encoding))

    return [Change(buffer.anchor(byte(h.start), byte(h.end)), h.old, h.new) for h in found]


def _moved(spans: Sequence[Span], edits: Sequence[tuple[int, int, int]]) -> list[Span]:
    """Where spans are after edits inside of them: start, end and new length, all as they were before."""
    moved = []
    for start, end in spans:
        before = sum(size - (b - a) for a, b, size in edits if b < start)
        inside = sum(size - (b - a) for a, b, size in edits if start <= a and b <= end)
        moved.append((start + before, end + before + inside))
    return moved
