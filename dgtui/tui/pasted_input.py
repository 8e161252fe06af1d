"""What a terminal sends, on its way to Textual's parser, which takes an escape byte within a paste for a key, and all
that follows it too: a line break would send a message that nobody has read."""

from collections.abc import Iterable
from typing import Final

from textual._xterm_parser import XTermParser
from textual.message import Message

_BEGIN: Final = "\x1b[200~"
_END: Final = "\x1b[201~"


class PasteSafeParser(XTermParser):
    """Textual's parser; within a paste escape bytes are shown as pictures."""

    _pasting = False
    _kept = ""
    "what may be the beginning of a paste's end"

    def feed(self, data: str) -> Iterable[Message]:
        if not data:  # the end of all input
            return super().feed(data)
        safe = self._safe(data)
        return super().feed(safe) if safe else ()

    def _safe(self, data: str) -> str:
        data, self._kept = self._kept + data, ""
        parts: list[str] = []
        while data:
            mark = _END if self._pasting else _BEGIN
            part, found, data = data.partition(mark)
            if self._pasting:
                if not found:
                    self._kept = next((_END[:n] for n in range(len(_END) - 1, 0, -1) if part.endswith(_END[:n])), "")
                    part = part.removesuffix(self._kept)
                part = part.replace("\x1b", "\u241b")
            parts += part, found
            self._pasting ^= bool(found)
        return "".join(parts)
