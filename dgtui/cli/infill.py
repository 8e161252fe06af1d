"""`dgtui infill`: rewrites spans of a file to fit the text around them. All other bytes stay unchanged."""

import itertools
import json
import os
import re
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import wait
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dgtui.cli import options, runs
from dgtui.cli.terminal import note, put, working
from dgtui.errors import DocumentRefused, InputRefused, RunFailed, UsageError
from dgtui.paths import typed_path

if TYPE_CHECKING:
    from dgtui.diffusion.job import SamplerSettings
    from dgtui.document.buffer import Buffer
    from dgtui.document.source import Source
    from dgtui.model.loader import LoadedModel
    from dgtui.server.served import ServedModel
    from dgtui.steering.infill import Infill, Proposal
    from dgtui.steering.proposals import Passage, Span
    from dgtui.worker import Worker

_POSITION = r"(\d{1,9}):(\d{1,9})"


@options.with_settings
def command(
    file: Annotated[str, typer.Argument(metavar="FILE|-", help="The file; - reads standard input.")],
    span: Annotated[
        list[str] | None, typer.Option(metavar="L:C-L:C", help="Text to rewrite, from line:column to line:column.")
    ] = None,
    at: Annotated[list[str] | None, typer.Option(metavar="L:C", help="Where to insert text.")] = None,
    instruction: Annotated[
        str | None, typer.Option("--instruction", "-i", metavar="TEXT", help="What to write, or continue, shorten …")
    ] = None,
    length: Annotated[str, typer.Option(metavar="N|auto", help="Tokens per span; auto tries several.")] = "auto",
    candidates: Annotated[int, typer.Option(min=1, max=64, metavar="K", help="Number of proposals.")] = 3,
    in_place: Annotated[bool, typer.Option("--in-place", help="Save the file instead of printing it.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the new texts and the alternatives as JSON.")] = False,
    encoding: Annotated[str | None, typer.Option(metavar="NAME", help="Encoding of the file (default: UTF-8).")] = None,
    record: options.Record = None,
    seed: options.Seed = None,
    *,
    flags: dict[str, object],
) -> int:  # fmt: skip
    """Rewrite spans of a file. The text around them is kept, byte for byte.

    In a pipe, standard output holds the whole new file and nothing else.
    """
    settings = options.merged(flags)
    if sys.stdout is None and not in_place:
        raise RunFailed("standard output is closed", hint="there is nowhere to write the result")
    if in_place and file == "-":
        raise UsageError("standard input cannot be saved in place", hint="remove --in-place, or give a file")
    tokens = _length(length)
    places = [*map(_span, span or []), *map(_at, at or [])]
    if not places:
        raise UsageError("no span was given", hint="use --span 3:1-3:20 to rewrite a span, or --at 3:1 to insert text")
    path = typed_path(file)
    runs.check_record(record, path)

    from dgtui.document import source
    from dgtui.document.buffer import Buffer

    read = source.of_bytes(_standard_input(), encoding) if file == "-" else source.read(path, encoding)
    if in_place and not os.access(path, os.W_OK):
        raise RunFailed(f"{file} is read-only", hint="remove --in-place and redirect the output to another file")
    buffer = Buffer(read)
    spans = _bytes(buffer, places)

    from dgtui.diffusion.job import BadJob

    worker = options.new_worker(settings)
    try:
        loaded = options.load(worker, settings)
        _tell_world(buffer, loaded)
        try:
            sampler = options.sampler_settings(settings, loaded.settings)
        except BadJob as error:
            raise UsageError(str(error)) from None
        if seed is None:
            seed = options.new_seed()
        task = _Task(worker, loaded, sampler, buffer, instruction or None, tokens, candidates, record, seed)
        with working("infilling") as say:
            written = task.write(spans, say)
    except KeyboardInterrupt:
        worker.close()
        note("interrupted: the file is unchanged")
        return 130
    finally:
        worker.close()
    unchanged = all(w["old"] == w["new"] for w in written)
    if in_place and buffer.data != read.data:
        _save(read, buffer)
    if as_json:
        put(json.dumps({"spans": written, "steps": task.steps, "seed": seed, "unchanged": unchanged}) + "\n")
    elif not in_place:
        put(buffer.data)
    if unchanged:
        note("no change: the model wrote the same text")
    return 0


@dataclass
class _Task:
    """The model and the requested edit."""

    worker: "Worker"
    loaded: "LoadedModel | ServedModel"
    settings: "SamplerSettings"
    buffer: "Buffer"
    instruction: str | None
    length: int | None
    candidates: int
    record: Path | None
    seed: int
    steps: int = 0
    "denoising steps so far"

    def write(self, spans: "Sequence[Span]", say: Callable[[str], None]) -> list[dict[str, Any]]:
        """Rewrites all spans, as many at a time as fit into one canvas. Returns a report for each."""
        left = [(span, self.buffer.anchor(*span)) for span in spans]
        report = []
        while left:
            passage, infill = self._group([(anchor.start, anchor.end) for _, anchor in left])
            say(f"writing, {len(left)} span{'s' if len(left) > 1 else ''} left")
            best = self._run(passage, infill)
            if best.unlikely:
                say("unlikely: the model has not seen such text")
            count = len(best.texts)
            with self.buffer.group():
                for at, ((start, end), anchor) in enumerate(left[:count]):
                    old = self.buffer.text(anchor.start, anchor.end)
                    ending = self.buffer.ending_at(anchor.start).decode()
                    alternatives = [
                        {
                            "text": p.texts[at].replace("\n", ending),
                            "score": round(p.score, 4),
                            "tokens": p.tokens,
                            "unlikely": p.unlikely,
                        }
                        for p in infill.proposals
                    ]
                    new = self.buffer.encode(best.texts[at], anchor.start)
                    self.buffer.replace(anchor.start, anchor.end, new)
                    report.append({
                        "start_byte": start, "end_byte": end, "old": old, "new": new.decode(self.buffer.encoding),
                        "alternatives": alternatives,
                    })  # fmt: skip
            del left[:count]
        return report

    def _group(self, spans: "Sequence[Span]") -> "tuple[Passage, Infill]":
        """The first spans, as many as fit into one canvas."""
        from dgtui.steering.infill import Infill
        from dgtui.steering.proposals import Passage

        for count in range(len(spans), 0, -1):
            passage = Passage(self.buffer, spans[:count])
            try:
                return passage, Infill(
                    passage.parts(), self.loaded.tokenizer, self.loaded.info, self.settings, self.seed,
                    instruction=self.instruction, length=self.length, candidates=self.candidates,
                )  # fmt: skip
            except InputRefused:
                if count == 1:
                    raise
        raise AssertionError("there is at least one span")

    def _run(self, passage: "Passage", infill: "Infill") -> "Proposal":
        """Runs the search. Returns the best proposal that the file's encoding can hold."""
        from dgtui.steering.search import Search

        search = Search(infill, self.worker.submit)
        try:
            search.finish()
        except KeyboardInterrupt:
            search.stop()
            if search.run is not None:
                wait([search.run.ended])  # within one denoising step; a second Ctrl+C ends it at once
            raise
        finally:
            if self.record is not None and search.run is not None and len(search.run.log):
                runs.record(self.record, search.run, self.loaded)
        self.steps += search.steps
        refused: DocumentRefused | None = None
        for proposal in infill.proposals:
            try:
                for (start, _), text in zip(passage.spans or (), proposal.texts, strict=True):
                    self.buffer.encode(text, start)
            except DocumentRefused as error:
                refused = refused or error
            else:
                return proposal
        assert refused is not None, "an infill without proposals has raised"
        raise refused


def _tell_world(buffer: "Buffer", loaded: "LoadedModel | ServedModel") -> None:
    """Prints a warning if the embedded model was not trained on this kind of text."""
    from dgtui.steering import world

    if told := world.notice(map(buffer.line, range(buffer.lines)), loaded.tokenizer.encode, loaded.info):
        note(told)


def _length(given: str) -> int | None:
    if given == "auto":
        return None
    if not given.isdecimal() or len(given) > 6 or not 1 <= int(given) <= 100_000:
        raise UsageError(f"--length must be a number of tokens or auto, not {given[:40]!r}")
    return int(given)


def _span(given: str) -> tuple[int, int, int, int]:
    match = re.fullmatch(f"{_POSITION}-{_POSITION}", given)
    if match is None:
        raise UsageError(f"--span must be a start and an end, such as 3:1-3:20, not {given[:40]!r}")
    line, column, end_line, end_column = map(int, match.groups())
    return line, column, end_line, end_column


def _at(given: str) -> tuple[int, int, int, int]:
    match = re.fullmatch(_POSITION, given)
    if match is None:
        raise UsageError(f"--at must be a line and a column, such as 3:1, not {given[:40]!r}")
    line, column = map(int, match.groups())
    return line, column, line, column


def _bytes(buffer: "Buffer", places: Sequence[tuple[int, int, int, int]]) -> list[tuple[int, int]]:
    """The spans in bytes, in order. Raises `DocumentRefused` if one is outside the text, or two overlap."""
    spans = sorted(
        (buffer.offset(line - 1, column - 1), buffer.offset(end_line - 1, end_column - 1))
        for line, column, end_line, end_column in places
    )
    for start, end in spans:
        if start > end:
            raise DocumentRefused("a span ends before it starts", hint="write the start first; the end is exclusive")
    for (before, end), (start, _) in itertools.pairwise(spans):
        if start < end or start == before == end:
            raise DocumentRefused("two spans overlap", hint="merge them, or leave one out")
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
        raise RunFailed(
            conflict.message, hint="dgtui has not changed it: run the command again on the new content"
        ) from None
