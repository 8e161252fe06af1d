"""Shown for an empty conversation: prompts to try, each with a key, and a legend of the canvas colours."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from rich.text import Text
from textual.widgets import Static

from dgtui.backend import Backend
from dgtui.diffusion.events import Flag
from dgtui.steering.drafts import Refused
from dgtui.sudoku import Puzzle
from dgtui.tui import keymap
from dgtui.tui.key_names import shown
from dgtui.tui.legend import legend
from dgtui.tui.template import Template
from dgtui.tui.theme import Look

FIRST: Final = "Otto was the keeper of a lighthouse and had not had a visitor for years."
LAST: Final = 'That day the line in the book was, "Today there were eleven people for breakfast at the lighthouse."'


@dataclass(frozen=True, slots=True)
class Try:
    """A prompt to try."""

    prompt: str
    name: str = ""
    """A word of the prompt that the user may replace before sending."""


_GRID: Final = "000037018850409000400000000005300001004900875070000060002000104041280009500043006"
PUZZLE: Final = Puzzle(tuple(map(int, _GRID)))
TRIES: Final[Mapping[str, Try]] = {
    "tale": Try("Tell me a short story about Mira the fox and Ben.", "Mira"),
    "between": Try("Tell me a short story about a lighthouse."),
    "sudoku": Try(PUZZLE.prompt()),
    "json": Try("Give me JSON for: Olga is 31 years old and lives in Milan."),
}
"""By the name of their command in the context "start" of the keymap."""


def hold(name: str, template: Template, backend: Backend, puzzle: Puzzle = PUZZLE) -> None:
    """Holds in a template what a prompt holds. Raises `Refused` if it does not fit, or no model is loaded."""
    template.clear()
    if name == "between":
        template.read(f"{FIRST} … {LAST}")
    elif name == "sudoku":
        template.hold(givens(backend, puzzle))


def givens(backend: Backend, puzzle: Puzzle = PUZZLE) -> dict[int, int]:
    """The tokens of the digits that a puzzle gives, by place."""
    facts, ids = backend.facts, backend.encode("\n".join(puzzle.rows()))
    if facts is None:
        raise Refused("no model is loaded yet")
    if len(ids) > facts.model.canvas_length:
        raise Refused("the canvas of this model is too short for this prompt")
    return {at: i for at, (i, piece) in enumerate(zip(ids, backend.pieces(ids), strict=True)) if b"0" not in piece}


class StartCard(Static):
    """The card. It never has the focus; its keys belong to the screen."""

    DEFAULT_CSS = """
    StartCard { height: 1fr; padding: 0 2; }
    """

    def __init__(self, look: Look, keys: Mapping[str, str], **kwargs: Any) -> None:
        super().__init__(markup=False, **kwargs)
        self._keys = keys
        self.set_look(look)

    def set_look(self, look: Look) -> None:
        """Draws the legend in the colours of a theme."""
        card = Text("\nWatch a reply resolve out of noise, and steer it.\n\n")
        for command in keymap.COMMANDS["start"]:
            key = shown(keymap.keys_of(command, self._keys)[0])
            card.append(f"  {key:<4}", look.style(0.0, Flag.ACCEPTED)).append(f"{command.help}\n")
        card.append("\nPress Shift+Tab to move to the canvas and steer it with single keys. F1 lists all keys.\n\n")
        card.append(Text("  ").join(Text(word, style) for word, style in legend(look)))
        self.update(card)
