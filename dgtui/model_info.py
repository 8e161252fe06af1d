"""What the rest of the program needs to know about a model. Plain data; imports nothing heavy."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """Sizes in tokens, and the special token ids of the canvas."""

    canvas_length: int
    max_context: int
    "most tokens of prompt and canvas together"
    bos_id: int | None
    "id at the start of a text, for models that expect one"
    turn_end_id: int
    "ends a reply"
    fill_id: int
    "id that fills the canvas after the end of a reply"
    stop_ids: frozenset[int]
    "end a reply"
    special_ids: frozenset[int]
    "control ids, which are not text"
    reads_marks: bool = True
    "whether it is a chat model that can be shown the passage to rewrite; the embedded model was not trained for that"
