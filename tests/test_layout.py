"""The layout of tokens: nothing is lost or too wide, and no control character comes out."""

from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from dgtui.layout import Line, lay_out, shown_tokens
from dgtui.text import sanitize

ODD = [
    b"a", b" word", b" ", b"\n", b"\n\n", b"    ", b"\t", b"b\nc", b"", b"\xe2", b"\x82", b"\xac", b"\xff", b"\xf0\x9f",
    b"\x98\x80", b"\x1b[2J", b"\x1b]52;c;aGk=\x07", b"\xc2\x9b31m", b"\r\n", b"\x00", "字".encode(), "漢字".encode(),
    "\u0301".encode(), "e\u0301".encode(), "\ufe0f".encode(), "⚠".encode(), "\u202e".encode(), "\u200d".encode(),
    "👩‍💻".encode(), "\U0001f3fd".encode(), "ா".encode(), "\u1161".encode(), "한".encode(), "\u3000".encode(),
    b"Supercalifragilistic",
]  # fmt: skip
a_piece = st.sampled_from(ODD) | st.binary(max_size=6) | st.text(max_size=8).map(lambda text: text.encode("utf-8"))
canvases = st.lists(st.tuples(a_piece, st.booleans()), max_size=40)
widths = st.integers(1, 40)


def show(*pieces: bytes, settled: bool = True) -> list[str]:
    return shown_tokens(pieces, [settled] * len(pieces))


def texts(lines: list[Line]) -> list[str]:
    return ["".join(run.text for run in line) for line in lines]


@settings(deadline=None)
@given(canvases)
def test_every_byte_shows_and_none_drives_the_terminal(canvas: list[tuple[bytes, bool]]) -> None:
    shown = shown_tokens([piece for piece, _ in canvas], [settled for _, settled in canvas])
    assert len(shown) == len(canvas)
    assert all(sanitize(text, tabs="replace") == text for text in shown)
    for (piece, settled), text in zip(canvas, shown, strict=True):
        if not piece:
            assert text == ""
        if not settled:
            assert "\n" not in text
    if all(settled for _, settled in canvas):
        whole = b"".join(piece for piece, _ in canvas).decode(errors="surrogateescape")
        # joiners are not drawn where each sign has cells of its own
        assert "".join(shown).replace("\u200d", "") == sanitize(whole.replace("\t", "    ")).replace("\u200d", "")


@settings(deadline=None)
@given(canvases, widths)
def test_no_line_is_too_wide_and_every_token_with_text_is_on_one(canvas: list[tuple[bytes, bool]], width: int) -> None:
    tokens = shown_tokens([piece for piece, _ in canvas], [settled for _, settled in canvas])
    lines = lay_out(tokens, width)
    for line in lines:
        assert line
        column = 0
        for run in line:
            assert run.column == column
            column += run.cells
        assert column == cell_len("".join(run.text for run in line)) <= width
        assert not any("\n" in run.text for run in line)
        assert [run.token for run in line] == sorted({run.token for run in line})
    assert {run.token for line in lines for run in line} == {i for i, text in enumerate(tokens) if text}
    order = [run.token for line in lines for run in line]
    assert order == sorted(order)


@settings(deadline=None)
@given(canvases)
def test_on_a_wide_page_the_text_of_a_token_is_whole(canvas: list[tuple[bytes, bool]]) -> None:
    tokens = [text.replace("\n", "") for text in shown_tokens([p for p, _ in canvas], [s for _, s in canvas])]
    on_page = dict.fromkeys(range(len(tokens)), "")
    for line in lay_out(tokens, 10_000):
        for run in line:
            on_page[run.token] += run.text
    for token, text in on_page.items():
        assert text.replace("◌", "") == tokens[token] or "◌" in text  # a mark without a base got one


@settings(deadline=None)
@given(st.lists(st.sampled_from(["a", " word", "  ", "longer", " x"]), max_size=40), widths)
def test_a_word_that_fits_a_line_is_not_cut(tokens: list[str], width: int) -> None:
    words = [word for line in texts(lay_out(tokens, width)) for word in line.split()]
    assert "".join(words) == "".join(tokens).replace(" ", "")
    if all(len(word) <= width for word in "".join(tokens).split()):
        assert words == "".join(tokens).split()


def test_a_word_of_several_tokens_moves_to_the_next_line_as_one() -> None:
    assert texts(lay_out(["one", " two", "three", " four"], 8)) == ["one", "twothree", "four"]


def test_a_word_longer_than_the_line_is_cut() -> None:
    assert texts(lay_out(["ab", " ", "cdefghij", "k"], 4)) == ["ab ", "cdef", "ghij", "k"]


def test_lines_break_between_wide_characters_and_never_inside_one() -> None:
    assert texts(lay_out(["漢字", "漢字"], 5)) == ["漢字", "漢字"]
    assert texts(lay_out(["漢字"], 1)) == ["\ufffd", "\ufffd"]


def test_a_combining_character_stays_with_its_base_across_tokens() -> None:
    assert texts(lay_out(["abcd", "\u0301", "e"], 4)) == ["abcd\u0301", "e"]
    assert texts(lay_out(["漢", "⚠", "\ufe0f"], 3)) == ["漢", "⚠\ufe0f"]


def test_a_combining_character_with_nothing_to_combine_with_gets_a_base() -> None:
    assert texts(lay_out(["\u0301", "\n", "\u0301"], 9)) == ["◌\u0301", "◌\u0301"]
    assert texts(lay_out([" ", "\U0001f3fd"], 9)) == [" ◌"]


def test_blanks_without_room_hang_and_their_token_keeps_a_place() -> None:
    (first, second) = lay_out(["abcd", " ", "e"], 4)
    assert [(run.token, run.text, run.column, run.cells) for run in first] == [(0, "abcd", 0, 4), (1, "", 4, 0)]
    assert [run.token for run in second] == [2]


def test_a_token_that_goes_on_in_the_next_line_leaves_no_blank_behind() -> None:
    assert [[run.token for run in line] for line in lay_out(["ab", " cd"], 4)] == [[0], [1]]


def test_a_line_break_ends_its_line_and_its_token_keeps_a_place_on_each() -> None:
    lines = lay_out(["a", "\n\n", "b\nc"], 9)
    assert [[(run.token, run.text) for run in line] for line in lines] == [
        [(0, "a"), (1, "")],
        [(1, "")],
        [(2, "b")],
        [(2, "c")],
    ]


def test_no_tokens_make_no_lines() -> None:
    assert lay_out([], 10) == lay_out(["", ""], 10) == []


def test_a_character_split_over_tokens_shows_at_the_first_of_them() -> None:
    assert show(b"\xe2", b"\x82", b"\xac", b"!") == ["€", "", "", "!"]
    assert show(b"a\xe2\x82", b"", b"\xac\xe2", b"\x82\xac") == ["a€", "", "€", ""]


def test_a_byte_of_no_character_is_a_sign_of_its_own() -> None:
    assert show(b"\xe2", b"a", b"\x82", b"\xff\xfe") == ["\ufffd", "a", "\ufffd", "\ufffd\ufffd"]


def test_noise_that_is_blank_is_one_sign() -> None:
    noise = [b"\n", b"\n\n\n", b" ", b"      ", b"\n    ", b"\t", b" a", b"a\n\n  b", b"a   b"]
    assert show(*noise, settled=False) == ["⏎", "⏎", "·", "·", "·", "·", " a", "a⏎b", "a·b"]


def test_settled_tabs_are_blanks() -> None:
    assert show(b"\tx", b"\t") == ["    x", "    "]


def test_noise_has_no_signs_of_what_cannot_be_read() -> None:
    pieces = [b"a\x00b", b"\xff", b"<unused12>", b"\xe2", b" fine"]
    assert shown_tokens(pieces, [False] * 5) == ["a·b", "·", "·", "·", " fine"]
    assert shown_tokens(pieces, [True] * 5)[:3] == ["a␀b", "\ufffd", "<unused12>"]
