"""The help lists everything that can be pressed or typed, with the current keys."""

from collections.abc import Collection

from drawn import rows, text, until
from textual.app import App

from dgtui.tui import keymap
from dgtui.tui.commands import SLASHES
from dgtui.tui.key_names import shown
from dgtui.tui.screens.chat import ChatScreen
from dgtui.tui.screens.edit import EditScreen
from dgtui.tui.screens.help import Help, blocks
from dgtui.tui.screens.replay import ReplayScreen
from dgtui.tui.widgets.page import Page


def lines(keys: dict[str, str] | None = None, contexts: Collection[str] = tuple(keymap.COMMANDS)) -> list[str]:
    page = Page(blocks(keys or {}, contexts))
    return ["".join(fragment.content.plain for fragment in row.fragments) for row in page.rows(100)]


def test_every_command_of_the_keymap_is_listed_with_its_keys() -> None:
    listed = lines()
    for commands in keymap.COMMANDS.values():
        for command in commands:
            keys = "  ".join(map(shown, command.keys))
            assert any(line.startswith(f"  {keys} ") and command.help in line for line in listed), command.id


def test_every_slash_command_and_the_attachment_of_files_are_listed() -> None:
    listed = lines()
    for slash in SLASHES:
        assert any(line.startswith(f"  /{slash.name}") and slash.help in line for line in listed)
    assert any(line.startswith("  @FILE") and "up to 256 KiB" in line for line in listed)


def test_each_screen_explains_its_own_keys_and_no_others() -> None:
    for screen, own, other in (
        (ChatScreen, "send the message", "save the file"),
        (EditScreen, "save the file", "send the message"),
        (ReplayScreen, "play the run", "save the file"),
    ):
        listed = "\n".join(lines(contexts=screen.CONTEXTS))
        assert own in listed and other not in listed
    asked_for = {*ChatScreen.CONTEXTS, *EditScreen.CONTEXTS, *ReplayScreen.CONTEXTS}
    assert asked_for == set(keymap.COMMANDS)


def test_keys_that_were_changed_are_shown_as_they_are() -> None:
    keys, problems = keymap.check({"transcript.raw": ("ctrl+r",)})
    assert problems == []
    line = next(line for line in lines(keys) if "as Markdown" in line)
    assert line.split()[0] == "ctrl+r"


def test_every_section_has_a_title() -> None:
    titles = [line for line in lines() if line and not line.startswith(" ")]
    assert titles[0] == "Everywhere"
    assert len(titles) == len(set(titles))


async def test_it_shows_the_keys_of_the_app_scrolls_and_closes() -> None:
    app: App[None] = App()
    async with app.run_test(size=(80, 24)) as pilot:
        app.push_screen(Help({"prompt.send": "ctrl+s"}))
        await pilot.pause()
        line = next(row for row in rows(app) if "send the message" in row)
        assert line.split()[1] == "ctrl+s"
        assert all(len(row) <= 80 for row in rows(app))
        await pilot.press("end")
        await until(lambda: "/quit" in text(app))
        await pilot.press("escape")
        assert not isinstance(app.screen, Help)


async def test_f1_closes_what_f1_opened() -> None:
    app: App[None] = App()
    async with app.run_test(size=(60, 16)) as pilot:
        app.push_screen(Help({}))
        await pilot.pause()
        await pilot.press("f1")
        assert not isinstance(app.screen, Help)
