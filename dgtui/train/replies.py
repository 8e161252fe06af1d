"""Runs what the evaluations of the embedded model ask, as the program does."""

import itertools
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any, Concatenate, NamedTuple, ParamSpec, TypeVar

from dgtui.diffusion import engine
from dgtui.diffusion.events import Finished, Flag
from dgtui.diffusion.job import Job, Start
from dgtui.diffusion.log import RunLog
from dgtui.errors import RunFailed
from dgtui.message import Message
from dgtui.steering import puzzles
from dgtui.steering.infill import Infill
from dgtui.steering.lengths import LengthSearch
from dgtui.steering.search import PlanT, Search
from dgtui.worker import Run, best_stepper

Args = ParamSpec("Args")
Found = TypeVar("Found")


def in_processes(
    parts: int, work: Callable[Concatenate[int, int, Args], list[Found]], *args: Args.args, **named: Args.kwargs
) -> list[Found]:
    """The results of `work(part, parts, ...)` of every part, each in its own process."""
    with ProcessPoolExecutor(parts, mp_context=get_context("spawn")) as pool:
        running = [pool.submit(work, part, parts, *args, **named) for part in range(parts)]
        return [found for part in running for found in part.result()]


class Reply(NamedTuple):
    """What a model replied."""

    text: str
    "without its thought"
    steps: int
    settled: float
    "share of its tokens that are accepted after a quarter of the steps"


class Replier:
    """A model on one thread of the CPU, with its own settings."""

    def __init__(self, model: str | None) -> None:
        """`model` is a name or a folder; None: the embedded model."""
        import torch

        from dgtui.model import catalog
        from dgtui.model.loader import load
        from dgtui.model.open_checkpoint import open_checkpoint
        from dgtui.model.parts import LoadOptions

        torch.set_num_threads(1)
        loaded = load(open_checkpoint(catalog.resolve(model or catalog.EMBEDDED)), LoadOptions(device="cpu"))
        self._stepper = best_stepper(loaded)
        self.tokenizer, self.settings, self.info = loaded.tokenizer, loaded.settings, loaded.info

    def job(self, messages: Sequence[Message], seed: int, start: Start | None = None) -> Job:
        """A reply of at most one canvas, laid out as `start` or like any other: a Sudoku's givens are pinned."""
        start = start or puzzles.laid_out(messages[-1].content, self.tokenizer.encode, self.info)
        prompt = tuple(self.tokenizer.chat(puzzles.normalised(messages)))
        return Job("reply", prompt, seed, self.info.canvas_length, self.settings, (start,))

    def run(self, job: Job) -> Run:
        """Runs a job to its end."""
        run = Run(job, RunLog(job))
        for event in engine.run(self._stepper, job):
            run.log.append(event)
            if isinstance(event, Finished):
                run.ended.set_result(event)
        return run

    def search(self, plan: PlanT) -> Search[PlanT]:
        """A search that has not started."""
        return Search(plan, self.run)

    def reply(self, messages: Sequence[Message], seed: int, start: Start | None = None) -> Reply:
        """The reply to a conversation. See `job`."""
        run = self.run(self.job(messages, seed, start))
        ids, frames = run.wait().token_ids[0], run.log.frames()
        accepted = frames[(len(frames) - 1) // 4].flags[: len(ids)] & Flag.ACCEPTED
        answer = self.tokenizer.split_thought(ids.tolist()).answer_ids
        return Reply(self.tokenizer.decode(answer), len(frames), accepted.mean() / Flag.ACCEPTED)

    def filled(self, plan: LengthSearch) -> tuple[str, int, int]:
        """The text of the most likely canvas that a search finds, the tokens of its gaps, and the number of steps."""
        search = self.search(plan)
        search.finish()
        best = plan.ranked[0]
        assert search.run is not None
        return self.text(search.run.log.blocks(best.candidate)[0].ids.tolist()), best.tokens, search.steps

    def infill(self, parts: Sequence[str], seed: int, **options: Any) -> tuple[str, int, int]:
        """The text that `Infill` proposes first for its one gap, the tokens of the gap, and the number of steps. No
        text if the model's output is not text."""
        plan = Infill(parts, self.tokenizer, self.info, self.settings, seed, **options)
        search = self.search(plan)
        try:
            search.finish()
        except RunFailed:
            return "", 0, search.steps
        best = plan.proposals[0]
        return parts[0] + best.texts[0] + parts[2], best.tokens, search.steps

    def canvas(self, ids: Sequence[int]) -> tuple[int, ...]:
        """The canvas (C,) of a whole reply: its ids, its end, and what follows it."""
        length = self.info.canvas_length
        return (*ids, self.info.turn_end_id, *[self.info.fill_id] * length)[:length]

    def held(self, ids: Sequence[int], free: range) -> Start:
        """The canvas of a whole reply, pinned except for these positions."""
        canvas = self.canvas(ids)
        return Start(canvas, frozenset(range(len(canvas))) - {*free})

    def text(self, canvas: Iterable[int]) -> str:
        """The text on a canvas."""
        return self.tokenizer.decode(itertools.takewhile(lambda i: i not in self.info.stop_ids, canvas))
