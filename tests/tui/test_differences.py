"""Two texts beside each other: what differs is shown, and a comparison never holds the screen."""

import random
import time

import pytest
from textual.app import App
from textual.widgets import Static

from dgtui.tui.screens import differences
from dgtui.tui.screens.differences import Differences


def lines(count: int, seed: int) -> list[str]:
    """Lines of which each occurs many times."""
    chosen = random.Random(seed)
    return [f"line {chosen.randrange(1000)}" for _ in range(count)]


async def shown(old: list[str], new: list[str]) -> str:
    app: App[None] = App()
    async with app.run_test() as pilot:
        await app.push_screen(Differences("\n".join(old), "\n".join(new), "title"))
        while (text := str(app.screen.query_one(Static).content)) == "comparing …":
            await pilot.pause(0.01)
        return text


@pytest.mark.parametrize("count", [40, 3000])
async def test_a_change_is_shown_at_its_line_with_what_is_around_it(count: int) -> None:
    old = lines(count, 1)
    new = [*old[:20], "another", *old[21:]]
    assert await shown(old, new) == f"@@ -20,3 +20,3 @@\n {old[19]}\n-{old[20]}\n+another\n {old[21]}"
    assert await shown(old, [*old, "more"]) == f"@@ -{count},1 +{count},2 @@\n {old[-1]}\n+more"
    assert await shown(old, old) == "the texts are equal"


async def test_many_repetitive_lines_that_differ_are_not_compared_for_long() -> None:
    old, new = lines(150_000, 1), lines(150_000, 2)
    app: App[None] = App()
    async with app.run_test() as pilot:
        await app.push_screen(Differences("\n".join(old), "\n".join(new), "title"))
        began = time.thread_time()
        while (text := str(app.screen.query_one(Static).content)) == "comparing …":
            await pilot.pause(0.01)
        assert text == "too many differences to show"
        assert time.thread_time() - began < 2.0, "the thread of the screen was free"


def test_a_comparison_that_takes_long_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(differences, "MOST_SECONDS", 0.0)
    assert "too many" in str(differences._shown("a\nb\nc", "b\nc\nd"))
