"""The colours of Markdown and code: which characters of a line are a keyword, a string, a heading, by pygments.

A text is read from its beginning, as far as the lines in sight and no further, and again from shortly before an edit;
the state of the reader is kept every few lines. What takes longer than a moment goes on in the next one, and the lines
that have not been reached have no colours so far. The colours are the theme's, readable on its grounds.
"""

import bisect
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal

from rich.style import Style

from dgtui.tui.colour import faded, in_256, readable
from dgtui.tui.theme import Look

Kind = Literal[
    "comment", "string", "number", "keyword", "name", "special", "heading", "strong", "emphasis", "code", "new", "old"
]
Span = tuple[int, int, Kind]
"""From column to column of a line."""

LIMIT: Final = 2**20
"""Characters of the longest text that is coloured."""

_EVERY: Final = 32
"lines from one state that is kept to the next"
_LOOK: Final = 64
"tokens from one look at the clock to the next"

_COLOURS: Final[Mapping[Kind, str]] = {
    "comment": "foreground", "string": "success", "number": "warning", "keyword": "primary", "name": "secondary",
    "special": "accent", "heading": "primary", "code": "success", "new": "success", "old": "error",
}  # fmt: skip
_ATTRIBUTES: Final[Mapping[Kind, Style]] = {
    "comment": Style(italic=True), "heading": Style(bold=True), "strong": Style(bold=True),
    "emphasis": Style(italic=True),
}  # fmt: skip


def styles(look: Look | None) -> Mapping[Kind, Style]:
    """How each kind is drawn: in the colours of a theme, and where there are none by attributes alone."""
    if look is None or not look.color:
        return _ATTRIBUTES
    theme = look.theme
    drawn = dict(_ATTRIBUTES)
    grounds = [theme.ground, theme.selection, theme.pinned]
    for kind, name in _COLOURS.items():
        colour = theme.palette[name]
        if not theme.ansi:
            colour = faded(colour, theme.ground, grounds) if kind == "comment" else readable(colour, grounds)
            colour = in_256(colour, grounds) if theme.limited else colour
        drawn[kind] = Style(color=colour) + drawn.get(kind, Style())
    return drawn


class Syntax:
    """The spans of a text's lines. None at all where pygments knows no language for the file's name.

    Args:
        path: The file, for its name.
    """

    def __init__(self, path: Path | None) -> None:
        self._lexer = None if path is None else _lexer(path.name)
        self._text = ""
        self._states: list[tuple[int, int, tuple[str, ...]]] = [(0, 0, ("root",))]
        "line, offset and state: where reading can begin"
        self._lines: list[list[Span]] = []
        self._tokens: Iterator[tuple[int, Kind | None, str]] = iter(())
        self._restart()

    @property
    def is_known(self) -> bool:
        """Whether there are any colours."""
        return self._lexer is not None

    def change(self, text: str, line: int) -> None:
        r"""Takes another text. Up to `line` it is the one before; its line breaks are "\n"."""
        self._text = text if len(text) <= LIMIT else ""
        # One state further back: what stands before it may have been read with a look at what was behind it
        del self._states[max(1, bisect.bisect_right(self._states, line, key=lambda state: state[0]) - 1) :]
        self._restart()

    def spans(self, line: int) -> Sequence[Span]:
        """The spans of a line; none if it was not reached yet."""
        return self._lines[line] if line < len(self._lines) - (not self._is_done) else ()

    def reach(self, line: int, seconds: float) -> bool:
        """Reads on to the end of a line. False: that takes longer, and goes on when it is called again."""
        until = time.monotonic() + seconds
        for count, (offset, kind, text) in enumerate(self._tokens, 1):
            self._take(offset, kind, text)
            if len(self._lines) > line + 1:
                return True
            if count % _LOOK == 0 and time.monotonic() > until:
                return False
        self._is_done = True
        return True

    def _restart(self) -> None:
        """Begins to read at the last state that is kept."""
        line, self._offset, state = self._states[-1]
        self._lines[line:] = [[]]
        self._column, self._is_done = 0, False
        self._state = list(state)
        self._tokens = _tokens(self._lexer, self._text, self._offset, self._state)

    def _take(self, offset: int, kind: Kind | None, text: str) -> None:
        if offset > self._offset:
            self._write(None, self._text[self._offset : offset])
        if offset < self._offset:
            return
        self._write(kind, text)
        line = len(self._lines) - 1
        if not text and not self._column and line - self._states[-1][0] >= _EVERY:
            self._states.append((line, offset, tuple(self._state)))

    def _write(self, kind: Kind | None, text: str) -> None:
        self._offset += len(text)
        for nth, piece in enumerate(text.split("\n")):
            if nth:
                self._lines.append([])
                self._column = 0
            if kind and piece:
                self._lines[-1].append((self._column, self._column + len(piece), kind))
            self._column += len(piece)


def _lexer(name: str) -> Any:
    """Pygments' reader of a language; None: it knows none."""
    from pygments.lexers import ClassNotFound, TextLexer, get_lexer_for_filename

    try:
        lexer = get_lexer_for_filename(name)
    except ClassNotFound:
        return None
    return None if isinstance(lexer, TextLexer) else lexer


def _tokens(lexer: Any, text: str, at: int, state: list[str]) -> Iterator[tuple[int, Kind | None, str]]:
    """Offset, kind and characters of what follows `at`. Nothing but an offset: reading can begin here, in `state`.

    A lexer of pygments tells nobody its state, so its rules are applied here. One that is not made of rules begins
    anywhere, in no state: that is right but for what goes over many lines.
    """
    if lexer is None:
        return
    from pygments.lexer import ExtendedRegexLexer, RegexLexer, _TokenType

    if not isinstance(lexer, RegexLexer) or isinstance(lexer, ExtendedRegexLexer):
        for offset, token, part in lexer.get_tokens_unprocessed(text[at:]):
            yield at + offset, _kind(token), part
            if part.endswith("\n"):
                yield at + offset + len(part), None, ""
        return
    rules = lexer._tokens
    while at < len(text):
        if text[at - 1 : at] == "\n":
            yield at, None, ""
        for match, action, change in rules[state[-1]]:
            if not (found := match(text, at)):
                continue
            if isinstance(action, _TokenType):
                yield at, _kind(action), found[0]
            elif action:
                for offset, token, part in action(lexer, found):
                    yield offset, _kind(token), part
            at = found.end()
            _change(state, change)
            break
        else:
            if text[at] == "\n":
                state[:] = ["root"]
            at += 1


def _change(state: list[str], change: Any) -> None:
    """Does what a rule says: a number of states to leave, or states to enter, "#pop" and "#push" among them."""
    if change is None:
        return
    for step in (change,) if isinstance(change, int | str) else change:
        if isinstance(step, int):
            del state[max(1, len(state) + step) :]
        elif step == "#pop":
            del state[max(1, len(state) - 1) :]
        else:
            state.append(state[-1] if step == "#push" else step)


@cache
def _kind(token: Any) -> Kind | None:
    """The kind of a token, or of the nearest one that it is a kind of."""
    kinds = _kinds()
    while token is not None and token not in kinds:
        token = token.parent
    return kinds.get(token)


@cache
def _kinds() -> Mapping[Any, Kind | None]:
    from pygments import token as of

    return {
        of.Comment: "comment", of.Comment.Preproc: "special",
        of.Literal: "string", of.String: "string", of.String.Backtick: "code", of.Number: "number",
        of.String.Escape: "special", of.String.Interpol: "special",
        of.Keyword: "keyword", of.Operator.Word: "keyword", of.Name.Tag: "keyword",
        of.Name.Function: "name", of.Name.Class: "name", of.Name.Namespace: "name", of.Name.Attribute: "name",
        of.Name.Builtin: "special", of.Name.Builtin.Pseudo: None, of.Name.Exception: "special",
        of.Name.Decorator: "special", of.Name.Label: "special",
        of.Generic.Heading: "heading", of.Generic.Subheading: "heading",
        of.Generic.Strong: "strong", of.Generic.Emph: "emphasis",
        of.Generic.Inserted: "new", of.Generic.Deleted: "old",
    }  # fmt: skip
