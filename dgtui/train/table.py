"""Evaluates the embedded model: held-out prompts of every task on the full canvas, and spans re-diffused in place.

    python -m dgtui.train.table --count 200

prints a table. No prompt was used in training (see `lessons.example.split_of`); each runs with one seed and the
checkpoint's own sampler settings. A span counts as right if the generator could have written the whole tale for that
prompt, and as restored if it equals the original byte for byte.
"""

import argparse
import itertools
import random
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from dgtui.message import Message
from dgtui.train.corpus import SHARES, TASKS, Example, stream

SPAN = "span infill"
SPAN_TOKENS = (1, 20)


@dataclass(frozen=True, slots=True)
class Trial:
    """The result of one prompt: whether the reply was right, the steps, and for a span whether it is the original."""

    task: str
    right: bool
    restored: bool
    steps: int


def held_out(task: str, count: int) -> list[Example]:
    """Different held-out prompts of a task; fewer if the task does not have enough."""
    found: dict[str, Example] = {}
    examples = stream(TASKS[task].make, random.Random(f"table {task}"), "held-out")
    for example in itertools.islice(examples, 40 * count):
        found.setdefault(example.prompt, example)
        if len(found) == count:
            break
    return list(found.values())


def trials(model: str | None, tasks: list[str], count: int, part: int, parts: int) -> list[Trial]:
    """Every `parts`-th trial of the table from `part` on, on one thread."""
    import torch

    torch.set_num_threads(1)
    return list(_trials(model, tasks, count, part, parts))


def _trials(model: str | None, tasks: list[str], count: int, part: int, parts: int) -> Iterator[Trial]:
    from dgtui.diffusion import engine
    from dgtui.diffusion.events import BlockFinished, Finished
    from dgtui.diffusion.job import Job, Start
    from dgtui.diffusion.reference import ReferenceStepper
    from dgtui.model import catalog
    from dgtui.model.denoiser import TransformersDenoiser
    from dgtui.model.loader import load
    from dgtui.model.parts import LoadOptions

    loaded = load(catalog.resolve(model or catalog.EMBEDDED), LoadOptions(device="cpu"))
    tokenizer = loaded.tokenizer
    stepper = ReferenceStepper(TransformersDenoiser(loaded.model, loaded.stop_ids))
    config: Any = loaded.model.config
    canvas: int = config.canvas_length

    def answer(ids: list[int]) -> str:
        answer_ids = tokenizer.split_thought(ids).answer_ids
        return tokenizer.decode_bytes(list(answer_ids)).decode("utf-8", "replace")

    for task in tasks:
        examples = held_out("tales" if task == SPAN else task, count)
        for index in range(part, len(examples), parts):
            example = examples[index]
            prompt = tuple(tokenizer.chat([Message("user", example.prompt)]))
            start, original = Start(), example.response
            if task == SPAN:
                reply = tokenizer.encode(original)
                rng = random.Random(f"span {index}")
                size = min(len(reply), rng.randint(*SPAN_TOKENS))
                first = rng.randint(0, len(reply) - size)
                assert tokenizer.turn_end_id is not None and tokenizer.eos_id is not None
                held = (*reply, tokenizer.turn_end_id, *[tokenizer.eos_id] * canvas)[:canvas]
                start = Start(held, frozenset(range(canvas)) - frozenset(range(first, first + size)))
            job = Job("table", prompt, index, canvas, loaded.settings, (start,))
            events = list(engine.run(stepper, job))
            last = events[-1]
            assert isinstance(last, Finished)
            assert any(isinstance(e, BlockFinished) for e in events)
            text = answer(last.token_ids[0].tolist())
            yield Trial(task, TASKS[example.task].check(example, text), text == original, sum(last.steps))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a name from `dgtui model list` or a folder; the embedded model if not given")
    parser.add_argument("--count", type=int, default=200, help="prompts per task")
    parser.add_argument("--tasks", nargs="*", choices=[*SHARES, SPAN], default=[*SHARES, SPAN])
    parser.add_argument("--processes", type=int, default=2)
    args = parser.parse_args()
    model = str(Path(args.model)) if args.model else None

    with ProcessPoolExecutor(args.processes, mp_context=get_context("spawn")) as pool:
        parts = [
            pool.submit(trials, model, args.tasks, args.count, part, args.processes) for part in range(args.processes)
        ]
        found = [trial for part in parts for trial in part.result()]

    print("| task | right | prompts | steps, mean |", "|---|---|---|---|", sep="\n")
    for task in args.tasks:
        mine = [t for t in found if t.task == task]
        right, steps = sum(t.right for t in mine) / len(mine), sum(t.steps for t in mine) / len(mine)
        also = f" ({sum(t.restored for t in mine) / len(mine):.1%} the original)" if task == SPAN else ""
        print(f"| {task} | {right:.1%}{also} | {len(mine)} | {steps:.1f} |")


if __name__ == "__main__":
    main()
