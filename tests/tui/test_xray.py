"""The x-ray: cells and tokens belong together."""

import drawn
from test_chat_screen import Seen, chat


def caption(seen: Seen) -> str:
    return next(row for row in drawn.rows(seen.app) if "x-ray:" in row)


async def test_the_cell_under_the_cursor_is_the_token_under_the_cursor() -> None:
    async with chat(size=(160, 50)) as seen:
        await seen.reply()
        await seen.canvas("X", "home")
        await seen.until(lambda: any("x-ray: entropy" in row for row in drawn.rows(seen.app)), "the x-ray")
        first = caption(seen)
        await seen.canvas("right", "right")
        word = seen.steering.text(seen.steering.version).split()[2]
        assert f" {word} (2) · decided at step" in caption(seen)
        assert caption(seen).index("▲") == first.index("▲") + 2
        await seen.canvas("X")
        assert "x-ray: when each token was decided" in caption(seen)
        await seen.canvas("X")
        assert not any("x-ray:" in row for row in drawn.rows(seen.app))


async def test_a_click_on_a_cell_goes_to_its_token_and_its_step() -> None:
    async with chat(size=(160, 50)) as seen:
        await seen.reply()
        await seen.canvas("X", "home")
        await seen.pilot.pause(0.1)
        await seen.pilot.click(seen.screen.panel.xray, offset=(2 + 3, 0))
        await seen.until(lambda: seen.screen.panel.canvas.cursor == 3, "the token")
        assert seen.steering.playhead == 0 and "step 1/" in seen.screen.panel.status
        rows = drawn.rows(seen.app)
        assert sum("▸ " in row for row in rows) == 1


async def test_the_token_before_the_end_of_a_run_has_the_step_from_which_on_it_was_kept() -> None:
    async with chat() as seen:
        await seen.reply()
        await seen.canvas("X")
        frames = seen.steering.version.frames()
        kept = [bool(frame.flags[4] & 3) for frame in frames]
        since = len(kept) - kept[::-1].index(False) if False in kept else 0
        seen.screen.panel.canvas.cursor = 4
        await seen.until(lambda: "(4)" in caption(seen), "the caption")
        assert f"decided at step {frames[since].step} " in caption(seen)
