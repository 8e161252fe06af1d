"""Builds the prompt for rewriting a passage of a document by instruction.

A chat model gets the document with the passage marked, and answers with the whole document. All text outside the
passage is pinned on its canvas, so only the passage can change. The embedded model was not trained with marks: it gets
the instruction and, unless it is long, the passage, and sees the text around it on the canvas.
"""

from collections.abc import Sequence
from typing import Final

READY: Final = {
    "continue": "Continue the text in the marked passage, in the same voice.",
    "shorten": "Say what the marked passage says in fewer words.",
    "expand": "Say what the marked passage says in more detail.",
    "fix": "Correct spelling, grammar and punctuation in the marked passage; change nothing else.",
}
"""Named instructions."""

OPEN, CLOSE = "<<<", ">>>"
"""The marks around the passage."""

CONTEXT: Final = 6_000
"""Characters of the document to show on either side of the passage."""

TAUGHT: Final = 600
"""Characters of the longest passage that the embedded model is told; its lessons have one or two sentences."""

REQUEST: Final = """\
Below is a document. One passage of it stands between {open} and {close}.

{instruction}

Answer with the document, word for word, with only that passage rewritten and without the marks. Add nothing else.

{document}"""


def message(instruction: str, parts: Sequence[str], *, reads_marks: bool) -> str:
    """The prompt.

    Args:
        instruction: Words, or the name of one of `READY`.
        parts: The text in the form of `infill.Infill`: kept, to be written, kept, …
        reads_marks: Whether it is a chat model, which gets the document with the passage marked.
    """
    passage = "".join(parts[1:-1])
    if not reads_marks:
        return f"{instruction}: {passage.strip()}" if 0 < len(passage.strip()) <= TAUGHT else instruction
    before, after = parts[0][-CONTEXT:], parts[-1][:CONTEXT]
    document = f"{before}{OPEN}{passage}{CLOSE}{after}"
    return REQUEST.format(open=OPEN, close=CLOSE, instruction=READY.get(instruction, instruction), document=document)
