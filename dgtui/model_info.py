"""What the rest of the program has to know of a model: plain data, light to import."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """Sizes in tokens, and the token ids with a meaning on the canvas."""

    canvas_length: int
    max_context: int
    "most tokens of prompt and canvas together"
    bos_id: int | None
    "begins a text, for models that expect one to begin with it"
    turn_end_id: int
    "ends a reply"
    fill_id: int
    "fills the canvas after the end of a reply"
    stop_ids: frozenset[int]
    "end a reply"
    special_ids: frozenset[int]
    "control ids, which are not text"
    reads_marks: bool = True
    "a chat model, which can be shown the passage to rewrite; the embedded model has not learnt that"
