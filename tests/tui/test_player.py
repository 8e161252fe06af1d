"""The pace of the screen: steps stay visible while the model runs on."""

from typing import Any

from test_chat_screen import chat

from dgtui.tui.player import Player


def test_each_step_is_shown_in_turn_for_its_time() -> None:
    now = [0.0]
    player = Player(100, lambda: now[0])
    shown = []
    for tick in range(10):
        now[0] = tick * 0.05
        player.advance(4)
        shown.append(player.at(4))
    assert shown == [0, 0, 1, 1, 2, 2, None, None, None, None]
    assert player.behind(4) == 0 and player.behind(6) == 2


def test_live_is_always_the_newest_step() -> None:
    player = Player()
    assert player.at(9) is None and player.behind(9) == 0
    assert [player.next_pace() for _ in range(5)] == [100, 250, 500, 1000, 0]


async def test_a_run_that_has_ended_is_played_to_its_end_before_it_is_rendered() -> None:
    async with chat() as seen:
        panel = seen.screen.panel
        panel.player.pace = 60
        seen.backend.step_gate.close()
        await seen.say("tell me")
        await seen.until(lambda: seen.backend.step_gate.held, "the first step")
        seen.backend.step_gate.open()
        states, show = [], panel.show_numbers

        def noted(status: str, *rest: Any) -> None:
            states.append((status, seen.steering.running))
            show(status, *rest)

        panel.show_numbers = noted  # type: ignore[method-assign]
        await seen.until(lambda: not panel.is_open, "the rendered reply")
        steps = [f"step {step}/" for step in range(1, 4)]
        for step in steps:
            assert any(step in status for status, _ in states), (step, states)
        assert any("catching up" in status and not running for status, running in states)
