"""Text for the prompt: control characters are made visible, and long pastes are replaced by labels.

A text area takes seconds to lay out 100 KB, so a long paste is shown as a label, "[pasted 3,500 lines #1]", and
expanded when the prompt is sent. Joiners and marks that a script needs are kept: the widget draws them safely.
"""

import re

from dgtui.text import sanitize

LONGEST = 4_000
"""Characters; longer pastes become labels."""
MOST_LINES = 60

_BREAKS = re.compile("\r\n|[\r\x0b\x0c\x85\u2028\u2029]")
_CONTROLS = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x9f\ud800-\udfff]")


def clean(text: str) -> str:
    """The text with LF line breaks, and with control characters replaced by visible symbols."""
    return _CONTROLS.sub(lambda match: sanitize(match[0]), _BREAKS.sub("\n", text))


class Pastes:
    """Pasted texts by label."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}

    def fold(self, text: str) -> str:
        """The text, or its label if it is long."""
        lines = text.count("\n") + 1
        if len(text) <= LONGEST and lines <= MOST_LINES:
            return text
        size = f"{lines:,} lines" if lines > 1 else f"{len(text):,} characters"
        label = f"[pasted {size} #{len(self._texts) + 1}]"
        self._texts[label] = text
        return label

    def expand(self, text: str) -> str:
        """The text with every label replaced by its paste."""
        if not self._texts:
            return text
        labels = re.compile("|".join(map(re.escape, self._texts)))
        return labels.sub(lambda match: self._texts[match[0]], text)

    def label_before(self, line: str) -> str:
        """The label at the end of a line, or an empty string."""
        return next((label for label in self._texts if line.endswith(label)), "")

    def label_after(self, line: str) -> str:
        """The label at the start of a line, or an empty string."""
        return next((label for label in self._texts if line.startswith(label)), "")
