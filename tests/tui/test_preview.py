"""The preview shows a reply rendered while it is written, beside or below the conversation, with its SVG drawn."""

import time
from collections.abc import Sequence

import drawn
import pytest
from scripted import CANVAS, EOS, TURN_END
from test_chat_screen import Seen, chat

from dgtui.tui.picture import Picture
from dgtui.tui.widgets import preview

HOUSE = [
    "# A house\n\n", "It is **red**.\n\n", "```svg\n", '<svg viewBox="0 0 20 10">', '<rect width="20" height="10"',
    ' fill="red"/>', "</svg>\n", "```\n", "- done\n",
]  # fmt: skip


@pytest.fixture(autouse=True)
def busy_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look and draw without rest: on a busy machine it is long."""
    monkeypatch.setattr(preview, "REST", 0)
    monkeypatch.setattr(preview, "DRAWING_REST", 0)


def writes(seen: Seen, pieces: Sequence[str]) -> None:
    """Makes the model write these pieces of text."""
    data = [piece.encode() for piece in pieces]
    seen.backend.denoiser._choices = [[3 + at] for at in range(len(data))]
    seen.backend.denoiser._choices += [[TURN_END], *[[EOS]] * (CANVAS - len(data) - 1)]
    seen.backend.pieces = lambda ids: [data[i - 3] if 3 <= i < 3 + len(data) else b"" for i in ids]


async def pictures(seen: Seen) -> list[Picture]:
    """The pictures of the preview, once there is one."""
    shown = seen.screen.preview._drawn
    await seen.until(lambda: any(isinstance(picture, Picture) for _, picture in shown.values()), "a picture")
    return [picture for _, picture in shown.values() if isinstance(picture, Picture)]


async def test_o_shows_a_finished_reply_rendered_and_drawn_and_closes_again() -> None:
    async with chat() as seen:
        writes(seen, HOUSE)
        await seen.reply()
        canvas, shown = seen.screen.panel.canvas, seen.screen.preview
        await seen.canvas("o")
        assert shown.display and canvas.has_focus, "the keys stay where they were"
        await pictures(seen)
        wanted = ("It is red.", "▀▀▀", "• done")
        await seen.until(lambda: all(part in drawn.text(seen.app) for part in wanted), "the picture between the text")
        assert "[an SVG" not in drawn.text(seen.app)
        assert shown.region.x >= canvas.region.right and shown.region.y <= canvas.region.y
        await seen.pilot.press("o")
        assert not shown.display and canvas.has_focus
        await seen.until(lambda: "▀▀▀" not in drawn.text(seen.app), "the end of the preview")


async def test_the_preview_follows_the_block_that_settles() -> None:
    async with chat(hold_steps=True, steps=6) as seen:
        writes(seen, HOUSE)
        seen.backend.step_gate.let(1)
        await seen.say("draw")
        await seen.until(lambda: seen.steering.version and seen.steering.version.frames(), "a step")
        await seen.canvas("o")
        await seen.until(lambda: seen.screen.preview._shown is not None, "the first look")
        assert "•" not in drawn.text(seen.app), "noise is not rendered"
        seen.backend.step_gate.open()
        await seen.settled()
        await seen.until(lambda: "• done" in drawn.text(seen.app), "the settled text")
        await pictures(seen)
        await seen.canvas("left_curly_bracket")
        await seen.until(lambda: "• done" not in drawn.text(seen.app), "an earlier step in the preview too")


async def test_the_last_picture_stays_until_there_is_a_better_one() -> None:
    async with chat() as seen:
        writes(seen, HOUSE)
        await seen.reply()
        await seen.canvas("o")
        (before,) = await pictures(seen)
        seen.screen.preview.text = lambda: "<svg viewBox='0 0 1 1'"
        await seen.until(lambda: seen.screen.preview._drawn[0][0][0].endswith("'"), "another drawing")
        assert seen.screen.preview._drawn[0][1] is before
        seen.screen.preview.text = lambda: "<svg> </svg> <svg <"
        await seen.until(lambda: 1 in seen.screen.preview._drawn, "a drawing that is none")
        await seen.until(lambda: "[an SVG: this SVG cannot be drawn]" in drawn.text(seen.app), "a sentence")


@pytest.mark.parametrize("focus", ["prompt", "transcript"])
async def test_a_reply_in_the_transcript_is_shown_without_taking_the_keys(focus: str) -> None:
    async with chat() as seen:
        writes(seen, HOUSE)
        await seen.reply()
        if focus == "prompt":
            await seen.say("/preview")
        else:
            seen.screen.transcript.focus()
            await seen.pilot.press("o")
        await pictures(seen)
        part = seen.screen.prompt if focus == "prompt" else seen.screen.transcript
        assert part.has_focus and seen.screen.preview.is_open
        await seen.pilot.press("tab" if focus == "transcript" else "shift+tab")
        if focus == "transcript":
            assert seen.screen.preview.has_focus
            await seen.pilot.press("escape")
            assert not seen.screen.preview.is_open and seen.screen.transcript.has_focus


@pytest.mark.parametrize(("size", "beside"), [((100, 30), True), ((99, 30), False), ((80, 24), False)])
async def test_on_a_narrow_screen_it_stands_below(size: tuple[int, int], beside: bool) -> None:
    async with chat(size=size) as seen:
        writes(seen, HOUSE)
        await seen.reply()
        await seen.canvas("o")
        await pictures(seen)
        await seen.pilot.pause()
        shown, talk = seen.screen.preview.region, seen.screen.transcript.region
        assert (shown.x >= talk.right) == beside and (shown.y >= talk.bottom) != beside
        assert shown.height >= 8 and talk.height >= 7
        if not beside:
            row = seen.screen.preview.region.bottom - 1
            await seen.until(lambda: "▀" in drawn.rows(seen.app)[row], "the end of the picture")


async def test_without_the_library_it_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preview, "can_draw", lambda: False)
    async with chat() as seen:
        writes(seen, HOUSE)
        await seen.reply()
        await seen.canvas("o")
        await seen.until(lambda: "pip install 'dgtui[svg]'" in " ".join(drawn.text(seen.app).split()), "the hint")
        assert "• done" in drawn.text(seen.app) and not seen.screen.preview._drawn


async def test_the_reply_is_looked_at_five_times_a_second_at_most() -> None:
    async with chat() as seen:
        await seen.reply()
        looks: list[float] = []

        def text() -> str:
            looks.append(time.monotonic())
            return f"changed {len(looks)} times"

        seen.screen.preview.text = text
        began = time.monotonic()
        await seen.canvas("o")
        await seen.until(lambda: len(looks) > 6, "some looks")
        # Two as it opens; then a timer looks, which may be late but never early
        assert all(look >= began + preview.EVERY * (number - 1) for number, look in enumerate(looks))
        await seen.canvas("o")
        count = len(looks)
        await seen.pilot.pause(2 * preview.EVERY)
        assert len(looks) == count, "a closed preview costs nothing"


async def test_there_is_nothing_to_preview_before_the_first_reply() -> None:
    async with chat() as seen:
        await seen.say("/preview")
        assert "no reply to preview yet" in seen.notices() and not seen.screen.preview.is_open


async def test_hostile_text_is_harmless_in_the_preview() -> None:
    async with chat() as seen:
        await seen.reply()
        hostile = f"{drawn.HOSTILE}\n\n<svg viewBox='0 0 9 9'><text>{drawn.HOSTILE}</text></svg>"
        seen.screen.preview.text = lambda: hostile
        await seen.canvas("o")
        await pictures(seen)
        await seen.until(lambda: "▀" in drawn.text(seen.app), "the picture")
        assert drawn.is_safe(seen.app)
