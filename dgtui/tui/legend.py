"""What the colours and marks of the canvas mean: a word of each kind, drawn as a token of that kind."""

from rich.style import Style

from dgtui.diffusion.events import Flag
from dgtui.tui.frames import GLOW_STEPS
from dgtui.tui.theme import Look


def legend(look: Look) -> list[tuple[str, Style]]:
    """The words and their styles."""
    return [
        ("undecided", look.style(2.0, Flag.RENOISED)),
        ("accepted", look.style(0.7, Flag.ACCEPTED)),
        ("just settled", look.style(0.0, 0, settled=True, glow=GLOW_STEPS)),
        ("certain", look.style(0.0, 0, settled=True)),
        ("changed", look.style(0.3, Flag.CHANGED)),
        ("pinned", look.style(0.0, Flag.PINNED)),
    ]
