"""What `dgtui.text` promises: nothing that drives a terminal or deceives a reader comes through."""

import io
import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from dgtui.text import REPLACEMENT, cell_width, decode_utf8, sanitize, truncate, whole, without_joins

HOSTILE = "".join(
    [
        *map(chr, range(0x20)),
        *map(chr, range(0x7F, 0xA0)),
        "\u00ad\u061c\u200b\u200c\u200d\u200e\u200f\u2028\u2029\u202a\u202d\u202e\u2060\u2066\u2069\u3164\ufeff\ufdd0",
        "\ufffe\U0001ffff\U000e0001\U000e0041\U000e0100\ud800\udfff",
    ]
)
VISIBLE_FORMAT_CHARACTERS = set(
    "\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd"
)

any_text = st.text(st.one_of(st.sampled_from(HOSTILE), st.characters(codec=None), st.sampled_from("ab ·é中👩🏽\ufe0f")))
harmless_line = any_text.map(lambda text: sanitize(text, newlines=False, tabs="keep"))


KEPT = {
    0xAD,
    *range(0x200B, 0x200E),
    0x180E,
    *range(0x2060, 0x2065),
    *range(0x13430, 0x13440),
    *range(0x1BCA0, 0x1BCA4),
}
KEPT |= {*range(0x1D173, 0x1D17B), *range(0xE0020, 0xE0080)}
"""Invisible characters that scripts, emoji and flags need."""


def forbidden(character: str) -> bool:
    category = unicodedata.category(character)
    code = ord(character)
    return (
        category in {"Cc", "Cs", "Zl", "Zp"}
        or (category == "Cf" and character not in VISIBLE_FORMAT_CHARACTERS and code not in KEPT)
        or 0xFDD0 <= code <= 0xFDEF
        or code & 0xFFFE == 0xFFFE
    )


def test_every_code_point_is_either_shown_or_replaced() -> None:
    text = "".join(map(chr, range(sys.maxunicode + 1)))
    shown = sanitize(text, newlines=False, tabs="replace")
    wrong = [
        f"U+{code:04X}"
        for code, (before, after) in enumerate(zip(text, shown, strict=True))
        if forbidden(after) or (after != before) != (forbidden(before) or reserved(code))
    ]
    assert wrong == []


def reserved(code: int) -> bool:
    """Replaced though not of category Cf: a soft hyphen is shown, and there are ranges without any character."""
    return code in {0xAD, 0x2065} or any(
        low <= code <= high
        for low, high in [
            (0xFFF0, 0xFFFB), (0xE0000, 0xE001F), (0xE0080, 0xE00FF), (0xE01F0, 0xE0FFF),
        ]
    )  # fmt: skip


@given(any_text)
def test_no_forbidden_code_point_comes_through(text: str) -> None:
    assert not [c for c in sanitize(text) if forbidden(c) and c not in "\n\t"]
    assert not [c for c in sanitize(text, newlines=False, tabs="replace") if forbidden(c)]
    assert not [c for c in sanitize(text, newlines=False, tabs="expand") if forbidden(c)]


@given(any_text, st.booleans(), st.sampled_from(["keep", "expand", "replace"]))
def test_sanitising_twice_changes_nothing(text: str, newlines: bool, tabs: str) -> None:
    once = sanitize(text, newlines=newlines, tabs=tabs)
    assert sanitize(once, newlines=newlines, tabs=tabs) == once


@given(any_text, st.booleans(), st.sampled_from(["keep", "replace"]))
def test_positions_stay_countable(text: str, newlines: bool, tabs: str) -> None:
    assert len(sanitize(text, newlines=newlines, tabs=tabs)) == len(text)


@given(any_text, st.data())
def test_pieces_come_out_as_the_whole_does(text: str, data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(text)))
    assert sanitize(text[:cut]) + sanitize(text[cut:]) == sanitize(text)


@given(st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E)))
def test_printable_ascii_is_untouched(text: str) -> None:
    assert sanitize(text) == text


@given(any_text)
def test_a_console_emits_no_escape_for_sanitised_text(text: str) -> None:
    out = io.StringIO()
    Console(file=out, force_terminal=True, color_system=None, highlight=False).print(sanitize(text), markup=False)
    assert "\x1b" not in out.getvalue()
    assert not [c for c in out.getvalue() if forbidden(c) and c not in "\n\t"]


@given(any_text)
def test_sanitised_text_can_be_encoded(text: str) -> None:
    assert sanitize(text).encode("utf-8")[:0] == b""


@pytest.mark.parametrize(
    "attack",
    [
        "\x1b]0;owned\x07",
        "\x1b]8;;http://example.invalid\x1b\\click\x1b]8;;\x1b\\",
        "\x1b]52;c;cm0gLXJm\x07",
        "\x1bPq#0\x1b\\",
        "\x1b[2J\x1b[H",
        "\x9b2J",
        "\x9d0;owned\x9c",
        "\x1b]0;never ended",
    ],
    ids=["title", "link", "clipboard", "dcs", "csi", "c1-csi", "c1-osc", "unterminated"],
)
def test_escape_sequences_arrive_as_plain_characters(attack: str) -> None:
    shown = sanitize(attack)
    assert len(shown) == len(attack)
    assert shown.isprintable()


def test_controls_are_shown_by_their_pictures() -> None:
    assert sanitize("\x00\x07\x1b\r\x7f") == "␀␇␛␍␡"
    assert sanitize("a\u202eb\x9bc\u2067") == f"a{REPLACEMENT}b{REPLACEMENT}c{REPLACEMENT}"


def test_a_name_can_be_kept_on_one_line() -> None:
    assert sanitize("a\nb\tc", newlines=False, tabs="replace") == "a␊b␉c"


def test_the_look_of_an_emoji_and_private_icons_stay() -> None:
    assert sanitize("⚠\ufe0f 👩🏽 \ue0b0 é 中 עברית ؀") == "⚠\ufe0f 👩🏽 \ue0b0 é 中 עברית ؀"


@pytest.mark.parametrize(
    ("text", "cells"),
    [
        ("می\u200cخواهم", 7), ("ភាសា\u200bខ្មែរ", 5), ("क्\u200cष", 2), ("👩\u200d💻", 2), ("🇮🇷", 2), ("⚠\ufe0f", 2),
        ("👨\u200d👩\u200d👧", 2), ("🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f", 2),
        ("e\u0301", 1),
    ],
)  # fmt: skip
def test_scripts_emoji_and_flags_are_shown_as_they_are(text: str, cells: int) -> None:
    assert sanitize(text) == text
    assert cell_width(text) == cells
    assert truncate(text, cells) == text
    assert not truncate(f"{text}{text}", cells + 1).endswith("\u200d…")


def test_a_soft_hyphen_is_shown_as_a_hyphen() -> None:
    assert sanitize("Donau\u00addampf") == "Donau-dampf"


def test_emoji_that_need_cells_of_their_own_are_not_joined() -> None:
    assert without_joins("👩\u200d💻 👩\u200d♂\ufe0f") == "👩💻 👩♂\ufe0f"
    assert without_joins("क्\u200dष می\u200cخ") == "क्\u200dष می\u200cخ"


def test_tabs_reach_the_next_stop_counted_in_cells() -> None:
    assert sanitize("a\tb\n中\tc", tabs="expand", tab_size=4) == "a   b\n中  c"
    assert cell_width("\t") == 8
    assert cell_width("中\tx", tab_size=4) == 5


@given(harmless_line, st.integers(0, 30))
def test_a_truncated_line_fits(line: str, cells: int) -> None:
    cut = truncate(line, cells)
    assert cell_width(cut) <= cells
    assert cut == line or cut == "" or cut.endswith("…")


def test_a_wide_character_is_never_halved() -> None:
    assert truncate("中中中", 4) == "中…"
    assert truncate("中中", 4) == "中中"
    assert truncate("abc", 0) == ""


@given(st.text(), st.data())
def test_every_prefix_of_utf8_decodes(text: str, data: st.DataObject) -> None:
    encoded = text.encode()
    cut = data.draw(st.integers(0, len(encoded)))
    decoded = decode_utf8(encoded[:cut])
    assert text.startswith(decoded.removesuffix(REPLACEMENT))


def test_an_unfinished_sequence_is_one_replacement() -> None:
    assert decode_utf8("a€".encode()[:-1]) == "a" + REPLACEMENT
    assert decode_utf8(b"a\xffb") == f"a{REPLACEMENT}b"


@pytest.mark.parametrize("text", ["हिन्दी में", "cafe\u0301s", "👩\u200d💻 works", "می‌خواهم", "สวัสดี"])
def test_a_cut_takes_no_mark_and_no_joined_character_from_its_base(text: str) -> None:
    cuts = {whole(text, at) for at in range(len(text) + 1)}
    assert {0, len(text)} <= cuts
    for at in cuts - {len(text)}:
        assert unicodedata.category(text[at])[0] != "M"
        assert "\u200d" not in text[max(0, at - 1) : at + 1]
