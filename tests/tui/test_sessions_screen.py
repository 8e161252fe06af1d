"""The stored conversations on a screen, with a real history behind it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from drawn import HOSTILE, is_safe, rows, text, until
from rich.cells import cell_len
from textual.app import App
from textual.pilot import Pilot
from textual.widgets import Input

from dgtui.errors import RunFailed
from dgtui.session.store import Store, Turn
from dgtui.tui.screens.sessions import Sessions, _ago

Answers = list[str | None]


def history(path: Path | None = None) -> tuple[Store, list[str]]:
    """Three conversations and their ids, the oldest first."""
    store = Store(path)
    ids = []
    for question, answer in (
        ("Why do rivers meander?", "The outside of a bend is faster."),
        ("What is a hare?", "Not a rabbit; it runs faster."),
        ("Count to three", "one two three"),
    ):
        ids.append(store.create("tiny"))
        store.append(ids[-1], Turn("user", question))
        store.append(ids[-1], Turn("model", answer))
    return store, ids


@asynccontextmanager
async def opened(
    store: Store, search: str = "", size: tuple[int, int] = (80, 24)
) -> AsyncIterator[tuple[App[None], Pilot[None], Answers]]:
    app: App[None] = App()
    answers: Answers = []
    async with app.run_test(size=size, notifications=True) as pilot:
        app.push_screen(Sessions(store, search), answers.append)
        await pilot.pause()
        await pilot.pause()
        yield app, pilot, answers


async def test_the_newest_is_first_and_enter_opens_it() -> None:
    store, ids = history()
    async with opened(store) as (app, pilot, answers):
        shown = text(app)
        assert shown.index("Count to three") < shown.index("What is a hare?") < shown.index("Why do rivers")
        assert "▸ Count to three" in shown and "2 turns · just now" in shown
        await pilot.press("enter")
        assert answers == [ids[2]]


async def test_down_marks_another() -> None:
    store, ids = history()
    async with opened(store) as (app, pilot, answers):
        await pilot.press("down", "down")
        await pilot.pause()
        assert "▸ Why do rivers meander?" in text(app)
        await pilot.press("enter")
        assert answers == [ids[0]]


async def test_a_search_shows_what_was_found_with_an_excerpt() -> None:
    store, ids = history()
    async with opened(store) as (app, pilot, answers):
        await pilot.press("slash", *"faster")
        await until(lambda: "Count to three" not in text(app))
        assert "runs faster" in text(app) and "bend is faster" in text(app)
        await pilot.press("enter", "down", "enter")
        assert answers == [ids[0]]


async def test_it_can_begin_with_a_search() -> None:
    store, ids = history()
    async with opened(store, "rabbit") as (app, pilot, answers):
        assert "What is a hare?" in text(app) and "Count" not in text(app)
        await pilot.press("enter")
        assert answers == [ids[1]]


async def test_nothing_found_is_said() -> None:
    store, _ = history()
    async with opened(store, 'zebra" OR *') as (app, pilot, answers):
        assert "nothing found" in text(app)
        await pilot.press("enter", "d", "r")
        assert answers == []


async def test_no_conversations_is_said() -> None:
    async with opened(Store(None)) as (app, pilot, answers):
        assert "no conversations yet" in text(app)
        await pilot.press("enter", "escape")
        assert answers == [None]


async def test_escape_leaves_the_search_first_and_then_the_list() -> None:
    store, _ = history()
    async with opened(store, "rabbit") as (app, pilot, answers):
        await pilot.press("escape")
        await until(lambda: "Count to three" in text(app))
        assert answers == []
        await pilot.press("escape")
        assert answers == [None]


async def test_a_title_can_be_changed() -> None:
    store, ids = history()
    async with opened(store) as (app, pilot, _):
        await pilot.press("down", "r")
        await pilot.pause()
        assert isinstance(app.focused, Input) and app.focused.value == "What is a hare?"
        app.focused.value = ""
        await pilot.press(*"hares", "enter")
        await until(lambda: "▸ hares" in text(app))
        assert store.get(ids[1]).title == "hares"
        await pilot.press("r", "escape")
        assert store.get(ids[1]).title == "hares"


@pytest.mark.parametrize("key", ["d", "delete"])
async def test_deleting_asks_first_and_anything_but_yes_keeps(key: str) -> None:
    store, ids = history()
    async with opened(store) as (app, pilot, _):
        await pilot.press("down", key)
        await pilot.pause()
        assert "Delete “What is a hare?” and its 2 turns permanently?" in text(app)
        await pilot.press("enter", "space", "escape")
        await pilot.pause()
        assert len(store.conversations()) == 3
        await pilot.press(key, "y")
        await until(lambda: len(store.conversations()) == 2)
        assert {c.id for c in store.conversations()} == {ids[0], ids[2]}
        await until(lambda: "▸ Why do rivers" in text(app))


async def test_another_program_may_have_deleted_what_is_opened_here(tmp_path: Path) -> None:
    store, ids = history(tmp_path / "history.db")
    other = Store(tmp_path / "history.db")
    async with opened(store) as (app, pilot, _):
        other.delete(ids[2])
        await pilot.press("d", "y")
        await until(lambda: "Count to three" not in text(app))
        assert len(store.conversations()) == 2
    other.close()
    store.close()


async def test_a_history_that_fails_is_a_notice_and_the_list_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RunFailed("the disk is full [b]", hint="make room")

    store, _ = history()
    monkeypatch.setattr(store, "delete", fail)
    async with opened(store) as (app, pilot, _answers):
        await pilot.press("d", "y")
        await until(lambda: "the disk is full [b]: make room" in text(app))
        assert "Count to three" in text(app)


async def test_a_title_that_cannot_be_stored_comes_back_to_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RunFailed("the disk is full")

    store, _ = history()
    monkeypatch.setattr(store, "rename", fail)
    async with opened(store) as (app, pilot, _answers):
        await pilot.press("r", *"hares", "enter")
        await until(lambda: "the disk is full" in text(app))
        await until(lambda: isinstance(app.focused, Input) and app.focused.value == "hares")


async def test_hostile_titles_and_pastes_are_harmless() -> None:
    store = Store(None)
    name = store.create(HOSTILE)
    store.append(name, Turn("user", HOSTILE + " x" * 500))
    async with opened(store) as (app, pilot, _):
        assert is_safe(app)
        await pilot.press("r")
        await pilot.pause()
        assert is_safe(app)
        await pilot.press("escape", "slash")
        app.screen.query_one("#search", Input).value = "\x1b[2J"
        await pilot.pause()
        assert is_safe(app)
        await pilot.press("escape", "d")
        await pilot.pause()
        assert is_safe(app)


@pytest.mark.parametrize("size", [(80, 24), (100, 30), (60, 16)])
async def test_rows_end_flush_and_fit(size: tuple[int, int]) -> None:
    store = Store(None)
    for number in range(30):
        name = store.create("tiny")
        store.append(name, Turn("user", f"{number} " + "宽字 word " * number))
    async with opened(store, size=size) as (app, pilot, _):
        await pilot.press("down")
        await pilot.pause()
        listed = [row for row in rows(app) if "just now" in row]
        assert len(listed) > 3
        assert len({cell_len(row[: row.index("just now")]) for row in listed}) == 1
        assert all(row.rstrip().endswith("│") and cell_len(row) == size[0] for row in listed)


def test_times_are_told_as_a_person_would() -> None:
    now = datetime(2025, 11, 23, 18, 0, tzinfo=UTC)
    assert _ago(now - timedelta(seconds=5), now) == "just now"
    assert _ago(now + timedelta(seconds=5), now) == "just now"
    assert _ago(now - timedelta(minutes=7), now) == "7 min ago"
    assert _ago(now - timedelta(days=400), now).startswith("2024-")
    assert _ago(now - timedelta(days=40), now).endswith("Oct")
