"""Evaluates the embedded model: held-out prompts of every task on the full canvas, and spans re-diffused in place.

    python -m dgtui.train.table --count 200

prints a table. No prompt was used in training (see `lessons.example.split_of`); each runs with one seed and the
checkpoint's own sampler settings, Sudokus with their givens pinned unless the task says otherwise. `judge` decides what
is right. A span is restored if it equals the original byte for byte. A passage inside a text is edited as `dgtui edit`
does it: the text around it is pinned, and its length is searched.
"""

import argparse
import itertools
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isnan, nan
from statistics import fmean

from dgtui.diffusion.job import Start
from dgtui.train import judge
from dgtui.train.lessons import edits, facts, functions, grids, guide, honest, stream, tales, turns
from dgtui.train.lessons.example import Example
from dgtui.train.replies import Replier, Reply, in_processes

SPAN = "span infill"
SPAN_TOKENS = (1, 20)
SETTINGS = ("steps", "proofread")


def _sudoku(size: int, givens: range, pinned: bool = True) -> Callable[[random.Random], Example]:
    def make(rng: random.Random) -> Example:
        makers = range(grids.MAKERS, grids.MAKERS + grids.HELD_OUT_MAKERS)
        return grids.lesson(*grids.draw(rng, size, size**2 - rng.choice(givens), makers), pinned)

    return make


def _edits(inside: bool) -> Callable[[random.Random], Example]:
    def make(rng: random.Random) -> Example:
        while bool((example := edits.make(rng)).free) is not inside:
            pass
        return example

    return make


EDITS_INSIDE = "edits inside a text"
TASKS: dict[str, Callable[[random.Random], Example]] = {
    **{lesson.NAME: lesson.make for lesson in (tales, facts, functions)},
    "4x4 Sudoku": _sudoku(4, range(6, 13)),
    "9x9 Sudoku, 36 to 46 givens": _sudoku(9, range(36, 47)),
    "9x9 Sudoku, 28 to 35 givens": _sudoku(9, range(28, 36)),
    "9x9 Sudoku, 36 to 46 givens, not pinned": _sudoku(9, range(36, 47), pinned=False),
    **{lesson.NAME: lesson.make for lesson in (guide, honest, turns)},
    edits.NAME: _edits(inside=False),
    EDITS_INSIDE: _edits(inside=True),
}


@dataclass(frozen=True, slots=True)
class Trial:
    """The result of one prompt: whether the reply was right, and for a span whether it is the original."""

    task: str
    right: bool
    restored: bool
    reply: Reply


def held_out(task: str, count: int) -> list[Example]:
    """Different held-out prompts of a task; fewer if the task does not have enough.

    Left out are the few tales whose own reply is not right: told shorter than they can be, or with a person who is
    mentioned only once.
    """
    found: dict[object, Example] = {}
    for example in itertools.islice(stream(TASKS[task], random.Random(f"table {task}"), "held-out"), 40 * count):
        if "tale" not in example.expect or judge.right(example.expect, example.response, example.before):
            found.setdefault((example.history, example.prompt), example)
        if len(found) == count:
            break
    return list(found.values())


def span(ids: Sequence[int], rng: random.Random) -> range:
    """A span of 1 to 20 tokens of a text."""
    size = min(len(ids), rng.randint(*SPAN_TOKENS))
    first = rng.randint(0, len(ids) - size)
    return range(first, first + size)


def trials(
    part: int, parts: int, model: str | None, tasks: Sequence[str], count: int, settings: Mapping[str, int]
) -> list[Trial]:
    """Every `parts`-th trial of the table from `part` on, on one thread. `settings` are the sampler's that differ."""
    replier, found = Replier(model), []
    replier.settings = replace(replier.settings, **settings)
    for task in tasks:
        examples = enumerate(held_out(tales.NAME if task == SPAN else task, count))
        for seed, example in itertools.islice(examples, part, None, parts):
            replier.tokenizer.forget_names()
            start = Start() if "sudoku" in example.expect and not example.free else None
            if task == SPAN:
                ids = replier.tokenizer.encode(example.response)
                start = replier.held(ids, span(ids, random.Random(f"span {seed}")))
            if task == EDITS_INSIDE:
                reply = _edited(replier, example, seed)
            else:
                reply = replier.reply(example.messages(), seed, start)
            right = judge.right(example.expect, reply.text, example.before)
            found.append(Trial(task, right, reply.text == example.response, reply))
    return found


def _edited(replier: Replier, example: Example, seed: int) -> Reply:
    (begin, end), text = example.free[0], example.response
    begin += text[begin] == " "
    instruction, _, old = example.prompt.partition(": ")
    written, _, steps = replier.infill([text[:begin], old, text[end:]], seed, instruction=instruction)
    return Reply(written, steps, nan)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a name from `dgtui model list` or a folder; the embedded model if not given")
    parser.add_argument("--count", type=int, default=200, help="prompts per task")
    parser.add_argument("--tasks", nargs="*", choices=[*TASKS, SPAN], default=[*TASKS, SPAN])
    for name in SETTINGS:
        parser.add_argument(f"--{name}", type=int, help="setting of the sampler; the checkpoint's own if not given")
    parser.add_argument("--processes", type=int, default=2)
    args = parser.parse_args()
    settings = {name: getattr(args, name) for name in SETTINGS if getattr(args, name) is not None}
    found = in_processes(args.processes, trials, args.model, args.tasks, args.count, settings)

    print("| task | right | prompts | mean steps | settled after a quarter |", "|---|---|---|---|---|", sep="\n")
    for task in args.tasks:
        mine = [t for t in found if t.task == task]
        right = fmean(t.right for t in mine)
        steps, settled = fmean(t.reply.steps for t in mine), fmean(t.reply.settled for t in mine)
        also = f" ({fmean(t.restored for t in mine):.1%} the original)" if task == SPAN else ""
        share = "–" if isnan(settled) else f"{settled:.0%}"
        print(f"| {task} | {right:.1%}{also} | {len(mine)} | {steps:.1f} | {share} |")


if __name__ == "__main__":
    main()
