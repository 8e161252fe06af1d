"""Edits of a buffer by keys: typing, line breaks that keep the indent, indents that match nearby lines.

Each function makes one undo step, or extends the step of the previous typing, and returns the new cursor offset.
"""

import re
from typing import Final

from dgtui.document.buffer import Buffer

_INDENT: Final = re.compile(r"[ \t]*")
_NEIGHBOURHOOD: Final = 200
"""Lines in each direction."""
_USUAL: Final = " " * 4


def type_text(buffer: Buffer, start: int, end: int, text: str, *, typing: bool = True) -> int:
    """Replaces a span with a text. Raises `DocumentRefused` if the encoding cannot represent it."""
    new = buffer.encode(text, start)
    buffer.replace(start, end, new, typing=typing)
    return start + len(new)


def delete(buffer: Buffer, start: int, end: int, *, typing: bool) -> int:
    """Deletes a span."""
    buffer.replace(start, end, b"", typing=typing)
    return start


def break_line(buffer: Buffer, start: int, end: int) -> int:
    """Breaks the line; the new line gets the indent of the old one."""
    line, column = buffer.place(start)
    return type_text(buffer, start, end, "\n" + _indent_of(buffer.line(line)[:column]))


def indent(buffer: Buffer, start: int, end: int) -> tuple[int, int]:
    """Inserts blanks up to the next indent stop; indents the lines if the span covers several.

    Returns:
        The new selection; the cursor is at its end.
    """
    first, last = _lines_of(buffer, start, end)
    unit = indent_unit(buffer, first)
    (line, column), (end_line, _) = buffer.place(start), buffer.place(end)
    if line == end_line:
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
    """Removes one indent from the lines of a span. Returns the new selection, like `indent`."""
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
    """The indent of the lines around one: a tab, or the smallest number of blanks."""
    near = range(max(0, line - _NEIGHBOURHOOD), min(buffer.lines, line + _NEIGHBOURHOOD))
    indents = [indent for at in sorted(near, key=lambda at: abs(at - line)) if (indent := _indent_of(buffer.line(at)))]
    if indents and indents[0].startswith("\t"):
        return "\t"
    return min((blanks for blanks in indents if blanks.strip(" ") == "" and 2 <= len(blanks) <= 8), default=_USUAL)


def _lines_of(buffer: Buffer, start: int, end: int) -> tuple[int, int]:
    """First and last line of a span, without a last line of which it covers nothing."""
    (first, _), (last, column) = buffer.place(start), buffer.place(end)
    return first, last - (last > first and not column)


def _indent_of(text: str) -> str:
    match = _INDENT.match(text)
    return match[0] if match else ""
