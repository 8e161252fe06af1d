"""Text files in the chat: `@path` completes in the prompt, and the file stays with its message."""

from pathlib import Path

import pytest
from drawn import is_safe, text
from scripted import START, TURN_END
from test_chat_screen import Seen, chat
from test_prompt import paste, typing

from dgtui.session.store import Store, TextFile
from dgtui.tui.opening import Opening
from dgtui.tui.widgets.attached import Attached
from dgtui.tui.widgets.completion import MOST_OFFERED, suggestions

WORDS = "you say hello"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder."""
    folder = tmp_path / "work"
    (folder / "my texts").mkdir(parents=True)
    for name in ("notes.txt", "now.md", ".env", "my texts/one.txt", "it's.txt"):
        (folder / name).write_text(WORDS)
    monkeypatch.chdir(folder)
    return folder


# -- completion -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "offered"),
    [
        ("see @n", ["@notes.txt ", "@now.md "]),
        ("@", ['@"it\'s.txt" ', "@'my texts/", "@notes.txt ", "@now.md "]),
        ("@.", ["@.env "]),
        ("@'my t", ["@'my texts/"]),
        ("@'my texts/", ["@'my texts/one.txt' "]),
        ("@my\\ texts/o", ["@'my texts/one.txt' "]),
        ("@it\\'s", ['@"it\'s.txt" ']),
        ("@./no", ["@./notes.txt ", "@./now.md "]),
        ("@notes.txt", []),
        ("@notes.txt ", []),
        ("me@no", []),
        ("`@no", []),
        ("@'notes.txt' n", []),
        ("@x", []),
    ],
)
def test_paths_are_offered_as_they_are_attached(before: str, offered: list[str]) -> None:
    found = suggestions(before, None, before)
    assert [suggestion.text for suggestion in found] == offered
    assert all(before.endswith(before[len(before) - s.replaces :]) for s in found if s.replaces)


def test_nothing_is_offered_in_a_command() -> None:
    assert suggestions("/system see @n", None, "/system see @n") == []
    assert suggestions("/etc/hosts or @n", None, "/etc/hosts or @n")


async def test_tab_and_enter_go_into_a_folder_and_on_to_a_file_in_the_middle_of_a_message() -> None:
    async with typing() as (app, pilot):
        await pilot.press(*"sum  up", "left", "left", "left", "@")
        assert "my texts/" in text(app)
        await pilot.press("m", "tab")
        assert app.prompt.text == "sum @'my texts/ up"
        await pilot.press("enter")
        assert app.prompt.text == "sum @'my texts/one.txt'  up" and not app.list.display
        await pilot.press("enter")
        assert app.sent == ["sum @'my texts/one.txt'  up"]


async def test_enter_takes_a_path_that_was_begun_and_sends_a_bare_at_sign() -> None:
    async with typing() as (app, pilot):
        await pilot.press(*"@no", "down", "enter")
        assert (app.prompt.text, app.sent) == ("@now.md ", [])
        await pilot.press("@", "enter")
        assert app.sent == ["@now.md @"]


async def test_the_list_closes_when_the_cursor_leaves_the_path() -> None:
    async with typing() as (app, pilot):
        await pilot.press(*"a @n")
        assert app.list.display
        await pilot.press("home")
        await pilot.pause()
        assert not app.list.display
        await pilot.press("end")
        await pilot.pause()
        assert app.list.display
        await pilot.press("escape")
        assert not app.list.display


async def test_a_path_that_was_dropped_in_quotes_is_sent_as_it_is() -> None:
    async with typing() as (app, pilot):
        await pilot.press("@")
        await paste(app, pilot, "'my texts/one.txt'")
        await pilot.press("enter")
        assert app.sent == ["@'my texts/one.txt'"]


async def test_hostile_names_are_drawn_harmlessly(folder: Path) -> None:
    (folder / "a\x1b[2J").touch()
    (folder / "a\u202eb").touch()
    async with typing() as (app, pilot):
        await pilot.press("@")
        await pilot.pause()
        assert is_safe(app)


def test_a_huge_folder_is_listed_in_part(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for n in range(300):
        (folder / f"x{n}").touch()
    assert len(suggestions("@x", None, "@x")) == MOST_OFFERED
    monkeypatch.setattr("dgtui.tui.widgets.completion.MOST_ENTRIES", 20)
    assert len(suggestions("@x", None, "@x")) <= 20


# -- sending --------------------------------------------------------------------------------------------------------


def line(seen: Seen) -> str:
    """The line above the prompt."""
    return str(seen.screen.query_one(Attached).render()) if seen.screen.attached.display else ""


def prompt_of(seen: Seen, content: str) -> list[int]:
    return [START, *seen.backend.encode(content), TURN_END]


FENCED = f"File notes.txt:\n\n```\n{WORDS}\n```"


async def test_the_model_reads_the_file_and_the_message_stays_as_typed() -> None:
    async with chat() as seen:
        await seen.reply("say @notes.txt why")
        (job,) = seen.backend.jobs
        assert list(job.prompt_ids) == prompt_of(seen, f"{FENCED}\n\nsay @notes.txt why")
        assert seen.chat.turns[0].files == (TextFile("notes.txt", WORDS),)
        assert seen.chat.turns[0].text == "say @notes.txt why"
        assert seen.screen.transcript.entries[0].chips == ("notes.txt 13 bytes",)
        assert "notes.txt 13 bytes" in text(seen.app)
        assert seen.screen.conversation.title == "say @notes.txt why"


async def test_what_was_sent_is_what_later_replies_read_whatever_happens_to_the_file(
    folder: Path, tmp_path: Path
) -> None:
    async with chat(Store(tmp_path / "history.db")) as seen:
        await seen.reply("say @notes.txt")
        sent, name = list(seen.backend.jobs[0].prompt_ids), seen.chat.id
        (folder / "notes.txt").write_text("red")
        seen.screen.action_regenerate()
        await seen.until(lambda: len(seen.backend.jobs) == 2, "a job")
        await seen.settled()
        assert list(seen.backend.jobs[1].prompt_ids) == sent
    (folder / "notes.txt").unlink()
    async with chat(Store(tmp_path / "history.db"), Opening(seed=4, conversation=name)) as seen:
        assert seen.screen.transcript.entries[0].chips == ("notes.txt 13 bytes",)
        await seen.reply("why")
        assert list(seen.backend.jobs[0].prompt_ids)[: len(sent)] == sent
        seen.screen.transcript.focus()
        await seen.pilot.press("home")
        await seen.pilot.press("e")
        await seen.until(lambda: seen.screen.prompt.text == "say @notes.txt", "the message")
        assert "as sent before: notes.txt (13 bytes)" in line(seen)
        await seen.reply("now say @notes.txt")
        assert seen.chat.id != name and line(seen) == ""
        assert list(seen.backend.jobs[1].prompt_ids) == prompt_of(seen, f"{FENCED}\n\nnow say @notes.txt")


async def test_a_kept_file_can_be_read_again(folder: Path) -> None:
    async with chat() as seen:
        await seen.reply("say @notes.txt")
        seen.screen.conversation.edit_message(0)
        (folder / "notes.txt").write_text("red")
        await seen.say("/image -")
        assert line(seen) == ""
        await seen.reply("say @notes.txt")
        assert seen.chat.turns[0].files == (TextFile("notes.txt", "red"),)


async def test_a_file_that_cannot_be_attached_is_said_and_the_message_comes_back(folder: Path) -> None:
    (folder / "a.out").write_bytes(b"\0\x1b[2J")
    async with chat() as seen:
        await seen.say("say @notes.txt and @a.out")
        await seen.until(lambda: "a.out is a binary file" in seen.notices(), "a notice")
        assert seen.screen.prompt.text == "say @notes.txt and @a.out"
        assert seen.chat.turns == [] and seen.store.conversations() == []


async def test_a_file_with_too_many_tokens_is_said_with_both_numbers_and_the_message_comes_back(folder: Path) -> None:
    (folder / "long.txt").write_text("you " * 3000)
    async with chat() as seen:
        await seen.say("say @long.txt")
        await seen.until(lambda: "long.txt has 3,000; attach a smaller file" in seen.notices(), "a notice")
        assert "the message has 3,008 tokens, but only 1,952 fit" in seen.notices()
        assert seen.screen.prompt.text == "say @long.txt" and seen.chat.turns == []
        (folder / "long.txt").write_text("you")  # made shorter
        await seen.reply("say @long.txt")
        assert seen.chat.turns[0].files == (TextFile("long.txt", "you"),)


async def test_a_message_that_waits_sends_the_file_as_it_was_when_enter_was_pressed(folder: Path) -> None:
    async with chat(hold_load=True) as seen:
        await seen.say("say @notes.txt")
        (folder / "notes.txt").unlink()
        seen.backend.load_gate.open()
        await seen.until(lambda: len(seen.chat.turns) == 2, "the reply")
        await seen.settled()
        assert seen.chat.turns[0].files == (TextFile("notes.txt", WORDS),)


async def test_a_discarded_draft_gives_its_file_back(folder: Path) -> None:
    async with chat(hold_steps=True, steps=40) as seen:
        await seen.say("say @notes.txt")
        await seen.until(lambda: seen.steering.running, "a run")
        (folder / "notes.txt").unlink()
        await seen.canvas("escape")
        seen.backend.step_gate.open()
        await seen.settled()
        await seen.canvas("escape")
        await seen.until(lambda: seen.screen.prompt.text == "say @notes.txt", "the question")
        await seen.reply("say @notes.txt")
        assert seen.chat.turns[0].files == (TextFile("notes.txt", WORDS),)


async def test_the_export_names_the_file(folder: Path) -> None:
    async with chat() as seen:
        await seen.reply("say @notes.txt")
        await seen.say("/export talk.md")
        await seen.until((folder / "talk.md").exists, "the file")
        assert "File: notes.txt (13 bytes, SHA-256 " in (folder / "talk.md").read_text()


async def test_names_and_texts_of_files_cannot_drive_the_terminal(folder: Path) -> None:
    name = "a\x1b[2J[red].txt"
    (folder / name).write_text("\x1b[2J [red]")
    async with chat() as seen:
        seen.screen.send(f"say @{name}")
        await seen.until(lambda: len(seen.chat.turns) == 2, "the reply")
        await seen.settled()
        assert seen.screen.transcript.entries[0].chips == ("a␛[2J[red].txt 10 bytes",)
        assert "a␛[2J[red].txt 10 bytes" in text(seen.app) and is_safe(seen.app)
        assert "File a␛[2J[red].txt:" in seen.chat.messages()[0].content
