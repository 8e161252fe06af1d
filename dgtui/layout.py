"""The layout of a canvas: the bytes of its tokens as safe text, and that text as wrapped lines.

Each part of a line belongs to one token, so tokens can be styled and a cursor can stop at each of them. Widths are
terminal cells. Any bytes are accepted, and the result contains no control characters.
"""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from rich.cells import cell_len

from dgtui.text import REPLACEMENT, sanitize, without_joins

MIN_SCREEN: Final = (60, 16)
"""Columns and rows that the screens need."""

BREAK_SIGN: Final = "⏎"
"""Stands for line breaks in a token that has not settled."""
BLANK_SIGN: Final = "·"
"""Stands for blanks in a token that has not settled."""

_TAB: Final = " " * 4
_NO_BASE: Final = "\N{DOTTED CIRCLE}"  # Unicode's base for a combining character without a base
_NOISY_BREAKS: Final = re.compile(r"[ \t]*\n[ \t\n]*")
_NOISY_BLANKS: Final = re.compile(r"\t[ \t]*| [ \t]+")
_NOISY_SIGNS: Final = re.compile(rf"<unused\d+>|[\u2400-\u2421{REPLACEMENT}]+")
_PARTS: Final = re.compile(r"\n| ?[^ \n]+| +")


def shown_tokens(pieces: Sequence[bytes], settled: Sequence[bool]) -> list[str]:
    r"""The text of each token: sanitised, with "\n" for a line break and no tabs.

    A character whose bytes are spread over several tokens is shown at the first of them; a byte outside any character
    is U+FFFD. Blanks and line breaks of `settled` tokens are kept; in other tokens several of them become one sign, as
    noise must not move the text around. Unreadable parts of them, such as a control character or a part of a
    character, are shown as a sign too.
    """
    shown: list[str] = []
    split: list[int] = []  # adjacent tokens that hold parts of characters
    for token, (piece, firm) in enumerate(zip(pieces, settled, strict=True)):
        text = _shown(piece, bool(firm))
        if text is None:
            split.append(token)
        elif split and piece:  # an id without bytes (a control id) does not end a character
            _join(pieces, settled, split, shown)
            split.clear()
        shown.append(text or "")
    if split:
        _join(pieces, settled, split, shown)
    return shown


def _join(pieces: Sequence[bytes], settled: Sequence[bool], split: Sequence[int], shown: list[str]) -> None:
    owners = [token for token in split for _ in pieces[token]]
    texts = dict.fromkeys(split, "")
    at = 0
    for character in b"".join(pieces[token] for token in split).decode("utf-8", errors="surrogateescape"):
        texts[owners[at]] += character
        at += 1 if "\udc80" <= character <= "\udcff" else len(character.encode())
    for token, text in texts.items():
        shown[token] = _signs(text, bool(settled[token]))


@lru_cache(maxsize=1 << 14)
def _shown(piece: bytes, firm: bool) -> str | None:
    """The text of a single token; None if it holds a part of a character."""
    try:
        return _signs(piece.decode(), firm)
    except UnicodeDecodeError:
        return None


def _signs(text: str, firm: bool) -> str:
    if not firm and text:
        if not text.strip():
            return BREAK_SIGN if not text.strip("\n") else BLANK_SIGN
        text = _NOISY_BLANKS.sub(BLANK_SIGN, _NOISY_BREAKS.sub(BREAK_SIGN, text))
        return _NOISY_SIGNS.sub(BLANK_SIGN, without_joins(sanitize(text)))
    return without_joins(sanitize(text.replace("\t", _TAB)))


@dataclass(frozen=True, slots=True)
class TokenText:
    """The part of a line that belongs to one token."""

    token: int
    """Its position in the canvas."""
    text: str
    column: int
    """Its first cell in the line."""
    cells: int
    """Its width; 0 for a line break, and for blanks without room at the end of the line."""


Line = tuple[TokenText, ...]


def lay_out(tokens: Sequence[str], width: int) -> list[Line]:
    r"""Wraps sanitised `tokens` at blanks, between wide characters and at "\n". No line is empty.

    A word may span tokens; a word longer than the line is cut. Wide characters are never halved, and combining
    characters stay with their base. Every token with text has a part in some line: blanks without room at the end of a
    line have one of 0 cells, or none if their token continues in the next line.
    """
    builder = _LineBuilder(max(1, width))
    for token, text in enumerate(tokens):
        for kind, part, cells in _parts(text):
            builder.add(token, kind, part, cells)
    builder.put_word()
    builder.end_line()
    return builder.lines


# Kinds of parts of a token. Numbers, because enum members are slow and are compared 500 times per frame.
_WORD: Final = 0
_WIDE: Final = 1  # a wide character; the line may break on both sides of it
_MARK: Final = 2  # combines with the last character of the previous token
_BLANK: Final = 3
_BREAK: Final = 4
_NEXT_WORD: Final = 5  # a word after one blank, like most tokens


@lru_cache(maxsize=1 << 14)
def _parts(text: str) -> tuple[tuple[int, str, int], ...]:
    """The parts of a token: kind, text, cells."""
    parts: list[tuple[int, str, int]] = []
    for part in _PARTS.findall(text):
        word = part.removeprefix(" ")
        if part == "\n":
            parts.append((_BREAK, "", 0))
        elif not word or word[0] == " ":
            parts.append((_BLANK, part, len(part)))
        else:
            of_word = [(_WORD, word, len(word))] if word.isascii() else _parts_of_word(word)
            if word is part:
                parts += of_word
            elif of_word[0][0] == _WORD and len(of_word) == 1:
                parts.append((_NEXT_WORD, part, of_word[0][2] + 1))
            else:
                parts += [(_BLANK, " ", 1), *of_word]
    return tuple(parts)


def _parts_of_word(word: str) -> list[tuple[int, str, int]]:
    parts: list[tuple[int, str, int]] = []
    for cluster in _clusters(word):
        cells = cell_len(cluster)
        if cells == 1 and parts and parts[-1][0] == _WORD:
            parts[-1] = (_WORD, parts[-1][1] + cluster, parts[-1][2] + 1)
        else:
            parts.append((_WIDE if cells > 1 else _WORD if cells else _MARK, cluster, cells))
    return parts


def _clusters(text: str) -> list[str]:
    """The characters of `text`, each with the zero-width characters after it."""
    clusters = [text[0]]
    for character in text[1:]:
        if cell_len(character):
            clusters.append(character)
        else:
            clusters[-1] += character
    return clusters


class _LineBuilder:
    """Builds lines. A word is held back until its end is known."""

    def __init__(self, width: int) -> None:
        self.width = width
        self.lines: list[Line] = []
        self._line: list[tuple[int, str, int]] = []  # token, text, cells
        self._column = 0
        self._word: list[tuple[int, str, int]] = []
        self._word_cells = 0
        self._wide = False  # the word is a wide character
        self._spaced = False  # the word begins with a blank, which is dropped at the start of a line

    def add(self, token: int, kind: int, text: str, cells: int) -> None:
        """Adds the next part of a token."""
        if kind == _WORD and not self._wide:
            self._word.append((token, text, cells))
            self._word_cells += cells
        elif kind == _NEXT_WORD:
            self.put_word()
            self._word.append((token, text, cells))
            self._word_cells = cells
            self._spaced = True
        elif kind == _MARK and self._word:
            self._combine(token, text)
        else:
            self.put_word()
            if kind == _BLANK:
                self._put_blanks(token, text, cells)
            elif kind == _BREAK:
                if not self._line or self._line[-1][0] != token:
                    self._put(token, "", 0)
                self.end_line()
            else:
                if kind == _MARK:
                    # On the dotted circle, without marks that take a cell in some terminals and would shift the line
                    text = _NO_BASE + "".join(c for c in text if unicodedata.category(c) in ("Mn", "Me"))
                    cells = 1
                elif cells > self.width:
                    text, cells = REPLACEMENT, 1
                self._word.append((token, text, cells))
                self._word_cells = cells
                self._wide = kind == _WIDE

    def _combine(self, token: int, text: str) -> None:
        before = "".join(part for _, part, _ in self._word)
        wider = cell_len(before + text) - cell_len(before)  # U+FE0F makes some characters wide
        if wider:
            owner, part, cells = self._word[-1]
            self._word[-1] = (owner, part, cells + wider)
            self._word_cells += wider
        self._word.append((token, text, 0))

    def put_word(self) -> None:
        """Puts the held-back word on this line, or on the next."""
        if not self._word:
            return
        if self._column + self._word_cells > self.width:
            if self._spaced:
                token, text, cells = self._word[0]
                self._word[0] = (token, text[1:], cells - 1)
                self._word_cells -= 1
            if self._line:
                self._drop_blanks(self._word[0][0])
                self.end_line()
        if self._word_cells <= self.width:
            for token, text, cells in self._word:
                self._put(token, text, cells)
        else:
            self._cut_word()
        self._word.clear()
        self._word_cells = 0
        self._wide = self._spaced = False

    def _cut_word(self) -> None:
        owners = [token for token, text, _ in self._word for _ in text]
        at = 0
        for cluster in _clusters("".join(text for _, text, _ in self._word)):
            cells = cell_len(cluster)
            drawn = list(cluster)
            if cells > self.width:
                drawn, cells = [REPLACEMENT, *[""] * (len(cluster) - 1)], 1
            if self._column + cells > self.width:
                self.end_line()
            for character in drawn:
                self._put(owners[at], character, cells)
                cells = 0
                at += 1

    def _drop_blanks(self, token: int) -> None:
        """Removes blanks at the end of the line if their `token` continues in the next line."""
        owner, text, cells = self._line[-1]
        if owner == token:
            rest = text.rstrip(" ")
            if rest:
                self._line[-1] = (owner, rest, cells - len(text) + len(rest))
            elif len(self._line) > 1:
                self._line.pop()

    def _put_blanks(self, token: int, text: str, cells: int) -> None:
        room = self.width - self._column
        if cells <= room:
            self._put(token, text, cells)
        elif room or not self._line or self._line[-1][0] != token:
            self._put(token, text[:room], room)

    def _put(self, token: int, text: str, cells: int) -> None:
        self._column += cells
        if self._line and self._line[-1][0] == token:
            _, before, taken = self._line[-1]
            self._line[-1] = (token, before + text, taken + cells)
        else:
            self._line.append((token, text, cells))

    def end_line(self) -> None:
        """Ends the line."""
        if not self._line:
            return
        runs = []
        column = 0
        for token, text, cells in self._line:
            runs.append(TokenText(token, text, column, cells))
            column += cells
        self.lines.append(tuple(runs))
        self._line, self._column = [], 0
