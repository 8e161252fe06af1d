"""A cursor on laid-out tokens reaches each of them, and up and down keep the column."""

from hypothesis import given, settings
from hypothesis import strategies as st

from dgtui.layout import lay_out
from dgtui.tui.widgets.places import Places

texts = st.lists(
    st.sampled_from(
        ["a", " word", " ", "\n", "\n\n", "", "    ", "b\nc", "漢字", "\u0301", "Supercalifragilistic", "€"]
    ),
    min_size=1,
    max_size=40,
)
widths = st.integers(1, 30)


def places(tokens: list[str], width: int) -> Places:
    return Places(tokens, lay_out(tokens, width))


def with_text(tokens: list[str]) -> list[int]:
    return [place for place, text in enumerate(tokens) if text]


@settings(deadline=None)
@given(texts, widths)
def test_left_and_right_reach_every_token_with_text_and_no_other(tokens: list[str], width: int) -> None:
    of, all_of_them = places(tokens, width), with_text(tokens)
    if not all_of_them:
        assert not of
        return
    to_right = [of.near(0)]
    while (place := of.right(to_right[-1])) != to_right[-1]:
        to_right.append(place)
    to_left = [of.near(len(tokens))]
    while (place := of.left(to_left[-1])) != to_left[-1]:
        to_left.append(place)
    assert to_right == to_left[::-1] == all_of_them


@settings(deadline=None)
@given(texts, widths, st.integers(0, 40))
def test_down_and_up_come_to_the_last_line_and_the_first(tokens: list[str], width: int, column: int) -> None:
    of = places(tokens, width)
    if not of:
        return
    place, seen = of.near(0), 0
    while (below := of.vertical(place, 1, column)) != place:
        assert of.rows(below)[1] > of.rows(place)[1]
        place, seen = below, seen + 1
    assert of.rows(place)[1] == len(of.lines) - 1
    while (above := of.vertical(place, -1, column)) != place:
        assert of.rows(above)[0] < of.rows(place)[0]
        place = above
    assert of.rows(place)[0] == 0


@settings(deadline=None)
@given(texts, widths, st.data())
def test_every_move_ends_on_a_token_with_text(tokens: list[str], width: int, data: st.DataObject) -> None:
    of, all_of_them = places(tokens, width), with_text(tokens)
    if not all_of_them:
        return
    place = data.draw(st.sampled_from(all_of_them))
    row, column = of.home(place)
    reached = {
        of.near(data.draw(st.integers(0, 60))),
        of.at(data.draw(st.integers(-3, 60)), data.draw(st.integers(-3, 60))),
        of.vertical(place, data.draw(st.sampled_from([-9, -2, -1, 1, 2, 9])), column),
        *(move(place) for move in (of.left, of.right, of.line_start, of.line_end, of.word_left, of.word_right)),
    }
    assert reached <= set(all_of_them)
    assert of.rows(place)[0] <= row <= of.rows(place)[1]


def test_a_token_is_where_its_text_begins() -> None:
    of = places(["ab", " cd", " ef", "\n", "gh"], 6)  # "ab cd" / "ef⏎" / "gh"
    assert [of.home(place) for place in range(5)] == [(0, 0), (0, 3), (1, 0), (1, 2), (2, 0)]


def test_word_moves_go_to_where_words_begin() -> None:
    of = places(["un", "do", " the", " ", "kn", "ot", "\n", "漢", "字"], 80)
    stops = [0]
    while of.word_right(stops[-1]) != stops[-1]:
        stops.append(of.word_right(stops[-1]))
    assert stops == [0, 2, 4, 7, 8]
    assert [of.word_left(place) for place in (8, 7, 5, 4, 2, 1, 0)] == [7, 4, 4, 2, 0, 0, 0]


def test_line_ends_are_those_of_the_row() -> None:
    of = places(["ab", " cd", " ef", " gh"], 6)
    assert (of.line_start(1), of.line_end(0)) == (0, 1)
    assert (of.line_start(3), of.line_end(2)) == (2, 3)


def test_near_looks_back_first() -> None:
    of = places(["", "a", "", "b", ""], 9)
    assert [of.near(place) for place in range(6)] == [1, 1, 1, 3, 3, 3]
