"""Blocks of text, laid out for the width at which they are shown: paragraphs with a hanging indent, code, tables.

A `Page` is a Textual visual that draws a whole reply in one widget. Textual's own `Markdown` (8.2.8) makes a widget of
every paragraph, list item and table cell: 30 replies of ten blocks took 7 s of CPU time to mount and 2.5 s to resize,
against 0.5 s and 0.1 s here, and a list of 2,000 items did not appear within two minutes.

The text of a page is sanitised and has no tabs. Strips carry offsets into the logical lines, for selections.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
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
"""The style of remarks about the text."""
FAINT = "$foreground 40%"
"""The style of rules and borders."""


class Fragment(NamedTuple):
    """A part of a row. `line` is the number of its logical line in the block; None for decoration that is not text."""

    content: Content
    line: int | None = None
    start: int = 0
    """Its start in the logical line, in characters."""


class PageRow(NamedTuple):
    """A row of the screen. `ground` is a style that extends to the right edge."""

    fragments: tuple[Fragment, ...]
    ground: str = ""


class Block(Protocol):
    """A part of a page."""

    @property
    def lines(self) -> Sequence[str]:
        """The logical lines, for copying."""

    def rows(self, width: int) -> list[PageRow]:
        """The rows at a width in cells."""


@dataclass(frozen=True, slots=True, eq=False)
class Paragraph:
    """Logical lines, each wrapped at blanks. Code keeps its blanks, and its lines are cut at the edge."""

    text: Sequence[Content]
    lead: Content = BLANK
    """Prefix of the first row."""
    hang: Content = BLANK
    """Prefix of all other rows."""
    is_code: bool = False

    @property
    def lines(self) -> Sequence[str]:
        return [line.plain for line in self.text]

    def rows(self, width: int) -> list[PageRow]:
        lead, hang, room = _prefixes(self.lead, self.hang, width)
        rows: list[PageRow] = []
        for number, line in enumerate(self.text):
            for part, start in _cut(line, max(2, room - 1)) if self.is_code else _wrapped(line, room):
                margin = (Fragment(Content(" ")),) if self.is_code else ()
                fragments = (Fragment(hang if rows else lead), *margin, Fragment(part, number, start))
                rows.append(PageRow(fragments, "on $panel" if self.is_code else ""))
        return rows


@dataclass(frozen=True, slots=True, eq=False)
class Rule:
    """A horizontal line."""

    lead: Content = BLANK

    @property
    def lines(self) -> Sequence[str]:
        return ("",)

    def rows(self, width: int) -> list[PageRow]:
        lead, _, room = _prefixes(self.lead, BLANK, width)
        return [PageRow((Fragment(lead), Fragment(Content.styled("─" * room, FAINT))))]


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """Cells in columns as wide as their text if there is room; the first row is the head."""

    cells: Sequence[Sequence[Content]]
    right: Sequence[bool] = ()
    """Which columns are aligned to the right."""
    lead: Content = BLANK
    hang: Content = BLANK

    MIN_WIDTH = 4
    BAR = " │ "

    @property
    def lines(self) -> Sequence[str]:
        return [self.BAR.join(cell.plain for cell in row) for row in self.cells]

    def rows(self, width: int) -> list[PageRow]:
        lead, hang, room = _prefixes(self.lead, self.hang, width)
        widths = self._widths(room)
        body = list(self._joined(room) if widths is None else self._aligned(widths))
        return [PageRow((Fragment(hang if number else lead), *row)) for number, row in enumerate(body)]

    def _widths(self, room: int) -> list[int] | None:
        """The width of each column, the widest ones shortened; None if even the minimum does not fit."""
        columns = max(len(row) for row in self.cells)
        natural = [max((row[n].cell_length for row in self.cells if n < len(row)), default=0) for n in range(columns)]
        room -= len(self.BAR) * (columns - 1)
        if sum(min(width, self.MIN_WIDTH) for width in natural) > room:
            return None
        widths, cap = natural, max(natural, default=0)
        while sum(widths) > room:
            cap -= 1
            widths = [min(width, cap) for width in natural]
        return widths

    def _joined(self, room: int) -> Iterator[list[Fragment]]:
        """Each row of cells as one wrapped line, used if the columns do not fit."""
        for number, row in enumerate(self.cells):
            for part, start in _wrapped(Content(self.BAR).join(row), room):
                yield [Fragment(part, number, start)]

    def _aligned(self, widths: Sequence[int]) -> Iterator[list[Fragment]]:
        for number, row in enumerate(self.cells):
            starts = [0, *accumulate(len(cell) + len(self.BAR) for cell in row)]
            columns = [_wrapped(cell, max(1, width)) for cell, width in zip(row, widths, strict=False)]
            for height in range(max(map(len, columns))):
                fragments: list[Fragment] = []
                for index, width in enumerate(widths):
                    column = columns[index] if index < len(columns) else []
                    part, start = column[height] if height < len(column) else (BLANK, 0)
                    text = Fragment(part, number, starts[min(index, len(row))] + start)
                    gap = Fragment(Content(" " * max(0, width - part.cell_length)))
                    bar = [Fragment(Content.styled(self.BAR, FAINT))] if index else []
                    is_right = index < len(self.right) and self.right[index]
                    fragments += (*bar, gap, text) if is_right else (*bar, text, gap)
                yield fragments
            if not number:
                yield [Fragment(Content.styled("─┼─".join("─" * width for width in widths), FAINT))]


class Page(Visual):
    """Blocks, one below the other. A page never changes, so its layout is kept."""

    def __init__(self, blocks: Iterable[Block]) -> None:
        self._blocks = tuple(blocks)
        self._first = [0, *accumulate(len(block.lines) for block in self._blocks)]
        self._laid_out: tuple[int, list[PageRow]] = (-1, [])

    @property
    def plain(self) -> str:
        """The logical lines, without decoration."""
        return "\n".join(line for block in self._blocks for line in block.lines)

    def block_at(self, row: int, width: int) -> int | None:
        """The number of the block in a row."""
        ends = accumulate(len(block.rows(width)) for block in self._blocks)
        return next((number for number, end in enumerate(ends) if row < end), None)

    def rows(self, width: int) -> list[PageRow]:
        """The rows at a width, with logical lines numbered through the page."""
        if self._laid_out[0] != width:
            rows = []
            for first, block in zip(self._first, self._blocks, strict=False):
                for fragments, ground in block.rows(width):
                    counted = (f if f.line is None else f._replace(line=first + f.line) for f in fragments)
                    rows.append(PageRow(tuple(counted), ground))
            self._laid_out = width, rows
        return self._laid_out[1]

    def get_optimal_width(self, rules: RulesMap, container_width: int) -> int:
        return container_width

    def height(self, width: int) -> int:
        """The number of rows at a width."""
        return len(self.rows(width)) if width > 0 else 0

    def get_height(self, rules: RulesMap, width: int) -> int:
        return self.height(width)

    def render_strips(self, width: int, height: int | None, style: Style, options: RenderOptions) -> list[Strip]:
        return [self._strip(row, width, style, options) for row in self.rows(width)[:height]] if width > 0 else []

    def _strip(self, row: PageRow, width: int, style: Style, options: RenderOptions) -> Strip:
        ground = style + options.get_style(row.ground) if row.ground else style
        segments = []
        cells = 0
        for number, (content, line, start) in enumerate(row.fragments):
            base = ground if number else style  # the ground starts after the prefix
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
    """The logical text of a selection."""
    spans = ((line, selection.get_span(number)) for number, line in enumerate(page.plain.split("\n")))
    return "\n".join(line[span[0] : None if span[1] == -1 else span[1]] for line, span in spans if span is not None)


def _selected(content: Content, span: tuple[int, int] | None, start: int, style: Style) -> Content:
    if span is None:
        return content
    low = max(0, span[0] - start)
    high = len(content) if span[1] == -1 else min(len(content), span[1] - start)
    return content.stylize(style, low, high) if low < high else content


def _wrapped(content: Content, width: int) -> list[tuple[Content, int]]:
    """The rows of a logical line, and their offsets in it; blanks at a line break belong to no row."""
    rows = []
    position = 0
    plain = content.plain
    for part in content.wrap(max(1, width)) or [BLANK]:
        start = max(position, plain.find(part.plain, position))
        rows.append((part, start))
        position = start + len(part)
    return rows


def _cut(content: Content, width: int) -> list[tuple[Content, int]]:
    """A line in parts of at most `width` cells, and their offsets in it."""
    plain = content.plain
    starts, cells = [0], 0
    for position, character in enumerate(plain if len(plain) * 2 > width else ""):
        size = cell_len(character)
        if cells + size > width:
            starts.append(position)
            cells = 0
        cells += size
    return list(zip(content.divide(starts[1:]) if len(starts) > 1 else [content], starts, strict=True))


def _prefixes(lead: Content, hang: Content, width: int) -> tuple[Content, Content, int]:
    """Both prefixes, shortened to leave half of the width for the text, and the remaining cells."""
    lead, hang = (prefix.truncate(width // 2) if prefix.cell_length > width // 2 else prefix for prefix in (lead, hang))
    return lead, hang, max(0, width - max(lead.cell_length, hang.cell_length))
