"""`dgtui generate`: a prompt in, text out. On a terminal the canvas is shown while it resolves."""

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from dgtui import sudoku
from dgtui.cli import options, runs
from dgtui.cli.terminal import is_terminal, note, put, redrawable
from dgtui.errors import EmptyPrompt, PromptTooLong, RunFailed, UsageError
from dgtui.message import Message
from dgtui.text import decode_utf8, sanitize

if TYPE_CHECKING:
    from dgtui.config import Settings
    from dgtui.diffusion.events import Finished, Frame
    from dgtui.diffusion.image import Image
    from dgtui.diffusion.job import Start
    from dgtui.model.loader import LoadedModel
    from dgtui.server.served import ServedModel
    from dgtui.worker import Run

MOST_TOKENS: Final = 256
"""Most tokens of a reply, unless --max-tokens or the setting gives another number."""


@options.with_settings
def command(
    prompt: Annotated[
        str | None, typer.Argument(metavar="PROMPT|-", help="The prompt; - reads standard input.")
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option(min=1, metavar="N", help=f"Maximum number of tokens to write. Default: {MOST_TOKENS}.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")] = False,
    frames: Annotated[
        bool, typer.Option("--frames", help="Print one JSON line per denoising step, then the object of --json.")
    ] = False,
    raw: Annotated[bool, typer.Option("--raw", help="Send the prompt unchanged, without the chat template.")] = False,
    token_ids: Annotated[
        str | None, typer.Option(metavar='"2 5 9"', help="The prompt as token ids instead of text.")
    ] = None,
    image: options.Image = None,
    record: options.Record = None,
    batch: Annotated[
        Path | None, typer.Option(metavar="FILE", help='Answer many prompts: one {"prompt": "…"} per line.')
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Where --batch writes its replies.")] = None,
    concurrency: Annotated[
        int, typer.Option(min=1, max=64, metavar="N", help="Number of --batch prompts to answer at a time.")
    ] = 8,
    seed: options.Seed = None,
    *,
    flags: dict[str, object],
) -> int:
    """Answer one prompt.

    In a pipe, standard output contains the text and nothing else.
    """
    if token_ids is not None and flags.get("sampler.proofread") is None:  # the same tokens as transformers' `generate`
        flags = {**flags, "sampler.proofread": 0}
    settings = options.merged(options.with_vision(flags, image) | {"sampler.max_tokens": max_tokens})
    if batch is not None or out is not None:
        single = prompt is not None or as_json or frames or raw or token_ids is not None or image or record
        most = settings.sampler.max_tokens or MOST_TOKENS
        return _batch(batch, out, bool(single), concurrency, settings, seed, most)
    if sys.stdout is None:
        raise RunFailed("standard output is closed", hint="redirect it to a file or a pipe")
    ids = _ids(token_ids) if token_ids is not None else None
    if ids is not None and (prompt is not None or raw):
        raise UsageError("--token-ids replaces the prompt and --raw", hint="use only one of them")
    if image and (ids is not None or raw):
        raise UsageError("--image needs the chat template", hint="leave out --token-ids and --raw")
    text = "" if ids is not None else _text(prompt, raw)
    question = "" if raw or image else text
    """The message, which may contain a Sudoku."""
    sudoku.refuse_contradiction(question)
    runs.check_record(record)
    pictures = runs.pictures(image)

    worker = options.new_worker(settings, exact=ids is not None)
    try:
        loaded = options.load(worker, settings, mode="blocks", text=True)
        images = runs.seen(pictures, loaded)
        from dgtui.diffusion.job import Start
        from dgtui.steering import puzzles

        start = Start()
        if ids is None:
            tokenizer = loaded.tokenizer
            think = bool(settings.sampler.think)
            if raw:
                ids = [*([tokenizer.bos_id] if tokenizer.bos_id is not None else []), *tokenizer.encode(text)]
            else:
                ids = tokenizer.chat(puzzles.normalised([Message("user", text, images=images)]), think=think)
                if question and not think and not loaded.fixed:
                    start = puzzles.laid_out(question, tokenizer.encode, loaded.info)
        most = loaded.limit(settings.sampler.max_tokens or MOST_TOKENS)
        return _run(worker, loaded, settings, ids, images, seed, most, as_json, frames, record, start, question)
    finally:
        worker.close()


def _batch(
    batch: Path | None, out: Path | None, single: bool, concurrency: int, settings: "Settings", seed: int | None,
    max_tokens: int,
) -> int:  # fmt: skip
    if batch is None or out is None:
        raise UsageError(
            "--batch and --out belong together", hint="give both: a file of prompts and a file for the replies"
        )
    if single:
        raise UsageError(
            "--batch replaces the prompt and the options of a single run", hint="leave out the prompt and those options"
        )
    from dgtui.cli import batch as many

    return many.command(batch, out, concurrency, settings, seed, max_tokens)


def _ids(given: str) -> list[int]:
    try:
        ids = [int(part) for part in given.replace(",", " ").split()]
    except ValueError:
        raise UsageError(f'--token-ids takes numbers, such as "2 5 9", not {given[:40]!r}') from None
    if not ids:
        raise EmptyPrompt("the prompt is empty", hint="give at least one token id")
    return ids


def _text(prompt: str | None, raw: bool) -> str:
    """The prompt, or standard input. Without `raw`, a line break at its end is removed.

    Raises `EmptyPrompt`, or `InputRefused` for bytes that are not UTF-8.
    """
    if prompt is None or prompt == "-":
        if sys.stdin is None or (prompt is None and is_terminal(sys.stdin)):
            raise EmptyPrompt("there is no prompt", hint='try: dgtui generate "Write a short tale about Mia."')
        data = sys.stdin.buffer.read()
        try:
            prompt = data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            from dgtui.errors import InputRefused

            raise InputRefused(
                f"standard input is not UTF-8 (byte {error.start})", hint="convert it first, for example with iconv"
            ) from None
        if not raw:  # `echo` adds a line break that the user did not write
            prompt = prompt.removesuffix("\n").removesuffix("\r")
    if not prompt.strip():
        raise EmptyPrompt("the prompt is empty", hint='try: dgtui generate "Write a short tale about Mia."')
    return prompt


def _run(
    worker: Any, loaded: "LoadedModel | ServedModel", settings: Any, ids: list[int], images: "tuple[Image, ...]",
    seed: int | None, max_tokens: int, as_json: bool, frames: bool, record: Path | None, start: "Start", question: str,
) -> int:  # fmt: skip
    from dgtui.diffusion.job import BadJob, Job

    info = loaded.info
    room = info.max_context - info.canvas_length
    if len(ids) > room:
        raise PromptTooLong(
            f"the prompt has {len(ids):,} tokens, but {max(room, 0):,} fit beside a canvas of {info.canvas_length}",
            hint="shorten it, or raise --context if there is enough memory",
        )
    try:
        job = Job(
            id="generate",
            prompt_ids=tuple(ids),
            seed=options.new_seed() if seed is None else seed,
            max_tokens=max_tokens,
            settings=options.sampler_settings(settings, loaded.settings),
            starts=(start,),
            images=images,
        )
    except BadJob as error:
        raise UsageError(str(error)) from None

    out = _Output(loaded, as_json or frames, frames, question)
    began = time.perf_counter()
    run: Run = worker.submit(job, out.sink if frames else None)
    try:
        try:
            if redrawable() and not frames:
                from dgtui.cli.live import watch

                watch(run, loaded.tokenizer.pieces, loaded.stop_ids)
            finished = run.wait()
        except (KeyboardInterrupt, OSError):  # OSError: the terminal that shows the canvas is gone
            run.control.cancel()
            finished = run.wait()  # takes at most one denoising step; a second Ctrl+C ends it at once
        out.result(run, finished, time.perf_counter() - began)
    finally:  # a closed pipe does not prevent the recording, nor a failed recording the output
        if record is not None and len(run.log):
            runs.record(record, run, loaded)
    return 130 if finished.reason == "cancelled" else 0


class _Output:
    """Standard output: text or JSON. One thread writes at a time: frames during the run, then the result."""

    def __init__(self, loaded: "LoadedModel | ServedModel", as_json: bool, frames: bool, question: str = "") -> None:
        self.loaded, self.as_json, self.frames, self.question = loaded, as_json, frames, question

    def sink(self, run: "Run", upto: int) -> None:
        """Prints a JSON line for the newest event if it is a frame. Called on the model thread."""
        from dgtui.diffusion.events import Frame

        event = run.log[upto - 1]
        if isinstance(event, Frame):
            put(json.dumps(_frame(event, self.loaded)) + "\n")

    def result(self, run: "Run", finished: "Finished", wall: float) -> None:
        """Prints the text or the object."""
        ids = finished.token_ids[0].tolist()
        thought = self.loaded.tokenizer.split_thought(ids)
        answer = self.loaded.tokenizer.decode_bytes(list(thought.answer_ids))
        checked = sudoku.checked(self.question, decode_utf8(answer))
        if self.as_json:
            found = _object(run, finished, wall, self.loaded)
            found |= {"text": decode_utf8(answer)}
            if checked:
                found |= {"checked": checked}
            if thought.thought is not None:
                found |= {"thought": decode_utf8(thought.thought)}
            put(json.dumps(found) + "\n")
        elif is_terminal(sys.stdout):
            put(sanitize(decode_utf8(answer), tabs="expand") + "\n")
        else:  # a pipe gets the model's bytes unchanged
            put(answer + b"\n")
        if checked and not self.as_json:
            note(checked)
        if finished.reason == "length" and not self.as_json:
            full = len(ids) < run.job.max_tokens
            limit = "raise --context, which is full" if full else "raise --max-tokens"
            note(f"the reply was cut after {len(ids):,} tokens ({limit} for a longer one)")
        if redrawable() and not self.as_json:
            note(_summary(run, finished, wall))
            if thought.thought is not None and not answer:
                note("the reply contains only thoughts: try --no-think, or a larger --max-tokens")


def _frame(frame: "Frame", loaded: "LoadedModel | ServedModel") -> dict[str, Any]:
    from dgtui.diffusion.events import Flag

    accepted = int(((frame.flags & Flag.ACCEPTED) != 0).sum())
    return {
        "block": frame.block,
        "step": frame.step,
        "max_steps": frame.max_steps,
        "text": decode_utf8(loaded.tokenizer.decode_bytes(frame.ids.tolist())),
        "token_ids": frame.ids.tolist(),
        "entropy": [round(e, 4) for e in frame.entropy.tolist()],
        "accepted": accepted,
        "mean_entropy": round(frame.mean_entropy, 6),
        "temperature": round(frame.temperature, 6),
        "seconds": round(frame.seconds, 6),
    }


def _object(run: "Run", finished: "Finished", wall: float, loaded: "LoadedModel | ServedModel") -> dict[str, Any]:
    ids = finished.token_ids[0].tolist()
    frames = run.log.frames()
    forwards = max(1, sum(finished.steps))
    return {
        "text": "",
        "token_ids": ids,
        "steps": list(finished.steps),
        "stop_reason": str(finished.reason),
        "seed": run.job.seed,
        "model": loaded.name,
        "timing": {
            "load_s": round(loaded.load_seconds, 4),
            "first_frame_s": round(frames[0].seconds, 4) if frames else None,
            "wall_s": round(wall, 4),
            "tokens_per_second": round(len(ids) / wall, 2),
            "tokens_per_forward": round(len(ids) / forwards, 3),
        },
    }


def _summary(run: "Run", finished: "Finished", wall: float) -> str:
    tokens, steps = len(finished.token_ids[0]), sum(finished.steps)
    return (
        f"{tokens} tokens in {wall:.2f} s · {tokens / wall:.0f} tok/s wall · {tokens / max(1, steps):.1f} tok/step · "
        f"{steps} steps · {finished.reason} · seed {run.job.seed}"
    )
