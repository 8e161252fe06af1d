"""Markdown on a page: its layout, that no text is lost, and that hostile text is harmless."""

import time

import pytest
from drawn import HOSTILE
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from textual.content import Content
from textual.geometry import Offset
from textual.selection import Selection

from dgtui.text import sanitize
from dgtui.tui.widgets.markdown import DEEPEST, markdown_blocks, plain_text
from dgtui.tui.widgets.page import Page, copied

TABLE = "| Name | Value |\n|------|------:|\n| alpha | 1.5 |\n| beta | 12 |\n"


def drawn(source: str, width: int = 40) -> list[str]:
    """The rows of some Markdown."""
    page = Page(markdown_blocks(source))
    return ["".join(fragment.content.plain for fragment in row.fragments).rstrip() for row in page.rows(width)]


def styles(source: str) -> dict[str, str]:
    """The styled parts of the text."""
    return {
        line.plain[span.start : span.end]: str(span.style)
        for block in markdown_blocks(source)
        for line in block.text
        for span in line.spans
    }


# -- what it looks like ---------------------------------------------------------------------------------------------


def test_paragraphs_wrap_at_blanks_and_stand_apart() -> None:
    assert drawn("one two three\n\nfour", 8) == ["one two", "three", "", "four"]


def test_line_breaks_of_the_reply_stay() -> None:
    assert drawn("Roses are red\nviolets are blue") == ["Roses are red", "violets are blue"]


def test_emphasis_code_and_headings_are_styled() -> None:
    found = styles("# Title\n\n*it* **bo** ~~st~~ `co`")
    assert "bold" in found["Title"] and found["it"] == "italic" and found["bo"] == "bold" and found["st"] == "strike"
    assert "co" in found


def test_lists_hang_and_keep_their_numbers() -> None:
    assert drawn("9. nine and more\n10. ten\n    - deep", 12) == [" 9. nine and", "    more", "10. ten", "    • deep"]


def test_a_list_whose_numbers_stand_still_counts_on() -> None:
    assert drawn("1. a\n1. b\n1. c") == ["1. a", "2. b", "3. c"]


def test_quotes_have_a_bar_on_every_row() -> None:
    assert drawn("> one two\n>\n> three", 8) == ["▎ one", "▎ two", "▎", "▎ three"]


def test_code_keeps_its_blanks_and_is_cut_at_the_edge() -> None:
    assert drawn("```\n  x = 1\n\ty\n\n0123456789\n```", 9) == ["   x = 1", "     y", "", " 01234567", " 89"]


def test_code_of_a_known_language_is_coloured_and_of_an_unknown_one_left() -> None:
    assert drawn("```python\ndef f():\n    return 1\n```") == [" def f():", "     return 1"]
    assert drawn("```klingon\nqapla\n```") == [" qapla"]


def test_tables_have_columns_and_break_their_cells_where_narrow() -> None:
    assert drawn(TABLE, 30) == ["Name  │ Value", "──────┼──────", "alpha │   1.5", "beta  │    12"]
    wide = "| a | b |\n|---|---|\n| one two three | four |\n"
    assert drawn(wide, 14) == ["a       │ b", "────────┼─────", "one two │ four", "three   │"]


def test_a_table_with_more_columns_than_fit_is_still_readable() -> None:
    many = "|".join("abcdefghij")
    source = f"|{many}|\n|{'-|' * 10}\n|{many}|\n"
    assert all(cell_len(row) <= 20 for row in drawn(source, 20))
    assert "".join(drawn(source, 20)).count("j") == 2


def test_prefixes_stand_before_every_row() -> None:
    blocks = markdown_blocks("one two\n\n- a\n\n```\nx\n```", Content("You  "), Content("     "))
    rows = ["".join(f.content.plain for f in row.fragments) for row in Page(blocks).rows(12)]
    assert rows[0].startswith("You  ")
    assert all(row.startswith("     ") for row in rows[1:])


# -- nothing is lost ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "source", ["vector<int> v;", "<div>\nhello\n</div>", "<script>x</script>", "a <b>c</b>", "<!-- note -->"]
)
def test_html_is_shown_as_it_was_written(source: str) -> None:
    assert drawn(source) == source.split("\n")


def test_the_address_behind_a_link_and_an_image_is_shown() -> None:
    assert drawn("[bank](https://evil.example/x)", 80) == ["bank (https://evil.example/x)"]
    assert drawn("![cat](http://evil.example/cat.png)", 80) == ["image: cat (http://evil.example/cat.png)"]
    assert drawn("<https://example.org>", 80) == ["https://example.org"]


@pytest.mark.parametrize("source", [">" * 300 + "deep", "".join("  " * n + "- item\n" for n in range(DEEPEST))])
def test_what_is_nested_deeper_than_the_parser_goes_is_shown_plain(source: str) -> None:
    shown = "".join(drawn(source, 500))
    assert shown.count("item") == source.count("item") and shown.count("deep") == source.count("deep")


@settings(max_examples=60, deadline=None)
@given(st.text(st.sampled_from("ab *_`#->|[]()!\n1.~<&\\宽"), max_size=80), st.integers(1, 30))
def test_letters_are_never_lost_and_rows_never_too_wide(source: str, width: int) -> None:
    page = Page(markdown_blocks(source))
    rows = page.rows(width)
    if width > 3:
        assert all(sum(f.content.cell_length for f in row.fragments) <= width for row in rows)
    text = "".join(f.content.plain for row in rows for f in row.fragments)
    if "[" not in source:  # a reference definition, or an address, may hide a letter
        assert text.count("a") == page.plain.count("a")


# -- nothing does harm ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "source",
    [
        HOSTILE,
        f"`{HOSTILE}`",
        f"```\n{HOSTILE}\n```",
        f"```python\n{HOSTILE}\n```",
        f"- {HOSTILE}",
        f"[{HOSTILE}](http://x)",
        f"[x](<http://x/{HOSTILE}>)",
        f"![{HOSTILE}](http://x)",
        f"|{HOSTILE}|\n|-|\n|{HOSTILE}|\n",
        "&#27;[2J &#x202e;abc &#x9b;",
        "[x](http://a/&#x202e;b)",
    ],
)
def test_the_result_is_sanitised(source: str) -> None:
    page = Page(markdown_blocks(source))
    text = "\n".join("".join(f.content.plain for f in row.fragments) for row in page.rows(60))
    assert text == sanitize(text, tabs="replace")
    assert page.plain == sanitize(page.plain, tabs="replace")


@pytest.mark.parametrize("source", ["[a](http://x)", "![a](http://x)", "<http://x>", "[@click=app.quit]x[/]"])
def test_links_do_nothing(source: str) -> None:
    for line in [line for block in markdown_blocks(source) for line in block.text]:
        assert all("@click" not in str(span.style) and "link" not in str(span.style) for span in line.spans)


@pytest.mark.parametrize(
    "source",
    ["[" * 30_000, "![" * 15_000, "*a " * 5_000, "`" * 30_000, ">" * 30_000, "x" * 500_000, "_a" * 5_000,
     "```python\n" + "'\\" * 9_000, "|a" * 500 + "|\n" + "|-" * 500 + "|\n", "- " * 5_000],
    ids=lambda source: source[:4].strip(),
)  # fmt: skip
def test_no_reply_holds_up_the_screen(source: str) -> None:
    before = time.process_time()
    Page(markdown_blocks(source)).height(80)
    assert time.process_time() - before < 2


# -- selecting ------------------------------------------------------------------------------------------------------


def test_a_selection_copies_the_text_without_what_was_drawn_around_it() -> None:
    page = Page(markdown_blocks("- one two\n- three", Content("Model  "), Content("       ")))
    assert copied(page, Selection(None, None)) == "one two\nthree"
    assert copied(page, Selection(Offset(4, 0), Offset(3, 1))) == "two\nthr"


def test_plain_text_shows_every_line() -> None:
    assert Page([plain_text("a\n\n\tb\n")]).plain == "a\n\n        b\n"


def test_indentation_and_line_breaks_outside_fences_are_kept() -> None:
    source = 'Here:\ndef add(x):\n    return x + 2\n\n    print(add(1))\n{\n  "age": 3\n}'
    blocks = markdown_blocks(source)
    lines = [line for block in blocks for line in block.lines]
    assert lines == [
        "Here:", "def add(x):", "    return x + 2", "", "    print(add(1))", "", "{", '  "age": 3', "}",
    ]  # fmt: skip
