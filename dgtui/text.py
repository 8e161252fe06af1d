"""Makes text safe to show, and measures it.

Everything from a model, a file, a file name or an error passes through `sanitize` before it is shown. It replaces
characters that could control a terminal or deceive a reader, one for one, and removes none: positions in the shown text
are positions in the original. Each character is handled alone, so a split escape sequence is as harmless as a whole
one. `cell_width` and `truncate` measure in terminal cells, as the screen does.
"""

import re
import unicodedata
from typing import Final, Literal

from rich.cells import cell_len

Tabs = Literal["keep", "expand", "replace"]
"""What `sanitize` does with a tab: keep it, replace it with spaces up to the next tab stop, or show ␉."""

REPLACEMENT: Final = "\ufffd"
"""Shown for a character without its own visible symbol. One cell wide."""

# Characters that reorder a line (bidi marks, overrides, isolates) or have no use in text: annotations, language tags,
# ranges that Unicode reserves for characters without a glyph. Scripts and emoji need the rest, which is invisible as
# well: joiners and zero-width spaces (Persian, Khmer), variation selectors, fillers, the tags of flags.
_REORDERING = (
    "\u061c\u200e\u200f\u202a-\u202e\u2065-\u206f\ufeff\ufff0-\ufffb\U000e0000-\U000e001f\U000e0080-\U000e00ff"
    "\U000e01f0-\U000e0fff"
)
_SOFT_HYPHEN = "\u00ad"  # terminals disagree about its width
_SEPARATORS = "\u2028\u2029"  # line breaks to some programs, nothing to others
_SURROGATES = "\ud800-\udfff"  # cannot be encoded: printing one raises
_NONCHARACTERS = "\ufdd0-\ufdef" + "".join(
    f"{chr(plane | 0xFFFE)}{chr(plane | 0xFFFF)}" for plane in range(0, 0x110000, 0x10000)
)
_FORBIDDEN = re.compile(
    f"[\x00-\x1f\x7f-\x9f{_SOFT_HYPHEN}{_REORDERING}{_SEPARATORS}{_SURROGATES}{_NONCHARACTERS}]",
)


def sanitize(text: str, *, newlines: bool = True, tabs: Tabs = "keep", tab_size: int = 8) -> str:
    r"""Makes `text` safe to show.

    C0 controls and DEL are replaced by their symbols (U+2400 and up), a soft hyphen by a hyphen. C1 controls, bidi
    controls, line and paragraph separators, unpaired surrogates and noncharacters are replaced by U+FFFD. A carriage
    return counts as a control: split a file into lines first. Joiners, selectors, the tags of flags and private-use
    characters (icon fonts) are kept.

    Unless tabs are expanded, the result is as long as `text`, and the results for two parts of a text, joined, equal
    the result for the whole.

    Args:
        text: Any text.
        newlines: Keep "\n". Otherwise it is shown as ␊, which keeps a title or a file name on one line.
        tabs: See `Tabs`. Widgets need "expand" or "replace": a raw tab has no width in their layout.
        tab_size: Cells between tab stops, for "expand". Each line of `text` starts at a tab stop.
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
        return {"\x7f": "\u2421", _SOFT_HYPHEN: "-"}.get(character, REPLACEMENT)

    shown = _FORBIDDEN.sub(show, text)
    if tabs == "expand" and "\t" in shown:
        return "\n".join(expand_tabs(line, tab_size) for line in shown.split("\n"))
    return shown


_LOOSE_JOINER = re.compile(r"\u200d(?![^\W\d_])")


def without_joins(text: str) -> str:
    """Removes the joiners between emoji, for places where each character needs its own cells: terminals join some."""
    return _LOOSE_JOINER.sub("", text)


def expand_tabs(line: str, tab_size: int = 8) -> str:
    """Replaces every tab of `line` with spaces up to the next tab stop. Unlike `str.expandtabs` it counts cells.

    Args:
        line: A single sanitised line that starts at a tab stop.
        tab_size: Cells between tab stops, at least 1.
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
    """Returns the width of a sanitised line in terminal cells, with tabs expanded."""
    return cell_len(expand_tabs(text, tab_size) if "\t" in text else text)


def truncate(text: str, cells: int, *, ellipsis: str = "…") -> str:
    """Cuts a sanitised line to at most `cells` cells and marks a cut with `ellipsis`.

    A wide character is never split, so the result may be one cell shorter. The result is empty if the ellipsis does not
    fit.
    """
    if cell_width(text) <= cells:
        return text
    room = cells - cell_len(ellipsis)
    if room < 0:
        return ""
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        if cell_width(text[:middle]) <= room:
            low = middle
        else:
            high = middle - 1
    return text[:low].rstrip("\u200d") + ellipsis


def byte_size(count: int) -> str:
    """Returns a number of bytes in words: "34 bytes", "1.2 KiB", "64 MiB"."""
    if count < 2**10:
        return f"{count} byte{'' if count == 1 else 's'}"
    size, unit = (count / 2**10, "KiB") if count < 2**20 else (count / 2**20, "MiB")
    return f"{f'{size:.1f}'.removesuffix('.0') if size < 10 else f'{size:.0f}'} {unit}"


def gigabytes(size: float) -> str:
    """Returns bytes as decimal gigabytes, or megabytes below one gigabyte: "51.6 GB", "7 MB"."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


def whole(text: str, at: int) -> int:
    """The last position up to `at` at which a cut separates no mark or joined character from its base."""
    while 0 < at < len(text) and (unicodedata.category(text[at])[0] == "M" or "\u200d" in text[at - 1 : at + 1]):
        at -= 1
    return at


def fold(text: str) -> str:
    """The form of a text for searching: case-folded, and with one encoding for each accent."""
    if text.isascii():
        return text.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", text).casefold())


def decode_utf8(data: bytes) -> str:
    """Decodes UTF-8. Malformed bytes and an incomplete sequence at the end become U+FFFD.

    No state is kept between calls, so a draft can be decoded again with every frame. Sanitise the result before it is
    shown.
    """
    return data.decode("utf-8", errors="replace")
