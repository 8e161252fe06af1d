"""Names that the vocabulary would split get a single token: one of its spare tokens, bound to them.

A small model copies one token reliably and a name of four tokens poorly, and each further token moves all that follows.
So the embedded model's tokenizer reserves the tokens of some given names. A name that would take several tokens takes
one of these instead, and the token then has the name's text. Imports nothing heavy.
"""

import re
import threading
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from dgtui.errors import CorruptCheckpoint

BOUND_NAMES: Final = "bound_names"
"""Key in `tokenizer_config.json`: texts of spare tokens (`spare`) and capitalised words that are no names (`words`)."""
_WORD = re.compile(r"(?<!\w)[^\W\d_]+(?:[-'’][^\W\d_]+)*(?!\w)")
_PART = re.compile(r"[^\W\d_]+")


def spans(text: str) -> Iterator[tuple[int, int]]:
    """Where words that look like names stand: "Zoë", "O'Brien", "Jean-Luc"; not "I", "README" or the "s" of "Zoë's"."""
    for word in _WORD.finditer(text):
        end = 0
        for part in _PART.finditer(word[0]):
            if not part[0][0].isupper() or (part[0][1:] and not part[0][1:].islower()):
                break
            end = part.end()
        if end > 1:
            yield word.start(), word.start() + end


class Names:
    """Tells which words are names to bind.

    Args:
        ids: The tokenizer's own encoding.
        spare: Spare ids and their own texts.
        words: Capitalised words that are no names, such as "Translate".
    """

    def __init__(self, ids: Callable[[str], list[int]], spare: Mapping[int, str], words: Collection[str]) -> None:
        self.ids, self.spare = ids, spare
        self.own = {text: token for token, text in spare.items()}
        self._known = dict.fromkeys(words, False)

    def __contains__(self, word: str) -> bool:
        """Whether a word that looks like a name takes several tokens, and is no ordinary word with a capital letter."""
        known = self._known.get(word)
        if known is None:
            several = word in self.own or len(self.ids(word)) > 1
            known = several and all(len(self.ids(space + word.lower())) > 1 for space in ("", " "))
            self._known[word] = known
        return known


class BoundNames:
    """Which names are bound to which spare tokens: a name stays bound. Thread-safe.

    Args:
        names: The names to bind.
        order: The spare tokens.
    """

    def __init__(self, names: Names, order: Sequence[int]) -> None:
        self._names, self._order = names, tuple(order)
        self._lock = threading.Lock()
        self._tokens: dict[str, int] = {}
        self.texts: dict[int, str] = {}
        """The names of bound ids."""
        self.full = not self._order
        """Whether no more names are bound."""

    def bind(self, word: str) -> int | None:
        """The id of a name, which it keeps: its own or the first free one. None if none is free."""
        with self._lock:
            found = self._tokens.get(word)
            if found is None and not self.full:
                start = zlib.crc32(word.encode()) % len(self._order)
                wanted = (self._names.own.get(word), *self._order[start:], *self._order[:start])
                found = next((i for i in wanted if i is not None and i not in self.texts), None)
                if found is not None:
                    self._tokens[word], self.texts[found] = found, word
            return found

    def encode(self, text: str) -> list[int]:
        """The ids of a text, names bound as far as there are spare tokens."""
        if not self._order:
            return self._names.ids(text)
        ids: list[int] = []
        at = 0
        for start, end in spans(text):
            token = self.bind(text[start:end]) if text[start:end] in self._names else None
            if token is not None:
                ids += [*self._plain(text[at:start]), token]
                at = end
        return ids + self._plain(text[at:])

    def keep(self, ids: Iterable[int]) -> None:
        """Spare tokens in a text that stays keep the text that they have now."""
        with self._lock:
            for token in self._names.spare.keys() & set(ids) - self.texts.keys():
                self.texts[token] = self._names.spare[token]
                self._tokens.setdefault(self.texts[token], token)

    def _plain(self, text: str) -> list[int]:
        ids = self._names.ids(text) if text else []
        self.keep(ids)
        return ids


def read(config: Mapping[str, Any]) -> dict[str, list[str]]:
    """The spare names and the words of a `tokenizer_config.json`, both empty if it has none.

    Raises:
        CorruptCheckpoint: They are malformed.
    """
    found = config.get(BOUND_NAMES, {})
    lists: list[Any] = [found.get(key, []) if isinstance(found, dict) else None for key in ("spare", "words")]
    if not all(isinstance(texts, list) and all(isinstance(text, str) for text in texts) for texts in lists):
        raise CorruptCheckpoint(
            f"tokenizer_config.json: {BOUND_NAMES} is malformed", hint="download the checkpoint again"
        )
    return dict(zip(("spare", "words"), lists, strict=True))
