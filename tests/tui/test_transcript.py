"""The transcript: how turns look, how to move through a long conversation, and that hostile text is harmless."""

import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from drawn import HOSTILE, is_safe, rows, text, until
from textual.app import App, ComposeResult
from textual.containers import Vertical
from textual.pilot import Pilot
from textual.widget import Widget
from textual.widgets import Button, Static

from dgtui.tui.widgets.transcript import BATCH, Entry, EntryView, Transcript

NOTE = "block 1, 14 steps · 688 tok/s · stopped: eos · seed 4711"
TURNS = (
    Entry("user", "Why do rivers meander?"),
    Entry("model", "Water runs **faster** outside.", thought="The person asks about rivers.", note=NOTE),
    Entry("user", "And how long?"),
    Entry("model", "- long\n- very long", note="seed 2"),
)


class Screen(App[None]):
    CSS = "Transcript { height: 1fr; }"

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        super().__init__()
        self.entries = entries
        self.canvas: Widget | None = None

    def compose(self) -> ComposeResult:
        yield Transcript(self.entries, canvas=self.canvas)
        yield Button("other")

    @property
    def transcript(self) -> Transcript:
        return self.query_one(Transcript)

    @property
    def bottom(self) -> bool:
        return self.transcript.scroll_y >= self.transcript.max_scroll_y


@asynccontextmanager
async def screen(*entries: Entry, size: tuple[int, int] = (80, 24)) -> AsyncIterator[tuple[Screen, Pilot[None]]]:
    app = Screen(entries)
    async with app.run_test(size=size) as pilot:
        app.transcript.focus()
        await pilot.pause()
        yield app, pilot


def long(turns: int) -> list[Entry]:
    """A conversation with a number of turns."""
    return [Entry("model" if n % 2 else "user", f"turn number {n}.\n\nand more", note="n") for n in range(turns)]


def marked(app: Screen) -> str:
    """The text of the marked turn."""
    return "\n".join(view.entry.text for view in app.query(EntryView) if view.has_class("-current"))


# -- a turn ---------------------------------------------------------------------------------------------------------


async def test_turns_are_labelled_and_replies_rendered() -> None:
    async with screen(*TURNS) as (app, _):
        shown = text(app)
        assert "You    Why do rivers meander?" in shown
        assert "Water runs faster outside." in shown
        assert f"       {NOTE}" in shown
        assert "       • very long" in shown or "Model  • long" in shown


async def test_raw_text_is_shown_of_the_marked_turn_else_of_the_last() -> None:
    async with screen(*TURNS) as (app, pilot):
        app.transcript.toggle_raw()
        await pilot.pause()
        assert "- very long" in text(app) and "faster outside" in text(app)
        await pilot.press("up", "up")
        app.transcript.toggle_raw()
        await pilot.pause()
        assert "**faster**" in text(app)
        app.transcript.toggle_raw()
        await pilot.pause()
        assert "**faster**" not in text(app)


async def test_what_the_person_said_is_never_rendered() -> None:
    async with screen(Entry("user", "**stars** <b>and</b> # signs")) as (app, _):
        assert "**stars** <b>and</b> # signs" in text(app)


async def test_a_thought_is_one_line_until_it_is_unfolded() -> None:
    async with screen(*TURNS) as (app, pilot):
        assert "▸ thought · 5 words" in text(app) and "asks about rivers" not in text(app)
        await pilot.press("up", "up", "enter")
        await pilot.pause()
        assert "▾ thought" in text(app) and "│ The person asks about rivers." in text(app)
        await pilot.press("enter")
        await pilot.pause()
        assert "asks about rivers" not in text(app)


async def test_a_click_on_the_thought_unfolds_it_and_a_click_elsewhere_does_not() -> None:
    async with screen(*TURNS) as (app, pilot):
        row = next(number for number, row in enumerate(rows(app)) if "thought" in row)
        await pilot.click(offset=(20, row + 1))
        await pilot.pause()
        assert "asks about rivers" not in text(app)
        await pilot.click(offset=(20, row))
        await pilot.pause()
        assert "asks about rivers" in text(app)
        assert marked(app) == TURNS[1].text


async def test_a_long_message_is_folded_and_can_be_unfolded() -> None:
    message = "\n".join(f"line {number}" for number in range(100))
    async with screen(Entry("user", message)) as (app, pilot):
        assert "line 19" in text(app) and "▸ 80 more lines" in text(app)
        await pilot.press("enter")
        await pilot.pause()
        assert app.transcript.virtual_size.height > 100


async def test_an_unfinished_reply_says_so() -> None:
    async with screen(Entry("user", "hi"), Entry("model", "", finished=False)) as (app, pilot):
        assert "Model  …" in text(app)
        app.transcript.replace(1, Entry("model", "so far", finished=False))
        await pilot.pause()
        assert "Model  so far" in text(app)
        app.transcript.replace(1, Entry("model", "so far, so good", note="seed 1"))
        await pilot.pause()
        assert "Model  so far, so good" in text(app) and "…" not in text(app)


# -- the conversation -----------------------------------------------------------------------------------------------


async def test_notices_stand_between_turns_and_are_none() -> None:
    async with screen(*TURNS) as (app, pilot):
        app.transcript.notice("context full: the first 3 turns are no longer seen")
        app.transcript.add(Entry("user", "go on"))
        app.transcript.notice("another")
        await pilot.pause()
        assert "— context full: the first 3 turns are no longer seen" in text(app)
        assert app.transcript.current == Entry("user", "go on")
        app.transcript.replace(4, Entry("user", "go on, please"))
        app.transcript.truncate(4)
        await pilot.pause()
        assert [entry.text for entry in app.transcript.entries][-1].startswith("context full")
        app.transcript.truncate(2)
        await pilot.pause()
        assert app.transcript.entries == TURNS[:2]
        assert "And how long" not in text(app)


async def test_turns_may_come_before_it_is_on_the_screen() -> None:
    transcript = Transcript()
    transcript.add(Entry("user", "early"))
    transcript.notice("and a notice")
    transcript.replace(0, Entry("user", "earlier"))
    app = Screen()
    async with app.run_test():
        await app.mount(transcript, before=0)
        await until(lambda: "You    earlier" in text(app) and "— and a notice" in text(app))


async def test_a_new_message_is_scrolled_to_and_a_reply_leaves_a_reader_alone() -> None:
    async with screen(*long(40)) as (app, pilot):
        assert app.bottom
        await pilot.press("pageup", "pageup")
        at = app.transcript.scroll_y
        app.transcript.add(Entry("model", "new\n\n" * 20))
        await pilot.pause()
        assert app.transcript.scroll_y == at
        app.transcript.add(Entry("user", "mine"))
        await pilot.pause()
        assert app.bottom and "You    mine" in text(app)
        app.transcript.add(Entry("model", "answer", finished=False))
        app.transcript.replace(42, Entry("model", "answer\n\n" * 9))
        await pilot.pause()
        assert app.bottom


async def test_it_stays_at_the_end_when_the_room_shrinks() -> None:
    async with screen(*long(20)) as (app, pilot):
        app.query_one(Button).styles.height = 15
        await pilot.pause()
        assert app.bottom and "turn number 19" in text(app)


async def test_a_focused_canvas_at_the_end_is_shown_to_its_last_line_and_followed() -> None:
    text_of_it = Button("the text of the reply")
    canvas = Vertical(text_of_it, Static("1\n2\n3\n4\n5\n6\nthe meters"))
    app = Screen(long(20))
    canvas.styles.height = "auto"
    text_of_it.styles.height = 12
    app.canvas = canvas
    async with app.run_test(size=(80, 24)) as pilot:
        app.transcript.focus()
        await pilot.press("pageup", "pageup")
        assert not app.bottom
        app.screen.set_focus(text_of_it)
        await until(lambda: app.bottom and "the meters" in text(app))
        text_of_it.styles.height = 13  # the reply becomes longer
        await pilot.pause()
        assert app.bottom and "the meters" in text(app)


# -- going through it -----------------------------------------------------------------------------------------------


async def test_it_is_one_stop_of_tab() -> None:
    async with screen(*TURNS) as (app, pilot):
        await pilot.press("tab")
        assert isinstance(app.focused, Button)
        await pilot.press("shift+tab")
        assert app.focused is app.transcript


async def test_up_and_down_go_from_turn_to_turn_and_show_which() -> None:
    async with screen(*TURNS) as (app, pilot):
        assert marked(app) == TURNS[3].text
        await pilot.press("up", "up")
        assert marked(app) == TURNS[1].text
        await pilot.press("down")
        assert marked(app) == TURNS[2].text
        await pilot.pause()
        assert any(row.startswith("▌ You    And how long?") for row in rows(app))


async def test_a_turn_taller_than_the_screen_is_scrolled_through() -> None:
    tall = Entry("model", "\n\n".join(f"paragraph {n}" for n in range(40)))
    async with screen(Entry("user", "hi"), tall) as (app, pilot):
        seen: set[str] = set()
        for _ in range(40):
            seen |= {row.strip(" ▌").removeprefix("Model").strip() for row in rows(app) if "paragraph" in row}
            if marked(app) == "hi":
                break
            await pilot.press("up")
            await pilot.pause()
        assert {f"paragraph {n}" for n in range(40)} <= seen


async def test_a_long_conversation_opens_at_its_end_with_few_turns_mounted() -> None:
    async with screen(size=(100, 30)) as (app, pilot):
        turns = long(2_000)
        before = time.process_time()
        app.transcript.set_turns(turns)
        await pilot.pause()
        assert time.process_time() - before < 2
        assert "turn number 1999." in text(app)
        assert len(app.query(EntryView)) <= 2 * BATCH
        await pilot.press("home")
        await until(lambda: "You    turn number 0." in text(app))
        assert len(app.query(EntryView)) <= 2 * BATCH
        await pilot.press("end")
        await until(lambda: "turn number 1999." in text(app))


@pytest.mark.slow
async def test_older_turns_come_when_they_are_scrolled_to_and_nothing_jumps() -> None:
    turns = 2 * BATCH + 5
    async with screen(*long(turns)) as (app, pilot):
        seen: list[int] = []
        for _ in range(2 * turns // 3):
            seen += [int(row.split("turn number ")[1].split(".")[0]) for row in reversed(rows(app)) if "number" in row]
            await pilot.press("pageup")
            await pilot.pause()
        order = list(dict.fromkeys(seen))
        assert order == list(range(turns - 1, -1, -1))
        for _ in range(2 * turns // 3):
            await pilot.press("pagedown")
            await pilot.pause()
        assert f"turn number {turns - 1}." in text(app)


async def test_a_tall_terminal_is_filled() -> None:
    entries = [Entry("user", f"short {number}") for number in range(200)]
    async with screen(*entries, size=(80, 150)) as (app, _):
        await until(lambda: text(app).count("short") > 60)


async def test_what_is_marked_can_be_truncated_away() -> None:
    async with screen(*long(100)) as (app, pilot):
        await pilot.press("up")
        app.transcript.truncate(3)
        await pilot.pause()
        assert [entry.text[:13] for entry in app.transcript.entries] == [f"turn number {n}" for n in range(3)]
        await until(lambda: "turn number 2." in text(app))
        app.transcript.truncate(0)
        app.transcript.toggle_raw()
        await pilot.press("up", "down", "home", "end", "pageup", "enter")
        assert app.transcript.current is None


# -- hostile text ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["user", "model", "system", "notice"])
@pytest.mark.parametrize("raw", [False, True])
async def test_no_text_reaches_the_terminal_as_it_is(role: Any, raw: bool) -> None:
    async with screen(Entry(role, HOSTILE, thought=HOSTILE, note=HOSTILE)) as (app, pilot):
        if raw:
            app.transcript.toggle_raw()
        await pilot.press("enter")
        await pilot.pause()
        assert is_safe(app)
        assert "[red]x[/red]" in text(app)


async def test_a_click_on_a_link_opens_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async with screen(Entry("model", "[here](https://evil.example) [@click=app.bell]there[/]")) as (app, pilot):
        opened: list[str] = []
        monkeypatch.setattr(app, "open_url", lambda url, **_: opened.append(url))
        monkeypatch.setattr(app, "bell", lambda: opened.append("bell"))
        for x in range(9, 60, 4):
            await pilot.click(offset=(x, 0))
        assert opened == []
        assert "https://evil.example" in text(app)


async def test_one_huge_line_is_shown_in_time() -> None:
    before = time.process_time()
    async with screen(Entry("model", "x" * 300_000), Entry("user", "y" * 300_000)) as (app, _):
        assert time.process_time() - before < 5
        assert "▸" in text(app)


async def test_text_can_be_selected_and_copied() -> None:
    async with screen(*TURNS) as (app, pilot):
        row = next(number for number, row in enumerate(rows(app)) if "faster" in row)
        await pilot.mouse_down(offset=(9, row))
        await pilot.hover(offset=(19, row))
        await pilot.mouse_up(offset=(19, row))
        await pilot.pause()
        assert (app.screen.get_selected_text() or "").startswith("Water runs")


@pytest.mark.parametrize("size", [(80, 24), (100, 30), (60, 16), (30, 10)])
async def test_no_row_is_wider_than_the_screen(size: tuple[int, int]) -> None:
    table = "| a | b |\n|---|---|\n| " + "word " * 20 + "| " + "x" * 90 + " |\n"
    entries = [*TURNS, Entry("model", "> - 1. deep " + "word " * 30 + "\n\n" + table + "\n```python\n" + "y" * 200)]
    async with screen(*entries, size=size) as (app, _):
        assert all(view.size.width <= size[0] for view in app.query(EntryView))
        assert app.transcript.max_scroll_x == 0
