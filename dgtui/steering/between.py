"""Text that is held in a reply: at its start, in the middle, at its end. What lies between has no fixed length.

The lengths of the gaps are searched. The ending moves with them and keeps the end of the reply after it, which a model
that writes from left to right cannot promise.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from dgtui.diffusion.job import BadJob, Job
from dgtui.model_info import ModelInfo
from dgtui.steering.lengths import GappedCanvas, LengthSearch

LONGEST: Final = 96
"""Tokens of a gap that are tried at most."""


def held_canvas(parts: Sequence[Sequence[int]], model: ModelInfo) -> GappedCanvas:
    """The canvas that holds some texts.

    Args:
        parts: Ids of the start, of each text in the middle, and of the ending. Start and ending may be empty: then the
            model begins, or ends, as it likes. There are two parts at least, and one of the later ones has text.

    Raises:
        BadJob: They do not fit the canvas with a place for each gap.
    """
    *kept, ending = map(tuple, parts)
    if ending:
        kept.append((*ending, model.turn_end_id))
    canvas = GappedCanvas(tuple(kept), len(kept[-1]), model.canvas_length, model.fill_id, bool(ending))
    if canvas.room < len(kept) - 1:
        raise BadJob(f"what is held does not fit the canvas of {model.canvas_length} tokens with room between")
    return canvas


def write_between(job: Job, canvas: GappedCanvas, model: ModelInfo) -> LengthSearch:
    """A plan that fills the gaps of a canvas, for a job that has its prompt, seed and settings."""
    no_text = model.special_ids | model.stop_ids if canvas.ends else model.special_ids - model.stop_ids
    guesses = [0] * (len(canvas.kept) - 1)
    return LengthSearch(replace(job, suppressed=no_text), canvas, guesses, longest=LONGEST)
