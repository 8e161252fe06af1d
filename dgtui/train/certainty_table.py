"""Can the model's certainty be trusted, and does it write between two held sentences? Four tables in Markdown.

    python -m dgtui.train.certainty_table alternatives --count 200
    python -m dgtui.train.certainty_table doubts --count 200
    python -m dgtui.train.certainty_table unlikely --count 50
    python -m dgtui.train.certainty_table between --count 100

`alternatives`: held-out replies of every task, with some of their places renoised, each alone and several times, as the
canvas asks about one token. Is the true token among the first five, and is a token with a probability of p true in a
share p of the cases? `doubts`: the same with several places renoised together and once, as the canvas asks about all of
a reply.

`unlikely`: spans of words that are written again in held-out tales, and in the documentation of Python's standard
library, which the embedded model has never seen. How often is the first proposal called unlikely?

`between`: held-out tales of which the first and the last sentence are held. Could the generator have written the
result?
"""

import argparse
import importlib
import inspect
import itertools
import random
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

from dgtui.message import Message
from dgtui.steering.doubts import DRAWS, Doubts
from dgtui.train.corpus import TASKS, tales
from dgtui.train.table import held_out

if TYPE_CHECKING:
    from dgtui.diffusion.job import Job
    from dgtui.steering.search import Plan

PLACES: Final = {"alternatives": 24, "doubts": 32}
"""Places of each reply that are judged."""

BINS: Final = (0.0, 1 / 3, 2 / 3, 1.01)
LEAST: Final = 0.01
"""Alternatives that are less probable than this are not counted: there are very many."""

MODULES: Final = (
    "argparse", "ast", "asyncio", "bisect", "calendar", "cmd", "codecs", "collections", "concurrent.futures",
    "configparser", "contextlib", "copy", "csv", "dataclasses", "datetime", "decimal", "difflib", "email", "enum",
    "fractions", "functools", "glob", "gzip", "heapq", "html.parser", "http.client", "inspect", "io", "json", "locale",
    "logging", "mimetypes", "multiprocessing", "optparse", "os", "pathlib", "pickle", "pprint", "random", "sched",
    "shelve", "shlex", "shutil", "smtplib", "socket", "sqlite3", "statistics", "string", "subprocess", "tarfile",
    "tempfile", "textwrap", "threading", "timeit", "tokenize", "traceback", "types", "typing", "unittest",
    "urllib.parse", "uuid", "warnings", "weakref", "zipfile",
)  # fmt: skip


class Model:
    """A model on one thread, and what is asked of it."""

    def __init__(self, name: str | None) -> None:
        import torch

        from dgtui.model import catalog
        from dgtui.model.parts import LoadOptions
        from dgtui.worker import Worker

        torch.set_num_threads(1)
        self._worker = Worker()
        loaded = self._worker.load(catalog.resolve(name or catalog.EMBEDDED), LoadOptions(device="cpu")).result()
        self.tokenizer, self.settings, self.info = loaded.tokenizer, loaded.settings, loaded.info

    def job(self, prompt: str, seed: int) -> "Job":
        """A reply to a prompt."""
        from dgtui.diffusion.job import Job

        ids = tuple(self.tokenizer.chat([Message("user", prompt)]))
        return Job("table", ids, seed, self.info.canvas_length, self.settings)

    def finish(self, plan: "Plan") -> Any:
        """Runs a search to its end and returns the log of its last run."""
        from dgtui.steering.search import Search

        search = Search(plan, self._worker.submit)
        search.finish()
        return search.run.log if search.run else None


def alternatives(model: Model, count: int) -> None:
    """Prints the table of tokens that are asked about one by one."""

    def ask(job: "Job", canvas: list[int], places: list[int]) -> Iterator[Doubts]:
        return (Doubts(job, canvas, [place], model.info, DRAWS) for place in places)

    _print_probabilities(model, count, PLACES["alternatives"], ask)


def doubts(model: Model, count: int) -> None:
    """Prints the table of tokens that are asked about together."""

    def ask(job: "Job", canvas: list[int], places: list[int]) -> Iterator[Doubts]:
        yield Doubts(job, canvas, places, model.info)

    _print_probabilities(model, count, PLACES["doubts"], ask)


def _print_probabilities(
    model: Model, count: int, most: int, ask: Callable[["Job", list[int], list[int]], Iterator[Doubts]]
) -> None:
    """Prints how often the true token is among the alternatives, and whether their probabilities are true."""
    judged: list[tuple[list[float], int | None]] = []
    each = -(-count // len(TASKS))
    canvases = list(itertools.chain.from_iterable(held_out(task, each) for task in TASKS))[:count]
    for number, example in enumerate(canvases):
        info, rng = model.info, random.Random(f"alternatives {number}")
        ids = model.tokenizer.encode(example.response)
        canvas = [*ids, info.turn_end_id, *[info.fill_id] * info.canvas_length][: info.canvas_length]
        places = sorted(rng.sample(range(len(ids)), min(most, len(ids))))
        for plan in ask(model.job(example.prompt, number), canvas, places):
            model.finish(plan)
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


def outside() -> Iterator[str]:
    """Paragraphs that the embedded model has never seen."""
    for name in MODULES:
        module = importlib.import_module(name)
        found = [
            value for _, value in inspect.getmembers(module) if inspect.isfunction(value) or inspect.isclass(value)
        ]
        for text in (inspect.getdoc(value) or "" for value in (module, *found)):
            paragraphs = [" ".join(part.split()) for part in text.split("\n\n")]
            if chosen := [part for part in paragraphs if len(part) > 120 and re.match(r"[A-Z]\w+ [a-z]", part)]:
                yield chosen[0][:400]
                break


def unlikely(model: Model, count: int) -> None:
    """Prints how often the first proposal is called unlikely, outside and inside the model's world."""
    from dgtui.errors import RunFailed
    from dgtui.steering.infill import Infill

    worlds = {
        "outside": [*outside()][:count],
        "inside": [example.response for example in held_out(tales.NAME, count)],
    }
    print("| text | called unlikely | cases | nats per token, from … to … |", "|---|---|---|---|", sep="\n")
    for world, texts in worlds.items():
        nats, called = [], 0
        for number, text in enumerate(texts):
            rng, words = random.Random(f"unlikely {number}"), text.split(" ")
            size = rng.randint(1, 6)
            at = rng.randint(2, len(words) - size - 2)
            before, span, after = (" ".join(part) for part in (words[:at], words[at : at + size], words[at + size :]))
            parts = [f"{before} ", span, f" {after}"]
            plan = Infill(parts, model.tokenizer, model.info, model.settings, number)
            try:
                model.finish(plan)
            except RunFailed:  # no text: nothing is proposed
                continue
            nats.append(plan.proposals[0].nats)
            called += plan.proposals[0].unlikely
        print(f"| {world} | {called / len(nats):.0%} | {len(nats)} | {min(nats):.1f} … {max(nats):.1f} |", flush=True)


def between(model: Model, count: int) -> None:
    """Prints how many tales whose first and last sentence are held the generator could have written."""
    from dgtui.steering.between import held_canvas, write_between

    right = restored = 0
    lengths: list[int] = []
    examples = held_out(tales.NAME, count)
    for number, example in enumerate(examples):
        sentences = re.split(r"(?<=[.!?]) (?=[A-Z\"])", example.response)
        middle = example.response[len(sentences[0]) : -len(sentences[-1]) - 1]
        first, last = sentences[0], f" {sentences[-1]}"
        canvas = held_canvas([model.tokenizer.encode(first), model.tokenizer.encode(last)], model.info)
        plan = write_between(model.job(example.prompt, number), canvas, model.info)
        log = model.finish(plan)
        ids = log.blocks(plan.ranked[0].candidate)[0].ids.tolist()
        text = model.tokenizer.decode_bytes(ids[: ids.index(model.info.turn_end_id)]).decode("utf-8", "replace")
        assert text.startswith(first) and text.endswith(last)
        right += tales.could_be_written(text)
        restored += text == example.response
        lengths.append(plan.ranked[0].tokens - len(model.tokenizer.encode(middle)))
        print(f"{number + 1}: {right} right", text if not tales.could_be_written(text) else "", flush=True)
    share = f"{right / len(examples):.1%} | {restored / len(examples):.1%}"
    print("| right | the original | true length | tales |", "|---|---|---|---|", sep="\n")
    print(f"| {share} | {sum(not length for length in lengths) / len(examples):.1%} | {len(examples)} |")


def main() -> None:
    tables = {"alternatives": alternatives, "doubts": doubts, "unlikely": unlikely, "between": between}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", choices=tables)
    parser.add_argument("--model", help="a name from `dgtui model list` or a folder; the embedded model if not given")
    parser.add_argument("--count", type=int, default=50)
    args = parser.parse_args()
    tables[args.table](Model(args.model), args.count)


if __name__ == "__main__":
    main()
