"""A text of several blocks, each laid out for the width it is shown at: paragraphs with a hanging indent, code, tables.

A `Page` is a Textual visual, so that a whole reply is one widget and not one a paragraph. What goes in is sanitised and
has no tabs. The strips that come out carry offsets of the logical lines, which makes the text selectable.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from rich.cells import cell_len
from rich.segment import Segment
from textual.content import Content
from textual.css.styles import RulesMap
from textual.selection import Selection
from textual.strip import Strip
from textual.style import Style
from textual.visual import RenderOptions, Visual

BLANK = Content("")
MUTED = "$foreground-muted"
"the style of what is said about the text"
FAINT = "$foreground 40%"
"the style of lines drawn around text"


class Fragment(NamedTuple):
    """A part of a row. `line` counts the block's logical lines; None: an ornament, not part of the text."""

    content: Content
    line: int | None = None
    start: int = 0
    "where in its logical line it begins, in characters"


class Row(NamedTuple):
    """A row of the screen; `ground` is a style that goes on to its right edge."""

    fragments: tuple[Fragment, ...]
    ground: str = ""


class Block(Protocol):
    """Something that can be laid out."""

    @property
    def lines(self) -> Sequence[str]:
        """Its text, as it is copied."""

    def rows(self, width: int) -> list[Row]:
        """The rows it takes at a width."""


@dataclass(frozen=True, slots=True, eq=False)
class Paragraph:
    """One logical line, wrapped at blanks."""

    content: Content
    lead: Content = BLANK
    "before its first row"
    hang: Content = BLANK
    "before the others"

    @property
    def lines(self) -> Sequence[str]:
        return (self.content.plain,)

    def rows(self, width: int) -> list[Row]:
        lead, hang = _fit(self.lead, width), _fit(self.hang, width)
        parts = _wrapped(self.content, width - max(lead.cell_length, hang.cell_length))
        return [
            Row((Fragment(hang if number else lead), Fragment(part, 0, start)))
            for number, (part, start) in enumerate(parts)
        ]


@dataclass(frozen=True, slots=True, eq=False)
class Code:
    """Lines that keep their blanks, on a ground of their own; what is too long is cut, not wrapped at words."""

    code: Sequence[Content]
    lead: Content = BLANK
    hang: Content = BLANK
    ground: str = "on $panel"

    @property
    def lines(self) -> Sequence[str]:
        return [line.plain for line in self.code]

    def rows(self, width: int) -> list[Row]:
        lead, hang = _fit(self.lead, width), _fit(self.hang, width)
        room = max(2, width - max(lead.cell_length, hang.cell_length) - 1)
        found: list[Row] = []
        for number, line in enumerate(self.code):
            for part, start in _cut(line, room):
                prefix = hang if found else lead
                found.append(
                    Row((Fragment(prefix), Fragment(Content(" ")), Fragment(part, number, start)), self.ground)
                )
        return found


@dataclass(frozen=True, slots=True, eq=False)
class Rule:
    """A line across."""

    lead: Content = BLANK
    style: str = FAINT

    @property
    def lines(self) -> Sequence[str]:
        return ("",)

    def rows(self, width: int) -> list[Row]:
        lead = _fit(self.lead, width)
        line = Content.styled("─" * max(0, width - lead.cell_length), self.style)
        return [Row((Fragment(lead), Fragment(line)))]


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """Cells in columns as wide as they need, or as narrow as they must; the first row is the head."""

    cells: Sequence[Sequence[Content]]
    right: Sequence[bool] = ()
    "columns that end flush"
    lead: Content = BLANK
    hang: Content = BLANK

    NARROWEST = 4
    BAR = " │ "

    @property
    def lines(self) -> Sequence[str]:
        return [self.BAR.join(cell.plain for cell in row) for row in self.cells]

    def rows(self, width: int) -> list[Row]:
        lead, hang = _fit(self.lead, width), _fit(self.hang, width)
        room = width - max(lead.cell_length, hang.cell_length)
        widths = self._widths(room)
        if widths is None:
            joined = (Content(self.BAR).join(row) for row in self.cells)
            rows = [row for number, line in enumerate(joined) for row in _numbered(number, _wrapped(line, room))]
        else:
            rows = [row for number in range(len(self.cells)) for row in self._row(number, widths)]
            head = len(self._row(0, widths))
            rows.insert(head, Row((Fragment(Content.styled("─┼─".join("─" * w for w in widths), FAINT)),)))
        return [
            Row((Fragment(hang if number else lead), *row.fragments), row.ground) for number, row in enumerate(rows)
        ]

    def _widths(self, room: int) -> list[int] | None:
        """A width for each column, the widest cut first; None: not even the narrowest fit."""
        columns = max(len(row) for row in self.cells)
        natural = [
            max((row[column].cell_length for row in self.cells if column < len(row)), default=0)
            for column in range(columns)
        ]
        room -= len(self.BAR) * (columns - 1)
        if sum(min(width, self.NARROWEST) for width in natural) > room:
            return None
        widths = natural
        cap = max(natural, default=0)
        while sum(widths) > room:
            cap -= 1
            widths = [min(width, cap) for width in natural]
        return widths

    def _row(self, number: int, widths: Sequence[int]) -> list[Row]:
        starts, position = [], 0
        for cell in self.cells[number]:
            starts.append(position)
            position += len(cell) + len(self.BAR)
        columns = [_wrapped(cell, max(1, width)) for cell, width in zip(self.cells[number], widths, strict=False)]
        found = []
        for height in range(max(len(column) for column in columns)):
            fragments: list[Fragment] = []
            for index, width in enumerate(widths):
                if index:
                    fragments.append(Fragment(Content.styled(self.BAR, FAINT)))
                column = columns[index] if index < len(columns) else []
                part, start = column[height] if height < len(column) else (BLANK, 0)
                text = Fragment(part, number, starts[index] + start if index < len(starts) else 0)
                gap = Fragment(Content(" " * max(0, width - part.cell_length)))
                fragments += (gap, text) if index < len(self.right) and self.right[index] else (text, gap)
            found.append(Row(tuple(fragments)))
        return found


class Page(Visual):
    """Blocks, one under the other. Never changed once made, so that a layout can be kept."""

    def __init__(self, blocks: Iterable[Block]) -> None:
        self._blocks = tuple(blocks)
        self._first = []
        count = 0
        for block in self._blocks:
            self._first.append(count)
            count += len(block.lines)
        self._laid: tuple[int, list[Row]] = (-1, [])

    @property
    def plain(self) -> str:
        """The text, without what was drawn around it."""
        return "\n".join(line for block in self._blocks for line in block.lines)

    def block_at(self, row: int, width: int) -> int | None:
        """The number of the block that is drawn in a row."""
        for number, block in enumerate(self._blocks):
            height = len(block.rows(width))
            if row < height:
                return number
            row -= height
        return None

    def _rows(self, width: int) -> list[Row]:
        if self._laid[0] != width:
            rows = []
            for first, block in zip(self._first, self._blocks, strict=True):
                for fragments, ground in block.rows(width):
                    placed = (f if f.line is None else f._replace(line=first + f.line) for f in fragments)
                    rows.append(Row(tuple(placed), ground))
            self._laid = width, rows
        return self._laid[1]

    def get_optimal_width(self, rules: RulesMap, container_width: int) -> int:
        return container_width

    def height(self, width: int) -> int:
        """The rows it takes at a width."""
        return len(self._rows(width)) if width > 0 else 0

    def get_height(self, rules: RulesMap, width: int) -> int:
        return self.height(width)

    def render_strips(self, width: int, height: int | None, style: Style, options: RenderOptions) -> list[Strip]:
        if width <= 0:
            return []
        return [self._strip(row, width, style, options) for row in self._rows(width)[:height]]

    def _strip(self, row: Row, width: int, style: Style, options: RenderOptions) -> Strip:
        ground = style + options.get_style(row.ground) if row.ground else style
        segments = []
        cells = 0
        for number, (content, line, start) in enumerate(row.fragments):
            base = ground if number else style  # the ground begins behind the prefix
            shown = content
            if line is not None and options.selection is not None and options.selection_style is not None:
                shown = _selected(content, options.selection.get_span(line), start, options.selection_style)
            position = start
            for text, text_style in shown.render(base, end="", parse_style=options.get_style):
                drawn = base + text_style
                segments.append(
                    Segment(text, drawn.rich_style if line is None else drawn.rich_style_with_offset(position, line))
                )
                position += len(text)
            cells += content.cell_length
        strip = Strip(segments, cells)
        return strip.adjust_cell_length(width, ground.rich_style) if row.ground or cells > width else strip


def copied(page: Page, selection: Selection) -> str:
    """What a selection on a page holds."""
    lines = page.plain.split("\n")
    spans = ((line, selection.get_span(number)) for number, line in enumerate(lines))
    return "\n".join(line[span[0] : None if span[1] == -1 else span[1]] for line, span in spans if span is not None)


def _selected(content: Content, span: tuple[int, int] | None, start: int, style: Style) -> Content:
    if span is None:
        return content
    first, last = span
    low = max(0, first - start)
    high = len(content) if last == -1 else min(len(content), last - start)
    return content.stylize(style, low, high) if low < high else content


def _wrapped(content: Content, width: int) -> list[tuple[Content, int]]:
    """The rows of a logical line, and where in it each begins: blanks at a break are not in any."""
    found = []
    position = 0
    plain = content.plain
    for part in content.wrap(max(1, width)) or [BLANK]:
        start = max(position, plain.find(part.plain, position))
        found.append((part, start))
        position = start + len(part)
    return found


def _cut(content: Content, width: int) -> list[tuple[Content, int]]:
    """A line in parts of at most `width` cells, and where in it each begins."""
    plain = content.plain
    starts, cells = [0], 0
    for position, character in enumerate(plain if len(plain) * 2 > width else ""):
        size = cell_len(character)
        if cells + size > width:
            starts.append(position)
            cells = 0
        cells += size
    return list(zip(content.divide(starts[1:]) if len(starts) > 1 else [content], starts, strict=True))


def _numbered(line: int, parts: Iterable[tuple[Content, int]]) -> list[Row]:
    return [Row((Fragment(part, line, start),)) for part, start in parts]


def _fit(prefix: Content, width: int) -> Content:
    """A prefix that leaves room for text, however deep it was nested."""
    return prefix if prefix.cell_length <= width // 2 else prefix.truncate(width // 2)
