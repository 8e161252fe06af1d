"""A text is found as a person means it: in any case and any script, and however its accents are encoded."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dgtui.document.find import find
from dgtui.text import fold

LINES = "first line\n"
"""Before each sample: places are counted from the beginning of the text."""


@pytest.mark.parametrize(
    ("text", "sought"),
    [
        ("Война и МИР", "мир"),
        ("ΟΔΟΣ και οδός", "οδοσ"),
        ("eine große STRASSE", "straße"),
        ("eine große Straße", "strasse"),
        ("à la cafe\u0301", "café"),
        ("à la café", "cafe\u0301"),
        ("\u1112\u1161\u11ab\u1100\u1173\u11af", "글"),
        ("می‌خواهم بروم", "خواهم"),
        ("नमस्ते दुनिया", "दुनिया"),
        ("สวัสดีชาวโลก", "ชาวโลก"),
        ("你好，世界", "世界"),
        ("שלום עולם", "עולם"),
        ("İstanbul", "i\u0307stanbul"),
    ],
)
def test_a_text_is_found_in_every_script(text: str, sought: str) -> None:
    found = find(LINES + text, sought, (0, 0))
    assert found is not None
    assert fold((LINES + text)[slice(*found)]) == fold(sought)


def test_a_base_without_its_accent_is_not_the_character() -> None:
    assert find("cafe\u0301", "cafe", (0, 0)) is None
    assert find("cafe\u0301 cafe", "cafe", (0, 0)) == (6, 10)


def test_capitals_are_meant_as_they_are_written() -> None:
    assert find("мир Мир МИР", "Мир", (0, 0)) == (4, 7)
    assert find("мир Мир МИР", "мир", (3, 3)) == (4, 7)


def test_the_search_goes_on_and_around_in_both_directions() -> None:
    text = "ÉTÉ été e\u0301te\u0301"
    spans = [(0, 3), (4, 7), (8, 13)]
    for at, span in enumerate(spans):
        assert find(text, "été", span) == spans[(at + 1) % 3]
        assert find(text, "été", span, backwards=True) == spans[at - 1]


@given(
    st.text(st.sampled_from("aAéE\u0301ßsSИи\u0306\n가\u1100\u1161ﬁfi"), max_size=12),
    st.integers(0, 12),
    st.integers(1, 4),
)
def test_what_is_found_is_what_was_sought(text: str, at: int, length: int) -> None:
    sought = text[at : at + length]
    found = find(text, sought, (0, 0))
    if found is not None:
        assert fold(sought) in fold(text[slice(*found)])
    elif sought:
        assert fold(sought) not in fold(text), "a mark alone is not found"
