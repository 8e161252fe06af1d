"""`dgtui generate --batch`: many prompts from a file, one reply per line in the same order.

A row is written as soon as all rows before it are written. Running the same command again continues an incomplete file.
A prompt that fails becomes a row with its error; a server that can no longer be used ends the batch.
"""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from dgtui import sudoku
from dgtui.cli import options
from dgtui.cli.terminal import note, redrawable, working
from dgtui.errors import DgtuiError, InputRefused, PromptTooLong, RunFailed, UsageError, reason
from dgtui.message import Message
from dgtui.text import decode_utf8

if TYPE_CHECKING:
    from dgtui.config import Settings
    from dgtui.diffusion.control import Control
    from dgtui.diffusion.events import Finished
    from dgtui.diffusion.job import Job
    from dgtui.model.loader import LoadedModel
    from dgtui.server.served import ServedModel

EVERY: Final = 10.0
"""Seconds between two lines of progress if the line cannot be redrawn."""
_KEYS: Final = {"prompt", "seed", "max_tokens"}


@dataclass(frozen=True, slots=True)
class Prompt:
    """A line of the prompt file."""

    line: int
    "from 1"
    text: str
    seed: int | None = None
    max_tokens: int | None = None
    error: str = ""
    "what is wrong with the line; empty if it is valid"


def command(
    file: Path, out: Path, concurrency: int, settings: "Settings", seed: int | None, max_tokens: int
) -> int:  # fmt: skip
    """Writes a reply to every prompt. Returns 1 if any of them failed."""
    prompts = read_prompts(file)
    done, failed = resume(out, prompts)
    if done:
        note(f"{out} already holds {done} of {len(prompts)} replies: continuing")
    left = prompts[done:]
    if not left:
        return 1 if failed else 0
    worker = options.new_worker(settings, exact=False)
    try:
        loaded = options.load(worker, settings, mode="blocks", text=True)
        task = _Task(loaded, settings, options.new_seed() if seed is None else seed, max_tokens)
        with out.open("a", encoding="utf-8") as sink, working("generating") as say:
            progress = _Progress(done, len(prompts), failed, say)
            for row in _rows(worker, task, left, concurrency):
                sink.write(json.dumps(row, ensure_ascii=False) + "\n")
                sink.flush()
                progress.wrote(row)
        return 1 if progress.failed else 0
    except KeyboardInterrupt:
        note(f"interrupted: run the same command again to continue {out}")
        return 130
    except OSError as error:
        raise RunFailed(f"{out} cannot be written: {reason(error)}") from error
    finally:
        worker.close()


def read_prompts(file: Path) -> list[Prompt]:
    """The prompts in a file of JSON lines. A line that cannot be used becomes a prompt with an `error`.

    Raises:
        InputRefused: The file cannot be read, is not UTF-8, or is empty.
    """
    try:
        lines = file.read_text("utf-8-sig").splitlines()
    except OSError as error:
        raise InputRefused(f"{file} cannot be read: {reason(error)}") from None
    except UnicodeDecodeError as error:
        raise InputRefused(f"{file} is not UTF-8 (byte {error.start})", hint="convert it to UTF-8 first") from None
    prompts = [_prompt(number, line) for number, line in enumerate(lines, start=1) if line.strip()]
    if not prompts:
        raise InputRefused(f"{file} contains no prompts", hint='write one JSON object per line: {"prompt": "…"}')
    return prompts


def _prompt(line: int, text: str) -> Prompt:
    def wrong(what: str) -> Prompt:
        return Prompt(line, "", error=f"line {line} {what}")

    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        return wrong(f"is not JSON: {error}")
    if isinstance(value, str):
        value = {"prompt": value}
    if not isinstance(value, dict) or not isinstance(value.get("prompt"), str) or not value["prompt"].strip():
        return wrong('has no text in "prompt"')
    if unknown := sorted(value.keys() - _KEYS):
        return wrong(f"has an unknown key: {unknown[0]}")
    for key in ("seed", "max_tokens"):
        number = value.get(key)
        if number is not None and (type(number) is not int or not (key == "max_tokens") <= number < 2**63):
            return wrong(f"has a {key} that is not a whole number")
    return Prompt(line, value["prompt"], value.get("seed"), value.get("max_tokens"))


def resume(out: Path, prompts: Sequence[Prompt]) -> tuple[int, int]:
    """How many replies a file already holds, and how many of them failed. Removes an incomplete last line.

    Raises:
        UsageError: Its contents are not replies to these prompts.
    """
    try:
        data = out.read_bytes()
    except FileNotFoundError:
        return 0, 0
    except OSError as error:
        raise RunFailed(f"{out} cannot be read: {reason(error)}") from None
    whole = data[: data.rfind(b"\n") + 1]
    rows: list[Any] = []
    with suppress(ValueError, RecursionError):
        rows = [json.loads(line) for line in whole.splitlines()]
    matching = (
        len(rows) == len(whole.splitlines()) <= len(prompts)
        and all(
            isinstance(row, dict) and (row.get("line"), row.get("prompt")) == (prompt.line, prompt.text)
            for row, prompt in zip(rows, prompts, strict=False)
        )
    )  # fmt: skip
    if not matching:
        raise UsageError(
            f"{out} exists but does not hold replies to these prompts", hint="name another file with --out"
        )
    if len(whole) < len(data):
        with out.open("r+b") as cut:
            cut.truncate(len(whole))
    return len(rows), sum("error" in row for row in rows)


class _Progress:
    """A progress line: redrawn on a terminal, printed every few seconds elsewhere."""

    def __init__(self, done: int, total: int, failed: int, say: Callable[[str], None]) -> None:
        self._first, self._done, self._total, self.failed, self._say = done, done, total, failed, say
        self._began = self._told = time.monotonic()

    def wrote(self, row: dict[str, Any]) -> None:
        """Counts a written row."""
        self._done += 1
        if "error" in row:
            self.failed += 1
            note(f"line {row['line']}: {row['error']}")
        now = time.monotonic()
        left = (now - self._began) / (self._done - self._first) * (self._total - self._done)
        failed = f", {self.failed} failed" if self.failed else ""
        line = f"{self._done} of {self._total}{failed}, {left:.0f} s left"
        self._say(line)
        if not redrawable() and (now - self._told >= EVERY or self._done == self._total):
            self._told = now
            note(line)


@dataclass(frozen=True, slots=True)
class _Task:
    """What all prompts share."""

    loaded: "LoadedModel | ServedModel"
    settings: "Settings"
    seed: int
    max_tokens: int

    def job(self, prompt: Prompt, copies: int = 1) -> "Job":
        """The run that answers a prompt. Raises `DgtuiError`."""
        from dgtui.diffusion.job import BadJob, Job, Start
        from dgtui.steering import puzzles

        if prompt.error:
            raise InputRefused(prompt.error)
        sudoku.refuse_contradiction(prompt.text)
        info, tokenizer, think = self.loaded.info, self.loaded.tokenizer, bool(self.settings.sampler.think)
        ids = tokenizer.chat(puzzles.normalised([Message("user", prompt.text)]), think=think)
        start = Start() if think or self.loaded.fixed else puzzles.laid_out(prompt.text, tokenizer.encode, info)
        if len(ids) > info.max_context - info.canvas_length:
            raise PromptTooLong(f"the prompt has {len(ids):,} tokens, too many for a context of {info.max_context:,}")
        seed = (self.seed + prompt.line) % 2**63 if prompt.seed is None else prompt.seed
        sampler = options.sampler_settings(self.settings, self.loaded.settings)
        most = self.loaded.limit(prompt.max_tokens or self.max_tokens)
        try:
            return Job(f"line-{prompt.line}", tuple(ids), seed, most, sampler, (start,) * copies)
        except BadJob as error:
            raise InputRefused(str(error)) from None

    def row(self, prompt: Prompt, job: "Job", finished: "Finished", candidate: int = 0) -> dict[str, Any]:
        """A reply as a row of the output."""
        tokenizer = self.loaded.tokenizer
        answer = tokenizer.split_thought(finished.token_ids[candidate].tolist()).answer_ids
        text = decode_utf8(tokenizer.decode_bytes(list(answer)))
        row = {
            "line": prompt.line,
            "prompt": prompt.text,
            "text": text,
            "tokens": len(finished.token_ids[candidate]),
            "steps": list(finished.steps),
            "stop_reason": str(finished.reason),
            "seed": job.seed,
            "model": self.loaded.name,
        }
        if checked := sudoku.checked(prompt.text, text):
            row["checked"] = checked
        return row | {"candidate": candidate} if job.candidates > 1 else row


def _failure(prompt: Prompt, error: DgtuiError) -> dict[str, Any]:
    return {"line": prompt.line, "prompt": prompt.text, "error": error.message, "hint": error.hint}


def _rows(worker: Any, task: _Task, prompts: Sequence[Prompt], concurrency: int) -> Iterator[dict[str, Any]]:
    from dgtui.server.served import ServedModel

    if isinstance(task.loaded, ServedModel):
        return _concurrently(task.loaded, task, prompts, concurrency)
    return _batched(worker, task, prompts, concurrency)


def _batched(worker: Any, task: _Task, prompts: Sequence[Prompt], most: int) -> Iterator[dict[str, Any]]:
    """On this machine: one run at a time. Equal consecutive prompts become candidates of one run, up to `most`."""
    left = list(prompts)
    while left:
        first = left[0]
        fits = first.seed is None and (first.max_tokens or task.max_tokens) <= task.loaded.info.canvas_length
        count = 1
        while fits and count < min(most, len(left)) and replace(left[count], line=first.line) == first:
            count += 1
        group, left = left[:count], left[count:]
        task.loaded.tokenizer.forget_names()  # the row does not depend on those before it
        try:
            job = task.job(first, count)
            finished = worker.submit(job).wait()
        except DgtuiError as error:
            yield from (_failure(prompt, error) for prompt in group)
        else:
            yield from (task.row(prompt, job, finished, at) for at, prompt in enumerate(group))


def _concurrently(
    served: "ServedModel", task: _Task, prompts: Sequence[Prompt], most: int
) -> Iterator[dict[str, Any]]:  # fmt: skip
    """On a server: several runs at once. Yields the rows in order."""
    from dgtui.diffusion.control import Control

    control, waiting = Control(), list(enumerate(prompts))
    control.on_cancel(served.client.interrupt)
    running: dict[int, Future[dict[str, Any]]] = {}
    pool = ThreadPoolExecutor(most, thread_name_prefix="dgtui-batch")
    try:
        for at in range(len(prompts)):
            while at not in running or not running[at].done():
                # Only a few rows are finished out of order: a kill loses no more than those
                while waiting and sum(not f.done() for f in running.values()) < most and len(running) < 4 * most:
                    number, prompt = waiting.pop(0)
                    running[number] = pool.submit(_answer, served, task, prompt, control)
                wait([f for f in running.values() if not f.done()], timeout=0.5, return_when=FIRST_COMPLETED)
            yield running.pop(at).result()
    finally:
        control.cancel()
        pool.shutdown(wait=False, cancel_futures=True)


def _answer(served: "ServedModel", task: _Task, prompt: Prompt, control: "Control") -> dict[str, Any]:
    """The row of one prompt. Raises errors that make the server unusable for all further prompts."""
    from dgtui.diffusion import engine
    from dgtui.diffusion.events import Finished
    from dgtui.server.client import Refused, ServerError
    from dgtui.server.stepper import TextStepper

    stepper = served.stepper(prompt.max_tokens)
    if served.mode == "blocks":
        stepper = TextStepper(served.client, served.served, served.info.stop_ids)
    try:
        job = task.job(prompt)
        *_, last = engine.run(stepper, job, control)
    except ServerError as error:
        if not isinstance(error, Refused):
            raise
        return _failure(prompt, error)
    except DgtuiError as error:
        return _failure(prompt, error)
    assert isinstance(last, Finished)
    return task.row(prompt, job, last)
