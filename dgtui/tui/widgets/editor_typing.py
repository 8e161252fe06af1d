"""What keys do to a buffer: typing, line breaks that keep the indent, indents like the neighbourhood's.

Each function makes one undo step, or goes on with that of the typing before, and returns where the cursor is then.
"""

import re
from typing import Final

from dgtui.document.buffer import Buffer

_INDENT: Final = re.compile(r"[ \t]*")
_NEIGHBOURHOOD: Final = 200
"lines, in both directions"
_USUAL: Final = " " * 4


def type_text(buffer: Buffer, start: int, end: int, text: str) -> int:
    """Puts what was typed in the place of a span. Raises `DocumentRefused` if the encoding has no bytes for it."""
    new = buffer.encode(text, start)
    buffer.replace(start, end, new, typing=True)
    return start + len(new)


def paste(buffer: Buffer, start: int, end: int, text: str) -> int:
    """Puts a text in the place of a span, as one step. Raises `DocumentRefused` as `type_text` does."""
    new = buffer.encode(text, start)
    buffer.replace(start, end, new)
    return start + len(new)


def delete(buffer: Buffer, start: int, end: int, *, typing: bool) -> int:
    """Takes a span away."""
    buffer.replace(start, end, b"", typing=typing)
    return start


def break_line(buffer: Buffer, start: int, end: int) -> int:
    """Breaks the line; the new one begins with the blanks that the old one begins with."""
    line, column = buffer.place(start)
    return type_text(buffer, start, end, "\n" + _indent_of(buffer.line(line)[:column]))


def indent(buffer: Buffer, start: int, end: int) -> tuple[int, int]:
    """Fills up to the next stop; if the span goes over lines, moves these to the right.

    Returns:
        The new selection; its end is where the cursor is.
    """
    first, last = _lines_of(buffer, start, end)
    unit = indent_unit(buffer, first)
    (line, column), (behind, _) = buffer.place(start), buffer.place(end)
    if line == behind:
        text = unit if unit == "\t" else " " * (len(unit) - column % len(unit))
        at = type_text(buffer, start, end, text)
        return at, at
    places = [buffer.place(offset) for offset in (start, end)]
    moved = [line for line in range(first, last + 1) if buffer.line(line)]
    with buffer.group():
        for line in moved:
            at, _ = buffer.line_span(line)
            buffer.replace(at, at, buffer.encode(unit, at))
    start, end = (buffer.offset(line, column + len(unit) * (line in moved and column > 0)) for line, column in places)
    return start, end


def unindent(buffer: Buffer, start: int, end: int) -> tuple[int, int]:
    """Takes an indent away from the lines of a span. Returns the new selection, as `indent` does."""
    first, last = _lines_of(buffer, start, end)
    unit = indent_unit(buffer, first)
    places = [buffer.place(offset) for offset in (start, end)]
    taken: dict[int, int] = {}
    with buffer.group():
        for line in range(first, last + 1):
            blanks = _indent_of(buffer.line(line))
            taken[line] = 1 if blanks.startswith("\t") else min(len(blanks) - len(blanks.lstrip(" ")), len(unit))
            at, _ = buffer.line_span(line)
            buffer.replace(at, buffer.offset(line, taken[line]), b"")
    start, end = (buffer.offset(line, max(0, column - taken.get(line, 0))) for line, column in places)
    return start, end


def indent_unit(buffer: Buffer, line: int) -> str:
    """What the lines around one are indented by: a tab, or as many blanks as the least of the indents there."""
    near = range(max(0, line - _NEIGHBOURHOOD), min(buffer.lines, line + _NEIGHBOURHOOD))
    indents = [indent for at in sorted(near, key=lambda at: abs(at - line)) if (indent := _indent_of(buffer.line(at)))]
    if indents and indents[0].startswith("\t"):
        return "\t"
    return min((blanks for blanks in indents if blanks.strip(" ") == "" and 2 <= len(blanks) <= 8), default=_USUAL)


def _lines_of(buffer: Buffer, start: int, end: int) -> tuple[int, int]:
    """The lines of a span; one that it only reaches the beginning of is not among them."""
    (first, _), (last, column) = buffer.place(start), buffer.place(end)
    return first, last - (last > first and not column)


def _indent_of(text: str) -> str:
    found = _INDENT.match(text)
    return found[0] if found else ""
