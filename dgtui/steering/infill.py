"""Turns spans of a text into jobs for the model, and the results into text. Loads no model and opens no file.

A text is given in parts: kept, to be written, kept, and so on. Kept text is pinned on the canvas, as far to the left
and right as it fits. Text further left is in the prefix. Each part is encoded separately, so a cut inside a word stays
where it is, and kept text is never decoded again. Only a space at a cut is moved to the part after it, because that
is how vocabularies work: " word" is one token, "word" often is not. Line breaks at the end of a span are kept too: they
separate it from what follows, and a model that writes it again ends with its last word.

A length search writes the spans (see `lengths`). A part longer than a canvas is written block by block, its last block
together with the text after it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from dgtui.diffusion.job import Job, SamplerSettings
from dgtui.diffusion.log import RunLog
from dgtui.errors import InputRefused, RunFailed
from dgtui.message import Message
from dgtui.model_info import ModelInfo
from dgtui.steering.instructions import message
from dgtui.steering.lengths import CANDIDATES, UNLIKELY, GappedCanvas, LengthSearch, Ranked

LEFT_SHARE: Final = 4
"""The text left of the gap gets 1 / this of the canvas, so the model sees the gap from both sides."""

LEFT_MOST: Final = 4096
"""Most tokens of the text on the left in the prefix, if the context has room for them."""

RIGHT_LEAST: Final = 32
"""Positions that are reserved for the text on the right, if it is that long."""

CHARACTERS_PER_TOKEN: Final = 16
"""Far more characters than a token has. Text further away than this many per position is not encoded."""

LONGEST_SPAN: Final = 200_000
"""Most characters of a span: hundreds of canvases."""


class Tokenizer(Protocol):
    """What is needed of a tokenizer."""

    def encode(self, text: str) -> list[int]: ...

    def pieces(self, ids: Sequence[int]) -> list[bytes]: ...

    def chat(self, messages: Sequence[Message]) -> list[int]: ...


@dataclass(frozen=True, slots=True)
class Proposal:
    """A text for each span, and how it was made."""

    texts: tuple[str, ...]
    "with LF for line breaks"
    score: float
    "mean probability of its tokens in the model's last step"
    tokens: int
    steps: int
    "denoising steps of the whole search"
    lengths: int
    "number of different lengths that were tried at once"
    seconds: float = field(compare=False)
    seed: int
    instruction: str | None = None
    stopped: bool = False
    "the search was stopped before it had settled"
    likelihood: float = float("-inf")
    "log-likelihood in nats of the text and what follows it, from left to right; -inf if unknown"
    nats: float = float("inf")
    "mean log-probability in nats over the tokens of the whole text on the canvas, from left to right; inf if unknown"

    @property
    def unlikely(self) -> bool:
        """The model has not seen such text, neither the proposal nor what is around it."""
        return self.nats < UNLIKELY


def check(parts: Sequence[str], model: ModelInfo) -> None:
    """Checks whether spans can be written at all, before the slow encoding.

    Raises:
        InputRefused: They are too long, or too far apart.
    """
    longest = max(map(len, parts[1::2]))
    if longest > LONGEST_SPAN:
        raise InputRefused(
            f"a span of {longest:,} characters is too long to be rewritten",
            hint=f"rewrite at most {LONGEST_SPAN:,} characters at a time",
        )
    if sum(map(len, parts[2:-1])) > CHARACTERS_PER_TOKEN * model.canvas_length:
        raise InputRefused(
            f"the spans and the text between them do not fit into one canvas of {model.canvas_length} tokens",
            hint="rewrite fewer or shorter spans at a time",
        )


class Infill:
    """A plan (see `search`) that writes spans. Its result is `proposals`, best first, empty until it is over.

    Args:
        parts: The text: kept, to be written, kept, …; an odd number. A part to be written is the current text there,
            from which a length is guessed, or is empty.
        instruction: What to write; None: anything that fits.
        length: Tokens of every span; None: search for the length.
        candidates: Number of proposals.

    Raises:
        InputRefused: The parts are too far apart, or too long, for one canvas.
    """

    def __init__(
        self, parts: Sequence[str], tokenizer: Tokenizer, model: ModelInfo, settings: SamplerSettings, seed: int, *,
        instruction: str | None = None, length: int | None = None, candidates: int = CANDIDATES,
    ) -> None:  # fmt: skip
        check(parts, model)
        self.seed, self.instruction = seed, instruction
        self._tokenizer, self._model, self._settings = tokenizer, model, settings
        self._length, self._candidates = length, candidates
        self.proposals: list[Proposal] = []
        self.written: tuple[int, ...] = ()
        "the ids that earlier canvases hold of a part that is longer than one"
        self._steps = self._most_lengths = 0
        self._seconds = 0.0
        if instruction is None:
            self._prompt = [model.turn_end_id if model.bos_id is None else model.bos_id]
        else:
            told = message(instruction, parts, reads_marks=model.reads_marks)
            self._prompt = tokenizer.chat([Message("user", told)])
        parts, self.lent = _lend(parts)
        "for each gap: a space or nothing, which its tokens start with and which is kept; and what to append to it"
        left, *inner, right = parts[::2]
        self._left = tuple(tokenizer.encode(left[-CHARACTERS_PER_TOKEN * (LEFT_MOST + model.canvas_length) :]))
        self._inner = [tuple(tokenizer.encode(part)) for part in inner]
        seen = right[: CHARACTERS_PER_TOKEN * model.canvas_length]
        self._right = tuple(tokenizer.encode(seen))
        self._ends = len(seen) == len(right)
        self._old = [len(tokenizer.encode(part)) if part.strip() else 0 for part in parts[1::2]]
        # The text may end early only if nothing follows it
        may_end = len(self._old) == 1 and not seen.strip()
        self._suppressed = model.special_ids - model.stop_ids if may_end else model.special_ids | model.stop_ids
        self._plan()

    @property
    def stop_ids(self) -> frozenset[int]:
        """The ids that end a text."""
        return self._model.stop_ids

    def _plan(self) -> None:
        """Prepares the next canvas: with all gaps, or with the start of the only one if it is too long."""
        model = self._model
        left = (*self._left, *self.written)
        inside = left[-(model.canvas_length // LEFT_SHARE) :]
        before = left[: len(left) - len(inside)]
        room = model.max_context - model.canvas_length - len(self._prompt)
        if room < 0:
            raise InputRefused("the instruction does not fit the context", hint="shorten it, or raise --context")
        prompt = (*self._prompt, *before[max(0, len(before) - min(room, LEFT_MOST)) :])
        end = (model.turn_end_id,) if self._ends else ()
        kept = (inside, *self._inner, (*self._right, *end))
        must_stay = min(len(self._right), RIGHT_LEAST)
        canvas = GappedCanvas(kept, must_stay, model.canvas_length, model.fill_id, self._ends)
        lengths = [max(1, (self._length or old) - len(self.written)) for old in self._old]
        self._fits, candidates = sum(lengths) <= canvas.room, self._candidates
        if not self._fits and len(lengths) > 1:
            places = model.canvas_length - canvas.room + sum(lengths)
            raise InputRefused(
                f"the spans and the text between them need {places} tokens, but a canvas has {model.canvas_length}",
                hint="rewrite fewer or shorter spans at a time",
            )
        if not self._fits:
            canvas = GappedCanvas((inside, ()), 0, model.canvas_length, model.fill_id)
            lengths, candidates = [canvas.room], 1
        job = Job("infill", prompt, self.seed, model.canvas_length, self._settings, suppressed=self._suppressed)
        given = lengths if self._length or self.written or not self._fits else None
        self.search = LengthSearch(job, canvas, self._old, lengths=given, candidates=candidates, may_be_empty=True)

    def job(self) -> Job | None:
        """The next job; None once the proposals exist."""
        if self.proposals:
            return None
        self._most_lengths = max(self._most_lengths, self.search.lengths)
        return self.search.job()

    def take(self, log: RunLog) -> None:
        """Plans the next job from the newest log, or creates the proposals.

        Raises:
            RunFailed: The model's output is not text.
        """
        self._count(log)
        self.search.take(log)
        if not self._fits:
            (gap,) = self.search.gaps(0)
            self.written += tuple(log.blocks()[0].ids[gap.start :].tolist())
            self._plan()
        elif self.search.ranked:
            self._propose(log)

    def stop(self, log: RunLog) -> None:
        """Creates proposals from what a cancelled run has written, if anything.

        Raises:
            RunFailed: The model's output is not text.
        """
        self._count(log)
        self.search.stop(log)
        if self.search.ranked:
            self._propose(log, stopped=True)
        elif self.written and (texts := self._texts([()])) is not None:
            self.proposals = [self._proposal(texts, Ranked(0, 0, 0.0, float("-inf")), stopped=True)]

    def _count(self, log: RunLog) -> None:
        if log.finished is not None:
            self._steps += sum(log.finished.steps)
            self._seconds += log.finished.seconds

    def _propose(self, log: RunLog, stopped: bool = False) -> None:
        """The candidates' proposals, each text once. If some consist of whole words, only those."""
        for whole_words in (True, False):
            proposals: dict[tuple[str, ...], Proposal] = {}
            for r in self.search.ranked:
                ids: list[int] = log.blocks(r.candidate)[0].ids.tolist()
                texts = self._texts([ids[gap.start : gap.stop] for gap in self.search.gaps(r.candidate)], whole_words)
                if texts is not None and texts not in proposals:
                    proposals[texts] = self._proposal(texts, r, stopped)
            if proposals:
                empty = any(not proposal.tokens for proposal in proposals.values())
                self.proposals = [*proposals.values()][: self._candidates + empty]
                return
        raise RunFailed("the model's output is not text", hint="let it run longer, or try another seed")

    def _proposal(self, texts: tuple[str, ...], ranked: Ranked, stopped: bool = False) -> Proposal:
        return Proposal(
            texts, ranked.score, ranked.tokens + len(self.written), self._steps, self._most_lengths, self._seconds,
            self.seed, self.instruction, stopped, ranked.likelihood, ranked.nats,
        )  # fmt: skip

    def _texts(self, gaps: Sequence[Sequence[int]], whole_words: bool = False) -> tuple[str, ...] | None:
        """Each gap's ids as text, up to a stop id. None if they are not UTF-8. With `whole_words`, also None if they
        lack a space that was moved there, because then they continue the word before the gap."""
        texts = []
        for gap, (lead, tail) in zip(gaps, self.lent, strict=True):
            ids = [*self.written, *gap]
            if not ids:
                texts.append("")
                continue
            end = next((at for at, token in enumerate(ids) if token in self._model.stop_ids), len(ids))
            try:
                text = b"".join(self._tokenizer.pieces(ids[:end])).decode()
            except UnicodeDecodeError:
                return None
            if whole_words and text and not text.startswith(lead):
                return None
            texts.append(text.removeprefix(lead) + tail)
        return tuple(texts)


def _lend(parts: Sequence[str]) -> tuple[list[str], list[tuple[str, str]]]:
    """Moves a space at a cut, and line breaks at the end of a span, into the part after it.

    Returns:
        The parts, and for each gap the required start of its text (to be removed) and what to append to it; the
        rest of the text stays the same.
    """
    lent, moved = list(parts), []
    for at in range(1, len(lent), 2):
        before, gap, after = lent[at - 1 : at + 2]
        lead = tail = ""
        if before.endswith(" ") and not (gap or after)[:1].isspace():
            before, lead = before[:-1], " "
            gap, after, tail = ("", " " + after, " ") if after and not gap else (" " + gap, after, "")
        if gap.strip() and gap.endswith(" ") and after and not after[0].isspace():
            gap, after, tail = gap[:-1], " " + after, " "
        elif (text := gap.rstrip("\n")).strip() and text != gap:
            tail = gap[len(text) :]
            gap, after = text, tail + after
        lent[at - 1 : at + 2] = before, gap, after
        moved.append((lead, tail))
    return lent, moved
