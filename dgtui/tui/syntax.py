"""Syntax highlighting of Markdown and code with pygments.

A text is lexed from its start to the last visible line, and after an edit from shortly before the edit, because the
state of the lexer is saved every few lines. Lexing is split into short steps; lines that are not lexed yet have no
colours. The colours come from the theme and are readable on its grounds.
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
ColouredSpan = tuple[int, int, Kind]
"""Start and end column in a line, and the kind of token."""

LIMIT: Final = 2**20
"""Characters of the longest text that is highlighted."""

_EVERY: Final = 32
"""Lines between two saved states."""
_CLOCK_EVERY: Final = 64
"""Tokens between two checks of the time."""

_COLOURS: Final[Mapping[Kind, str]] = {
    "comment": "foreground", "string": "success", "number": "warning", "keyword": "primary", "name": "secondary",
    "special": "accent", "heading": "primary", "code": "success", "new": "success", "old": "error",
}  # fmt: skip
_ATTRIBUTES: Final[Mapping[Kind, Style]] = {
    "comment": Style(italic=True), "heading": Style(bold=True), "strong": Style(bold=True),
    "emphasis": Style(italic=True),
}  # fmt: skip


def styles(look: Look | None) -> Mapping[Kind, Style]:
    """The style of each kind: the colours of a theme, or attributes only if there are no colours."""
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
    """The coloured spans of the lines of a text. There are none if pygments knows no language for the file name.

    Args:
        path: The file, whose name selects the language.
    """

    def __init__(self, path: Path | None) -> None:
        self._lexer = None if path is None else _lexer(path.name)
        self._text = ""
        self._states: list[tuple[int, int, tuple[str, ...]]] = [(0, 0, ("root",))]
        """Line, offset and state of positions where reading can start."""
        self._lines: list[list[ColouredSpan]] = []
        self._tokens: Iterator[tuple[int, Kind | None, str]] = iter(())
        self._restart()

    @property
    def is_known(self) -> bool:
        """Whether the language is known."""
        return self._lexer is not None

    def change(self, text: str, line: int) -> None:
        r"""Sets a text that equals the previous one up to `line`. Its line breaks are "\n"."""
        self._text = text if len(text) <= LIMIT else ""
        # One state further back: the lexer may have looked ahead into the changed text
        del self._states[max(1, bisect.bisect_right(self._states, line, key=lambda state: state[0]) - 1) :]
        self._restart()

    def spans(self, line: int) -> Sequence[ColouredSpan]:
        """The spans of a line; empty if it is not lexed yet."""
        return self._lines[line] if line < len(self._lines) - (not self._is_done) else ()

    def reach(self, line: int, seconds: float) -> bool:
        """Lexes up to the end of a line. Returns False when the time is up: call it again to continue."""
        until = time.monotonic() + seconds
        for count, (offset, kind, text) in enumerate(self._tokens, 1):
            self._take(offset, kind, text)
            if len(self._lines) > line + 1:
                return True
            if count % _CLOCK_EVERY == 0 and time.monotonic() > until:
                return False
        self._is_done = True
        return True

    def _restart(self) -> None:
        """Starts lexing at the last saved state."""
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
    """The pygments lexer for a file name; None if there is none."""
    from pygments.lexers import ClassNotFound, TextLexer, get_lexer_for_filename

    try:
        lexer = get_lexer_for_filename(name)
    except ClassNotFound:
        return None
    return None if isinstance(lexer, TextLexer) else lexer


def _tokens(lexer: Any, text: str, at: int, state: list[str]) -> Iterator[tuple[int, Kind | None, str]]:
    """Offset, kind and characters of the tokens after `at`. A token without characters: reading can start here.

    A pygments lexer does not expose its state, so its rules are applied here. A lexer without rules starts anywhere
    without a state, which is right except for tokens of several lines.
    """
    if lexer is None:
        return
    from pygments.lexer import ExtendedRegexLexer, RegexLexer

    if isinstance(lexer, RegexLexer) and not isinstance(lexer, ExtendedRegexLexer):
        yield from _by_rules(lexer, text, at, state)
        return
    for offset, token, part in lexer.get_tokens_unprocessed(text[at:]):
        yield at + offset, _kind(token), part
        if part.endswith("\n"):
            yield at + offset + len(part), None, ""


def _by_rules(lexer: Any, text: str, at: int, state: list[str]) -> Iterator[tuple[int, Kind | None, str]]:
    """`_tokens` of a lexer with rules; updates `state`."""
    from pygments.lexer import _TokenType

    while at < len(text):
        if text[at - 1 : at] == "\n":
            yield at, None, ""
        for pattern, action, change in lexer._tokens[state[-1]]:
            if not (match := pattern(text, at)):
                continue
            if isinstance(action, _TokenType):
                yield at, _kind(action), match[0]
            elif action:
                for offset, token, part in action(lexer, match):
                    yield offset, _kind(token), part
            at = match.end()
            _change(state, change)
            break
        else:
            if text[at] == "\n":
                state[:] = ["root"]
            at += 1


def _change(state: list[str], change: Any) -> None:
    """Applies the state change of a rule: a number of states to leave, or states to enter, also "#pop" and "#push"."""
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
    """The kind of a pygments token type, or of its nearest known ancestor."""
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
