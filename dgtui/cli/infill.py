"""`dgtui infill`: spans of a file written anew between what surrounds them, every other byte kept."""

import itertools
import json
import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dgtui.cli import options, runs
from dgtui.cli.terminal import note, put, working
from dgtui.errors import DocumentRefused, InputRefused, RunFailed, UsageError

if TYPE_CHECKING:
    from dgtui.config import Settings
    from dgtui.document.buffer import Anchor, Buffer
    from dgtui.document.source import Source
    from dgtui.model.loader import LoadedModel
    from dgtui.steering.infill import Infill, Proposal
    from dgtui.worker import Worker

_POSITION = r"(\d{1,9}):(\d{1,9})"


@options.with_settings
def command(
    file: Annotated[str, typer.Argument(metavar="FILE|-", help="The file; - reads standard input.")],
    span: Annotated[
        list[str] | None, typer.Option(metavar="L:C-L:C", help="What to write anew, from 1:1 on, its end exclusive.")
    ] = None,
    at: Annotated[list[str] | None, typer.Option(metavar="L:C", help="Where to write something in between.")] = None,
    instruction: Annotated[
        str | None, typer.Option("--instruction", "-i", metavar="TEXT", help="Words; or continue, shorten …")
    ] = None,
    length: Annotated[str, typer.Option(metavar="N|auto", help="Tokens of each span; auto tries several.")] = "auto",
    candidates: Annotated[int, typer.Option(min=1, max=64, metavar="K", help="Proposals to make.")] = 3,
    in_place: Annotated[bool, typer.Option("--in-place", help="Save the file instead of printing it.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="What was written, and the alternatives, as JSON.")] = False,
    encoding: Annotated[str | None, typer.Option(metavar="NAME", help="Of the file, if it is not UTF-8.")] = None,
    record: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the last run to a recording.")] = None,
    seed: options.Seed = None,
    *,
    flags: dict[str, object],
) -> int:  # fmt: skip
    """Write spans of a file anew; both sides are held, byte for byte.

    In a pipe, standard output holds the whole new file and nothing else.
    """
    settings = options.merged(flags)
    if sys.stdout is None and not in_place:
        raise RunFailed("standard output is closed", hint="there is nowhere to write the result to")
    if in_place and file == "-":
        raise UsageError("standard input cannot be saved in place", hint="leave --in-place out, or name a file")
    tokens = _length(length)
    places = [*map(_span, span or []), *map(_at, at or [])]
    if not places:
        raise UsageError("there is nothing to write", hint="say where: --span 3:1-3:20, or --at 3:1")
    runs.check_record(record, Path(file))

    from dgtui.document import source
    from dgtui.document.buffer import Buffer

    read = source.of_bytes(_standard_input(), encoding) if file == "-" else source.read(Path(file), encoding)
    if in_place and not os.access(file, os.W_OK):
        raise RunFailed(f"{file} is read-only", hint="leave --in-place out, and send the output to another file")
    buffer = Buffer(read)
    spans = _bytes(buffer, places)

    from dgtui.worker import Worker

    worker = Worker()
    try:
        loaded = options.load(worker, settings)
        drawn = options.new_seed() if seed is None else seed
        task = _Task(worker, loaded, settings, buffer, instruction or None, tokens, candidates, record, drawn)
        with working("infilling") as say:
            written = task.write(spans, say)
    except KeyboardInterrupt:
        worker.close()
        note("interrupted: nothing was changed")
        return 130
    finally:
        worker.close()
    unchanged = all(w["old"] == w["new"] for w in written)
    if in_place and buffer.data != read.data:
        _save(read, buffer)
    if as_json:
        put(json.dumps({"spans": written, "steps": task.steps, "seed": task.seed, "unchanged": unchanged}) + "\n")
    elif not in_place:
        put(buffer.data)
    if unchanged:
        note("no change: the model would write what is there")
    return 0


@dataclass
class _Task:
    """The model, and what it is asked."""

    worker: "Worker"
    loaded: "LoadedModel"
    settings: "Settings"
    buffer: "Buffer"
    instruction: str | None
    length: int | None
    candidates: int
    record: Path | None
    seed: int
    steps: int = 0
    "that were taken"

    def write(self, spans: Sequence[tuple[int, int]], say: Callable[[str], None]) -> list[dict[str, Any]]:
        """Writes all spans, as many at a time as fit one canvas; what to report of each."""
        left = [(start, end, self.buffer.anchor(start, end)) for start, end in spans]
        report = []
        while left:
            infill, count = self._group([anchor for _, _, anchor in left])
            say(f"infilling, {len(left)} span{'s' if len(left) > 1 else ''} to go")
            best, proposals = self._run(infill, [anchor for _, _, anchor in left[:count]])
            with self.buffer.group():
                for (start, end, anchor), text, at in zip(left[:count], best.texts, range(count), strict=True):
                    old = self.buffer.text(anchor.start, anchor.end)
                    ending = self.buffer.ending_at(anchor.start).decode()
                    others = [
                        {"text": p.texts[at].replace("\n", ending), "score": round(p.score, 4), "tokens": p.tokens}
                        for p in proposals
                    ]
                    new = self.buffer.encode(text, anchor.start)
                    self.buffer.replace(anchor.start, anchor.end, new)
                    report.append({
                        "start_byte": start, "end_byte": end, "old": old, "new": new.decode(self.buffer.encoding),
                        "alternatives": others,
                    })  # fmt: skip
            del left[:count]
        return report

    def _group(self, anchors: "Sequence[Anchor]") -> "tuple[Infill, int]":
        """As many of the first spans as fit one canvas."""
        for count in range(len(anchors), 0, -1):
            try:
                return self._infill(anchors[:count]), count
            except InputRefused:
                if count == 1:
                    raise
        raise AssertionError("there is at least one span")

    def _infill(self, anchors: "Sequence[Anchor]") -> "Infill":
        from dgtui.diffusion.job import BadJob
        from dgtui.steering.infill import Infill

        inner = (edge for anchor in anchors for edge in (anchor.start, anchor.end))
        edges = [self.buffer.first, *inner, len(self.buffer.data)]
        parts = [self.buffer.text(a, b).replace("\r\n", "\n") for a, b in itertools.pairwise(edges)]
        try:
            return Infill(
                parts, self.loaded.tokenizer, self.loaded.info,
                options.sampler_settings(self.settings, self.loaded.settings), self.seed,
                prompt_ids=self._prompt(parts), length=self.length, candidates=self.candidates,
            )  # fmt: skip
        except BadJob as error:
            raise UsageError(str(error)) from None

    def _prompt(self, parts: Sequence[str]) -> list[int] | None:
        if self.instruction is None:
            return None
        from dgtui.message import Message
        from dgtui.steering.instructions import message

        told = message(self.instruction, parts, embedded=self.loaded.checkpoint.source == "embedded")
        return self.loaded.tokenizer.chat([Message("user", told)])

    def _run(self, infill: "Infill", anchors: "Sequence[Anchor]") -> "tuple[Proposal, list[Proposal]]":
        """The best proposal that the file's encoding can hold, and all of them."""
        while (job := infill.job()) is not None:
            run = self.worker.submit(job)
            finished = run.wait()
            self.steps += sum(finished.steps)
            if self.record is not None:
                runs.record(self.record, run, self.loaded)
            infill.take(run.log)
        refused: DocumentRefused | None = None
        for proposal in infill.proposals:
            try:
                for anchor, text in zip(anchors, proposal.texts, strict=True):
                    self.buffer.encode(text, anchor.start)
            except DocumentRefused as error:
                refused = refused or error
            else:
                return proposal, infill.proposals
        assert refused is not None, "an infill without proposals has raised"
        raise refused


def _length(given: str) -> int | None:
    if given == "auto":
        return None
    if not given.isdecimal() or not 1 <= int(given) <= 100_000:
        raise UsageError(f"--length is a number of tokens, or auto, not {given[:40]!r}")
    return int(given)


def _span(given: str) -> tuple[int, int, int, int]:
    found = re.fullmatch(f"{_POSITION}-{_POSITION}", given)
    if found is None:
        raise UsageError(f"--span is a place and an end, such as 3:1-3:20, not {given[:40]!r}")
    line, column, end_line, end_column = map(int, found.groups())
    return line, column, end_line, end_column


def _at(given: str) -> tuple[int, int, int, int]:
    found = re.fullmatch(_POSITION, given)
    if found is None:
        raise UsageError(f"--at is a line and a column, such as 3:1, not {given[:40]!r}")
    line, column = map(int, found.groups())
    return line, column, line, column


def _bytes(buffer: "Buffer", places: Sequence[tuple[int, int, int, int]]) -> list[tuple[int, int]]:
    """The spans in bytes, in the file's order. Raises `DocumentRefused` where one is outside, or two overlap."""
    spans = sorted(
        (buffer.offset(line - 1, column - 1), buffer.offset(end_line - 1, end_column - 1))
        for line, column, end_line, end_column in places
    )
    for start, end in spans:
        if start > end:
            raise DocumentRefused("a span ends before it begins", hint="the end is exclusive, and comes second")
    for (before, end), (start, _) in itertools.pairwise(spans):
        if start < end or start == before == end:
            raise DocumentRefused("two spans overlap", hint="give each part of the file once")
    return spans


def _standard_input() -> bytes:
    from dgtui.document.source import LIMIT

    if sys.stdin is None:
        raise UsageError("standard input is closed", hint="name a file")
    return sys.stdin.buffer.read(LIMIT + 1)


def _save(read: "Source", buffer: "Buffer") -> None:
    from dgtui.document.save import Conflict, save

    assert read.path is not None
    try:
        save(buffer.data, read.path, read)
    except Conflict as conflict:
        raise RunFailed(conflict.message, hint="it is left as it is: run this again on what is there now") from None
