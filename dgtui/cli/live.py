"""The canvas resolving in place on a terminal, for headless commands: the newest frame, redrawn a few times a second.

Certain tokens are plain, accepted ones bold, renoised ones dim, pinned ones reversed: readable without colour. Blanks
and line breaks in a position that is still noise show as one sign, so that the box does not jump.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import TimeoutError as NotYet
from typing import TYPE_CHECKING

from rich.console import Group
from rich.live import Live
from rich.segment import Segment
from rich.style import Style
from rich.text import Text

from dgtui.cli.terminal import stderr_console
from dgtui.diffusion.events import Flag, Frame
from dgtui.layout import shown_tokens

if TYPE_CHECKING:
    from dgtui.worker import Run

_SETTLED_NATS = 0.05
_FRAMES_A_SECOND = 15
_RAMP = ((0.05, None), (0.7, "cyan"), (2.0, "magenta"), (float("inf"), "red"))


def status_line(frame: Frame, seed: int) -> str:
    """`block 1 · step 9/48 · 61% settled · mean entropy 0.41 · t 0.71 · seed 4711`."""
    settled = float((frame.entropy < _SETTLED_NATS).mean())
    return (
        f"block {frame.block + 1} · step {frame.step}/{frame.max_steps} · {settled:.0%} settled · "
        f"mean entropy {frame.mean_entropy:.2f} · t {frame.temperature:.2f} · seed {seed}"
    )


def canvas_text(frame: Frame, pieces: Sequence[bytes]) -> Text:
    """The draft of a frame as styled text; `pieces` are the bytes of its C ids."""
    text = Text(no_wrap=False)
    settled = (frame.flags & (Flag.ACCEPTED | Flag.PINNED)).astype(bool).tolist()
    shown = shown_tokens(pieces, settled)
    for token, flags, entropy in zip(shown, frame.flags.tolist(), frame.entropy.tolist(), strict=True):
        text.append(token, _style(flags, entropy))
    return text


def _style(flags: int, entropy: float) -> Style:
    colour = next(colour for bound, colour in _RAMP if entropy <= bound)
    return Style(
        color=colour,
        bold=bool(flags & Flag.ACCEPTED and flags & Flag.CHANGED) or None,
        dim=bool(flags & Flag.RENOISED) or None,
        reverse=bool(flags & Flag.PINNED) or None,
    )


def watch(run: "Run", pieces_of: Callable[[list[int]], list[bytes]]) -> None:
    """Redraws the newest frame until the run has ended, then clears what it drew."""
    console = stderr_console()
    with Live(console=console, transient=True, auto_refresh=False, vertical_overflow="crop") as live:
        shown: Frame | None = None
        while not _ended(run, 1 / _FRAMES_A_SECOND):
            frame = _newest(run)
            if frame is None or frame is shown:
                continue
            shown = frame
            room = max(3, console.height - 4)  # looked at anew: a terminal is resized while a run goes on
            lines = console.render_lines(canvas_text(frame, pieces_of(frame.ids.tolist())), pad=False)
            live.update(
                Group(Text(status_line(frame, run.job.seed), style="dim", no_wrap=True, overflow="ellipsis"),
                      _Lines(lines[-room:])),
                refresh=True,
            )  # fmt: skip


class _Lines:
    """Rendered lines as a renderable."""

    def __init__(self, lines: list[list[Segment]]) -> None:
        self._lines = lines

    def __rich_console__(self, console: object, options: object) -> Iterator[Segment]:
        for line in self._lines:
            yield from line
            yield Segment.line()


def _ended(run: "Run", timeout: float) -> bool:
    try:
        run.ended.exception(timeout)
    except NotYet:
        return False
    return True


def _newest(run: "Run") -> Frame | None:
    for index in range(len(run.log) - 1, -1, -1):
        event = run.log[index]
        if isinstance(event, Frame) and event.candidate == 0:
            return event
    return None
