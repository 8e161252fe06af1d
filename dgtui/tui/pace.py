"""Limits how often a running canvas is drawn: the model must not wait for the screen.

The model and the screen share the GIL. The interval between two frames depends on the work of the screen's thread since
the last one, such that drawing takes about `DRAWING_SHARE` of the time.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from textual.message_pump import MessagePump

from dgtui.backend import Backend, RunHandle
from dgtui.diffusion.events import BlockFinished, Finished
from dgtui.diffusion.job import Job
from dgtui.tui.messages import BlockDone, FramesReady, RunEnded

DRAWING_SHARE: Final = 0.03


class Pace:
    """The frames of one run. Used on the screen's thread.

    Args:
        max_fps: Most frames per second.
    """

    def __init__(self, max_fps: float) -> None:
        self._least = self._every = 1 / max_fps
        self._worked = time.thread_time()

    def drawn(self) -> None:
        """Call this before a frame is drawn. Moves the interval between frames a quarter of the way to its target."""
        before, self._worked = self._worked, time.thread_time()
        wanted = max(self._least, (self._worked - before) / DRAWING_SHARE)
        self._every += (wanted - self._every) / 4

    def submit(self, backend: Backend, job: Job, node: MessagePump, *, only_blocks: bool) -> RunHandle:
        """Submits a job. A node of the screen gets messages for blocks, frames (unless `only_blocks`) and the end."""

        def tell(message: FramesReady | BlockDone | RunEnded) -> None:
            if node.is_attached:
                node.post_message(message)

        loop = asyncio.get_running_loop()

        def later(seconds: float, call: Callable[[], None]) -> None:
            with suppress(RuntimeError):  # the screen is gone
                loop.call_soon_threadsafe(loop.call_later, seconds, call)

        run = backend.submit(job, self.sink(tell, later, only_blocks=only_blocks))
        run.ended.add_done_callback(lambda _: tell(RunEnded(run)))
        return run

    def sink(
        self, tell: Callable[[FramesReady | BlockDone], None],
        later: Callable[[float, Callable[[], None]], object] = lambda seconds, call: None, *, only_blocks: bool,
    ) -> Callable[[RunHandle, int], None]:  # fmt: skip
        """The sink of a run, called on the model's thread; posts messages for blocks, and for frames when due.

        `later` calls a function on the screen's thread after some seconds: a frame that came too soon is shown even if
        the next one takes long.
        """
        last, owed = 0.0, False

        def catch_up(run: RunHandle) -> None:
            nonlocal last, owed
            last, owed = time.monotonic(), False
            tell(FramesReady(run))

        def sink(run: RunHandle, upto: int) -> None:
            nonlocal last, owed
            event = run.log[upto - 1]
            if isinstance(event, BlockFinished):
                tell(BlockDone(run))
            elif not only_blocks and not isinstance(event, Finished):
                now = time.monotonic()
                if now - last >= self._every or run.control.paused:
                    last = now
                    tell(FramesReady(run))
                elif not owed:
                    owed = True
                    later(self._every - (now - last), lambda: catch_up(run))

        return sink
