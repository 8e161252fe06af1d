"""Can the model's certainty be trusted, and does it write between two held sentences? Four tables in Markdown.

    python -m dgtui.train.certainty_table alternatives --count 200
    python -m dgtui.train.certainty_table doubts --count 200
    python -m dgtui.train.certainty_table unlikely --count 50
    python -m dgtui.train.certainty_table between --count 100

`alternatives`: held-out replies of every task, with some of their places renoised, each alone and several times, as the
canvas asks about one token. Is the true token among the first five, and is a token with a probability of p true in a
share p of the cases? `doubts`: the same with several places renoised together and once, as the canvas asks about all of
a reply.

`unlikely`: spans of words that are written again in held-out tales, and in the documentation of packages of Python's
standard library, which the embedded model has never seen. How often is the first proposal called unlikely?

`between`: held-out tales of which the first and the last sentence are held. Is the result a right reply?
"""

import argparse
import itertools
import random
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from dgtui.diffusion.job import Job
from dgtui.errors import RunFailed
from dgtui.steering.between import held_canvas, write_between
from dgtui.steering.doubts import DRAWS, Doubts
from dgtui.steering.infill import Infill
from dgtui.train import judge
from dgtui.train.lessons import prose, tales
from dgtui.train.replies import Replier
from dgtui.train.table import TASKS, held_out

PLACES: Final = {"alternatives": 24, "doubts": 32}
"""Places of each reply that are judged."""

BINS: Final = (0.0, 1 / 3, 2 / 3, 1.01)
LEAST: Final = 0.01
"""Alternatives that are less probable than this are not counted: there are very many."""


def alternatives(model: Replier, count: int) -> None:
    """Prints the table of tokens that are asked about one by one."""

    def ask(job: Job, canvas: Sequence[int], places: list[int]) -> Iterator[Doubts]:
        return (Doubts(job, canvas, [place], model.info, DRAWS) for place in places)

    _print_probabilities(model, count, PLACES["alternatives"], ask)


def doubts(model: Replier, count: int) -> None:
    """Prints the table of tokens that are asked about together."""

    def ask(job: Job, canvas: Sequence[int], places: list[int]) -> Iterator[Doubts]:
        yield Doubts(job, canvas, places, model.info)

    _print_probabilities(model, count, PLACES["doubts"], ask)


def _print_probabilities(
    model: Replier, count: int, most: int, ask: Callable[[Job, Sequence[int], list[int]], Iterator[Doubts]]
) -> None:
    """Prints how often the true token is among the alternatives, and whether their probabilities are true."""
    judged: list[tuple[list[float], int | None]] = []
    each = -(-count // len(TASKS))
    canvases = list(itertools.chain.from_iterable(held_out(task, each) for task in TASKS))[:count]
    for number, example in enumerate(canvases):
        model.tokenizer.forget_names()
        ids = model.tokenizer.encode(example.response)
        canvas, rng = model.canvas(ids), random.Random(f"alternatives {number}")
        places = sorted(rng.sample(range(len(ids)), min(most, len(ids))))
        for plan in ask(model.job(example.messages(), number), canvas, places):
            model.search(plan).finish()
            for place, doubt in plan.found.items():
                at = doubt.ids.index(canvas[place]) if canvas[place] in doubt.ids else None
                judged.append(([*doubt.probs], at))
    first = sum(at == 0 for _, at in judged) / len(judged)
    five = sum(at is not None and at < 5 for _, at in judged) / len(judged)
    print(f"{len(canvases)} canvases, {len(judged)} places: true token first {first:.1%}, within five {five:.1%}\n")
    print("| reported | alternatives | mean reported | true |", "|---|---|---|---|", sep="\n")
    for low, high in itertools.pairwise(BINS):
        mine = [(p, rank == at) for probs, at in judged for rank, p in enumerate(probs) if max(low, LEAST) <= p < high]
        reported, true = (sum(values) / max(1, len(mine)) for values in zip((0.0, 0), *mine, strict=True))
        print(f"| {low:.0%} to {min(1, high):.0%} | {len(mine)} | {reported:.1%} | {true:.1%} |")


def unlikely(model: Replier, count: int) -> None:
    """Prints how often the first proposal is called unlikely, outside and inside the model's world."""
    unseen = sorted({*prose.paragraphs("*/*.py")} - {*prose.paragraphs()})
    worlds = {
        "outside": random.Random("outside").sample([text for text in unseen if len(text) > 120], count),
        "inside": [example.response for example in held_out(tales.NAME, count)],
    }
    print("| text | called unlikely | cases | nats per token, from … to … |", "|---|---|---|---|", sep="\n")
    for world, texts in worlds.items():
        nats, called = [], 0
        for number, text in enumerate(texts):
            model.tokenizer.forget_names()
            rng, words = random.Random(f"unlikely {number}"), text.split(" ")
            size = rng.randint(1, 6)
            at = rng.randint(2, len(words) - size - 2)
            before, span, after = (" ".join(part) for part in (words[:at], words[at : at + size], words[at + size :]))
            parts = [f"{before} ", span, f" {after}"]
            plan = Infill(parts, model.tokenizer, model.info, model.settings, number)
            try:
                model.search(plan).finish()
            except RunFailed:  # no text: nothing is proposed
                continue
            nats.append(plan.proposals[0].nats)
            called += plan.proposals[0].unlikely
        print(f"| {world} | {called / len(nats):.0%} | {len(nats)} | {min(nats):.1f} … {max(nats):.1f} |", flush=True)


def between(model: Replier, count: int) -> None:
    """Prints how many tales whose first and last sentence are held are right."""
    right = restored = true_length = 0
    examples = held_out(tales.NAME, count)
    for number, example in enumerate(examples):
        model.tokenizer.forget_names()
        job, encode = model.job(example.messages(), number), model.tokenizer.encode
        first, *middle, last = re.split(r"(?<=[.!?])(?<!Mr\.)(?<!Mrs\.)(?= [A-Z\"])", example.response)
        text, tokens, _ = model.filled(
            write_between(job, held_canvas([encode(first), encode(last)], model.info), model.info)
        )
        assert text.startswith(first) and text.endswith(last)
        fits = judge.right(example.expect, text)
        right += fits
        restored += text == example.response
        true_length += tokens == len(encode("".join(middle)))
        print(f"{number + 1}: {right} right", "" if fits else text, flush=True)
    print("| right | the original | true length | tales |", "|---|---|---|---|", sep="\n")
    shares = " | ".join(f"{times / len(examples):.1%}" for times in (right, restored, true_length))
    print(f"| {shares} | {len(examples)} |")


def main() -> None:
    tables = {"alternatives": alternatives, "doubts": doubts, "unlikely": unlikely, "between": between}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", choices=tables)
    parser.add_argument("--model", help="a name from `dgtui model list` or a folder; the embedded model if not given")
    parser.add_argument("--count", type=int, default=50)
    args = parser.parse_args()
    tables[args.table](Replier(args.model), args.count)


if __name__ == "__main__":
    main()
