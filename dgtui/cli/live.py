"""The canvas on a terminal during a headless command: the newest frame, redrawn a few times per second.

It looks as in the chat: `frames.view_at` decides what a position shows, with the theme "terminal".
"""

from concurrent.futures import wait
from typing import TYPE_CHECKING

from rich.console import Group
from rich.live import Live
from rich.segment import SegmentLines
from rich.text import Text

from dgtui.cli.terminal import stderr_console
from dgtui.diffusion.events import Frame
from dgtui.layout import shown_tokens
from dgtui.tui.frames import Pieces, View, view_at
from dgtui.tui.theme import Look
from dgtui.tui.theme_file import load_themes, theme_folders
from dgtui.tui.widgets.meters import status

if TYPE_CHECKING:
    from dgtui.worker import Run

_FRAMES_PER_SECOND = 15


def canvas_text(view: View, look: Look) -> Text:
    """A canvas as styled text, up to the end of the reply."""
    text = Text(no_wrap=False)
    settled = view.settled[: view.end].tolist()
    shown = shown_tokens(view.pieces[: view.end], settled)
    for token, nats, flags, firm in zip(shown, view.entropy.tolist(), view.flags.tolist(), settled, strict=False):
        text.append(token, look.style(nats, flags, firm))
    return text


def watch(run: "Run", pieces_of: Pieces, stop_ids: frozenset[int]) -> None:
    """Redraws the newest frame until the run has ended, then clears it."""
    console = stderr_console()
    look = load_themes(theme_folders())[0]["terminal"].look(color=console.color_system is not None)
    with Live(console=console, transient=True, auto_refresh=False, vertical_overflow="crop") as live:
        drawn: Frame | None = None
        while not wait([run.ended], 1 / _FRAMES_PER_SECOND).done:
            block = len(run.job.blocks) + len(run.log.blocks())
            frame, view = view_at(run.log, block, None, 0, pieces_of, stop_ids)
            if frame is None or frame is drawn:
                continue
            drawn = frame
            room = max(3, console.height - 4)  # read each time, because the terminal may be resized
            lines = console.render_lines(canvas_text(view, look), pad=False)
            line = Text(status(frame, view, run.job.seed), style="dim", no_wrap=True, overflow="ellipsis")
            live.update(Group(line, SegmentLines(lines[-room:], new_lines=True)), refresh=True)
