"""What a model is told when a passage of a document is to be written by instruction.

A chat model reads the document with the passage marked and answers with the document again; what is outside of the
passage is pinned on its canvas, so that only the passage is its own to write. The embedded model has not learnt to
read marks: it is told the instruction alone, and sees the document on the canvas.
"""

from collections.abc import Sequence
from typing import Final

READY: Final = {
    "continue": "Continue the text in the marked passage, in the same voice.",
    "shorten": "Say what the marked passage says in fewer words.",
    "expand": "Say what the marked passage says in more detail.",
    "fix": "Correct spelling, grammar and punctuation in the marked passage; change nothing else.",
}
"""Instructions by name, for people who do not want to type them."""

OPEN, CLOSE = "<<<", ">>>"
"""Around the marked passage."""

CONTEXT: Final = 6_000
"""Characters of the document that are shown on either side of the passage."""

REQUEST: Final = """\
Below is a document. One passage of it stands between {open} and {close}.

{instruction}

Answer with the document, word for word, with only that passage rewritten and without the marks. Add nothing else.

{document}"""


def message(instruction: str, parts: Sequence[str], *, embedded: bool) -> str:
    """What a model is told.

    Args:
        instruction: Words, or the name of one of `READY`.
        parts: Of the text, as `infill.Infill` takes them: held, to be written, held, …
        embedded: It is the embedded model.
    """
    return instruction if embedded else request(instruction, parts[0], "".join(parts[1:-1]), parts[-1])


def request(instruction: str, before: str, passage: str, after: str) -> str:
    """The message to a chat model: the instruction, and the document with the passage marked."""
    shown = f"{before[-CONTEXT:]}{OPEN}{passage}{CLOSE}{after[:CONTEXT]}"
    return REQUEST.format(open=OPEN, close=CLOSE, instruction=READY.get(instruction, instruction), document=shown)
