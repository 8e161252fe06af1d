"""The canvas with its timeline and meters, in any terminal."""

import drawn
import numpy as np
import pytest
from textual.app import App, ComposeResult

from dgtui.tui.frames import View
from dgtui.tui.theme import PLAIN
from dgtui.tui.widgets.canvas_box import CanvasBox
from dgtui.tui.widgets.timeline import Bar

WORDS = 256
VIEW = View(
    tuple(b" word%d" % at for at in range(WORDS)), np.zeros(WORDS, np.float32), np.full(WORDS, 2, np.uint8),
    np.ones(WORDS, np.bool_), WORDS,
)  # fmt: skip


class Screen(App[None]):
    def compose(self) -> ComposeResult:
        yield CanvasBox(show_timeline=True)

    def on_mount(self) -> None:
        box = self.query_one(CanvasBox)
        box.set_look(PLAIN.look())
        box.canvas.show(VIEW)
        box.show_numbers("step 3", "12 tok/s", [Bar(9, 3.0, True), Bar(4, 2.0), Bar(1, 1.0)], None, 45)


@pytest.mark.parametrize("size", [(60, 16), (80, 24), (160, 50)])
async def test_timeline_and_meters_are_in_view_below_a_canvas_that_is_too_long(size: tuple[int, int]) -> None:
    app = Screen()
    async with app.run_test(size=size) as pilot:
        await pilot.pause()
        rows = [row for row in drawn.rows(app) if row.strip()]
        assert "Model   word0 " in rows[0]
        assert "step 3" in rows[-3] and "12 tok/s" in rows[-1]
        assert app.query_one(CanvasBox).timeline.size.height == 1
        assert len(rows) <= size[1] * 0.6 + 1
