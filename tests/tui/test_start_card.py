"""The card of an empty conversation, and the keys that are shown and found."""

from contextlib import closing
from dataclasses import replace

import drawn
import pytest
from test_chat_screen import chat, hold_after_one_step
from textual.command import CommandPalette

from dgtui.cli.backend import WorkerBackend
from dgtui.config import Settings
from dgtui.diffusion.job import Start
from dgtui.errors import ModelNotFound
from dgtui.message import Message
from dgtui.steering.between import write_between
from dgtui.steering.drafts import Draft
from dgtui.steering.search import Search
from dgtui.sudoku import solutions
from dgtui.text import decode_utf8
from dgtui.tui.screens.help import Help
from dgtui.tui.template import Template
from dgtui.tui.widgets.start_card import FIRST, LAST, PUZZLE, TRIES, givens, hold


@pytest.mark.parametrize("size", [(60, 16), (80, 24), (160, 50)])
async def test_an_empty_conversation_shows_prompts_with_their_keys_and_the_legend(size: tuple[int, int]) -> None:
    async with chat(size=size) as seen:
        text = drawn.text(seen.app)
        for what in ("f2", "f3", "f4", "f5", "write between", "Sudoku", "undecided", "pinned", "Shift+Tab", "certain"):
            assert what in text
        await seen.reply()
        assert "write between" not in drawn.text(seen.app)
        assert not seen.screen.start_card.display


async def test_the_tale_can_have_a_name_of_ones_own() -> None:
    async with chat() as seen:
        await seen.pilot.press("f2", *"Olga", "enter")
        await seen.until(lambda: seen.chat.turns, "a turn")
        assert seen.chat.turns[0].text == TRIES["tale"].prompt.replace("Mira", "Olga")
        await seen.settled()


async def test_the_other_prompts_are_sent_with_their_pins() -> None:
    async with chat() as seen:
        await seen.pilot.press("f4")
        await seen.until(lambda: len(seen.chat.turns) == 2, "a reply")
        await seen.settled()
        held = givens(seen.backend)
        assert held and {at: seen.ids()[at] for at in held} == held
        await seen.pilot.press("f5")
        await seen.pilot.pause()
        assert len(seen.chat.turns) == 2, "the keys belong to the card"


async def test_a_prompt_chosen_while_the_model_loads_is_sent_with_its_pins() -> None:
    async with chat(hold_load=True) as seen:
        await seen.pilot.press("f3", "f4")
        await seen.until(lambda: "as soon as the model is loaded" in seen.notices(), "a notice")
        seen.backend.load_gate.open()
        await seen.until(lambda: len(seen.chat.turns) == 2, "a reply")
        await seen.settled()
        assert seen.chat.turns[0].text == TRIES["sudoku"].prompt, "the last one chosen"
        held = givens(seen.backend)
        assert held and {at: seen.ids()[at] for at in held} == held


async def test_a_message_sent_while_the_model_loads_replaces_the_chosen_prompt() -> None:
    async with chat(hold_load=True) as seen:
        await seen.pilot.press("f4")
        await seen.say("tell me")
        seen.backend.load_gate.open()
        await seen.until(lambda: len(seen.chat.turns) == 2, "a reply")
        await seen.settled()
        assert [turn.text for turn in seen.chat.turns if turn.role == "user"] == ["tell me"]


async def test_a_chosen_prompt_is_refused_if_no_model_is_loaded() -> None:
    async with chat(error=ModelNotFound("no such model"), hold_load=True) as seen:
        await seen.pilot.press("f4")
        seen.backend.load_gate.open()
        await seen.until(lambda: seen.screen.loader.error, "the error")
        await seen.pilot.press("f4")
        await seen.until(lambda: "no model is loaded" in seen.notices(), "the refusal")
        assert not seen.chat.turns


def test_the_puzzle_has_one_solution() -> None:
    assert len([*solutions(PUZZLE.cells)]) == 1


async def test_the_last_line_shows_what_is_possible_and_never_cuts_a_word() -> None:
    async with chat(size=(100, 30), hold_steps=True, steps=40) as seen:
        seen.backend.step_gate.let(2)
        await seen.say("tell me")
        await seen.until(lambda: seen.steering.version and len(seen.steering.version.frames()) > 1, "frames")
        await seen.canvas()
        await seen.until(lambda: "space pause" in drawn.rows(seen.app)[-1], "a key for the run")
        for width in (60, 72, 80, 90, 100, 120, 160):
            await seen.pilot.resize_terminal(width, 30)
            await seen.until(lambda: "f1 help" in drawn.rows(seen.app)[-1], "the help")
            assert "^p commands" in drawn.rows(seen.app)[-1].replace("ctrl+p", "^p")
        await seen.canvas("space")
        await seen.until(lambda: "space resume" in drawn.rows(seen.app)[-1], "another label")
        assert "esc stop" in drawn.rows(seen.app)[-1]
        seen.backend.step_gate.open()
        await seen.canvas("space")
        await seen.settled()
        await seen.until(lambda: "space" not in drawn.rows(seen.app)[-1], "no key for a run")
        await seen.until(lambda: "esc leave" in drawn.rows(seen.app)[-1], "nothing to stop")
        await seen.canvas("[")
        await seen.until(lambda: "esc back" in drawn.rows(seen.app)[-1], "a way to the newest step")


async def test_the_palette_finds_what_the_canvas_can_do() -> None:
    async with chat() as seen:
        await seen.reply()
        seen.screen.panel.canvas.select(2, 3)
        await seen.canvas("ctrl+p")
        await seen.until(lambda: isinstance(seen.app.screen, CommandPalette), "the palette")
        await seen.pilot.press(*"pin or unpin")
        await seen.until(lambda: "pin or unpin the selection" in drawn.text(seen.app), "the command")
        await seen.pilot.press("enter")
        await seen.until(lambda: seen.steering.draft.user_pins(0) == {2}, "the pin")


async def test_the_help_begins_with_the_focused_part() -> None:
    async with chat() as seen:
        await seen.reply()
        await seen.canvas("f1")
        assert isinstance(seen.app.screen, Help)
        await seen.until(lambda: "pause or resume" in drawn.text(seen.app), "the keys of the canvas")
        await seen.pilot.press("escape")
        seen.screen.prompt.focus()
        await seen.pilot.press("f1")
        await seen.until(lambda: "send the message" in "".join(drawn.rows(seen.app)[:8]), "the keys of the prompt")


async def test_what_a_key_would_do_depends_on_the_draft() -> None:
    async with chat() as seen:
        assert not seen.steering.can("pause") and not seen.steering.can("scrub")
        await seen.reply()
        assert seen.steering.can("scrub") and not seen.steering.can("pause") and not seen.steering.can("undo")
        hold_after_one_step(seen)
        await seen.canvas("r")
        await seen.until(lambda: seen.steering.version.frames(), "a step")
        assert seen.steering.can("pause") and seen.steering.can("undo") and not seen.steering.can("accept")
        seen.backend.step_gate.open()
        await seen.settled()


@pytest.mark.slow
def test_the_embedded_model_writes_between_the_sentences_and_solves_the_puzzle() -> None:
    with closing(WorkerBackend(Settings())) as backend:
        facts = backend.load("embedded", lambda _: None).result()
        for name in ("between", "sudoku"):
            draft, template = Draft(facts, facts.settings), Template(backend)
            hold(name, template, backend)
            job = draft.first(backend.chat([Message("user", TRIES[name].prompt)]), 7, 256, template.fixed)
            if (canvas := template.canvas()) is not None:
                job = replace(job, starts=(Start(),))
                search = Search(
                    write_between(job, canvas, facts.model), lambda job: backend.submit(job, lambda *_: None)
                )
                search.finish()
                assert search.run is not None
                ids = search.run.log.blocks(search.plan.ranked[0].candidate)[0].ids.tolist()
                ids = ids[: ids.index(facts.model.turn_end_id)]
            else:
                ids = backend.submit(job, lambda *_: None).ended.result().token_ids[0].tolist()
            text = decode_utf8(b"".join(backend.pieces(ids)))
            if name == "between":
                assert text.startswith(FIRST) and text.endswith(LAST), text
                assert len(text) > len(FIRST) + len(LAST) + 20
            else:
                assert PUZZLE.solved_by(text), text
