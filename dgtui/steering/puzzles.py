"""Puts a Sudoku on the canvas: the message in the form used in training, and the grid with pinned givens."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from dgtui import sudoku
from dgtui.diffusion.job import Start
from dgtui.message import Message
from dgtui.model_info import ModelInfo


def normalised(messages: Sequence[Message]) -> list[Message]:
    """The messages, with every puzzle that a user pasted in the usual layout."""
    found = []
    for message in messages:
        puzzle = sudoku.asked(message.content) if message.role == "user" and not message.images else None
        found.append(replace(message, content=puzzle.prompt()) if puzzle else message)
    return found


def laid_out(text: str, encode: Callable[[str], list[int]], info: ModelInfo) -> Start:
    """The canvas of a reply to `text`: the grid with its givens, the end of the reply and what follows it pinned.

    It is pure noise without a puzzle, or if the tokenizer does not have one token per cell.
    """
    puzzle = sudoku.asked(text)
    if puzzle is None:
        return Start()
    cells = "\n".join(puzzle.rows())
    pieces = {cell: encode(cell) for cell in sorted(set(cells))}
    if any(len(ids) != 1 for ids in pieces.values()) or len(cells) >= info.canvas_length:
        return Start()
    ids = [*(pieces[cell][0] for cell in cells), info.turn_end_id]
    ids += [info.fill_id] * (info.canvas_length - len(ids))
    blanks = {place for place, cell in enumerate(cells) if cell == "0"}
    return Start(tuple(ids), frozenset(range(len(ids))) - blanks)
