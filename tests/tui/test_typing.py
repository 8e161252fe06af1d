"""Text is typed in place on the canvas. The run waits and the canvas stands still until it is kept or given up."""

import drawn
import pytest
from scripted import IDS, TALE
from test_chat_screen import Seen, chat
from textual import events

from dgtui.diffusion.events import Flag


async def writing(seen: Seen, steps: int = 3) -> None:
    """A run that has taken some steps, with the keys on its canvas. Its next step waits for the gate."""
    seen.backend.step_gate.let(steps)
    await seen.say("tell me")
    await seen.until(lambda: seen.steering.version and len(seen.steering.version.frames()) == steps, "steps")
    await seen.open_canvas()


async def test_what_is_typed_stands_on_the_canvas_at_the_cursor() -> None:
    async with chat() as seen:
        before = (await seen.reply()).split()
        canvas = seen.screen.panel.canvas
        canvas.cursor = 2
        await seen.canvas("t", *"hello")
        assert f"{before[0]} {before[1]} hello {before[3]}" in drawn.text(seen.app)
        assert seen.ids() == [IDS[word] for word in before] + seen.ids()[len(before) :], "nothing is held yet"
        await seen.pilot.press("backspace", "backspace", "left", "x")
        assert "hexl" in drawn.text(seen.app)


async def test_esc_leaves_the_canvas_as_it_was() -> None:
    async with chat() as seen:
        await seen.reply()
        canvas = seen.screen.panel.canvas
        canvas.cursor = 2
        before, ids, runs = drawn.text(seen.app), seen.ids(), len(seen.backend.runs)
        await seen.canvas("t", *"hello", "escape")
        await seen.until(lambda: drawn.text(seen.app) == before, "the text before")
        assert seen.ids() == ids and len(seen.backend.runs) == runs
        assert canvas.has_focus and canvas.cursor == 2


async def test_a_run_waits_while_text_is_typed_and_holds_it_from_the_next_step_on() -> None:
    async with chat(hold_steps=True, steps=40) as seen:
        await writing(seen)
        seen.screen.panel.canvas.cursor = 4
        await seen.canvas("t")
        assert seen.steering.version.run.control.paused and "the run waits" in seen.screen.panel.status
        seen.backend.step_gate.open()
        await seen.pilot.press(*"hello you", "enter")
        await seen.settled()
        at = len(seen.steering.version.frames()) - 1
        assert "2 tokens pinned from the next step on" in seen.notices()
        assert seen.ids()[4:6] == [IDS["hello"], IDS["you"]] and seen.steering.draft.user_pins(0) == {4, 5}
        assert all((f.flags[4:6] & Flag.PINNED).all() for f in seen.steering.version.frames()[4:]) and at > 4


@pytest.mark.parametrize("keys", ["escape", "tab"])
async def test_a_run_goes_on_when_typing_ends_but_one_that_was_paused_stays_so(keys: str) -> None:
    async with chat(hold_steps=True, steps=40) as seen:
        await writing(seen)
        control = seen.steering.version.run.control
        await seen.canvas("t", "x", keys)
        await seen.until(lambda: not control.paused, "the run goes on")
        await seen.canvas("space", "t", "x", keys)
        await seen.until(lambda: not seen.screen.panel.typing.is_open, "the end of typing")
        assert control.paused and seen.steering.draft.user_pins(0) == frozenset()


async def test_new_steps_do_not_move_the_text_under_what_is_typed() -> None:
    async with chat(hold_steps=True, steps=40) as seen:
        await writing(seen)
        await seen.canvas("t", *"hello")
        before = seen.screen.panel.canvas.view
        seen.backend.step_gate.let(1)  # the step that had begun
        await seen.until(lambda: len(seen.steering.version.frames()) == 4, "a step")
        await seen.pilot.pause()
        assert seen.screen.panel.canvas.view is before


async def test_another_window_does_not_end_typing() -> None:
    async with chat() as seen:
        await seen.reply()
        await seen.canvas("t", *"hel")
        seen.app.post_message(events.AppBlur())
        await seen.until(lambda: seen.app.focused is None, "no focus")
        seen.app.post_message(events.AppFocus())
        await seen.until(lambda: seen.app.focused is not None, "the focus again")
        await seen.pilot.press(*"lo", "enter")
        await seen.settled()
        assert "hello" in seen.chat.turns[-1].text


async def test_a_paste_keeps_its_lines_and_wide_and_combining_characters_have_their_cells() -> None:
    async with chat() as seen:
        await seen.reply()
        seen.screen.panel.canvas.cursor = 1
        await seen.canvas("t")
        seen.app.post_message(events.Paste("日本 e\u0301te\r\nred \x1b[2J"))
        await seen.until(lambda: "日本" in drawn.text(seen.app), "the paste")
        rows = drawn.rows(seen.app)
        at = next(row for row, line in enumerate(rows) if "日本" in line)
        assert "日本 e\u0301te" in rows[at] and rows[at + 1].split()[1] == "red"
        assert drawn.is_safe(seen.app)
        await seen.pilot.press("ctrl+j", "u")
        assert any(line.split()[1:2] == ["u"] for line in drawn.rows(seen.app))


async def test_text_that_does_not_fit_stays_and_can_be_shortened() -> None:
    async with chat() as seen:
        await seen.reply()
        seen.screen.panel.canvas.cursor = 2
        await seen.canvas("t")
        seen.app.post_message(events.Paste("red " * 60))
        await seen.until(lambda: "red red" in drawn.text(seen.app), "the paste")
        await seen.pilot.press("enter")
        await seen.pilot.pause()
        assert "60 tokens do not fit" in seen.notices() and seen.screen.panel.typing.is_open
        await seen.pilot.press("ctrl+u", *"now", "enter")
        await seen.settled()
        assert seen.ids()[2] == IDS["now"]


async def test_the_footer_and_the_help_show_the_keys_of_typing() -> None:
    async with chat() as seen:
        await seen.reply()
        await seen.canvas("t")
        await seen.until(lambda: "leave" in drawn.rows(seen.app)[-1], "the footer")
        assert "re-diffuse" not in drawn.rows(seen.app)[-1]
        await seen.pilot.press("r", "p")
        assert len(seen.backend.runs) == 1 and "rp" in drawn.text(seen.app)


async def search_a_length(seen: Seen) -> None:
    """Opens a gap at position 5 and holds the search after its first step."""
    seen.backend.step_gate.close()
    seen.screen.panel.canvas.cursor = 5
    await seen.canvas("i")
    seen.backend.step_gate.let(1)
    await seen.until(lambda: seen.steering.version.frames(), "a step")


async def test_words_typed_into_a_gap_stand_in_every_length() -> None:
    async with chat(hold_steps=True) as seen:
        seen.backend.step_gate.open()
        before = (await seen.reply()).split()
        await search_a_length(seen)
        await seen.canvas("t", *"hello you")
        assert "hello you" in drawn.text(seen.app)
        assert before[5] in drawn.text(seen.app), "only what the gap holds is replaced"
        await seen.pilot.press("enter")
        seen.backend.step_gate.open()
        await seen.settled()
        job = seen.backend.jobs[-1]
        for start in job.starts:
            at = start.ids.index(IDS["hello"])
            assert start.ids[at : at + 2] == (IDS["hello"], IDS["you"]) and {at, at + 1} <= start.pinned
        assert len({start.ids.index(IDS[before[5]], 6) for start in job.starts}) > 1, "the lengths differ"
        written = [version for version in seen.steering.draft.proposals() if len(seen.steering.draft.proposals()) > 2]
        texts = [seen.steering.text(version) for version in written if version.run is seen.steering.version.run]
        assert len(texts) > 1 and all("hello you" in text for text in texts)


async def test_a_search_that_ends_while_text_is_typed_begins_again_with_it() -> None:
    async with chat(hold_steps=True) as seen:
        seen.backend.step_gate.open()
        await seen.reply()
        await search_a_length(seen)
        await seen.canvas("t", *"hello")
        seen.steering.version.run.control.resume()
        seen.backend.step_gate.open()
        await seen.until(lambda: not seen.steering.searching, "the end of the search")
        assert "hello" in drawn.text(seen.app) and seen.screen.panel.typing.is_open
        runs = len(seen.backend.runs)
        await seen.pilot.press("enter")
        await seen.until(lambda: len(seen.backend.runs) > runs, "another search")
        await seen.settled()
        assert "hello" in seen.chat.turns[-1].text and len(seen.chat.turns[-1].text.split()) > len(TALE)


async def test_text_is_typed_in_place_on_a_template() -> None:
    async with chat() as seen:
        await seen.say("/template hello … now")
        panel = seen.screen.panel
        panel.canvas.cursor = 1
        await seen.canvas("t", *"why")
        assert "hello  … why  … now" in drawn.text(seen.app)
        await seen.pilot.press("escape")
        assert panel.template.parts == [[IDS["hello"]], [IDS["now"]]]


async def test_nothing_is_typed_among_tokens_with_fixed_places() -> None:
    async with chat() as seen:
        seen.screen.panel.template.hold({3: IDS["red"]})
        await seen.say("/template")
        await seen.canvas("t")
        assert "fixed places" in seen.notices() and not seen.screen.panel.typing.is_open
