"""Text on its way to a screen or a pipe.

`sanitize` is the one gate: whatever comes out of a model, a file, a file name or an error passes it before it is shown.
It replaces, and never removes, what could drive a terminal or deceive a reader, one character for one, so that
positions in the shown text are positions in the text. It looks at each character alone: an escape sequence split over
two frames is as harmless as a whole one. `cell_width` and `truncate` measure in terminal cells, as the screen lays out.
"""

import re
from typing import Final, Literal

from rich.cells import cell_len

Tabs = Literal["keep", "expand", "replace"]
"""What `sanitize` does with a tab: leave it, fill up to the next tab stop with spaces, or show ␉."""

REPLACEMENT: Final = "\ufffd"
"""Stands for a character that has no picture of its own. One cell wide."""

# What is not drawn: Unicode's Default_Ignorable_Code_Point, reserved ranges included so that the answer is the same in
# every Python version, and the rest of category Cf that has no glyph. It can reorder a line (bidi marks, overrides,
# isolates), hide a message (tags, fillers, selectors) or part a word from its look-alike (zero-width characters).
#
# The zero-width joiner is in the list although it builds emoji: terminals disagree whether such a sequence takes two
# cells or six, which tears every frame around it. "👩‍💻" is shown as two emoji with a visible join.
# Not in the list: U+FE0E and U+FE0F, which only choose between two looks of the sign before them ("⚠️"), and the
# Arabic, Syriac and Kaithi number signs, which are of category Cf but visible.
_INVISIBLE = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0d\ufeff\uffa0\ufff0-\ufffb\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U000e0000-\U000e0fff"
)
_SEPARATORS = "\u2028\u2029"  # line breaks to some programs, nothing to others
_SURROGATES = "\ud800-\udfff"  # cannot be encoded: printing one raises
_NONCHARACTERS = "\ufdd0-\ufdef" + "".join(
    f"{chr(plane | 0xFFFE)}{chr(plane | 0xFFFF)}" for plane in range(0, 0x110000, 0x10000)
)
_FORBIDDEN = re.compile(
    f"[\x00-\x1f\x7f-\x9f{_INVISIBLE}{_SEPARATORS}{_SURROGATES}{_NONCHARACTERS}]",
)


def sanitize(text: str, *, newlines: bool = True, tabs: Tabs = "keep", tab_size: int = 8) -> str:
    r"""Make `text` safe to show.

    Replaced by a picture (U+2400 and on): C0 controls and DEL. Replaced by U+FFFD: C1 controls, bidi and other
    invisible format characters, line and paragraph separators, unpaired surrogates, noncharacters. A carriage return
    is a control here: split a file into its lines first. Private-use characters stay (icon fonts).

    Unless tabs are expanded, the result has the length of `text`, and the results for two pieces of a text, put
    together, are the result for the whole.

    Args:
        text: Any text at all.
        newlines: Keep "\n"; else it is shown as ␊, which keeps a title or a file name on one line.
        tabs: See `Tabs`. Widgets need "expand" or "replace": a raw tab has no width in their layout.
        tab_size: Cells from one tab stop to the next, for "expand"; each line of `text` starts at a stop.
    """
    if text.isascii() and text.isprintable():
        return text

    def show(match: re.Match[str]) -> str:
        character = match.group()
        code = ord(character)
        if (character == "\n" and newlines) or (character == "\t" and tabs != "replace"):
            return character
        if code < 0x20:
            return chr(0x2400 + code)
        return "\u2421" if code == 0x7F else REPLACEMENT

    shown = _FORBIDDEN.sub(show, text)
    if tabs == "expand" and "\t" in shown:
        return "\n".join(expand_tabs(line, tab_size) for line in shown.split("\n"))
    return shown


def expand_tabs(line: str, tab_size: int = 8) -> str:
    """Fill every tab of `line` with spaces up to the next stop; `str.expandtabs` counts characters, this counts cells.

    Args:
        line: A single sanitised line that starts at a tab stop.
        tab_size: Cells from one stop to the next, at least 1.
    """
    first, *rest = line.split("\t")
    pieces = [first]
    column = cell_len(first)
    for piece in rest:
        gap = tab_size - column % tab_size
        pieces.append(" " * gap + piece)
        column += gap + cell_len(piece)
    return "".join(pieces)


def cell_width(text: str, *, tab_size: int = 8) -> int:
    """The terminal cells that a sanitised line takes, its tabs filled up to the next stop."""
    return cell_len(expand_tabs(text, tab_size) if "\t" in text else text)


def truncate(text: str, cells: int, *, ellipsis: str = "…", tab_size: int = 8) -> str:
    """Cut a sanitised line to at most `cells` cells, with `ellipsis` at the end where something was cut off.

    A wide character is never halved, so the result may be one cell short. In fewer cells than the ellipsis needs,
    nothing is left.
    """
    if cell_width(text, tab_size=tab_size) <= cells:
        return text
    room = cells - cell_len(ellipsis)
    if room < 0:
        return ""
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        if cell_width(text[:middle], tab_size=tab_size) <= room:
            low = middle
        else:
            high = middle - 1
    return text[:low] + ellipsis


def decode_utf8(data: bytes) -> str:
    """Decode what is there: malformed bytes, and a sequence that has not ended yet, become U+FFFD each.

    Fit for drafts that are decoded anew with every frame, as no state is kept between calls. The result still has to be
    sanitised.
    """
    return data.decode("utf-8", errors="replace")
