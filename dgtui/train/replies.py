"""Runs one prompt after the other, as the program does, for the evaluations of the embedded model."""

from collections.abc import Sequence

from dgtui.diffusion.job import Start
from dgtui.message import Message
from dgtui.steering import puzzles


class Replier:
    """A model on the CPU with its own settings."""

    def __init__(self, model: str | None) -> None:
        """`model` is a name or a folder; None: the embedded model."""
        from dgtui.model import catalog
        from dgtui.model.loader import load
        from dgtui.model.parts import LoadOptions
        from dgtui.worker import best_stepper

        self._loaded = load(catalog.resolve(model or catalog.EMBEDDED), LoadOptions(device="cpu"))
        self._stepper = best_stepper(self._loaded)
        self.tokenizer, self.info = self._loaded.tokenizer, self._loaded.info

    def laid_out(self, prompt: str) -> Start:
        """The canvas of a reply to `prompt`: a Sudoku's givens are pinned, anything else starts as noise."""
        return puzzles.laid_out(prompt, self.tokenizer.encode, self.info)

    def reply(self, messages: Sequence[Message], seed: int, start: Start | None = None) -> tuple[str, int]:
        """The reply, of at most one canvas, without its thought; and the number of steps."""
        from dgtui.diffusion import engine
        from dgtui.diffusion.events import Finished
        from dgtui.diffusion.job import Job

        prompt, length = tuple(self.tokenizer.chat(list(messages))), self.info.canvas_length
        job = Job("reply", prompt, seed, length, self._loaded.settings, (start or Start(),))
        *_, last = engine.run(self._stepper, job)
        assert isinstance(last, Finished)
        ids = self.tokenizer.split_thought(last.token_ids[0].tolist()).answer_ids
        return self.tokenizer.decode_bytes(list(ids)).decode("utf-8", "replace"), sum(last.steps)
