"""A Sudoku that cannot be solved never reaches the model; the note of a reply says what a check of it found."""

from test_chat_screen import chat

from dgtui.session.store import Turn
from dgtui.tui.widgets.entry_view import turn_entry

PUZZLE = "0234\n3010\n0140\n0300"


async def test_a_contradictory_sudoku_stays_in_the_prompt_and_no_step_is_taken() -> None:
    async with chat(notifications=True) as seen:
        await seen.say(PUZZLE.replace("3010", "3310"))
        await seen.until(lambda: "3 occurs twice in row 2" in seen.notices(), "the refusal")
        assert seen.screen.prompt.text == "0234\n3310\n0140\n0300"
        assert not seen.backend.jobs and not seen.chat.turns


def test_the_note_of_a_solved_grid_says_so() -> None:
    question = Turn("user", PUZZLE)
    right, wrong = Turn("model", "1234\n3412\n2143\n4321"), Turn("model", "1234\n3412\n2143\n4322")
    assert "checked: this is a solution" in turn_entry(right, question).note
    assert "not a solution: 2 occurs twice in row 4" in turn_entry(wrong, question).note
    assert "solution" not in turn_entry(right, Turn("user", "hello")).note
