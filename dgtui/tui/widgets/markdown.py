"""Markdown as blocks of a page, safe for any text: sanitised, without active links; nothing is downloaded.

HTML is shown as text, and the address of a link follows it. Line breaks and indentation of the reply are kept.
"""

from collections.abc import Iterable, Sequence
from functools import cache
from typing import TYPE_CHECKING

from textual.content import Content, Span

from dgtui.text import sanitize
from dgtui.tui.widgets.page import BLANK, MUTED, Block, Paragraph, Rule, Table

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.rules_inline import StateInline
    from markdown_it.tree import SyntaxTreeNode

LONGEST = 60_000
"""Characters of Markdown; longer texts are shown as plain text."""
MOST_BRACKETS = 1_000
"""Opening brackets in Markdown: the parser's time grows with their square."""
DEEPEST = 60
"""Nested quotes and lists; the parser drops deeper ones."""
LONGEST_HIGHLIGHTED = 20_000
"""Characters of highlighted code; longer code has no colours."""
LONGEST_ADDRESS = 200
_CODE_INDENT = 4
"""The indent of code blocks, which the parser removes."""

_STYLES = {
    "em": "italic",
    "strong": "bold",
    "s": "strike",
    "code_inline": "$text-warning on $panel",
    "link": "underline",
    "h1": "bold underline $text-primary",
    "heading": "bold $text-primary",
    "mark": "$text-primary",
}


def plain_text(text: str, lead: Content = BLANK, hang: Content = BLANK, style: str = "") -> Paragraph:
    """Text as it is written."""
    return Paragraph([Content.styled(line, style) for line in sanitize(text, tabs="expand").split("\n")], lead, hang)


def markdown_blocks(source: str, lead: Content = BLANK, hang: Content = BLANK, *, ansi: bool = False) -> list[Block]:
    """Markdown as blocks, with `lead` before the first row and `hang` before all others.

    Args:
        source: Any text.
        ansi: Highlight code in the sixteen colours of the terminal.
    """
    if len(source) > LONGEST or source.count("[") > MOST_BRACKETS:
        return [plain_text(source, lead, hang)]
    from markdown_it.tree import SyntaxTreeNode

    tokens = _parser().parse(source)
    if any(token.level >= DEEPEST - 1 for token in tokens):
        return [plain_text(source, lead, hang)]
    builder = _Builder(ansi)
    builder.siblings(SyntaxTreeNode(tokens).children, lead, hang, tight=False)
    return builder.blocks or [Paragraph([BLANK], lead, hang)]


@cache
def _parser() -> "MarkdownIt":
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark", {"html": False, "maxNesting": DEEPEST}).enable(["table", "strikethrough"])
    parser.inline.ruler.at("newline", _line_break)
    return parser.disable(["html_block", "html_inline"])


def _line_break(state: "StateInline", silent: bool) -> bool:
    """A parser rule for line breaks that keeps the blanks after them, which the parser's own rule drops."""
    if state.src[state.pos] != "\n":
        return False
    if not silent:
        state.pending = state.pending.rstrip(" ")
        state.push("softbreak", "br", 0)
    state.pos += 1
    return True


class _Builder:
    def __init__(self, ansi: bool) -> None:
        self.blocks: list[Block] = []
        self._ansi = ansi

    def siblings(self, nodes: Iterable["SyntaxTreeNode"], lead: Content, hang: Content, *, tight: bool) -> None:
        for number, node in enumerate(nodes):
            if number and not tight:
                self.blocks.append(Paragraph([BLANK], hang))
            self._node(node, hang if number else lead, hang)

    def _node(self, node: "SyntaxTreeNode", lead: Content, hang: Content) -> None:
        match node.type:
            case "paragraph" | "heading":
                style = "" if node.type == "paragraph" else _STYLES["h1" if node.tag == "h1" else "heading"]
                self.blocks.append(Paragraph([line.stylize_before(style) for line in _inline(node)], lead, hang))
            case "bullet_list" | "ordered_list":
                self._list(node, lead, hang)
            case "blockquote":
                bar = Content.styled("▎ ", _STYLES["mark"])
                self.siblings(node.children, lead + bar, hang + bar, tight=False)
            case "hr":
                self.blocks.append(Rule(lead))
            case "fence":
                self.blocks.append(Paragraph(self._code(node), lead, hang, is_code=True))
            case "code_block":  # its indentation is part of the text
                lines = [" " * _CODE_INDENT + line for line in self._code(node)]
                self.blocks.append(Paragraph(lines, lead, hang, is_code=True))
            case "table":
                self._table(node, lead, hang)
            case _:
                self.blocks.append(plain_text(node.content.rstrip("\n"), lead, hang))

    def _list(self, node: "SyntaxTreeNode", lead: Content, hang: Content) -> None:
        items = node.children
        tight = all(child.hidden for item in items for child in item.children if child.type == "paragraph")
        numbers: list[int] = []
        for item in items if node.type == "ordered_list" else ():
            written = int(item.info)
            numbers.append(written if not numbers or written > numbers[-1] else numbers[-1] + 1)
        widest = max((len(f"{number}. ") for number in numbers), default=0)
        for number, item in enumerate(items):
            if number and not tight:
                self.blocks.append(Paragraph([BLANK], hang))
            text = f"{numbers[number]}. ".rjust(widest) if numbers else "• "
            before = (hang if number else lead) + Content.styled(text, _STYLES["mark"])
            if item.children:
                self.siblings(item.children, before, hang + " " * len(text), tight=tight)
            else:
                self.blocks.append(Paragraph([BLANK], before))

    def _table(self, node: "SyntaxTreeNode", lead: Content, hang: Content) -> None:
        rows = [row for part in node.children for row in part.children]
        cells = [[Content(" ").join(_inline(cell)) for cell in row.children] for row in rows]
        cells[0] = [cell.stylize_before("bold") for cell in cells[0]]
        right = ["right" in str(cell.attrs.get("style", "")) for cell in rows[0].children]
        self.blocks.append(Table(cells, right, lead, hang))

    def _code(self, node: "SyntaxTreeNode") -> Sequence[Content]:
        code = sanitize(node.content.rstrip("\n"), tabs="expand", tab_size=4)
        language = node.info.split(maxsplit=1)[0] if node.info.strip() else ""
        if not language or len(code) > LONGEST_HIGHLIGHTED:
            return [Content(line) for line in code.split("\n")]
        from textual.highlight import ANSIDarkHighlightTheme, HighlightTheme, highlight

        theme = ANSIDarkHighlightTheme if self._ansi else HighlightTheme
        return highlight(code, language=language, theme=theme).split("\n", allow_blank=True)


def _inline(node: "SyntaxTreeNode") -> list[Content]:
    """The logical lines of a node with inline text."""
    texts: list[str] = []
    spans: list[Span] = []
    length = 0

    def add(text: str, style: str = "") -> None:
        nonlocal length
        texts.append(text)
        if style and text:
            spans.append(Span(length, length + len(text), style))
        length += len(text)

    def walk(nodes: Iterable["SyntaxTreeNode"]) -> None:
        for child in nodes:
            start = length
            match child.type:
                case "softbreak" | "hardbreak":
                    add("\n")
                case "image":
                    add("image: ", MUTED)
                    add(_one_line(child.content))
                    add(f" ({_address(child, 'src')})", MUTED)
                case "link":
                    walk(child.children)
                    shown = "".join(texts)[start:]
                    address = _address(child, "href")
                    if address and address.removeprefix("mailto:") != shown:
                        add(f" ({address})", MUTED)
                case _ if child.children:
                    walk(child.children)
                case _:
                    add(_one_line(child.content))
            if (style := _STYLES.get(child.type)) and length > start:
                spans.append(Span(start, length, style))

    walk(node.children)
    return Content("".join(texts), spans).split("\n", allow_blank=True)


def _one_line(text: str) -> str:
    return sanitize(text, newlines=False).replace("\t", " ")


def _address(node: "SyntaxTreeNode", attribute: str) -> str:
    address = _one_line(str(node.attrs.get(attribute, "")))
    return address if len(address) <= LONGEST_ADDRESS else address[:LONGEST_ADDRESS] + "…"
