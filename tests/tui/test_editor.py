"""The editor shows any text safely, and typing changes no other byte."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.style import Style
from textual import events
from textual.app import App, ComposeResult
from textual.pilot import Pilot

from dgtui.document.buffer import Buffer
from dgtui.document.source import of_bytes
from dgtui.tui import keymap
from dgtui.tui.key_names import normal
from dgtui.tui.theme import VARIABLES, Look, Theme
from dgtui.tui.widgets import editor_view
from dgtui.tui.widgets.editor import Editor, Overlay
from dgtui.tui.widgets.editor_caret import search
from dgtui.tui.widgets.editor_cells import Cells
from dgtui.tui.widgets.editor_rows import Rows

THEME = Theme("test", True, {"primary": "#7aa2f7"}, ("#c0caf5", "#f7819a"))
FOX = b"The quick brown fox\njumps over the lazy dog.\n"
RED = Style(color="red")


class Screen(App[None]):
    BINDINGS = keymap.bindings("app")  # type: ignore[assignment]

    def __init__(
        self, data: bytes, look: Look | None = None, path: Path | None = None, encoding: str = "utf-8"
    ) -> None:
        super().__init__()
        self.look = look or THEME.look()
        self.text = Buffer(of_bytes(data, encoding))
        self.editor = Editor(self.text, path)
        self.moves: list[tuple[int, tuple[int, int] | None]] = []
        self.changes = 0

    def get_theme_variable_defaults(self) -> dict[str, str]:
        return dict(VARIABLES)

    def compose(self) -> ComposeResult:
        yield self.editor

    @property
    def data(self) -> bytes:
        return self.editor.buffer.data

    def on_mount(self) -> None:
        self.editor.look = self.look
        self.editor.focus()

    def on_editor_moved(self, message: Editor.Moved) -> None:
        self.moves.append((message.cursor, message.selection))

    def on_editor_changed(self, message: Editor.Changed) -> None:
        self.changes += 1

    def rows(self) -> list[str]:
        """The rows on the screen, without line numbers."""
        texts = [self.editor.render_line(y).text for y in range(self.editor.size.height)]
        return [text[self.editor.gutter_width :].rstrip() for text in texts if text.strip()]

    def style(self, text: str) -> Style:
        """The style of the segment with a text."""
        strips = [self.editor.render_line(y) for y in range(self.editor.size.height)]
        found = [segment.style for strip in strips for segment in strip if text in segment.text]
        assert found and found[0]
        return found[0]


@asynccontextmanager
async def editing(
    data: bytes, *, size: tuple[int, int] = (40, 10), path: str | None = None, encoding: str = "utf-8"
) -> AsyncIterator[tuple[Screen, Pilot[None]]]:
    app = Screen(data, path=Path(path) if path else None, encoding=encoding)
    async with app.run_test(size=size) as pilot:
        await pilot.pause()
        yield app, pilot


async def write(pilot: Pilot[None], text: str) -> None:
    for sign in text:
        pilot.app.query_one(Editor).post_message(events.Key(normal(sign)[0] if normal(sign) else sign, sign))
    await pilot.pause()


# -- showing -----------------------------------------------------------------------------------------------------------


async def test_lines_are_wrapped_at_words_and_numbered_once() -> None:
    async with editing(FOX, size=(17, 10)) as (app, pilot):
        assert app.rows() == ["The quick", "brown fox", "jumps over", "the lazy", "dog.", ""]
        numbers = [app.editor.render_line(y).text[:4].strip() for y in range(6)]
        assert numbers == ["1", "", "2", "", "", "3"]
        await pilot.resize_terminal(40, 10)
        await pilot.pause()
        assert app.rows() == ["The quick brown fox", "jumps over the lazy dog.", ""]


async def test_nothing_in_a_file_drives_the_terminal() -> None:
    async with editing("a\x1b[2Jb\rc\x0cd\u202ee\u2028f\x07".encode()) as (app, _):
        assert app.rows() == ["a␛[2Jb␍c␌d\ufffde\ufffdf␇"]


async def test_tabs_reach_to_the_next_stop_and_marks_have_a_base() -> None:
    async with editing("a\tb\n\t\u0301x\n日\tz\n".encode()) as (app, _):
        assert app.rows() == ["a   b", "    ◌\u0301x", "日  z", ""]


async def test_a_text_over_the_limit_is_not_wrapped_but_scrolls_to_the_side(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(editor_view, "WRAP", 100)
    async with editing(b"x\n" + b"0123456789" * 20 + b"\n", size=(24, 6)) as (app, pilot):
        assert app.rows() == ["x", "0123456789012345678", ""]
        await pilot.press("down", "end")
        await pilot.pause()
        assert app.editor.buffer.place(app.editor.cursor) == (1, 200)
        assert app.rows()[1].endswith("789")
        await pilot.press("home")
        await pilot.pause()
        assert app.rows()[0] == "x"


async def test_selection_and_marks_are_drawn_as_the_look_says() -> None:
    async with editing(FOX) as (app, pilot):
        app.editor.select(4, 9)
        app.editor.marks = [app.text.anchor(10, 15)]
        await pilot.pause()
        assert app.style("quick").bgcolor == app.look.selection.bgcolor
        assert app.style("brown").bgcolor == Style.parse(app.look.theme.all_marks["pinned"]).bgcolor
        assert app.style("fox").bgcolor not in (app.style("quick").bgcolor, app.style("brown").bgcolor)


async def test_colours_follow_what_is_typed() -> None:
    async with editing(b"# head\n\nx = 1\n", path="a.py") as (app, pilot):
        assert app.style("head").italic
        await pilot.press("delete")
        await pilot.pause()
        assert not app.style("head").italic


async def test_another_name_may_mean_another_language() -> None:
    async with editing(b"# head\n", path="a") as (app, _):
        assert not app.style("head").italic
        app.editor.rename(Path("a.py"))
        assert app.style("head").italic


# -- overlays ----------------------------------------------------------------------------------------------------------


async def test_an_overlay_shows_in_the_place_of_its_bytes_and_leaves_them_alone() -> None:
    async with editing(FOX) as (app, pilot):
        app.editor.select(4, 9)
        app.editor.show_over([Overlay(4, 9, [("slow ", Style()), ("old", RED)]), Overlay(20, 25, [("walks", RED)])])
        await pilot.pause()
        assert app.rows() == ["The slow old brown fox", "walks over the lazy dog.", ""]
        assert app.style("old").color == RED.color
        assert (app.data, app.editor.selection, app.changes) == (FOX, (4, 9), 0)
        app.editor.show_over(())
        await pilot.pause()
        assert app.rows() == ["The quick brown fox", "jumps over the lazy dog.", ""]


async def test_an_overlay_may_join_lines_and_make_new_ones() -> None:
    async with editing(FOX) as (app, pilot):
        app.editor.show_over([Overlay(10, 25, [("a\nb\r\nc", RED)])])
        await pilot.pause()
        assert app.rows() == ["The quick a", "b", "c over the lazy dog.", ""]
        app.editor.cursor = len(FOX)
        await pilot.press("up")
        assert app.editor.cursor == 10  # what is covered is one place
        app.editor.show_over([Overlay(4, 4, [("very ", RED)])])
        await pilot.pause()
        assert app.rows() == ["The very quick brown fox", "jumps over the lazy dog.", ""]


async def test_an_overlay_stays_on_its_text_when_text_before_it_changes() -> None:
    async with editing(FOX) as (app, pilot):
        app.editor.show_over([Overlay(20, 25, [("walks", RED)])])
        app.text.replace(0, 4, b"A\nvery ")
        app.editor.sync()
        await pilot.pause()
        assert app.rows() == ["A", "very quick brown fox", "walks over the lazy dog.", ""]
        assert app.changes == 1


# -- moving and selecting ----------------------------------------------------------------------------------------------


async def test_the_cursor_moves_by_character_word_row_and_text() -> None:
    async with editing(FOX) as (app, pilot):
        for key, place in (
            ("right", (0, 1)), ("ctrl+right", (0, 4)), ("ctrl+right", (0, 10)), ("ctrl+left", (0, 4)), ("end", (0, 19)),
            ("right", (1, 0)), ("left", (0, 19)), ("down", (1, 19)), ("down", (2, 0)), ("up", (1, 19)),
            ("home", (1, 0)), ("ctrl+end", (2, 0)), ("down", (2, 0)), ("ctrl+left", (1, 24)), ("ctrl+home", (0, 0)),
            ("up", (0, 0)), ("left", (0, 0)), ("pagedown", (2, 0)), ("pageup", (0, 0)),
        ):  # fmt: skip
            await pilot.press(key)
            assert app.editor.buffer.place(app.editor.cursor) == place, key


async def test_home_and_end_go_to_the_edge_of_the_row_and_then_of_the_line() -> None:
    async with editing(b"a\n" + b"word " * 20 + b"\nb") as (app, pilot):
        await pilot.press("down", "down", "end")
        assert 2 < app.editor.cursor < 101
        await pilot.press("end")
        assert app.editor.cursor == 102
        await pilot.press("end")
        assert app.editor.cursor == 102
        await pilot.press("up", "home")
        assert 2 < app.editor.cursor < 101
        await pilot.press("home", "home")
        assert app.editor.cursor == 2
        await pilot.press("end", "shift+end")
        assert app.editor.selection is not None and app.editor.selection[1] == 102


async def test_the_cursor_never_stands_inside_of_a_character_or_a_line_ending() -> None:
    text = "e\u0301\u0301🇩👍🏽\r\n日本\r\n"
    async with editing(text.encode()) as (app, pilot):
        stops = [app.editor.cursor]
        for _ in range(12):
            await pilot.press("right")
            stops.append(app.editor.cursor)
        marks = [0, 5, 9, 17, 19, 22, 25, 27]
        assert list(dict.fromkeys(stops)) == marks
        for _ in range(12):
            await pilot.press("left")
            assert app.editor.cursor in marks
        assert app.editor.cursor == 0


async def test_shift_selects_and_moves_end_the_selection() -> None:
    async with editing(FOX) as (app, pilot):
        await pilot.press("right", "shift+right", "shift+right")
        assert app.editor.selection == (1, 3)
        await pilot.press("left")
        assert (app.editor.cursor, app.editor.selection) == (1, None)
        await pilot.press("alt+l", "shift+down")
        assert app.editor.selection == (1, 24)
        await pilot.press("ctrl+a")
        assert app.editor.selection == (0, len(FOX))
        await pilot.press("right")
        assert (app.editor.cursor, app.editor.selection) == (len(FOX), None)
        assert app.moves[-1] == (len(FOX), None)


async def test_the_mouse_puts_the_cursor_and_selects() -> None:
    async with editing(FOX) as (app, pilot):
        await pilot.click(Editor, offset=(4 + 6, 0))
        assert app.editor.buffer.place(app.editor.cursor) == (0, 6)
        await pilot.click(Editor, offset=(4 + 6, 0), times=2)
        assert app.editor.selection == (4, 9)
        await pilot.mouse_down(Editor, offset=(4 + 2, 0))
        await pilot.hover(Editor, offset=(4 + 5, 1))
        await pilot.mouse_up(Editor, offset=(4 + 5, 1))
        assert app.editor.selection == (2, 25)
        await pilot.click(Editor, offset=(4 + 30, 9))
        assert app.editor.buffer.place(app.editor.cursor) == (2, 0)


async def test_the_wheel_scrolls_and_a_move_comes_back_to_the_cursor() -> None:
    async with editing(b"".join(b"%d\n" % n for n in range(1, 101))) as (app, pilot):
        for _ in range(5):
            app.editor.post_message(events.MouseScrollDown(app.editor, 5, 5, 0, 1, 0, False, False, False))
        while app.editor.scroll_offset.y < 3:
            await pilot.pause(0.02)
        assert app.rows()[0] == str(app.editor.scroll_offset.y + 1)
        assert app.editor.cursor == 0
        await pilot.press("right")
        assert app.rows()[0] == "1"


async def test_find_goes_on_from_the_cursor_and_round() -> None:
    async with editing("fox Fox\r\nfüx fox\r\n".encode()) as (app, _):
        find = app.editor.find
        assert find("fox") and app.editor.selection == (0, 3)
        assert find("fox") and app.editor.selection == (4, 7)
        assert find("fox", backwards=True) and app.editor.selection == (0, 3)
        assert find("fox", backwards=True) and app.editor.selection == (14, 17)
        assert find("Fox") and app.editor.selection == (4, 7)
        assert find("x\nfü") and app.editor.selection == (6, 12)
        assert not find("cat") and not find("") and app.editor.selection == (6, 12)


# -- editing -----------------------------------------------------------------------------------------------------------


async def test_what_is_typed_is_one_step_with_the_selection_that_it_replaces() -> None:
    async with editing(FOX) as (app, pilot):
        app.editor.select(4, 9)
        await write(pilot, "slow?")
        assert app.data == FOX.replace(b"quick", b"slow?")
        await pilot.press("ctrl+z")
        assert (app.data, app.editor.cursor) == (FOX, 9)
        await pilot.press("ctrl+y")
        assert app.data == FOX.replace(b"quick", b"slow?")
        assert app.editor.cursor == 9
        assert app.changes > 0


def test_with_alt_a_character_is_a_command() -> None:
    editor = Editor(Buffer(of_bytes(b"")))
    assert editor.check_consume_key("l", "l") and editor.check_consume_key("ctrl+at", "@")
    assert not editor.check_consume_key("alt+l", "l") and not editor.check_consume_key("enter", "\r")


async def test_keys_that_come_at_once_are_done_in_their_order() -> None:
    async with editing(b"a\n") as (app, pilot):
        for key, sign in [
            ("x", "x"),
            ("down", None),
            ("y", "y"),
            ("enter", "\r"),
            ("z", "z"),
            ("up", None),
            ("q", "q"),
        ]:
            app.editor.post_message(events.Key(key, sign))
        await pilot.pause()
        assert app.data == b"xa\nyq\nz"


async def test_a_move_begins_a_new_step() -> None:
    async with editing(b"") as (app, pilot):
        await write(pilot, "ab")
        await pilot.press("left")
        await write(pilot, "c")
        await pilot.press("ctrl+z")
        assert app.data == b"ab"


async def test_deleting_takes_characters_words_or_the_selection() -> None:
    async with editing("one two\r\nthree e\u0301".encode()) as (app, pilot):
        await pilot.press("ctrl+end", "backspace", "backspace")
        assert app.data == b"one two\r\nthree"
        await pilot.press("home", "backspace")
        assert app.data == b"one twothree"
        await pilot.press("ctrl+w")
        assert app.data == b"one three"
        await pilot.press("home", "ctrl+delete", "delete")
        assert app.data == b"hree"
        await pilot.press("ctrl+a", "delete", "delete", "backspace")
        assert app.data == b""
        for _ in range(6):
            await pilot.press("ctrl+z")
        assert app.data == "one two\r\nthree e\u0301".encode()


async def test_a_new_line_has_the_ending_and_the_indent_of_its_neighbours() -> None:
    async with editing(b"if x:\r\n  y\r\n") as (app, pilot):
        await pilot.press("down", "end", "enter")
        await write(pilot, "z")
        assert app.data == b"if x:\r\n  y\r\n  z\r\n"


async def test_tab_indents_as_the_lines_around_it() -> None:
    async with editing(b"a:\n  b\n\nc\n") as (app, pilot):
        await pilot.press("ctrl+end", "tab")
        assert app.data.endswith(b"c\n  ")
        await pilot.press("backspace", "backspace", "ctrl+home", "shift+down", "shift+down", "shift+down", "tab")
        assert app.data == b"  a:\n    b\n\nc\n"
        await pilot.press("shift+tab")
        assert app.data == b"a:\n  b\n\nc\n"
        assert app.editor.selection == (0, 8)
        await pilot.press("ctrl+z")
        assert app.data == b"  a:\n    b\n\nc\n"
        await pilot.press("ctrl+a", "alt+t", "ctrl+end", "shift+tab")
        assert app.data == b"a:\n  b\n\nc\n"
    async with editing(b"a:\n\tb\nc") as (app, pilot):
        await pilot.press("ctrl+end", "home", "tab")
        assert app.data == b"a:\n\tb\n\tc"
    async with editing(b"a\nb\n") as (app, pilot):
        await pilot.press("shift+down", "tab")
        assert app.data == b"    a\nb\n", "a line that is selected with its end is moved, not written over"


async def test_cut_copy_and_paste_use_the_endings_around_the_cursor() -> None:
    async with editing(b"a\r\nb\r\nc\n") as (app, pilot):
        await pilot.press("shift+down", "shift+down", "ctrl+x")
        assert (app.data, app.clipboard) == (b"c\n", "a\nb\n")
        await pilot.press("ctrl+v", "ctrl+home", "shift+down", "ctrl+c", "right", "ctrl+v")
        assert app.data == b"a\na\nb\nc\n"
        app.editor.post_message(events.Paste("x\r\ny\rz"))
        await pilot.pause()
        assert app.data == b"a\na\nx\ny\nzb\nc\n"
        await pilot.press("ctrl+z")
        assert app.data == b"a\na\nb\nc\n"


async def test_what_the_encoding_has_no_bytes_for_is_refused_with_a_notice() -> None:
    async with editing("é\n".encode("cp1252"), encoding="cp1252") as (app, pilot):
        await write(pilot, "€")
        assert app.data == "€é\n".encode("cp1252")
        await write(pilot, "日")
        assert app.data == "€é\n".encode("cp1252")
        assert len(app._notifications) == 1


async def test_a_byte_order_mark_is_before_the_text_and_stays() -> None:
    async with editing(b"\xef\xbb\xbfa\n") as (app, pilot):
        assert app.rows() == ["a", ""]
        await pilot.press("ctrl+a", "x", "ctrl+home", "backspace", "y")
        assert app.data == b"\xef\xbb\xbfyx"


async def test_nothing_changes_while_the_text_may_only_be_read() -> None:
    async with editing(FOX) as (app, pilot):
        app.editor.read_only = True
        app.editor.select(4, 9)
        await pilot.press("x", "enter", "backspace", "tab", "ctrl+x", "ctrl+v", "ctrl+z", "ctrl+y", "shift+tab")
        app.editor.focus()
        app.editor.post_message(events.Paste("x"))
        await pilot.press("right")
        assert (app.data, app.editor.cursor) == (FOX, 9)


async def test_cursor_selection_and_marks_stay_on_their_characters_when_others_edit() -> None:
    async with editing(FOX) as (app, pilot):
        app.editor.select(10, 15)
        app.editor.marks = [app.text.anchor(16, 19)]
        app.text.replace(4, 9, b"slow")
        app.editor.sync()
        await pilot.pause()
        assert app.editor.selection == (9, 14)
        assert [(mark.start, mark.end) for mark in app.editor.marks] == [(15, 18)]
        app.text.replace(15, 16, b"b")
        app.editor.sync()
        assert app.editor.marks == ()


@pytest.mark.parametrize("text", ["東京漢字", "東京é x नमस्ते سلام 👩‍👩‍👧\t"])
def test_a_line_of_a_megabyte_of_any_characters_is_laid_out_within_a_moment(text: str) -> None:
    long, seconds = text * (900_000 // len(text.encode())), []
    for _ in range(3):
        began = time.thread_time()
        assert len(Cells(long).wrap(95)) > 1000
        seconds.append(time.thread_time() - began)
    assert min(seconds) < 0.3


# -- properties --------------------------------------------------------------------------------------------------------

TEXTS = st.text(st.sampled_from("ab  \t\n\r\u0301\ufe0f日👍🏽🇩\x1b\u202e⚠é"), max_size=80)


@given(TEXTS, st.integers(1, 12))
@settings(deadline=None)
def test_no_row_is_wider_than_there_is_room_and_no_character_is_lost(text: str, width: int) -> None:
    cells = Cells(text.replace("\n", " "))
    starts = [*cells.wrap(width), len(cells.text)]
    assert starts[0] == 0 and starts == sorted(starts)
    for start, end in pairwise(starts):
        drawn = cells.drawn(start, end)
        assert cell_len(drawn) == cells.column(end) - cells.column(start)
        assert cell_len(drawn) <= width + 1 or end == cells.after(start)


@given(TEXTS, st.one_of(st.none(), st.integers(1, 12)), st.lists(st.tuples(st.integers(0, 99), TEXTS), max_size=5))
@settings(deadline=None)
def test_after_any_edits_the_rows_are_those_of_a_new_page(
    text: str, width: int | None, changes: list[tuple[int, str]]
) -> None:
    buffer = Buffer(of_bytes(text.encode()))
    rows = Rows(buffer, width)
    for at, new in changes:
        offsets = [len(buffer.data.decode()[:index].encode()) for index in (at, at + at % 7)]
        buffer.replace(*offsets, new.encode())
        if at % 3:
            rows.follow()
    if len(changes) % 2:
        buffer.undo()
    rows.follow()
    fresh = Rows(buffer, width)
    assert rows.total == fresh.total
    for number in range(rows.total):
        one, other = rows.row(number), fresh.row(number)
        assert one and other
        assert (one.start, one.end, one.number, one.paragraph.parts) == (
            other.start, other.end, other.number, other.paragraph.parts,
        )  # fmt: skip


@given(TEXTS, st.integers(1, 12), st.lists(st.tuples(st.integers(0, 80), st.integers(0, 9), TEXTS), max_size=3))
@settings(deadline=None)
def test_a_cell_leads_back_to_the_character_in_it(text: str, width: int, overlays: list[tuple[int, int, str]]) -> None:
    buffer = Buffer(of_bytes(text.encode()))
    rows = Rows(buffer, width)
    offsets = [len(text[:index].encode()) for index in range(len(text) + 1)]
    spans = [(min(at, len(text)), min(at + length, len(text)), over) for at, length, over in overlays]
    rows.show_over(Overlay(offsets[start], offsets[end], [(over, RED)]) for start, end, over in spans)
    for offset in offsets:
        row, cell = rows.find(offset)
        assert 0 <= row < rows.total and cell >= 0
        assert buffer.place(rows.offset(row, cell))
    rows.show_over(())
    assert rows.total == Rows(buffer, width).total
    stops = {rows.offset(*rows.find(offset)) for offset in offsets}
    for offset in stops:
        assert rows.offset(*rows.find(offset)) == offset


@pytest.mark.parametrize("encoding", ["utf-8", "gbk", "shift_jis"])
def test_a_text_is_found_in_any_encoding(encoding: str) -> None:
    buffer = Buffer(of_bytes("日本 abc 日 ABC".encode(encoding), encoding))
    first, second = (len(text.encode(encoding)) for text in ("日本 ", "日本 abc 日 "))
    assert search(buffer, "abc", (0, 0), False) == (first, first + 3)
    assert search(buffer, "abc", (first, first + 3), False) == (second, second + 3)
    assert search(buffer, "ABC", (0, 0), False) == (second, second + 3)
    assert search(buffer, "abc", (second, second + 3), True) == (first, first + 3)
    assert search(buffer, "\n", (0, 0), True) is None


@pytest.mark.parametrize("sign", ["\u3000", "\u00a0", "\u2009", "\u200c", "\u200d", "中", "e\u0301"])
async def test_characters_of_all_scripts_can_be_typed(sign: str) -> None:
    app = Screen(b"")
    async with app.run_test() as pilot:
        for character in sign:
            app.editor.post_message(events.Key("a", character))
        await pilot.pause()
        assert app.data == sign.encode()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("می‌خواهم بروم", ["می‌خواهم ", "بروم"]),
        ("नमस्ते, दुनिया", ["नमस्ते", ", ", "दुनिया"]),
        ("cafe\u0301 noir", ["cafe\u0301 ", "noir"]),
        ("你好，世界", ["你好", "，", "世界"]),
        ("שלום עולם", ["שלום ", "עולם"]),
    ],
)
async def test_a_word_is_a_word_in_every_script(text: str, words: list[str]) -> None:
    app = Screen(text.encode())
    async with app.run_test() as pilot:
        for count in range(1, len(words) + 1):
            await pilot.press("ctrl+right")
            assert app.data[: app.editor.cursor].decode() == "".join(words[:count])


async def test_words_with_signs_that_combine_are_passed_and_selected_whole() -> None:
    app = Screen("a #\ufe0f\u20e3 b end".encode())
    async with app.run_test() as pilot:
        places = []
        for _ in range(4):
            await pilot.press("ctrl+right")
            places.append(app.editor.cursor)
        assert places == sorted(set(places))
        start, end = app.editor._caret.word(len(b"a #"))
        assert app.data[start:end].decode().startswith("#\ufe0f\u20e3")
