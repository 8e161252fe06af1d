"""The prompt: what sends and what does not, the history, completion, and pastes of any kind."""

import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from drawn import HOSTILE, is_safe, rows, text
from rich.cells import cell_len
from textual import events
from textual.app import App, ComposeResult
from textual.pilot import Pilot
from textual.widgets import Button, Static

from dgtui.tui.commands import SLASHES
from dgtui.tui.widgets.completion import MOST_ROWS, Completions, suggestions
from dgtui.tui.widgets.pastes import LONGEST, Pastes, clean
from dgtui.tui.widgets.prompt import Prompt


def arguments(kind: str) -> list[str]:
    return {"models": ["embedded", "diffusiongemma"], "themes": ["midnight", "paper"], "switch": ["on", "off"]}[kind]


class Typing(App[None]):
    CSS = "Static { height: 1fr; }"

    def __init__(self, past: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.past = past
        self.sent: list[str] = []

    def compose(self) -> ComposeResult:
        yield Static("above")
        yield Prompt(self.past, arguments=arguments)
        yield Button("other")

    def on_prompt_sent(self, message: Prompt.Sent) -> None:
        self.sent.append(message.text)

    @property
    def prompt(self) -> Prompt:
        return self.query_one(Prompt)

    @property
    def list(self) -> Completions:
        return self.query_one(Completions)


@asynccontextmanager
async def typing(*past: str, size: tuple[int, int] = (80, 24)) -> AsyncIterator[tuple[Typing, Pilot[None]]]:
    app = Typing(past)
    async with app.run_test(size=size) as pilot:
        app.prompt.focus()
        await pilot.pause()
        yield app, pilot


async def paste(app: Typing, pilot: Pilot[None], text: str) -> None:
    app.prompt.post_message(events.Paste(text))
    await pilot.pause()


# -- sending --------------------------------------------------------------------------------------------------------


async def test_enter_sends_and_empties_the_prompt() -> None:
    async with typing() as (app, pilot):
        await pilot.press(*"hi there", "enter")
        assert app.sent == ["hi there"]
        assert app.prompt.text == ""


async def test_nothing_but_blanks_is_not_sent() -> None:
    async with typing() as (app, pilot):
        await pilot.press("enter", "space", "ctrl+j", "enter")
        assert app.sent == []


@pytest.mark.parametrize("key", ["ctrl+j", "shift+enter"])
async def test_a_line_is_broken_without_sending(key: str) -> None:
    async with typing() as (app, pilot):
        await pilot.press("a", key, "b", "enter")
        assert app.sent == ["a\nb"]


async def test_with_other_keys_enter_breaks_the_line() -> None:
    async with typing() as (app, pilot):
        app.set_keymap({"prompt.send": "ctrl+s"})
        await pilot.press("a", "enter", "b")
        assert app.prompt.text == "a\nb"
        await pilot.press("ctrl+s")
        assert app.sent == ["a\nb"]


async def test_it_grows_from_one_line_to_six_and_shrinks_again() -> None:
    async with typing() as (app, pilot):
        heights = [app.prompt.size.height]
        for _ in range(8):
            await pilot.press("x", "ctrl+j")
            await pilot.pause()
            heights.append(app.prompt.size.height)
        assert heights == [1, 2, 3, 4, 5, 6, 6, 6, 6]
        await pilot.press("enter")
        await pilot.pause()
        assert app.prompt.size.height == 1


async def test_a_long_line_wraps_and_makes_it_grow() -> None:
    async with typing() as (app, pilot):
        await paste(app, pilot, "word " * 30)
        assert app.prompt.size.height == 2


async def test_what_was_not_taken_can_be_handed_back() -> None:
    async with typing() as (app, pilot):
        await pilot.press(*"wait", "enter")
        app.prompt.load_text(app.sent[0])
        await pilot.press("!", "enter")
        assert app.sent == ["wait", "wait!"]


async def test_the_placeholder_shows_until_something_is_typed() -> None:
    async with typing() as (app, pilot):
        app.prompt.placeholder = "loading, but you can write"
        await pilot.pause()
        assert "loading, but you can write" in text(app)
        await pilot.press("x")
        await pilot.pause()
        assert "loading" not in text(app)


# -- history --------------------------------------------------------------------------------------------------------


async def test_up_recalls_and_down_comes_back_to_the_unfinished_draft() -> None:
    async with typing("first", "second") as (app, pilot):
        await pilot.press(*"draf", "up")
        assert app.prompt.text == "second"
        await pilot.press("up")
        assert app.prompt.text == "first"
        await pilot.press("up")
        assert app.prompt.text == "first"
        await pilot.press("down", "down", "t")
        assert app.prompt.text == "draft"


async def test_a_recalled_message_that_was_changed_is_kept_until_something_is_sent() -> None:
    async with typing("first", "second") as (app, pilot):
        await pilot.press("up", "!", "up", "down")
        assert app.prompt.text == "second!"
        await pilot.press("enter", "up")
        assert app.sent == ["second!"]
        assert app.prompt.text == "second!"
        await pilot.press("up")
        assert app.prompt.text == "second"


async def test_up_and_down_move_within_a_message_of_several_lines_first() -> None:
    async with typing("past") as (app, pilot):
        await pilot.press("a", "ctrl+j", "b", "up")
        assert app.prompt.text == "a\nb"
        assert app.prompt.cursor_location[0] == 0
        await pilot.press("up")
        assert app.prompt.text == "past"
        await pilot.press("down")
        assert app.prompt.text == "a\nb"


async def test_up_goes_on_through_messages_of_several_lines() -> None:
    async with typing("one", "two\nlines") as (app, pilot):
        await pilot.press("up", "up")
        assert app.prompt.text == "one"


async def test_the_same_message_twice_is_kept_once() -> None:
    async with typing() as (app, pilot):
        await pilot.press("a", "enter", "a", "enter")
        assert list(app.prompt.past) == ["a"]


# -- pastes ---------------------------------------------------------------------------------------------------------


async def test_a_paste_with_newlines_never_sends() -> None:
    async with typing() as (app, pilot):
        await paste(app, pilot, "one\ntwo\r\nthree\rfour\n")
        assert app.sent == []
        await pilot.press("enter")
        assert app.sent == ["one\ntwo\nthree\nfour\n"]


async def test_control_characters_of_a_paste_do_not_reach_the_terminal_or_the_model() -> None:
    async with typing() as (app, pilot):
        await paste(app, pilot, HOSTILE)
        assert is_safe(app)
        await pilot.press("enter")
        assert "\x1b" not in app.sent[0] and "\x9b" not in app.sent[0] and "\ud800" not in app.sent[0]
        assert "␛]52" in app.sent[0] and "[red]x[/red]" in app.sent[0]


async def test_joiners_that_a_script_needs_are_sent_as_they_were() -> None:
    persian = "می\u200cخواهم"
    async with typing() as (app, pilot):
        await paste(app, pilot, persian)
        assert persian in "".join(rows(app))
        await pilot.press("enter")
        assert app.sent == [persian]


async def test_a_very_large_paste_is_folded_and_sent_whole() -> None:
    large = "".join(f"line {number}\n" for number in range(40_000))
    async with typing() as (app, pilot):
        await pilot.press(*"see ")
        before = time.process_time()
        await paste(app, pilot, large)
        await pilot.press(*" ok")
        assert time.process_time() - before < 2
        assert app.prompt.text == "see [pasted 40,001 lines #1] ok"
        assert app.prompt.message == f"see {large} ok"
        await pilot.press("enter")
        assert app.sent == [f"see {large} ok"]
        await pilot.press("up")
        assert app.prompt.document.line_count == 1
        await pilot.press("enter")
        assert app.sent[1] == app.sent[0]


async def test_backspace_and_delete_take_a_folded_paste_as_a_whole() -> None:
    async with typing() as (app, pilot):
        await pilot.press("a")
        await paste(app, pilot, "x" * (LONGEST + 1))
        await pilot.press("backspace")
        assert app.prompt.text == "a"
        await pilot.press("ctrl+z")
        assert app.prompt.message == "a" + "x" * (LONGEST + 1)
        await pilot.press("home", "right", "delete")
        assert app.prompt.text == "a"


def test_what_is_pasted_is_not_looked_into_for_labels() -> None:
    pastes = Pastes()
    first = pastes.fold("a" * 5_000)
    second = pastes.fold(first * 200)
    assert pastes.expand(second) == first * 200


def test_every_line_break_becomes_the_same() -> None:
    assert clean("a\r\nb\rc\x0bd\x0ce\x85f\u2028g\u2029h") == "a\nb\nc\nd\ne\nf\ng\nh"
    assert clean("a\tb") == "a\tb"


# -- completion -----------------------------------------------------------------------------------------------------


async def test_a_slash_lists_the_commands_above_the_prompt() -> None:
    async with typing() as (app, pilot):
        await pilot.press("slash")
        await pilot.pause()
        drawn = rows(app)
        at = next(number for number, row in enumerate(drawn) if row.startswith("▌ /"))
        assert "/model NAME" in drawn[at - MOST_ROWS]
        assert "load another model" in drawn[at - MOST_ROWS]
        assert app.list.region.bottom == app.prompt.region.y


async def test_the_list_does_not_push_what_is_above() -> None:
    async with typing() as (app, pilot):
        before = app.query_one(Static).region
        await pilot.press("slash")
        await pilot.pause()
        assert app.query_one(Static).region == before


async def test_tab_completes_the_name_and_then_the_argument() -> None:
    async with typing() as (app, pilot):
        await pilot.press(*"/mo", "tab")
        assert app.prompt.text == "/model "
        await pilot.press("d", "tab", "enter")
        assert app.sent == ["/model diffusiongemma"]


async def test_up_and_down_choose_and_enter_takes_what_was_chosen() -> None:
    async with typing("past") as (app, pilot):
        await pilot.press(*"/theme ", "down", "enter")
        assert app.sent == ["/theme paper"]
        await pilot.press("slash", "up")
        assert app.list.marked is not None
        assert app.list.marked.shown == f"/{SLASHES[-1].name}"


async def test_enter_completes_a_name_that_is_only_begun() -> None:
    async with typing() as (app, pilot):
        await pilot.press(*"/sess", "enter")
        assert app.sent == []
        assert app.prompt.text == "/sessions"
        await pilot.press("enter")
        assert app.sent == ["/sessions"]


async def test_enter_sends_what_is_typed_where_it_is_whole() -> None:
    async with typing() as (app, pilot):
        await pilot.press(*"/model my/own-model", "enter")
        assert app.sent == ["/model my/own-model"]
        await pilot.press(*"/seed", "enter")
        assert app.sent[-1].strip() == "/seed"


async def test_escape_closes_the_list_until_the_text_changes() -> None:
    async with typing("past") as (app, pilot):
        await pilot.press(*"/s", "escape")
        assert not app.list.display
        await pilot.press("up")
        assert app.prompt.text == "past"
        await pilot.press("down", "e")
        assert app.list.display


async def test_escape_and_tab_are_left_to_others_where_nothing_is_completed() -> None:
    async with typing() as (app, pilot):
        await pilot.press("a", "tab")
        assert isinstance(app.focused, Button)


async def test_the_list_closes_when_the_focus_goes() -> None:
    async with typing() as (app, pilot):
        await pilot.press("slash")
        app.query_one(Button).focus()
        await pilot.pause()
        assert not app.list.display
        app.prompt.focus()
        await pilot.pause()
        assert app.list.display


async def test_a_click_takes_a_row_and_the_prompt_keeps_the_focus() -> None:
    async with typing() as (app, pilot):
        await pilot.press("slash")
        await pilot.pause()
        await pilot.click(Completions, offset=(5, 2))
        assert app.prompt.text == "/seed "
        assert app.focused is app.prompt


async def test_two_slashes_and_paths_list_nothing() -> None:
    for typed in ("//", "/etc/hosts", "a /m", "/model\nx", "/nothing x"):
        assert suggestions(typed, arguments) == []


def test_arguments_are_offered_until_one_is_whole() -> None:
    assert [s.shown for s in suggestions("/think ", arguments)] == ["on", "off"]
    assert [s.shown for s in suggestions("/theme ap", arguments)] == ["paper"]
    assert suggestions("/think ON", arguments) == []
    assert suggestions("/seed 1", arguments) == []
    assert suggestions("/model ", None) == []


@pytest.fixture
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with some files, which is the current and the home folder."""
    folder = tmp_path / "pictures"
    (folder / "cards").mkdir(parents=True)
    for name in ("cat.png", "Cow.png", "dog 1.png", ".hidden.png", "two\nlines.png", " blank.png", "\x1b[2J.png"):
        (folder / name).touch()
    (folder / "cards" / "ace.png").touch()
    (folder / "loop").symlink_to("loop")
    (folder / os.fsdecode(b"\xff.png")).touch()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(folder))
    return folder


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("", ["cards/", "cat.png", "Cow.png", "dog 1.png", "loop"]),
        ("c", ["cards/", "cat.png", "Cow.png"]),
        ("cat.png", []),
        ("cards", ["cards/"]),
        ("cards/", ["cards/ace.png"]),
        ("./ca", ["./cards/", "./cat.png"]),
        ("~/ca", ["~/cards/", "~/cat.png"]),
        ("dog ", ["dog 1.png"]),
        (".h", [".hidden.png"]),
        ("nowhere/", []),
        ("~nobody-of-that-name/", []),
        ("cat.png/", []),
        ("a\0/", []),
    ],
)
def test_files_are_offered_as_they_can_be_typed(pictures: Path, typed: str, offered: list[str]) -> None:
    assert [s.text for s in suggestions(f"/image {typed}")] == [f"/image {path}" for path in offered]
    folders = [f"/export {path}" for path in offered if path.endswith("/")]
    assert [s.text for s in suggestions(f"/export {typed}")] == folders, "a file that is there is refused"


async def test_tab_goes_into_a_folder_and_on_to_a_file(pictures: Path) -> None:
    async with typing() as (app, pilot):
        await pilot.press(*"/image ca", "tab")
        assert app.prompt.text == "/image cards/"
        await pilot.press("tab")
        assert app.prompt.text == "/image cards/ace.png"
        assert not app.list.display
        await pilot.press("enter")
        assert app.sent == ["/image cards/ace.png"]


async def test_enter_sends_the_file_that_was_typed_though_a_folder_is_offered(pictures: Path) -> None:
    async with typing() as (app, pilot):
        await pilot.press(*"/export c")
        assert app.list.marked is not None
        await pilot.press("enter")
        assert app.sent == ["/export c"]
        await pilot.press(*"/image c", "down", "up", "enter")
        assert app.prompt.text == "/image cards/", "a folder that was chosen is gone into"
        assert len(app.sent) == 1


async def test_names_of_files_are_drawn_harmlessly_and_in_their_cells(pictures: Path) -> None:
    for name in ("日本語.png", "\u202eevil.png"):
        (pictures / name).touch()
    async with typing() as (app, pilot):
        await pilot.press(*"/image ")
        assert is_safe(app)
        await pilot.press(*"日")
        assert "日本語.png" in text(app)
        assert all(cell_len(row) <= 80 for row in rows(app))


async def test_hostile_choices_are_drawn_harmlessly() -> None:
    async with typing() as (app, pilot):
        app.prompt.arguments = lambda kind: [HOSTILE, "x" * 500]
        await pilot.press(*"/model ")
        await pilot.pause()
        assert is_safe(app)
        assert all(cell_len(row) <= 80 for row in rows(app))


@pytest.mark.parametrize("size", [(80, 24), (100, 30), (60, 16)])
async def test_the_list_fits_the_screen(size: tuple[int, int]) -> None:
    async with typing(size=size) as (app, pilot):
        await pilot.press("slash")
        await pilot.pause()
        assert app.screen.region.contains_region(app.list.region)
        for _ in SLASHES:
            await pilot.press("down")
            await pilot.pause()
            assert app.list.marked is not None
            assert f"▸ {app.list.marked.shown}" in text(app)
