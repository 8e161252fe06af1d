"""Measures infilling: rewrites spans of held-out tales with different pins and ways to choose the length.

    python -m dgtui.train.infill_table --count 300

prints a table. A span of 1 to 20 tokens counts as right if the resulting text is a tale of the known plots, and as
restored if it equals the original byte for byte. Except for a gap in a reply, no prompt is given: the model only sees
the tale. Random and searched lengths are limited to within 5 tokens of the true one.
"""

import argparse
import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from dgtui.diffusion.job import Job, Start
from dgtui.steering.lengths import LengthSearch, open_gap
from dgtui.train import judge
from dgtui.train.lessons import tales
from dgtui.train.lessons.example import Example
from dgtui.train.replies import Replier, in_processes
from dgtui.train.table import held_out, span

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


class Span:
    """A tale as token ids, and the span to write."""

    def __init__(self, example: Example, ids: list[int], seed: int) -> None:
        rng = random.Random(f"infill {seed}")
        self.example, self.ids, self.seed = example, ids, seed
        self.gap = gap = span(ids, rng)
        self.left, self.old, self.right = ids[: gap.start], ids[gap.start : gap.stop], ids[gap.stop :]
        self.drawn = max(1, len(gap) + rng.randint(-AROUND, AROUND))
        "a random length around the true one"


class Writer(Replier):
    """A model that writes spans. Returns the tale, the span's tokens and the number of steps."""

    def write(self, way: str, span: Span) -> tuple[str, int, int]:
        """Writes a span in one of `WAYS`."""
        match WAYS.index(way):
            case 0:
                return self._infill(span, length=len(span.gap), candidates=1)
            case 1:
                return self._infill(span, length=span.drawn, candidates=1)
            case 2:
                return self._infill(span)
            case 3:
                return self._infill(span, guess=False)
            case 4:
                return self._loose(span, frozenset(range(span.gap.start)), 1.0)
            case 5:
                return self._loose(span, frozenset(), 0.5)
            case _:
                return self._gap(span)

    def _infill(self, span: Span, *, guess: bool = True, **options: Any) -> tuple[str, int, int]:
        left, old, right = map(self.tokenizer.decode, (span.left, span.old, span.right))
        return self.infill([left, old if guess else "", right], span.seed, **options)

    def _gap(self, span: Span) -> tuple[str, int, int]:
        """Writes the span as a gap in the tale, which is the reply to its prompt."""
        job = replace(
            self.job(span.example.messages(), span.seed), suppressed=self.info.special_ids | self.info.stop_ids
        )
        canvas = open_gap(self.canvas([*span.left, *span.right]), span.gap.start, self.info)
        return self.filled(LengthSearch(job, canvas, [0]))

    def _loose(self, span: Span, held: frozenset[int], strength: float) -> tuple[str, int, int]:
        """Writes the span without pinning the right side. With strength 1 it is noise; only the left part counts."""
        start = Start(self.canvas(span.ids), held, strength)
        assert self.info.bos_id is not None
        job = Job("table", (self.info.bos_id,), span.seed, self.info.canvas_length, self.settings, (start,))
        log = self.run(job).log
        written = log.blocks()[-1].ids.tolist()
        whole = written if strength < 1 else [*written[: span.gap.stop], *span.right]
        return self.text(whole), len(span.gap), len(log.frames())


def trials(part: int, parts: int, model: str | None, count: int, ways: Sequence[str]) -> list[Trial]:
    """Every `parts`-th span from `part` on, on one thread."""
    writer, found = Writer(model), []
    for seed, example in itertools.islice(enumerate(held_out(tales.NAME, count)), part, None, parts):
        writer.tokenizer.forget_names()
        span = Span(example, writer.tokenizer.encode(example.response), seed)
        for way in ways:
            whole, tokens, steps = writer.write(way, span)
            expect = example.expect if way == WAYS[-1] else {"tale": True}
            right = judge.right(expect, whole)
            found.append(Trial(way, right, whole == example.response, tokens - len(span.gap), steps))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a name from `dgtui model list` or a folder; the embedded model if not given")
    parser.add_argument("--count", type=int, default=300, help="spans")
    parser.add_argument("--ways", type=int, nargs="*", default=list(range(len(WAYS))), help="rows of the table")
    parser.add_argument("--processes", type=int, default=2)
    args = parser.parse_args()
    ways = [WAYS[at] for at in args.ways]
    found = in_processes(args.processes, trials, args.model, args.count, ways)

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
