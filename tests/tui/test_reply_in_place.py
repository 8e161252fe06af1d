"""A reply resolves where it will stand, and its steps can be watched there again."""

from pathlib import Path

import drawn
from scripted import CANVAS, IDS, TALE
from test_chat_screen import Seen, chat
from textual import events

from dgtui.session.store import Store
from dgtui.tui.conversation_controller import Opening


def column_of(seen: Seen, word: str) -> int:
    return next(row.index(word) for row in drawn.rows(seen.app) if word in row)


async def test_a_reply_resolves_where_it_will_stand_and_is_on_the_screen_once() -> None:
    async with chat() as seen:
        seen.backend.step_gate.close()
        await seen.say("hello")
        await seen.until(lambda: seen.backend.step_gate.held, "the first step")
        for _ in range(3):
            seen.backend.step_gate.let(1)
            await seen.pilot.pause(0.1)  # frames that come too soon after another are not drawn
        await seen.until(lambda: "lived" in "\n".join(drawn.rows(seen.app)), "the third step on the screen")
        running = column_of(seen, "lived")
        assert "\n".join(drawn.rows(seen.app)).count("Model") == 1
        seen.backend.step_gate.open()
        await seen.settled()
        await seen.until(lambda: not seen.screen.panel.is_open, "the rendered reply")
        shown = "\n".join(drawn.rows(seen.app))
        assert column_of(seen, "lived") == running
        assert shown.count("lived") == shown.count("Model") == 1
        assert "end of reply" in shown, "the note below the reply"


async def test_the_canvas_of_a_finished_reply_is_open_while_it_has_the_focus() -> None:
    async with chat() as seen:
        await seen.reply()
        assert seen.screen.panel.is_open
        assert "\n".join(drawn.rows(seen.app)).count("lived") == 1
        await seen.pilot.press("tab")
        await seen.until(lambda: not seen.screen.panel.is_open, "the rendered reply")
        assert seen.screen.prompt.has_focus


async def test_finished_blocks_stand_above_the_one_on_the_canvas() -> None:
    async with chat(opening=Opening(seed=3, max_tokens=96)) as seen:
        seen.backend.denoiser._choices = [[IDS["red"], IDS["now"]]] * CANVAS  # no end
        await seen.reply()
        await seen.until(lambda: "on_canvas=True" in repr(seen.screen.transcript.entries[-1]), "the place")
        above = seen.screen.transcript.entries[-1].text
        assert len(above.split()) == 48 and seen.steering.version.block == 1
        await seen.canvas("left_curly_bracket")
        await seen.until(lambda: not seen.screen.transcript.entries[-1].text, "the first block on the canvas")


async def test_a_stored_reply_has_its_timeline_after_continue(tmp_path: Path) -> None:
    store = Store(tmp_path / "history.db")
    async with chat(store) as seen:
        await seen.reply()
        steps = [frame.ids.tolist() for frame in seen.steering.version.frames()]
        conversation = seen.chat.id
    async with chat(store, Opening(conversation=conversation)) as seen:
        seen.screen.transcript.focus()
        await seen.pilot.press("e")
        await seen.until(lambda: seen.screen.panel.canvas.has_focus, "the canvas")
        assert [frame.ids.tolist() for frame in seen.steering.version.frames()] == steps
        await seen.canvas("left_curly_bracket")
        assert seen.steering.playhead == 0 and "step 1/" in seen.screen.panel.status
        await seen.canvas("right_curly_bracket", "home")
        seen.screen.panel.canvas.select(2, 3)
        await seen.canvas("r")
        await seen.settled()
        assert seen.steering.version.kind == "re-diffuse" and len(seen.chat.turns[-1].text.split()) == len(TALE)


async def test_an_earlier_reply_shows_its_steps_at_its_place_and_cannot_be_changed() -> None:
    async with chat() as seen:
        await seen.reply("one")
        first = seen.chat.turns[1]
        seen.screen.prompt.focus()
        await seen.reply("two")
        seen.screen.transcript.focus()
        await seen.pilot.press("home", "down", "e")
        await seen.until(lambda: seen.screen.panel.canvas.has_focus, "the canvas")
        entries = seen.screen.transcript.entries
        assert [entry.on_canvas for entry in entries] == [False, True, False, False]
        views = [child for child in seen.screen.transcript.children if child.display]
        assert views.index(seen.screen.panel) == 1, "between the question and the next one"
        assert seen.steering.text(seen.steering.version) == first.text
        await seen.canvas("left_square_bracket")
        assert "looking back" in seen.screen.panel.status
        await seen.canvas("right_curly_bracket", "r", "p", "i", "escape")
        assert "can be viewed but not changed" in seen.notices()
        assert seen.chat.turns[1] == first and len(seen.chat.turns) == 4
        await seen.until(lambda: seen.screen.transcript.entries[1].text == first.text, "the rendered reply")
        text = await seen.reply("three")
        assert len(seen.chat.turns) == 6 and seen.chat.turns[-1].text == text


async def test_enter_shift_tab_and_space_in_one_burst_send_and_pause() -> None:
    async with chat() as seen:
        seen.backend.step_gate.close()
        seen.screen.prompt.focus()
        seen.screen.prompt.load_text("hello")
        await seen.pilot.pause()
        for key, character in (("enter", "\r"), ("shift+tab", None), ("space", " ")):
            seen.app.post_message(events.Key(key, character))
        await seen.until(lambda: seen.backend.step_gate.held, "the first step")
        await seen.until(lambda: seen.steering.version.run.control.paused, "the pause")
        assert seen.screen.prompt.text == "" and seen.screen.panel.canvas.has_focus


async def test_the_versions_are_a_tree_that_shows_what_changed() -> None:
    async with chat() as seen:
        await seen.reply()
        seen.screen.panel.canvas.select(2, 3)
        old = seen.steering.text(seen.steering.version).split()[2]
        for _ in range(8):
            await seen.canvas("r")
            await seen.settled()
            new = seen.steering.text(seen.steering.version).split()[2]
            if new != old:
                break
        lines = [line for _, _, line in seen.steering.described()]
        assert lines[0].startswith("1  reply · seed 3 · ") and lines[0].endswith(" …")
        assert all(line.startswith(("├─ ", "└─ ")) for line in lines[1:])
        assert lines[-1].endswith(f"{old} → {new}") and "lived" not in lines[-1]


async def test_a_notice_covers_the_line_on_top_and_no_text() -> None:
    async with chat(notifications=True) as seen:
        await seen.reply()
        seen.app.notify("something short")
        await seen.until(lambda: any("something short" in row for row in drawn.rows(seen.app)), "the notice")
        shown = [number for number, row in enumerate(drawn.rows(seen.app)) if "something short" in row]
        assert shown == [0]
