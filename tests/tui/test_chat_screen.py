"""The chat screen with a scripted model behind it: what a person sees and can do, key by key."""

from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import drawn
import pytest
from scripted import CANVAS, IDS, MODEL, TALE, TURN_END, ScriptedBackend
from textual import events
from textual.events import Paste
from textual.pilot import Pilot
from textual.selection import SELECT_ALL

from dgtui.backend import Facts
from dgtui.config import Settings
from dgtui.diffusion.events import Flag
from dgtui.diffusion.settings import SAMPLER
from dgtui.errors import DgtuiError, ModelNotFound, RunFailed
from dgtui.session.chat import Chat
from dgtui.session.store import Store, Turn
from dgtui.tui.commands import SLASHES
from dgtui.tui.draft_controller import DraftController
from dgtui.tui.opening import Opening
from dgtui.tui.screens.chat import ChatApp, ChatScreen
from dgtui.tui.theme_file import theme_folders
from dgtui.tui.widgets.canvas_panel import CanvasPanel
from dgtui.tui.widgets.key_line import KeyLine
from dgtui.tui.widgets.loading import Loading
from dgtui.tui.widgets.transcript import EntryView


class Seen:
    """The app under test and its parts."""

    def __init__(self, app: ChatApp, pilot: Pilot[None], backend: ScriptedBackend, store: Store) -> None:
        self.app, self.pilot, self.backend, self.store = app, pilot, backend, store

    @property
    def screen(self) -> ChatScreen:
        found = next(s for s in self.app.screen_stack if isinstance(s, ChatScreen))
        return found

    @property
    def chat(self) -> Chat:
        return self.screen.conversation.chat

    @property
    def steering(self) -> DraftController:
        return self.screen.panel.steering

    async def until(self, holds: Callable[[], Any], what: str = "") -> None:
        for _ in range(600):
            if holds():
                return
            await self.pilot.pause(0.01)
        raise AssertionError(f"it never came to pass: {what}")

    async def say(self, text: str) -> None:
        self.screen.prompt.focus()
        self.screen.prompt.load_text(text)
        await self.pilot.press("enter")

    async def reply(self, text: str = "tell me") -> str:
        """Sends a message and waits for the whole reply."""
        count = len(self.chat.turns)
        await self.say(text)
        await self.until(lambda: len(self.chat.turns) == count + 2, "two turns")
        await self.settled()
        await self.open_canvas()
        return self.chat.turns[-1].text

    async def settled(self) -> None:
        await self.until(lambda: not self.steering.running, "the run's end")
        await self.pilot.pause()

    async def open_canvas(self) -> None:
        """From the prompt to the canvas, which a finished reply has only while it has the focus."""
        self.screen.prompt.focus()
        await self.pilot.press("shift+tab")
        await self.until(lambda: self.screen.panel.canvas.has_focus, "the canvas")

    async def canvas(self, *keys: str) -> None:
        if not self.screen.panel.canvas.has_focus:
            await self.open_canvas()
        await self.pilot.press(*keys)
        await self.pilot.pause()

    def ids(self) -> list[int]:
        version = self.steering.version
        assert version is not None
        ids = version.ids(version.block)
        assert ids is not None
        return ids.tolist()

    def notices(self) -> str:
        return " | ".join(n.message for n in self.app._notifications)


@asynccontextmanager
async def chat(
    store: Store | None = None,
    opening: Opening | None = None,
    size: tuple[int, int] = (100, 30),
    notifications: bool = False,
    **model: Any,
) -> AsyncIterator[Seen]:
    backend = ScriptedBackend(**model)
    store = store or Store(None)
    opening = opening or Opening(seed=3)
    app = ChatApp(backend, store, Settings(), opening, theme_folders=theme_folders())
    async with app.run_test(size=size, notifications=notifications) as pilot:
        seen = Seen(app, pilot, backend, store)
        if model.get("error") is None and not model.get("hold_load"):
            await seen.until(lambda: backend.facts is not None, "a model")
            await pilot.pause()
        yield seen
    backend.close()


async def test_a_message_is_answered_and_stored() -> None:
    async with chat() as seen:
        text = await seen.reply("tell me why")
        assert len(text.split()) == len(TALE)
        (conversation,) = seen.store.conversations()
        assert [s.turn.text for s in seen.store.turns(conversation.id)] == ["tell me why", text]
        assert seen.store.turns(conversation.id)[1].turn.finished
        await seen.pilot.press("tab")
        await seen.until(lambda: not seen.screen.panel.is_open, "the rendered reply")
        assert [e.text for e in seen.screen.transcript.entries] == ["tell me why", text]


async def test_a_prompt_typed_while_the_model_loads_is_sent_when_it_is_there() -> None:
    async with chat(hold_load=True) as seen:
        await seen.say("tell me")
        assert seen.backend.facts is None
        seen.backend.load_gate.open()
        await seen.until(lambda: len(seen.chat.turns) == 2, "the reply")
        await seen.settled()
        assert seen.chat.turns[1].text


async def test_a_model_that_cannot_be_loaded_says_why_and_the_text_stays() -> None:
    async with chat(error=ModelNotFound("no such model", hint="see dgtui model list")) as seen:
        await seen.until(lambda: "no such model" in str(seen.screen.query_one("#loading").render()), "the error")
        await seen.say("tell me")
        assert seen.screen.prompt.text == "tell me"
        assert "load one with /model" in seen.notices()


async def test_a_message_that_waits_comes_back_if_no_model_is_loaded() -> None:
    async with chat(error=ModelNotFound("no such model"), hold_load=True) as seen:
        await seen.say("tell me")
        seen.screen.prompt.insert("and")
        seen.backend.load_gate.open()
        await seen.until(lambda: seen.screen.loader.error, "the error")
        await seen.pilot.pause()
        assert seen.screen.prompt.text == "tell me\nand"


async def test_messages_that_are_typed_before_a_model_is_there_are_sent_in_order() -> None:
    async with chat(hold_load=True) as seen:
        await seen.say("tell me")
        await seen.say("and why")
        assert "2 wait" in seen.notices()
        seen.backend.load_gate.open()
        await seen.until(lambda: len(seen.chat.turns) == 4, "both replies")
        assert [turn.text for turn in seen.chat.turns[::2]] == ["tell me", "and why"]
        await seen.settled()


async def test_a_message_that_is_typed_while_a_reply_is_written_is_sent_after_it() -> None:
    async with chat(hold_steps=True) as seen:
        seen.backend.step_gate.let(1)
        await seen.say("tell me")
        await seen.until(lambda: seen.steering.version and seen.steering.version.frames(), "a step")
        await seen.say("and why")
        assert "as soon as the reply is finished" in seen.notices() and len(seen.chat.turns) == 2
        seen.backend.step_gate.open()
        await seen.until(lambda: len(seen.chat.turns) == 4, "both replies")
        await seen.settled()
        assert seen.chat.turns[1].text and [t.text for t in seen.chat.turns[::2]] == ["tell me", "and why"]


async def test_a_message_that_waits_comes_back_if_the_reply_is_stopped() -> None:
    async with chat(hold_steps=True, steps=40) as seen:
        seen.backend.step_gate.let(1)
        await seen.say("tell me")
        await seen.until(lambda: seen.steering.version and seen.steering.version.frames(), "a step")
        await seen.say("and why")
        await seen.pilot.press("escape")
        seen.backend.step_gate.open()
        await seen.settled()
        await seen.until(lambda: seen.screen.prompt.text == "and why", "the message")
        assert len(seen.chat.turns) == 2


async def test_an_earlier_message_is_changed_in_a_branch_and_the_conversation_stays() -> None:
    async with chat() as seen:
        await seen.reply("tell me")
        await seen.reply("and why")
        first = seen.chat.id
        seen.screen.transcript.focus()
        await seen.pilot.press("up")
        await seen.until(lambda: seen.screen.transcript.position == 2, "the mark")
        await seen.pilot.press("e")
        await seen.until(lambda: seen.screen.prompt.text == "and why", "the message")
        assert len(seen.store.conversations()) == 1, "a branch is stored with its first message"
        await seen.reply("hello")
        texts = [stored.turn.text for stored in seen.store.turns(seen.chat.id)]
        assert seen.chat.id != first and texts[0] == "tell me" and texts[2] == "hello" and len(texts) == 4
        assert [stored.turn.text for stored in seen.store.turns(first)][2] == "and why"


async def test_a_command_of_the_palette_that_is_refused_leaves_the_prompt_alone() -> None:
    async with chat() as seen:
        seen.screen.prompt.load_text("half a")
        (delete,) = (c for c in seen.app.get_system_commands(seen.screen) if c.title == "/delete")
        delete.callback()
        await seen.pilot.pause()
        assert "not stored" in seen.notices()
        assert seen.screen.prompt.text == "half a"


async def test_rediffusing_a_selection_changes_only_it() -> None:
    async with chat() as seen:
        await seen.reply()
        before = seen.ids()
        seen.screen.panel.canvas.select(1, 4)
        await seen.canvas("r")
        await seen.settled()
        after = seen.ids()
        assert after[:1] + after[4:] == before[:1] + before[4:]
        assert seen.screen.panel.canvas.selection == (1, 4)
        assert seen.chat.turns[-1].text == seen.steering.text(seen.steering.version)


async def test_a_pinned_word_survives_every_rediffusion_and_is_marked() -> None:
    async with chat() as seen:
        await seen.reply()
        seen.screen.panel.canvas.select(2, 3)
        await seen.canvas("p")
        word = seen.ids()[2]
        seen.screen.panel.canvas.select(0, 6)
        for _ in range(4):
            await seen.canvas("r")
            await seen.settled()
            assert seen.ids()[2] == word
        assert seen.steering.draft.user_pins(0) == {2}


async def test_words_pinned_during_a_run_are_held_from_the_next_step_on() -> None:
    async with chat(hold_steps=True, steps=40) as seen:
        seen.backend.step_gate.let(3)
        await seen.say("tell me")
        await seen.until(
            lambda: seen.steering.version and len(seen.steering.version.frames()) > 2,
            "frames",
        )
        await seen.canvas("space")
        seen.screen.panel.canvas.select(3, 5)
        await seen.canvas("p")
        assert (seen.screen.panel.canvas._view.flags[3:5] & Flag.PINNED).all(), "shown at once, although nothing moves"
        await seen.canvas("t")
        await seen.pilot.press(*"hello", "enter")
        await seen.pilot.pause()
        assert "from the next step on" in seen.notices()
        seen.backend.step_gate.open()
        await seen.canvas("space")
        await seen.settled()
        last = seen.steering.version.frames()[-1]
        assert (last.flags[3:5] & Flag.PINNED).all()
        assert seen.steering.draft.user_pins(0) == {3, 4}


async def test_pause_holds_step_takes_one_and_space_goes_on() -> None:
    async with chat(hold_steps=True, steps=40) as seen:
        seen.backend.step_gate.let(1)
        await seen.say("tell me")
        panel = seen.screen.panel
        await seen.until(
            lambda: panel.steering.version and panel.steering.version.frames() and seen.backend.step_gate.held,
            "two steps",
        )
        await seen.canvas("space")
        await seen.until(lambda: panel.steering.version.run.control.paused, "pause")
        seen.backend.step_gate.open()
        await seen.until(lambda: len(panel.steering.version.frames()) == 2, "the end of the second step")
        held = len(panel.steering.version.frames())
        await seen.pilot.pause(0.1)
        assert len(panel.steering.version.frames()) == held
        await seen.canvas("full_stop")
        await seen.until(lambda: len(panel.steering.version.frames()) == held + 1, "one step")
        await seen.pilot.pause(0.1)
        assert len(panel.steering.version.frames()) == held + 1
        await seen.canvas("space")
        await seen.settled()


async def test_scrubbing_looks_back_and_a_fork_there_keeps_both() -> None:
    async with chat() as seen:
        await seen.reply()
        panel = seen.screen.panel
        await seen.canvas("left_curly_bracket", "right_square_bracket")
        assert panel.steering.playhead == 1
        assert "looking back" in panel.status
        first = panel.steering.version
        await seen.canvas("f")
        await seen.settled()
        assert panel.steering.version.kind == "fork"
        for old, new in zip(first.frames()[:2], panel.steering.version.frames()[:2], strict=True):
            assert (old.ids == new.ids).all()
        await seen.canvas("u")
        assert panel.steering.version is first
        await seen.canvas("U")
        assert panel.steering.version.kind == "fork"


async def test_esc_stops_keeps_the_draft_and_once_more_discards_it() -> None:
    async with chat(hold_steps=True, steps=40) as seen:
        seen.backend.step_gate.let(3)
        await seen.say("tell me")
        panel = seen.screen.panel
        await seen.until(lambda: panel.steering.version and len(panel.steering.version.frames()) > 2, "frames")
        await seen.canvas("escape")
        seen.backend.step_gate.open()
        await seen.settled()
        assert seen.chat.turns[-1].stop_reason == "cancelled"
        kept = seen.chat.turns[-1].text
        assert kept
        await seen.canvas("escape")
        assert seen.chat.turns == []
        assert seen.screen.prompt.text == "tell me"


async def test_esc_stops_the_run_from_the_prompt_and_the_transcript_too() -> None:
    async with chat(hold_steps=True, steps=40) as seen:
        seen.backend.step_gate.let(1)
        await seen.say("tell me")
        await seen.pilot.press("slash")
        await seen.until(lambda: seen.steering.version.frames(), "a step")
        await seen.pilot.press("escape")
        assert seen.steering.running, "first it closes the completions"
        await seen.pilot.press("escape")
        seen.backend.step_gate.open()
        await seen.settled()
        assert seen.chat.turns[-1].stop_reason == "cancelled"
        await seen.pilot.press("escape")
        assert len(seen.chat.turns) == 2, "only in the canvas it discards"
        seen.backend.step_gate.close()
        seen.screen.transcript.focus()
        await seen.pilot.press("R")
        await seen.until(lambda: seen.steering.running, "another run")
        await seen.pilot.press("escape")
        seen.backend.step_gate.open()
        await seen.settled()
        assert len(seen.chat.turns) == 2


def hold_after_one_step(seen: Seen) -> None:
    """From here on a run takes one step, and waits for the gate to be opened."""
    seen.backend.denoiser.steps = 40
    seen.backend.step_gate.close()
    seen.backend.step_gate.let(1)


async def test_discarding_a_change_that_was_stopped_leaves_the_reply_it_was_made_from() -> None:
    async with chat() as seen:
        text = await seen.reply()
        panel = seen.screen.panel
        hold_after_one_step(seen)
        await seen.canvas("r")
        await seen.until(lambda: panel.steering.version.frames(), "a step")
        await seen.canvas("escape")
        seen.backend.step_gate.open()
        await seen.settled()
        assert seen.chat.turns[-1].stop_reason == "cancelled"
        await seen.canvas("escape")
        assert [t.text for t in seen.chat.turns] == ["tell me", text]
        assert seen.steering.text(panel.steering.version) == text
        assert panel.is_open and not seen.screen.prompt.text
        await seen.canvas("U")
        assert panel.steering.version.kind == "re-diffuse"


async def test_undo_stops_the_run_that_is_left() -> None:
    async with chat() as seen:
        text = await seen.reply()
        panel = seen.screen.panel
        hold_after_one_step(seen)
        await seen.canvas("i")
        gap = panel.steering.version
        await seen.until(gap.frames, "a step")
        await seen.canvas("u")
        seen.backend.step_gate.open()
        await seen.until(lambda: not gap.running, "its end")
        await seen.pilot.pause()
        assert gap.run.log.finished.reason == "cancelled"
        assert seen.chat.turns[-1].text == text
        await seen.canvas("U")
        assert panel.steering.version is gap
        assert len(panel.steering.draft.proposals()) > 2, "no length that was tried is lost"


async def test_a_gap_that_is_stopped_before_its_first_step_leaves_the_text() -> None:
    async with chat() as seen:
        text = await seen.reply()
        panel = seen.screen.panel
        seen.screen.panel.canvas.focus()
        await seen.pilot.pause()
        gate = seen.backend.occupy()
        panel.action_gap()
        panel.action_stop()
        gate.open()
        await seen.settled()
        assert panel.steering.version.kind == "gap" and not panel.steering.version.frames()
        assert seen.chat.turns[-1].text == text
        await seen.canvas("escape")
        assert panel.steering.version.kind == "reply"


async def test_a_run_that_fails_gives_the_question_back() -> None:
    async with chat() as seen:
        seen.backend.denoiser.encode = lambda *_: (_ for _ in ()).throw(RunFailed("the GPU is gone"))
        await seen.say("tell me")
        await seen.until(lambda: "the GPU is gone" in seen.notices(), "the notice")
        await seen.pilot.pause()
        assert seen.chat.turns == [] and seen.screen.transcript.entries == ()
        assert seen.screen.prompt.text == "tell me"
        assert not seen.screen.panel.has_class("open")


async def test_a_run_that_fails_in_the_middle_keeps_its_draft_and_the_next_message_works() -> None:
    async with chat(hold_steps=True) as seen:
        gate, logits = seen.backend.step_gate, seen.backend.denoiser.logits

        def broken(*_: Any) -> Any:
            raise RunFailed("the connection broke", hint="what was written stays")

        await seen.say("tell me")
        gate.let(2)
        await seen.until(lambda: len(seen.screen.panel.steering.version.frames()) == 2 and gate.held, "two steps")
        seen.backend.denoiser.logits = broken  # from the step after the one that waits at the gate
        gate.open()
        await seen.until(lambda: "the connection broke" in seen.notices(), "the notice")
        await seen.pilot.pause()
        panel = seen.screen.panel
        assert panel.steering.draft is not None and len(panel.steering.version.frames()) == 3
        assert not panel.steering.running and [turn.role for turn in seen.chat.turns] == ["user", "model"]
        seen.backend.denoiser.logits = logits
        await seen.say("go on")
        await seen.settled()
        assert [turn.role for turn in seen.chat.turns] == ["user", "model"] * 2 and seen.chat.turns[-1].finished


async def test_a_recording_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    async with chat(opening=Opening(seed=3, record=tmp_path / "gone" / "run.dgtui")) as seen:
        await seen.reply()
        assert "run.dgtui" in seen.notices()


async def test_alternatives_show_probabilities_and_the_choice_is_pinned() -> None:
    async with chat() as seen:
        await seen.reply()
        panel = seen.screen.panel
        panel.canvas.select(2, 3)
        await seen.canvas("a")
        await seen.until(lambda: len(seen.app.screen_stack) == 2, "the panel")
        await seen.pilot.press("down", "enter")
        await seen.until(lambda: panel.steering.version.kind == "pick", "the pick")
        await seen.settled()
        assert panel.steering.draft.user_pins(0) == {2}
        assert seen.ids()[2] == panel.steering.version.parent.doubts[0][2].ids[1]


async def test_alternatives_are_asked_of_the_model_with_only_that_place_renoised() -> None:
    async with chat() as seen:
        await seen.reply()
        before, count = seen.ids(), len(seen.backend.jobs)
        seen.screen.panel.canvas.select(2, 3)
        await seen.canvas("a")
        await seen.until(lambda: len(seen.app.screen_stack) == 2, "the panel")
        (job,) = seen.backend.jobs[count:]
        assert {start.pinned for start in job.starts} == {frozenset(range(CANVAS)) - {2}}
        assert {start.ids for start in job.starts} == {tuple(before)}
        await seen.pilot.press("escape", "a")
        await seen.until(lambda: len(seen.app.screen_stack) == 2, "the panel again")
        assert len(seen.backend.jobs) == count + 1 and seen.ids() == before  # it is asked once


async def test_what_the_model_doubts_is_a_layer_over_the_reply_from_which_polish_starts() -> None:
    async with chat() as seen:
        await seen.reply()
        await seen.canvas("d")
        await seen.until(lambda: not seen.steering.inquiry.running, "the answer")
        await seen.pilot.pause()
        (states,) = [state for state in seen.steering.states() if "doubted" in state]
        assert states == f"{len(TALE)} of {len(TALE)} tokens doubted"  # nothing is certain after one step
        assert seen.steering.version.kind == "reply"
        asked = len(seen.backend.jobs)
        await seen.canvas("d")
        assert not seen.steering.shows_doubts
        await seen.canvas("x")
        await seen.until(lambda: seen.steering.version.kind == "polish", "the polish")
        await seen.settled()
        assert len(seen.backend.jobs) == asked + 1  # polishing asks nothing that is known


async def test_the_same_words_again_are_said_and_something_else_is_offered() -> None:
    async with chat() as seen:
        seen.backend.denoiser._choices[3] = [IDS["red"]]  # the only right word there
        await seen.reply()
        panel, before = seen.screen.panel, seen.ids()
        panel.canvas.select(3, 4)
        await seen.canvas("r")
        await seen.settled()
        assert seen.ids() == before and "the same words again" in seen.notices()
        await seen.canvas("e")
        await seen.settled()
        assert seen.ids()[3] != before[3] and seen.ids()[:3] == before[:3] and seen.ids()[4:] == before[4:]
        assert seen.backend.jobs[-1].suppressed == {before[3]} | MODEL.special_ids


async def test_something_else_is_none_of_the_proposals_so_far() -> None:
    async with chat() as seen:
        await seen.reply()
        panel, words = seen.screen.panel, [seen.ids()[2]]
        panel.canvas.select(2, 3)
        for _ in range(3):
            await seen.canvas("e")
            await seen.settled()
            words.append(seen.ids()[2])
        assert len(set(words)) == 4


async def test_esc_stops_asking_the_model() -> None:
    async with chat() as seen:
        await seen.reply()
        seen.backend.step_gate.close()
        await seen.canvas("d")
        assert seen.steering.inquiry.running
        await seen.canvas("escape")
        assert not seen.steering.inquiry.running and seen.steering.draft is not None
        seen.backend.step_gate.open()
        await seen.reply("again")


@pytest.mark.parametrize("key", ["enter", "tab"])
async def test_a_reply_that_was_left_is_not_asked_about(key: str) -> None:
    async with chat() as seen:
        await seen.reply()
        seen.backend.step_gate.close()
        await seen.canvas("a")
        assert seen.steering.inquiry.running
        await seen.pilot.press(key)
        await seen.until(lambda: not seen.screen.panel.is_open, "the reply as a message")
        assert not seen.steering.inquiry.running
        seen.backend.step_gate.open()
        await seen.reply("again")
        assert len(seen.app.screen_stack) == 1, "no alternatives over the prompt"


async def test_typed_words_are_pinned_and_the_rest_settles() -> None:
    async with chat() as seen:
        await seen.reply()
        panel = seen.screen.panel
        panel.canvas.select(5, 6)
        await seen.canvas("t")
        await seen.pilot.press(*"hello", "enter")
        await seen.until(lambda: panel.steering.version.kind == "type", "the run")
        await seen.settled()
        assert "hello" in seen.chat.turns[-1].text
        assert panel.steering.draft.user_pins(0) == {5}


async def test_a_gap_is_filled_and_its_other_lengths_are_proposals() -> None:
    async with chat() as seen:
        before = (await seen.reply()).split()
        panel = seen.screen.panel
        panel.canvas.select(4, 5)
        await seen.canvas("i")
        await seen.settled()
        assert panel.steering.version.kind == "gap"
        proposals = panel.steering.draft.proposals()
        assert len(proposals) > 2
        lengths = set()
        assert len(seen.chat.turns[-1].text.split()) > len(before), "the best one ends where the reply did"
        for _ in proposals:
            words = seen.steering.text(panel.steering.version).split()
            assert words[:4] == before[:4]
            assert words[-3:] == before[-3:] or len(words) == len(before), "the scripted model may end in the gap"
            lengths.add(len(words))
            await seen.canvas("n")
        assert len(lengths) == len(proposals)


async def test_pinned_words_stay_pinned_beside_a_gap() -> None:
    async with chat() as seen:
        await seen.reply()
        panel = seen.screen.panel
        for place in (2, 8):
            panel.canvas.select(place, place + 1)
            await seen.canvas("p")
        held = [seen.ids()[place] for place in (2, 8)]
        panel.canvas.select(4, 5)
        await seen.canvas("i")
        await seen.settled()
        proposals = panel.steering.draft.proposals()
        assert len({max(v.pins[0]) for v in proposals}) == len(proposals), "each length moves them by another"
        for version in proposals:
            assert [version.ids(0)[place] for place in sorted(version.pins[0])] == held


async def test_a_template_holds_the_start_and_an_ending_that_floats() -> None:
    async with chat() as seen:
        await seen.say("/template hello you ... red now")
        assert seen.screen.panel.template
        text = await seen.reply()
        assert text.startswith("hello you ") and text.strip().endswith("red now")
        proposals = seen.steering.draft.proposals()
        texts = {seen.steering.text(version) for version in proposals}
        assert all(t.startswith("hello you ") and t.strip().endswith("red now") for t in texts)
        assert len({len(t.split()) for t in texts}) == len(proposals) > 1, "each has another length"
        version = seen.steering.version
        held = {version.ids(0)[place] for place in version.pins[0]}
        assert {IDS[word] for word in ("hello", "you", "red", "now")} | {TURN_END} == held


async def test_text_in_the_middle_of_a_template_lies_between_two_gaps() -> None:
    async with chat() as seen:
        await seen.say("/template hello … why … now")
        words = (await seen.reply()).split()
        assert words[0] == "hello" and words[-1] == "now" and 0 < words.index("why") < len(words) - 1


async def test_a_template_with_a_start_alone_is_a_reply_that_begins_so() -> None:
    async with chat() as seen:
        await seen.say("/template hello you")
        assert (await seen.reply()).startswith("hello you ")
        assert seen.steering.version.kind == "reply" and seen.steering.draft.user_pins(0) == {0, 1}


async def test_a_template_is_typed_on_the_canvas_and_words_on_it_can_be_freed() -> None:
    async with chat() as seen:
        await seen.say("/template")
        panel = seen.screen.panel
        await seen.canvas("t", *"hello", "enter", "right", "right", "t", *"now", "enter")
        await seen.pilot.pause()
        assert panel.template.parts == [[IDS["hello"]], [IDS["now"]]]
        await seen.canvas("left", "t", *"why", "enter")
        assert panel.template.parts == [[IDS["hello"]], [IDS["why"]], [IDS["now"]]]
        assert "hello" in drawn.text(seen.app) and "…" in drawn.text(seen.app) and "∎" in drawn.text(seen.app)
        panel.canvas.select(0, 1)
        await seen.canvas("p")
        assert panel.template.parts == [[], [IDS["why"]], [IDS["now"]]]
        assert "1 token unpinned" in seen.notices()


async def test_regenerating_keeps_what_the_template_held() -> None:
    async with chat() as seen:
        await seen.say("/template hello ... now")
        await seen.reply()
        seen.screen.transcript.focus()
        await seen.pilot.press("R")
        await seen.until(lambda: len(seen.backend.jobs) > 4, "another search")
        await seen.settled()
        words = seen.chat.turns[-1].text.split()
        assert (words[0], words[-1]) == ("hello", "now")


async def test_a_template_stays_in_sight_until_it_is_used_and_goes_with_its_conversation() -> None:
    async with chat() as seen:
        panel = seen.screen.panel
        await seen.say("/template hello ... red")
        await seen.canvas("enter")
        assert panel.has_class("open") and seen.screen.prompt.has_focus
        await seen.say("/new")
        assert not panel.template and not panel.has_class("open")


async def test_words_typed_while_a_gap_is_searched_are_held_in_it() -> None:
    async with chat(hold_steps=True) as seen:
        seen.backend.step_gate.open()
        before = (await seen.reply()).split()
        seen.backend.step_gate.close()
        panel = seen.screen.panel
        panel.canvas.select(5, 6)
        await seen.canvas("i")
        seen.backend.step_gate.let(1)
        await seen.until(lambda: seen.steering.version.frames(), "a step")
        await seen.canvas("t", *"hello", "enter")
        seen.backend.step_gate.open()
        await seen.settled()
        for version in seen.steering.draft.proposals():
            words = seen.steering.text(version).split()
            if version.search is None and "hello" in words:
                at = words.index("hello")
                assert words[:5] == before[:5] and words[-len(before[5:]) :] == before[5:] and at >= 5
                assert version.ids(0)[at] == IDS["hello"] and at in version.pins[0]
        assert "hello" in seen.chat.turns[-1].text.split()


async def test_an_answer_about_a_block_that_is_past_changes_no_other() -> None:
    async with chat() as seen:
        seen.backend.denoiser._choices = [[IDS["red"], IDS["now"]]] * CANVAS  # no end
        hold_after_one_step(seen)
        await seen.say("tell me")
        panel = seen.screen.panel
        await seen.until(lambda: panel.steering.version.frames(), "a step")
        await seen.canvas("space", "a")
        await seen.until(lambda: len(seen.app.screen_stack) == 2, "the alternatives")
        seen.backend.step_gate.let(30)  # more than a block takes
        panel.steering.version.run.control.resume()
        await seen.until(lambda: panel.steering.version.block > 0, "another block")
        await seen.pilot.press("enter")
        await seen.pilot.pause()
        assert "another block" in seen.notices()
        assert panel.steering.version.pins == {}


async def test_nothing_is_asked_about_an_earlier_step() -> None:
    async with chat() as seen:
        await seen.reply()
        await seen.canvas("left_square_bracket", "t", "I")
        assert not seen.screen.panel.question.has_class("open")
        assert "earlier step" in seen.notices()


async def test_an_answer_that_is_refused_comes_back_to_its_line() -> None:
    async with chat() as seen:
        await seen.reply()
        panel = seen.screen.panel
        await seen.canvas("I", *"three", "enter")
        await seen.pilot.pause()
        assert "must be a number of tokens" in seen.notices()
        assert panel.question.is_open and panel.question.value == "three" and panel.canvas.pointing
        assert panel.question.has_focus
        await seen.pilot.press("3", "enter")  # the line is selected
        await seen.until(lambda: seen.steering.version.kind == "gap", "the gap")
        assert not panel.question.is_open and not panel.canvas.pointing


async def test_esc_in_the_canvas_leaves_a_question_first() -> None:
    async with chat() as seen:
        await seen.reply()
        panel = seen.screen.panel
        asking = panel.question
        await seen.canvas("I")
        await seen.pilot.press("shift+tab")
        assert panel.canvas.has_focus and asking.has_class("open")
        await seen.pilot.press("escape")
        assert not asking.has_class("open") and panel.has_class("open")
        await seen.canvas("I")
        await seen.say("/new")
        assert not asking.has_class("open")


async def test_escape_sequences_in_an_answer_are_shown_and_drive_nothing() -> None:
    async with chat() as seen:
        await seen.reply()
        await seen.canvas("t")
        seen.app.post_message(Paste(drawn.HOSTILE))
        await seen.until(lambda: "evil" in drawn.text(seen.app), "the paste")
        await seen.pilot.pause()
        assert drawn.is_safe(seen.app)


async def test_regenerating_keeps_the_reply_before_in_the_versions_and_in_the_file(tmp_path: Path) -> None:
    store = Store(tmp_path / "history.db")
    async with chat(store) as seen:
        first = await seen.reply()
        seen.screen.transcript.focus()
        await seen.pilot.press("R")
        await seen.until(lambda: len(seen.backend.jobs) == 2, "another run")
        await seen.settled()
        assert len(seen.chat.turns) == 2
        assert [v.kind for v in seen.steering.draft.versions] == ["reply", "reply"]
        assert seen.steering.text(seen.steering.draft.versions[0]) == first


async def test_a_stored_reply_can_be_opened_and_steered(tmp_path: Path) -> None:
    store = Store(tmp_path / "history.db")
    async with chat(store) as seen:
        text = await seen.reply()
        conversation = seen.chat.id
    async with chat(store, Opening(conversation=conversation)) as seen:
        assert [t.text for t in seen.chat.turns][-1] == text
        seen.screen.transcript.focus()
        await seen.pilot.press("e")
        await seen.until(lambda: seen.steering.version is not None, "the draft")
        await seen.settled()
        assert seen.steering.text(seen.steering.version) == text
        seen.screen.panel.canvas.select(2, 3)
        await seen.canvas("r")
        await seen.settled()
        words = seen.chat.turns[-1].text.split()
        assert [w for i, w in enumerate(words) if i != 2] == [w for i, w in enumerate(text.split()) if i != 2]


@asynccontextmanager
async def reopened(tmp_path: Path) -> AsyncIterator[tuple[Seen, str]]:
    """A stored reply on the canvas again, and its text."""
    store = Store(tmp_path / "history.db")
    async with chat(store) as seen:
        text = await seen.reply()
        conversation = seen.chat.id
    async with chat(store, Opening(conversation=conversation)) as seen:
        seen.screen.transcript.focus()
        await seen.pilot.press("e")
        await seen.until(lambda: seen.steering.version is not None, "the draft")
        await seen.settled()
        yield seen, text


async def test_undoing_all_changes_of_a_stored_reply_restores_it(tmp_path: Path) -> None:
    async with reopened(tmp_path) as (seen, text):
        before = seen.chat.turns[-1]
        seen.screen.panel.canvas.select(0, 17)
        await seen.canvas("r")
        await seen.settled()
        assert seen.chat.turns[-1] != before
        await seen.canvas("u")
        assert seen.chat.turns[-1] == before
        await seen.pilot.press("tab")
        await seen.until(lambda: seen.screen.transcript.entries[-1].text == text, "the rendered reply")
        assert seen.store.turns(seen.chat.id)[-1].turn == before


async def test_a_stored_reply_has_no_run_to_record(tmp_path: Path) -> None:
    async with reopened(tmp_path) as (seen, _):
        target = tmp_path / "run.dgtui"
        await seen.say(f"/record {target}")
        assert "no steps to record" in seen.notices() and not target.exists()


async def test_a_stored_reply_that_was_opened_can_be_written_anew(tmp_path: Path) -> None:
    async with reopened(tmp_path) as (seen, _):
        seen.screen.transcript.focus()
        await seen.pilot.press("R")
        await seen.until(lambda: len(seen.steering.draft.versions) == 2, "another run")
        await seen.settled()
        assert seen.steering.version.frames()
        assert len(seen.chat.turns[-1].text.split()) == len(TALE)
        assert seen.backend.jobs[-1].max_tokens > CANVAS


async def test_a_reply_stays_when_there_is_no_model_to_write_it_anew(tmp_path: Path) -> None:
    store = Store(tmp_path / "history.db")
    async with chat(store) as seen:
        text = await seen.reply()
        conversation = seen.chat.id
    async with chat(store, Opening(conversation=conversation), error=ModelNotFound("no such model")) as seen:
        seen.screen.transcript.focus()
        await seen.pilot.press("R")
        await seen.pilot.pause()
        assert "no model is loaded" in seen.notices()
        assert seen.screen.transcript.entries[-1].text == text
        assert store.turns(conversation)[-1].turn.text == text


async def test_the_next_turn_begins_with_the_ids_of_the_last_one() -> None:
    async with chat() as seen:
        await seen.reply("tell me")
        await seen.reply("why")
        first, second = seen.backend.jobs
        assert second.prompt_ids[: len(first.prompt_ids)] == first.prompt_ids
        wrote = seen.backend.runs[0].log.finished.token_ids[0].tolist()
        assert list(second.prompt_ids[len(first.prompt_ids) :][: len(wrote)]) == wrote


async def test_a_full_context_is_said_and_the_talk_goes_on() -> None:
    async with chat() as seen:
        facts = seen.backend.facts
        seen.backend.facts = replace(facts, model=replace(facts.model, max_context=CANVAS + 12))
        seen.chat.turns += [Turn("user", "why why why why why"), Turn("model", "you red you red you red")]
        await seen.reply("tell me")
        entries = seen.screen.transcript.entries
        assert any("no longer sees" in e.text for e in entries if e.role == "notice")


async def test_settings_change_the_next_run_and_wrong_ones_are_refused() -> None:
    async with chat() as seen:
        await seen.say("/steps 5")
        await seen.say("/seed 42")
        await seen.reply()
        assert seen.backend.jobs[-1].settings.steps == 5
        assert seen.backend.jobs[-1].seed == 42
        for wrong in ("/steps 0", "/steps many", "/tmin 9", "/seed -3", "/nonsense"):
            await seen.say(wrong)
            await seen.pilot.pause()
            assert seen.screen.prompt.text == wrong, "what was refused stays to be corrected"
        assert seen.screen.conversation.chat.settings == {"steps": 5}


async def test_settings_come_back_with_their_conversation() -> None:
    async with chat() as seen:
        await seen.say("/steps 5")
        await seen.reply()
        first = seen.screen.conversation.chat.id
        await seen.say("/new")
        await seen.say("/steps 7")
        await seen.reply("why")
        seen.screen.conversation.open(first)
        await seen.reply("why")
        assert seen.backend.jobs[-1].settings.steps == 5


async def test_turns_of_another_window_are_reported_and_stay() -> None:
    async with chat() as seen:
        await seen.reply()
        conversation = seen.screen.conversation
        conversation.store.append(conversation.chat.id, Turn("user", "from another window"))
        await seen.reply("why")
        notices = [entry.text for entry in seen.screen.transcript.entries if entry.role == "notice"]
        assert ["another window has added 1 turn" in text for text in notices] == [True]
        conversation.chat.rewind(0)
        listed = conversation.store.turns(conversation.chat.id)
        assert [stored.turn.text for stored in listed] == ["from another window"]


async def test_another_model_is_loaded_without_a_restart() -> None:
    async with chat() as seen:
        await seen.reply()
        await seen.say("/model other")
        await seen.until(lambda: seen.backend.facts and seen.backend.facts.name == "other", "the other model")
        await seen.pilot.pause()
        assert await seen.reply("why")
        assert seen.backend.loads == [None, "other"]


async def test_a_model_that_is_not_there_leaves_the_one_that_is() -> None:
    async with chat() as seen:
        await seen.reply()
        facts = seen.backend.facts
        missing: Future[Facts] = Future()
        missing.set_exception(ModelNotFound("there is no model nope"))
        seen.backend.load = lambda *_: missing
        await seen.say("/model nope")
        await seen.pilot.pause()
        assert "no model nope" in seen.notices()
        assert not seen.screen.query_one(Loading).display
        assert seen.backend.facts is facts
        await seen.reply()


async def test_a_terminal_that_is_too_small_is_told_so_and_nothing_is_lost() -> None:
    async with chat(size=(40, 10)) as seen:
        assert seen.screen.query_one("#too-small").display
        seen.screen.prompt.load_text("tell me")
        await seen.pilot.resize_terminal(80, 24)
        await seen.pilot.pause()
        assert not seen.screen.has_class("small")
        assert seen.screen.prompt.text == "tell me"
        seen.screen.prompt.focus()
        for size in ((40, 10), (80, 24)):
            await seen.pilot.resize_terminal(*size)
            await seen.pilot.pause()
        await seen.pilot.pause()
        await seen.pilot.press("x")
        assert "x" in seen.screen.prompt.text


async def test_ctrl_c_copies_what_is_selected_in_the_transcript_before_it_quits() -> None:
    async with chat() as seen:
        text = await seen.reply()
        await seen.pilot.press("tab")
        await seen.until(lambda: not seen.screen.panel.is_open, "the rendered reply")
        seen.screen.selections = {seen.screen.query(EntryView).last(): SELECT_ALL}
        await seen.pilot.press("ctrl+c")
        assert text.split()[0] in seen.app.clipboard
        await seen.pilot.press("ctrl+c")
        await seen.pilot.pause()
        assert "again to quit" in seen.notices()


async def test_the_marked_turn_is_copied() -> None:
    async with chat() as seen:
        text = await seen.reply("tell me why")
        seen.screen.transcript.focus()
        await seen.pilot.press("y")
        assert seen.app.clipboard == text
        await seen.pilot.press("up", "y")
        assert seen.app.clipboard == "tell me why"


async def test_the_newest_notice_is_in_sight_on_a_small_terminal() -> None:
    async with chat(size=(60, 16), notifications=True) as seen:
        for number in range(8):
            seen.screen.notify(f"this is notice {number}, and it is not a short one")
            await seen.pilot.pause()
        await seen.until(lambda: "notice 7" in drawn.text(seen.app), "the last one")
        assert "Write a message" in drawn.text(seen.app)


async def test_of_many_problems_it_is_said_where_all_are_listed() -> None:
    app = ChatApp(
        ScriptedBackend(), Store(None), Settings(), Opening(), theme_folders=theme_folders(), problems=["wrong"] * 9
    )
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await pilot.pause()
        assert "and 7 more: run dgtui doctor" in " ".join(drawn.text(app).replace("▌", " ").split())


async def test_the_palette_offers_our_themes_and_nothing_that_tears_the_screen() -> None:
    async with chat() as seen:
        assert sorted(seen.app.available_themes) == sorted(seen.app.theme_names)
        titles = {command.title for command in seen.app.get_system_commands(seen.screen)}
        assert {"Help", "Theme", "Quit", "/sessions"} <= titles
        assert not titles & {"Maximize", "Minimize", "Keys"}


async def test_a_screenshot_is_saved_in_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    async with chat() as seen:
        (command,) = (c for c in seen.app.get_system_commands(seen.screen) if c.title == "Screenshot")
        command.callback()
        await seen.until(lambda: [*folder.glob("*.svg")], "the picture")


async def test_help_is_about_the_chat_however_it_is_called() -> None:
    async with chat(size=(100, 200)) as seen:
        await seen.say("/help")
        await seen.until(lambda: "send the message" in drawn.text(seen.app), "the help")
        assert "Editor" not in drawn.text(seen.app)


async def test_nothing_else_is_shown_on_a_terminal_that_is_too_small() -> None:
    async with chat() as seen:
        await seen.reply()
        seen.screen.prompt.load_text("/se")
        seen.screen.query_one(Loading).start("other")
        await seen.pilot.resize_terminal(40, 10)
        await seen.pilot.pause()
        shown = "".join(drawn.text(seen.app).split())
        assert shown == "dgtuineeds60columnsand16rows.Maketheterminallarger;nothingislost."


async def test_a_title_in_wide_characters_fits_the_line_on_top() -> None:
    async with chat(size=(80, 24)) as seen:
        await seen.reply("日本語のとても長いプロンプトを書いてみましょう。モデルは理解できません。")
        top = drawn.rows(seen.app)[0]
        assert "日本語" in top and "…" in top


async def test_brackets_and_escapes_are_shown_and_drive_nothing() -> None:
    async with chat() as seen:
        hostile = "[bold]why[/] [/nope] \x1b]0;title\x07 \x1b[2J \u202e $(x) [@click=app.quit]me[/]"
        await seen.reply(hostile)
        shown = "".join(segment.text for line in seen.screen._compositor.render_strips() for segment in line)
        assert "\x1b" not in shown
        assert "\u202e" not in shown
        assert "[bold]why[/]" in shown


async def test_what_is_typed_fast_is_taken_in_its_order() -> None:
    async with chat() as seen:
        for key in (*"tellx", "backspace", "space", *"me", "enter", *"why"):
            seen.app.post_message(events.Key(key, " " if key == "space" else key if len(key) == 1 else None))
        await seen.until(lambda: seen.screen.prompt.text == "why", "the rest of what was typed")
        assert seen.chat.turns[0].text == "tell me"


async def test_quitting_during_a_run_keeps_its_draft_like_esc() -> None:
    async with chat(hold_steps=True, steps=40) as seen:
        seen.backend.step_gate.let(3)
        await seen.say("tell me")
        await seen.until(lambda: seen.steering.version and len(seen.steering.version.frames()) > 2, "frames")
        await seen.pilot.press("ctrl+q")
        (conversation,) = seen.store.conversations()
        turn = seen.store.turns(conversation.id)[1].turn
        assert turn.text and turn.finished and turn.stop_reason == "cancelled"


async def test_a_message_of_the_run_that_is_still_queued_when_quitting_changes_nothing_that_was_kept() -> None:
    async with chat(hold_steps=True, steps=40) as seen:
        seen.backend.step_gate.let(3)
        await seen.say("tell me")
        await seen.until(lambda: seen.steering.version and len(seen.steering.version.frames()) > 2, "frames")
        seen.screen.post_message(CanvasPanel.Changed(seen.steering.version))
        seen.app.exit()
    (conversation,) = seen.store.conversations()
    turn = seen.store.turns(conversation.id)[1].turn
    assert (turn.text != "", turn.finished, turn.stop_reason, turn.steps) == (True, True, "cancelled", 3)


async def test_a_run_that_was_asked_to_stop_says_so_until_its_step_ends() -> None:
    async with chat(hold_steps=True, steps=40) as seen:
        seen.backend.step_gate.let(1)
        await seen.say("tell me")
        await seen.until(lambda: seen.steering.version and seen.steering.version.frames(), "a step")
        await seen.canvas("escape")
        assert "stopping" in seen.screen.panel.status
        seen.backend.step_gate.open()
        await seen.settled()
        assert "stopping" not in seen.screen.panel.status


async def test_nothing_is_pinned_while_the_length_of_a_gap_is_searched() -> None:
    async with chat() as seen:
        await seen.reply()
        hold_after_one_step(seen)
        seen.screen.panel.canvas.cursor = 3
        await seen.canvas("i")
        await seen.until(lambda: seen.steering.searching and seen.steering.version.frames(), "a step of the search")
        await seen.canvas("p")
        assert "still being searched" in seen.notices()
        seen.backend.step_gate.open()
        await seen.settled()


async def test_a_conversation_is_exported_only_as_markdown_or_json(tmp_path: Path) -> None:
    async with chat() as seen:
        await seen.reply()
        await seen.say(f"/export {tmp_path / 'notes.pdf'}")
        assert "must end in .md or .json" in seen.notices()
        assert not (tmp_path / "notes.pdf").exists()


@pytest.mark.parametrize("most", [20, 2 * CANVAS], ids=["within a block", "after a block"])
async def test_a_reply_that_was_cut_goes_on_where_it_was_cut(most: int) -> None:
    async with chat(opening=Opening(seed=3, max_tokens=most)) as seen:
        seen.backend.denoiser._choices = [[IDS["red"], IDS["now"]]] * CANVAS  # no end
        before = await seen.reply()
        assert seen.chat.turns[-1].stop_reason == "length" and len(before.split()) == most
        assert "/continue" in seen.notices()
        await seen.canvas("c")
        await seen.until(lambda: len(seen.backend.jobs) == 2, "another run")
        await seen.settled()
        reply = seen.chat.turns[-1]
        assert reply.text.startswith(before) and len(reply.text.split()) == 2 * most
        (conversation,) = seen.store.conversations()
        assert [s.turn for s in seen.store.turns(conversation.id)][1] == reply
        await seen.canvas("u")
        assert seen.chat.turns[-1].text == before


async def test_a_stored_reply_that_was_cut_goes_on_too(tmp_path: Path) -> None:
    store = Store(tmp_path / "history.db")
    opening = Opening(seed=3, max_tokens=20)
    async with chat(store, opening) as seen:
        seen.backend.denoiser._choices = [[IDS["red"]]] * CANVAS
        before = await seen.reply()
        opened = seen.chat.id
    async with chat(store, replace(opening, conversation=opened)) as seen:
        seen.backend.denoiser._choices = [[IDS["now"]]] * CANVAS
        await seen.say("/continue")
        await seen.settled()
        assert seen.chat.turns[-1].text.split() == [*before.split(), *["now"] * 20]
    store.close()


async def test_a_reply_with_an_end_is_not_continued() -> None:
    async with chat() as seen:
        await seen.reply()
        await seen.say("/continue")
        assert "the reply is complete" in seen.notices()
        assert seen.screen.prompt.text == "/continue"
        assert len(seen.backend.jobs) == 1


REFUSED = {
    "model": "/model nothing",
    "seed": "/seed -1",
    **{spec.command: f"/{spec.command} much" for spec in SAMPLER},
    "think": "/think perhaps",
    "image": "/image nothing.png",
    "continue": "/continue",
    "template": f"/template {'red ' * CANVAS}now",
    "record": "/record nowhere/run.dgtui",
    "export": "/export notes.pdf",
    "theme": "/theme nothing",
    "rename": "/rename",
    "delete": "/delete",
}
"""A line of each command that can be refused while nothing runs."""
BUSY = ("model other", "continue", "template", "sessions", "search me", "bench", "new", "delete yes")
"""Commands that are refused while a reply is written."""
EMPTY = "preview"
"""A command that is refused while there is no reply."""
NEVER = {"system", "settings", "help", "quit"}


def test_every_command_is_known_to_be_refused_or_never_to_be() -> None:
    assert {slash.name for slash in SLASHES} == {*REFUSED, EMPTY, *(line.split()[0] for line in BUSY), *NEVER}


async def test_every_command_that_is_refused_comes_back_to_the_prompt() -> None:
    async with chat() as seen:
        await seen.say(f"/{EMPTY}")
        await seen.until(lambda: seen.screen.prompt.text == f"/{EMPTY}", "the refused command")
        seen.screen.prompt.load_text("")
        await seen.reply()
        for name, line in REFUSED.items():
            if name == "model":
                seen.backend._error = ModelNotFound("there is no such model")
            await seen.say(line)
            command, _, argument = line.partition(" ")  # the path of an image comes back absolute
            await seen.until(lambda c=command: seen.screen.prompt.text.startswith(c), line)
            assert seen.screen.prompt.text.endswith(argument)
            seen.screen.prompt.load_text("")
            if name == "model":
                seen.backend._error = None
                await seen.say("/model scripted")
                await seen.until(lambda: seen.backend.facts is not None, "a model")
                await seen.pilot.pause()
        hold_after_one_step(seen)
        await seen.say("tell me")
        await seen.until(lambda: seen.steering.version and seen.steering.version.frames(), "a step")
        for line in BUSY:
            await seen.say(f"/{line}")
            await seen.until(lambda line=line: seen.screen.prompt.text == f"/{line}", line)
            seen.screen.prompt.load_text("")
        seen.backend.step_gate.open()
        await seen.settled()


async def test_a_number_that_is_too_long_is_refused() -> None:
    async with chat() as seen:
        await seen.reply()
        digits = "9" * 5000
        assert not seen.screen.guarded(lambda: seen.screen._send(f"/seed {digits}"))
        with pytest.raises(DgtuiError):
            seen.steering.gap(digits)


async def test_the_same_seed_writes_the_same_reply() -> None:
    texts = []
    for _ in range(2):
        async with chat(opening=Opening(seed=8)) as seen:
            texts.append(await seen.reply())
    assert texts[0] and texts[0] == texts[1]


async def test_the_line_of_keys_keeps_no_key_that_it_shows_no_longer() -> None:
    async with chat() as seen:
        line = seen.screen.query_one(KeyLine)
        for _ in range(5):
            line.refresh(recompose=True)
            await seen.pilot.pause()
        assert len(line.query("FooterKey")) >= len(getattr(line, "__watchers")["compact"]) > 0
