"""Measures infilling: rewrites spans of held-out tales with different pins and ways to choose the length.

    python -m dgtui.train.infill_table --count 300

prints a table. A span of 1 to 20 tokens counts as right if the generator could have written the resulting tale, and as
restored if it equals the original byte for byte. Except for a gap in a reply, no prompt is given: the model only sees
the tale. Random and searched lengths are limited to within 5 tokens of the true one.
"""

import argparse
import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dgtui.train.certainty_table import Model
from dgtui.train.corpus import tales
from dgtui.train.table import SPAN_TOKENS, held_out

if TYPE_CHECKING:
    from dgtui.diffusion.job import Job
    from dgtui.diffusion.log import RunLog

AROUND = 5
WAYS = (
    "both sides held, true length",
    "both sides held, length at random",
    "both sides held, length searched",
    "both sides held, length searched from nothing",
    "left side held, true length",
    "nothing held, half of the text renoised",
    "a gap in a reply, length searched",
)


@dataclass(frozen=True, slots=True)
class Trial:
    """The result for one span, written in one way."""

    way: str
    right: bool
    restored: bool
    tokens: int
    "whether it is longer than the original"
    steps: int


@dataclass(frozen=True, slots=True)
class Span:
    """A tale as token ids, and the span to write."""

    prompt: str
    ids: tuple[int, ...]
    first: int
    size: int
    drawn: int
    "a random length around `size`"
    seed: int


def spans(count: int, encode: Callable[[str], list[int]]) -> Iterator[tuple[str, Span]]:
    """Held-out tales, with a span in each."""
    for index, example in enumerate(held_out(tales.NAME, count)):
        ids = encode(example.response)
        rng = random.Random(f"infill {index}")
        size = min(len(ids), rng.randint(*SPAN_TOKENS))
        first = rng.randint(0, len(ids) - size)
        drawn = max(1, size + rng.randint(-AROUND, AROUND))
        yield example.response, Span(example.prompt, tuple(ids), first, size, drawn, index)


class Writer(Model):
    """A model on one thread that writes spans. Returns the tale, the span's tokens and the number of steps."""

    def write(self, way: str, span: Span) -> tuple[str, int, int]:
        """Writes a span in one of `WAYS`."""
        match WAYS.index(way):
            case 0:
                return self._infill(span, length=span.size, candidates=1)
            case 1:
                return self._infill(span, length=span.drawn, candidates=1)
            case 2:
                return self._infill(span)
            case 3:
                return self._infill(span, guess=False)
            case 4:
                return self._loose(span, frozenset(range(span.first)), 1.0)
            case 5:
                return self._loose(span, frozenset(), 0.5)
            case _:
                return self._gap(span)

    def _run(self, job: "Job") -> "RunLog":
        run = self._worker.submit(job)
        run.wait()
        return run.log

    def _text(self, ids: Sequence[int]) -> str:
        return self.tokenizer.decode_bytes(list(ids)).decode("utf-8", "replace")

    def _infill(self, span: Span, *, guess: bool = True, **options: Any) -> tuple[str, int, int]:
        from dgtui.errors import RunFailed
        from dgtui.steering.infill import Infill
        from dgtui.steering.search import Search

        after = span.first + span.size
        left, old, right = map(self._text, (span.ids[: span.first], span.ids[span.first : after], span.ids[after:]))
        parts = [left, old if guess else "", right]
        infill = Infill(parts, self.tokenizer, self.info, self.settings, span.seed, **options)
        search = Search(infill, self._worker.submit)
        try:
            search.finish()
        except RunFailed:
            return "", 0, search.steps
        best = infill.proposals[0]
        return left + best.texts[0] + right, best.tokens, search.steps

    def _gap(self, span: Span) -> tuple[str, int, int]:
        """Writes the span as a gap in the tale, which is the reply to its prompt."""
        from dgtui.diffusion.job import Job
        from dgtui.message import Message
        from dgtui.steering.lengths import LengthSearch, open_gap
        from dgtui.steering.search import Search

        model = self.info
        prompt = tuple(self.tokenizer.chat([Message("user", span.prompt)]))
        left, right = span.ids[: span.first], span.ids[span.first + span.size :]
        ids = (*left, *right, model.turn_end_id, *[model.fill_id] * model.canvas_length)[: model.canvas_length]
        no_text = model.special_ids | model.stop_ids
        job = Job("table", prompt, span.seed, model.canvas_length, self.settings, suppressed=no_text)
        search = Search(LengthSearch(job, open_gap(ids, span.first, model), [0]), self._worker.submit)
        search.finish()
        best = search.plan.ranked[0]
        assert search.run is not None
        written = search.run.log.blocks(best.candidate)[0].ids[span.first : span.first + best.tokens].tolist()
        return self._text([*left, *written, *right]), best.tokens, search.steps

    def _loose(self, span: Span, held: frozenset[int], strength: float) -> tuple[str, int, int]:
        """Writes the span without pinning the right side. With strength 1 it is noise; only the left part counts."""
        from dgtui.diffusion.job import Job, Start

        length = self.info.canvas_length
        canvas = (*span.ids, self.info.turn_end_id, *[self.info.fill_id] * length)[:length]
        start = Start(canvas, held, strength)
        assert self.info.bos_id is not None
        log = self._run(Job("table", (self.info.bos_id,), span.seed, length, self.settings, (start,)))
        written = log.blocks()[-1].ids.tolist()
        end = next((at for at, token in enumerate(written) if token in self.info.stop_ids), len(written))
        after = span.first + span.size
        whole = written[:end] if strength < 1 else [*written[:after], *span.ids[after:]]
        return self._text(whole), span.size, len(log.frames())


def trials(model: str | None, count: int, part: int, parts: int, ways: tuple[str, ...]) -> list[Trial]:
    """Every `parts`-th span from `part` on, on one thread."""
    writer = Writer(model)
    found = []
    for tale, span in itertools.islice(spans(count, writer.tokenizer.encode), part, None, parts):
        for way in ways:
            whole, tokens, steps = writer.write(way, span)
            found.append(Trial(way, tales.could_be_written(whole), whole == tale, tokens - span.size, steps))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a name from `dgtui model list` or a folder; the embedded model if not given")
    parser.add_argument("--count", type=int, default=300, help="spans")
    parser.add_argument("--ways", type=int, nargs="*", default=list(range(len(WAYS))), help="rows of the table")
    parser.add_argument("--processes", type=int, default=2)
    args = parser.parse_args()
    model = str(Path(args.model)) if args.model else None
    ways = tuple(WAYS[at] for at in args.ways)

    with ProcessPoolExecutor(args.processes, mp_context=get_context("spawn")) as pool:
        parts = [pool.submit(trials, model, args.count, part, args.processes, ways) for part in range(args.processes)]
        found = [trial for part in parts for trial in part.result()]

    print("| way | right | the original | true length | spans | steps, mean |", "|---|---|---|---|---|---|", sep="\n")
    for way in ways:
        mine = [t for t in found if t.way == way]
        share = (sum(values) / len(mine) for values in (
            [t.right for t in mine], [t.restored for t in mine], [t.tokens == 0 for t in mine]
        ))  # fmt: skip
        right, restored, exact = (f"{value:.1%}" for value in share)
        print(
            f"| {way} | {right} | {restored} | {exact} | {len(mine)} | {sum(t.steps for t in mine) / len(mine):.1f} |"
        )


if __name__ == "__main__":
    main()
