"""Images in the chat: attached, sent, kept with the conversation, and never dropped silently."""

from pathlib import Path

import pytest
from test_chat_screen import Seen, chat

from dgtui.session.store import Attachment, Store, Turn
from dgtui.tui.opening import Opening
from dgtui.tui.widgets.attached import Attached


@pytest.fixture
def cat(tmp_path: Path) -> Path:
    path = tmp_path / "cat.png"
    path.write_text("miaow")
    return path


def line(seen: Seen) -> str:
    """The line above the prompt."""
    return str(seen.screen.query_one(Attached).render()) if seen.screen.attached.display else ""


async def test_an_attached_image_goes_with_the_next_message_and_stays_in_the_conversation(cat: Path) -> None:
    async with chat() as seen:
        await seen.say(f"/image {cat}")
        await seen.until(lambda: "cat.png (5 tokens)" in line(seen), "a line")
        assert "use /image - to remove it" in line(seen)
        await seen.reply()
        assert line(seen) == ""
        (job,) = seen.backend.jobs
        assert [image.tokens for image in job.images] == [5]
        assert seen.chat.turns[0].images == (Attachment(str(cat), "miaow"),)
        assert seen.screen.transcript.entries[0].note == "image: cat.png"
        await seen.reply("and now")  # it is still part of the prompt
        assert seen.backend.jobs[-1].images == job.images
        assert seen.chat.turns[2].images == ()


async def test_image_alone_says_what_is_attached_and_a_dash_drops_it(cat: Path) -> None:
    async with chat() as seen:
        await seen.say("/image")
        await seen.until(lambda: "no image is attached: use /image FILE" in seen.notices(), "a notice")
        for _ in range(2):
            await seen.say(f"/image {cat}")
        await seen.until(lambda: "cat.png (5 tokens), cat.png (5 tokens)" in line(seen), "two")
        await seen.say("/image")
        await seen.until(
            lambda: "cat.png (5 tokens), cat.png (5 tokens); use /image - to remove it" in seen.notices(), "two"
        )
        await seen.say("/image -")
        await seen.until(lambda: line(seen) == "", "no line")
        await seen.reply()
        assert seen.backend.jobs[0].images == ()


async def test_a_model_that_does_not_see_says_so_and_the_command_can_be_corrected(cat: Path) -> None:
    async with chat() as seen:
        seen.backend.sees = False
        await seen.say(f"/image {cat}")
        await seen.until(lambda: "the scripted model does not see: take one that does" in seen.notices(), "a notice")
        assert line(seen) == ""


async def test_an_image_given_on_the_command_line_waits_for_the_model(cat: Path) -> None:
    async with chat(opening=Opening(seed=3, images=(cat,)), hold_load=True) as seen:
        assert "cat.png (when the model is loaded)" in line(seen)
        await seen.say("tell me")
        seen.backend.load_gate.open()
        await seen.until(lambda: len(seen.chat.turns) == 2, "a reply")
        await seen.settled()
        assert [image.tokens for image in seen.backend.jobs[0].images] == [5]


async def test_a_message_that_was_to_go_with_an_image_does_not_go_without_it(cat: Path) -> None:
    async with chat(opening=Opening(seed=3, images=(cat.with_name("gone.png"),)), hold_load=True) as seen:
        await seen.say("tell me")
        seen.backend.load_gate.open()
        await seen.until(lambda: "gone.png is gone" in seen.notices(), "a notice")
        assert seen.screen.prompt.text == "tell me" and seen.chat.turns == []


async def test_a_conversation_that_goes_on_shows_its_images_again(cat: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "history.db")
    async with chat(store) as seen:
        await seen.say(f"/image {cat}")
        await seen.reply()
        first, name = seen.backend.jobs[0].images, seen.chat.id
    async with chat(Store(tmp_path / "history.db"), Opening(seed=4, conversation=name)) as seen:
        assert seen.screen.transcript.entries[0].note == "image: cat.png"
        await seen.reply("and now")
        assert seen.backend.jobs[0].images == first
        assert line(seen) == ""


@pytest.mark.parametrize("change", ["gone", "changed"])
async def test_an_image_that_is_gone_or_changed_is_said_above_the_prompt(
    change: str, cat: Path, tmp_path: Path
) -> None:
    store = Store(tmp_path / "history.db")
    async with chat(store) as seen:
        await seen.say(f"/image {cat}")
        await seen.reply()
        name = seen.chat.id
    if change == "gone":
        cat.unlink()
    else:
        cat.write_text("woof")
    async with chat(Store(tmp_path / "history.db"), Opening(seed=4, conversation=name)) as seen:
        words = "cat.png is gone" if change == "gone" else "cat.png has changed since it was sent"
        await seen.until(lambda: f"not shown to the model: {words}" in line(seen), "a line")
        await seen.reply("and now")
        assert seen.backend.jobs[0].images == ()
        assert words in line(seen)
        cat.write_text("miaow")  # back again
        await seen.reply("and again")
        assert len(seen.backend.jobs[1].images) == 1 and line(seen) == ""
        await seen.say("/new")
        await seen.until(lambda: seen.chat.turns == [], "a new conversation")
        assert line(seen) == ""


async def test_an_image_of_an_older_history_is_taken_as_it_is(cat: Path) -> None:
    store = Store(None)
    name = store.create("scripted")
    store.append(name, Turn("user", "say hello", images=(Attachment(str(cat)),)))
    async with chat(store, Opening(seed=4, conversation=name)) as seen:
        await seen.reply("and now")
        assert len(seen.backend.jobs[0].images) == 1


async def test_another_model_reads_what_is_attached_anew(cat: Path) -> None:
    async with chat() as seen:
        await seen.say(f"/image {cat}")
        await seen.until(lambda: "5 tokens" in line(seen), "a line")
        seen.backend.sees = False
        await seen.say("/model other")
        await seen.until(lambda: "does not see" in seen.notices(), "a notice")
        assert line(seen) == ""


async def test_a_discarded_draft_gives_its_images_back(cat: Path) -> None:
    async with chat(hold_steps=True, steps=40) as seen:
        await seen.say(f"/image {cat}")
        await seen.say("tell me")
        await seen.until(lambda: seen.steering.running, "a run")
        assert line(seen) == ""
        await seen.canvas("escape")
        seen.backend.step_gate.open()
        await seen.settled()
        await seen.canvas("escape")
        await seen.until(lambda: "cat.png (5 tokens)" in line(seen), "the image")
        assert seen.screen.prompt.text == "tell me"


async def test_a_regenerated_or_reopened_reply_has_the_images(cat: Path) -> None:
    async with chat() as seen:
        await seen.say(f"/image {cat}")
        await seen.reply()
        seen.screen.action_regenerate()
        await seen.until(lambda: len(seen.backend.jobs) == 2, "a job")
        await seen.settled()
        seen.steering.draft = None
        seen.screen.action_edit_reply()
        await seen.until(lambda: seen.steering.draft is not None, "the reply on the canvas")
        assert len(seen.steering.version.run.log.job.images) == 1
        assert [len(job.images) for job in seen.backend.jobs] == [1, 1]


async def test_a_message_waits_for_an_image_that_is_being_read_and_the_screen_does_not(cat: Path) -> None:
    async with chat() as seen:
        seen.backend.see_gate.close()
        await seen.say(f"/image {cat}")
        await seen.until(lambda: "cat.png (being read)" in line(seen), "a line")
        await seen.say("tell me")
        assert seen.backend.jobs == [] and "as soon as the images are read" in seen.notices()
        seen.backend.see_gate.open()
        await seen.until(lambda: len(seen.backend.jobs) == 1, "a job")
        assert len(seen.backend.jobs[0].images) == 1
        await seen.settled()


async def test_an_image_dropped_while_it_is_read_is_not_attached(cat: Path) -> None:
    async with chat() as seen:
        seen.backend.see_gate.close()
        await seen.say(f"/image {cat}")
        await seen.until(lambda: "being read" in line(seen), "a line")
        await seen.say("/image -")
        seen.backend.see_gate.open()
        await seen.until(lambda: not seen.screen.attached.workers, "the end of reading")
        assert line(seen) == "" and seen.screen.attached.images == []
        await seen.reply()
        assert seen.backend.jobs[0].images == ()


async def test_a_file_name_cannot_drive_the_terminal(tmp_path: Path) -> None:
    bad = tmp_path / "cat\x1b[2J[red].png"
    bad.write_text("miaow")
    async with chat() as seen:
        seen.screen.attached.attach(bad)
        await seen.until(lambda: "cat␛[2J[red].png (5 tokens)" in line(seen), "a line")
        await seen.reply()
        assert seen.screen.transcript.entries[0].note == "image: cat␛[2J[red].png"
