"""The canvas on a screen: what it draws, what it repaints, and where cursor and selection stay."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.style import Style
from textual.app import App, ComposeResult
from textual.pilot import Pilot

from dgtui.diffusion.events import Flag
from dgtui.text import sanitize
from dgtui.tui.frames import View
from dgtui.tui.theme import Look, Theme
from dgtui.tui.widgets.canvas_view import CanvasView

THEME = Theme("test", True, {"primary": "#7aa2f7"}, ("#c0caf5", "#f7768e"))
TALE = ("Once", " upon", " a", " time", " there", " was", " a", " fox", ".")


class Screen(App[None]):
    CSS = "CanvasView { max-height: 6; }"

    def __init__(self, look: Look | None = None) -> None:
        super().__init__()
        self.look = look or THEME.look()
        self.moves: list[tuple[int, tuple[int, int] | None]] = []

    def compose(self) -> ComposeResult:
        yield CanvasView()

    @property
    def canvas(self) -> CanvasView:
        return self.query_one(CanvasView)

    def on_mount(self) -> None:
        self.canvas.look = self.look
        self.canvas.focus()

    def on_canvas_view_moved(self, message: CanvasView.Moved) -> None:
        self.moves.append((message.cursor, message.selection))

    def rows(self) -> list[str]:
        return [self.canvas.render_line(y).text.rstrip() for y in range(self.canvas.size.height)]

    def drawn(self, word: str) -> Style:
        """The style of the segment with these letters."""
        found = [s.style for y in range(self.canvas.size.height) for s in self.canvas.render_line(y) if word in s.text]
        assert found and found[0]
        return found[0]


@asynccontextmanager
async def screen(look: Look | None = None, width: int = 22) -> AsyncIterator[tuple[Screen, Pilot[None]]]:
    app = Screen(look)
    async with app.run_test(size=(width, 12)) as pilot:
        await pilot.pause()
        yield app, pilot


def view(
    *tokens: str | bytes, flags: Sequence[int] = (), entropy: float = 0.0, settled: bool = True, end: int | None = None
) -> View:
    pieces = tuple(token.encode() if isinstance(token, str) else token for token in tokens)
    n = len(pieces)
    marks = np.array(list(flags) or [0] * n, np.uint8)
    return View(pieces, np.full(n, entropy, np.float32), marks, np.full(n, settled), n if end is None else end)


async def show(app: Screen, pilot: Pilot[None], shown: View | None) -> None:
    app.canvas.show(shown)
    await pilot.pause()


async def test_only_words_are_underlined_and_not_the_blank_before_them() -> None:
    async with screen() as (app, pilot):
        await show(app, pilot, view("Once", " upon", " a", flags=[0, Flag.CHANGED, 0]))
        app.canvas.cursor = 0
        underlined = [s.text for s in app.canvas.render_line(0) if s.style and s.style.underline and s.text.strip()]
        assert underlined == ["upon"]


# -- drawing -----------------------------------------------------------------------------------------------------------


async def test_tokens_are_wrapped_to_the_room_there_is() -> None:
    async with screen() as (app, pilot):
        await show(app, pilot, view(*TALE))
        assert app.rows() == ["Once upon a time", "there was a fox."]
        await pilot.resize_terminal(14, 12)
        await pilot.pause()
        assert app.rows() == ["Once upon a", "time there", "was a fox."]


async def test_an_empty_canvas_shows_nothing() -> None:
    async with screen() as (app, pilot):
        assert app.rows() == []
        await show(app, pilot, view(*TALE))
        await show(app, pilot, None)
        assert app.rows() == []


async def test_what_lies_behind_the_end_of_the_reply_is_not_drawn() -> None:
    async with screen() as (app, pilot):
        await show(app, pilot, view(*TALE, end=3))
        assert app.rows() == ["Once upon a"]


async def test_noise_makes_no_lines() -> None:
    async with screen() as (app, pilot):
        await show(app, pilot, view("a", "\n\n", "b", "    ", "c", settled=False))
        assert app.rows() == ["a⏎b·c"]
        await show(app, pilot, view("a", "\n\n", "b", "    ", "c"))
        assert app.rows() == ["a", "", "b    c"]


async def test_the_state_of_a_token_is_drawn_as_the_look_says() -> None:
    async with screen() as (app, pilot):
        tokens = view("one", " two", " three", flags=[Flag.ACCEPTED, Flag.RENOISED, Flag.PINNED], settled=False)
        app.set_focus(None)
        await show(app, pilot, tokens)
        for word, flag in (("one", Flag.ACCEPTED), ("two", Flag.RENOISED), ("three", Flag.PINNED)):
            look, drawn = app.look.style(0.0, flag), app.drawn(word)
            assert (drawn.color, drawn.bold, drawn.underline) == (look.color, look.bold, look.underline)
            assert look.bgcolor is None or drawn.bgcolor == look.bgcolor


async def test_another_look_draws_everything_anew() -> None:
    async with screen() as (app, pilot):
        await show(app, pilot, view(*TALE, entropy=3.0))
        before = app.drawn("fox").color
        app.canvas.look = Theme("other", True, {"primary": "#7aa2f7"}, ("#ffffff", "#00ff00")).look()
        await pilot.pause()
        assert before != app.drawn("fox").color == Style.parse("#00ff00").color


# -- calm --------------------------------------------------------------------------------------------------------------


async def test_only_rows_that_look_different_are_repainted(monkeypatch: pytest.MonkeyPatch) -> None:
    async with screen() as (app, pilot):
        await show(app, pilot, view(*TALE))
        painted: list[int] = []
        layouts: list[bool] = []
        render_line, refresh = app.canvas.render_line, app.canvas.refresh

        def spy_line(y: int) -> object:
            painted.append(y)
            return render_line(y)

        def spy_refresh(*regions: object, layout: bool = False, **kwargs: object) -> object:
            layouts.append(layout)
            return refresh(*regions, layout=layout, **kwargs)  # type: ignore[arg-type]

        monkeypatch.setattr(app.canvas, "render_line", spy_line)
        monkeypatch.setattr(app.canvas, "refresh", spy_refresh)
        await show(app, pilot, view(*TALE))
        assert not painted and not layouts
        await show(app, pilot, view(*TALE[:7], " cat", "."))
        assert painted == [1] and not any(layouts)


async def test_the_box_grows_but_does_not_shrink_while_calm() -> None:
    async with screen() as (app, pilot):
        app.canvas.calm = True
        await show(app, pilot, view(*TALE))
        await show(app, pilot, view("short"))
        assert app.canvas.size.height == 2
        assert app.rows() == ["short", ""]
        await show(app, pilot, view(*TALE, *TALE))
        assert app.canvas.size.height == 4
        await show(app, pilot, view("short"))
        app.canvas.calm = False
        await pilot.pause()
        assert app.canvas.size.height == 1


# -- cursor and selection ----------------------------------------------------------------------------------------------


async def test_keys_move_by_token_line_and_word() -> None:
    async with screen() as (app, pilot):
        await show(app, pilot, view(*TALE))
        for key, place in (
            ("right", 1), ("right", 2), ("down", 6), ("end", 8), ("home", 4), ("up", 0), ("ctrl+right", 1),
            ("pagedown", 5), ("ctrl+left", 4), ("pageup", 0), ("left", 0), ("up", 0),
        ):  # fmt: skip
            await pilot.press(key)
            assert app.canvas.cursor == place, key
        assert app.canvas.selection is None


async def test_up_and_down_remember_the_column() -> None:
    async with screen() as (app, pilot):
        await show(app, pilot, view("a long line", " end", "\n", "x", "\n", "a long line", " end"))
        for key, place in (("end", 2), ("left", 1), ("down", 4), ("down", 6), ("up", 4), ("up", 1)):
            await pilot.press(key)
            assert app.canvas.cursor == place, key


async def test_shift_selects_and_a_plain_move_lets_go() -> None:
    async with screen() as (app, pilot):
        await show(app, pilot, view(*TALE))
        await pilot.press("right", "shift+right", "shift+right")
        assert app.canvas.selection == (1, 4)
        await pilot.press("shift+left", "shift+left", "shift+left")
        assert app.canvas.selection == (0, 2)
        await pilot.press("right")
        assert app.canvas.selection is None


async def test_from_an_anchor_every_move_selects() -> None:
    async with screen() as (app, pilot):
        await show(app, pilot, view(*TALE))
        await pilot.press("v", "right", "down")
        assert app.canvas.selection == (0, 6)
        await pilot.press("v")
        assert (app.canvas.cursor, app.canvas.selection) == (5, None)


async def test_cursor_and_selection_stay_on_their_tokens_when_the_draft_changes() -> None:
    async with screen() as (app, pilot):
        await show(app, pilot, view(*TALE))
        app.canvas.select(3, 6)
        await show(app, pilot, view("A", "\n", "\n", " very", " different", " draft", "!", "!"))
        assert (app.canvas.cursor, app.canvas.selection) == (5, (3, 6))


async def test_a_shorter_canvas_takes_cursor_and_selection_back_into_it() -> None:
    async with screen() as (app, pilot):
        await show(app, pilot, view(*TALE))
        app.canvas.select(3, 9)
        await show(app, pilot, view(*TALE, end=5))
        assert (app.canvas.cursor, app.canvas.selection) == (4, (3, 5))
        await show(app, pilot, view(*TALE, end=2))
        assert app.canvas.selection is None
        assert app.canvas.cursor == 1
        await show(app, pilot, view(end=0))
        assert (app.canvas.cursor, app.canvas.selection) == (0, None)


async def test_a_character_spread_over_tokens_is_one_step_and_selected_whole() -> None:
    async with screen() as (app, pilot):
        await show(app, pilot, view("a", b"\xe2", b"\x82", b"\xac", "", "b"))
        await pilot.press("right")
        assert app.canvas.cursor == 1
        await pilot.press("shift+left")
        await pilot.press("shift+right")
        assert app.canvas.selection == (1, 4)
        await pilot.press("right")
        assert app.canvas.cursor == 5


async def test_moves_are_told_once() -> None:
    async with screen() as (app, pilot):
        await show(app, pilot, view(*TALE))
        app.moves.clear()
        await pilot.press("right", "shift+right", "up")
        app.canvas.clear_selection()
        await pilot.pause()
        assert app.moves == [(1, None), (2, (1, 3)), (2, None)]


async def test_the_cursor_is_seen_on_a_line_break_and_only_with_the_focus() -> None:
    async with screen() as (app, pilot):
        await show(app, pilot, view("a", "\n", "b"))
        await pilot.press("right")
        assert [segment.text for segment in app.canvas.render_line(0)][:2] == ["a", " "]
        assert list(app.canvas.render_line(0))[1].style != list(app.canvas.render_line(1))[-1].style
        app.set_focus(None)
        await pilot.pause()
        assert len({segment.style for segment in app.canvas.render_line(0)}) == 2  # the token, and nothing
        app.canvas.pointing = True
        await pilot.pause()
        assert len({segment.style for segment in app.canvas.render_line(0)}) == 3


async def test_cursor_and_selection_are_seen_without_colour() -> None:
    async with screen(THEME.look(color=False)) as (app, pilot):
        for flag in (Flag(0), Flag.ACCEPTED, Flag.RENOISED, Flag.CHANGED, Flag.PINNED):
            await show(app, pilot, view("one", " two", " three", flags=[flag] * 3, settled=False))
            app.canvas.select(0, 2)
            await pilot.pause()
            seen = []
            for word in ("one", "two", "three"):
                style = app.drawn(word)
                seen.append((style.bold, style.dim, style.italic, style.underline, style.reverse))
            assert len(set(seen)) == 3, flag


# -- scrolling and the mouse -------------------------------------------------------------------------------------------


async def test_a_canvas_higher_than_its_room_scrolls_with_the_cursor() -> None:
    async with screen() as (app, pilot):
        lines = [f"line {number}\n" for number in range(12)]
        await show(app, pilot, view(*lines))
        assert (app.canvas.size.height, app.canvas.scroll_offset.y) == (6, 0)
        app.canvas.cursor = 11
        await pilot.pause()
        assert app.canvas.scroll_offset.y == 6
        assert app.rows()[-1] == "line 11"
        await show(app, pilot, view(*lines, entropy=1.0))
        assert app.canvas.scroll_offset.y == 6
        await pilot.press("pageup", "pageup")
        assert (app.canvas.cursor, app.canvas.scroll_offset.y) == (1, 1)


async def test_the_mouse_moves_drags_and_extends() -> None:
    async with screen() as (app, pilot):
        await show(app, pilot, view(*TALE))
        await pilot.click(CanvasView, offset=(6, 0))
        assert (app.canvas.cursor, app.canvas.selection) == (1, None)
        await pilot.click(CanvasView, offset=(21, 1), shift=True)
        assert app.canvas.selection == (1, 9)
        await pilot.mouse_down(CanvasView, offset=(0, 0))
        await pilot.hover(CanvasView, offset=(12, 0))
        await pilot.mouse_up(CanvasView, offset=(12, 0))
        assert app.canvas.selection == (0, 4)
        await pilot.hover(CanvasView, offset=(0, 1))
        assert app.canvas.selection == (0, 4)


# -- anything at all ---------------------------------------------------------------------------------------------------

ODD = [b"a", b" word", b"\n", b"\t", b"\xe2", b"\x82", b"\xac", b"\xff", b"\x1b[2J", b"\x9b", b"\xc2\x9b31m", b"",
       "漢字".encode(), "\u0301".encode(), "\u202e".encode(), "⚠".encode(), "\ufe0f".encode(), "👩‍💻".encode(),
       b"Supercalifragilistic", b"    "]  # fmt: skip
KEYS = ["left", "right", "up", "down", "home", "end", "page_up", "page_down", "word_left", "word_right"]
canvases = st.lists(
    st.tuples(st.sampled_from(ODD) | st.binary(max_size=6), st.booleans(), st.integers(0, 15), st.floats(0, 12)),
    max_size=40,
)
steps = st.tuples(canvases, st.lists(st.tuples(st.sampled_from(KEYS), st.booleans()), max_size=6), st.floats(0, 1))


@settings(max_examples=6, deadline=None)
@given(st.lists(steps, min_size=4, max_size=8), st.integers(1, 40))
def test_any_bytes_and_any_moves_leave_a_sound_screen(course: list, width: int) -> None:  # type: ignore[type-arg]
    async def check() -> None:
        async with screen(width=width) as (app, pilot):
            for tokens, moves, part in course:
                n = len(tokens)
                shown = View(
                    tuple(t[0] for t in tokens), np.array([t[3] for t in tokens], np.float32),
                    np.array([t[2] for t in tokens], np.uint8), np.array([t[1] for t in tokens], np.bool_),
                    round(n * part),
                )  # fmt: skip
                await show(app, pilot, shown)
                for where, select in moves:
                    app.canvas.action_move(where, select)
                    if (selection := app.canvas.selection) is not None:
                        assert 0 <= selection[0] <= app.canvas.cursor < selection[1] <= shown.end
                    assert 0 <= app.canvas.cursor <= max(0, shown.end - 1)
                await pilot.pause()
                for y in range(app.canvas.size.height):
                    strip = app.canvas.render_line(y)
                    assert cell_len(strip.text) == strip.cell_length == app.canvas.size.width
                    assert sanitize(strip.text, newlines=False, tabs="replace") == strip.text

    asyncio.run(check())
