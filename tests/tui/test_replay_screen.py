"""The replay screen, key by key: it plays, scrubs, shows and copies, and changes nothing."""

import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from drawn import is_safe, text, until
from fakes import CANVAS
from recorded import ended, hostile, recorded, run
from textual.pilot import Pilot

from dgtui.config import KeysSettings, ScreenSettings, Settings
from dgtui.session.recording import Recording
from dgtui.tui import keymap
from dgtui.tui.exports.recorded_run import RecordedRun
from dgtui.tui.screens.replay import SPEEDS, ReplayApp, ReplayScreen
from dgtui.tui.theme_file import theme_folders
from dgtui.tui.widgets.alternatives import Alternatives
from dgtui.tui.widgets.canvas_view import CanvasView
from dgtui.tui.widgets.timeline import Timeline


class Seen:
    """The app under test, with a clock that the test sets."""

    def __init__(self, app: ReplayApp, pilot: Pilot[None], played: RecordedRun) -> None:
        self.app, self.pilot, self.recorded = app, pilot, played
        self.now = 0.0
        self.screen._clock = lambda: self.now

    @property
    def screen(self) -> ReplayScreen:
        return next(s for s in self.app.screen_stack if isinstance(s, ReplayScreen))

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)
        await self.pilot.pause()

    async def wait(self, seconds: float) -> None:
        """Advances the clock of the replay."""
        self.now += seconds
        self.screen._tick()
        await self.pilot.pause()

    @property
    def rows(self) -> str:
        return text(self.app)


@asynccontextmanager
async def replay(
    recording: Recording, *, size: tuple[int, int] = (100, 30), settings: Settings | None = None, first: int = 0
) -> AsyncIterator[Seen]:
    played = RecordedRun(recording)
    app = ReplayApp(played, settings or Settings(), "run.dgtui", theme_folders=theme_folders(), first=first)
    async with app.run_test(size=size) as pilot:
        await pilot.pause()
        seen = Seen(app, pilot, played)
        seen.screen._timer.stop()  # time is the test's own
        yield seen


async def test_it_opens_at_the_first_step_with_what_was_asked(tmp_path: Path) -> None:
    async with replay(recorded(tmp_path)) as seen:
        assert "run.dgtui · numbers · cpu" in seen.rows
        assert "› Tell me of the river." in seen.rows
        assert "block 1 · step 1/8 · " in seen.rows
        assert "tok/s wall" in seen.rows
        await until(lambda: "space play" in seen.rows and "esc leave" in seen.rows)


async def test_scrubbing_shows_every_step_and_stops_at_the_ends(tmp_path: Path) -> None:
    async with replay(recorded(tmp_path)) as seen:
        last = len(seen.recorded) - 1
        for at in range(1, last + 1):
            await seen.press("right_square_bracket")
            assert seen.screen.at == at
            assert seen.recorded.status(at) in seen.rows
        await seen.press("right_square_bracket")
        assert seen.screen.at == last
        await seen.press("left_square_bracket")
        assert seen.screen.at == last - 1
        await seen.press("left_curly_bracket")
        assert seen.screen.at == 0
        await seen.press("left_square_bracket", "right_curly_bracket")
        assert seen.screen.at == last
        assert "out of room" in seen.rows


async def test_a_bar_that_is_clicked_is_shown(tmp_path: Path) -> None:
    async with replay(recorded(tmp_path)) as seen:
        await until(lambda: "space play" in seen.rows)  # everything is in its place
        await seen.pilot.click(Timeline, offset=(9, 0))
        await until(lambda: seen.screen.at == 9)


async def test_blocks_that_are_done_stand_above_the_canvas(tmp_path: Path) -> None:
    async with replay(recorded(tmp_path)) as seen:
        first = seen.recorded.text(seen.recorded.block_ends[0]).strip()
        assert first not in seen.rows
        await seen.press("right_curly_bracket")
        assert " ".join(first.split()) in " ".join(seen.rows.split())


async def test_it_plays_at_the_recorded_speed_and_stops_at_the_end(tmp_path: Path) -> None:
    async with replay(recorded(tmp_path)) as seen:
        pace = seen.recorded.pace
        await seen.press("space")
        assert seen.screen.playing and "▶ ×1" in seen.rows
        await seen.wait(pace[3] + 1e-9)
        assert seen.screen.at == 3
        await seen.wait(pace[4] - pace[3])
        assert seen.screen.at == 4
        await seen.press("space")
        await seen.wait(100.0)
        assert seen.screen.at == 4 and not seen.screen.playing
        await seen.press("space")
        await seen.wait(1000.0)
        assert seen.screen.at == len(pace) - 1 and not seen.screen.playing
        await seen.press("space")
        assert seen.screen.at == 0 and seen.screen.playing, "from the beginning again"


async def test_plus_and_minus_change_the_speed_within_bounds(tmp_path: Path) -> None:
    async with replay(recorded(tmp_path)) as seen:
        pace = seen.recorded.pace
        await seen.press("plus")
        assert seen.screen.pace == 2 and "×2" in seen.rows
        await seen.press("space")
        await seen.wait(pace[6] / 2 + 1e-9)
        assert seen.screen.at == 6
        await seen.press(*["minus"] * 20)
        assert seen.screen.pace == SPEEDS[0]
        await seen.press(*["plus"] * 20)
        assert seen.screen.pace == SPEEDS[-1]


async def test_reduced_motion_shows_the_end_of_each_block_only(tmp_path: Path) -> None:
    still = Settings(screen=ScreenSettings(reduced_motion=True))
    async with replay(recorded(tmp_path), settings=still) as seen:
        ends = seen.recorded.block_ends
        await seen.press("space")
        shown = set()
        for time in seen.recorded.pace[1:]:
            await seen.wait(time - seen.now)
            shown.add(seen.screen.at)
        assert shown - {0} == set(ends)


async def test_a_selection_is_copied_else_the_reply_as_it_was(tmp_path: Path) -> None:
    async with replay(recorded(tmp_path, ended())) as seen:
        await seen.press("right_curly_bracket", "y")
        assert seen.app.clipboard == seen.recorded.text(len(seen.recorded) - 1)
        await seen.press("shift+right", "ctrl+c")
        view = seen.recorded.view(seen.screen.at)
        assert seen.app.clipboard == b"".join(view.pieces[:2]).decode()
        assert seen.app.is_running and not seen.app._exit


async def test_alternatives_are_shown_and_choosing_one_changes_nothing(tmp_path: Path) -> None:
    async with replay(recorded(tmp_path)) as seen:
        await seen.press("right_square_bracket", "a")
        assert isinstance(seen.app.screen, Alternatives)
        frame = seen.recorded.frames[1]
        shown = seen.recorded.pieces(frame.top_ids[seen.screen.canvas.cursor].tolist())
        assert all(piece.decode().strip() in seen.rows for piece in shown if piece)
        before = seen.recorded.view(1)
        await seen.press("down", "enter")
        assert seen.app.screen is seen.screen
        assert seen.screen.at == 1 and seen.recorded.view(1) is before


async def test_candidates_are_gone_through(tmp_path: Path) -> None:
    async with replay(recorded(tmp_path, run(candidates=3, max_tokens=CANVAS))) as seen:
        first = seen.screen.recorded.candidate
        await seen.press("n")
        assert seen.screen.recorded.candidate == (first + 1) % 3
        await seen.press("N", "N")
        assert seen.screen.recorded.candidate == (first - 1) % 3
        assert f"candidate {(first - 1) % 3 + 1} of 3" in seen.rows


async def test_it_begins_where_it_is_told(tmp_path: Path) -> None:
    async with replay(recorded(tmp_path), first=5) as seen:
        assert seen.screen.at == 5


async def test_q_escape_and_ctrl_q_leave(tmp_path: Path) -> None:
    recording = recorded(tmp_path)
    for key in ("q", "escape", "ctrl+q", "ctrl+c"):
        async with replay(recording) as seen:
            await seen.press(key)
            assert seen.app._exit
        assert seen.app.return_code == 0


async def test_keys_can_be_changed(tmp_path: Path) -> None:
    keys = KeysSettings(bindings={"replay.scrub_forward": ("z",), "replay.leave": ("g",)})
    async with replay(recorded(tmp_path), settings=replace(Settings(), keys=keys)) as seen:
        await seen.press("z", "z", "q")
        assert seen.screen.at == 2 and not seen.app._exit
        assert not seen.app._notifications


def test_its_keys_may_be_those_of_the_chats_canvas_but_not_of_moving_in_it() -> None:
    assert keymap.check({"replay.leave": ("x",), "canvas.pin": ("q",)})[1] == []
    assert keymap.check({"replay.leave": ("left",)})[1] == [
        "replay.leave: left is already the key of canvas.left; replay.leave keeps escape, q"
    ]
    assert keymap.check({"replay.play": ("y",)})[1] != []


async def test_the_help_lists_its_keys(tmp_path: Path) -> None:
    async with replay(recorded(tmp_path)) as seen:
        await seen.press("question_mark")
        shown = ""
        for _ in range(8):
            await seen.press("pagedown")
            shown += seen.rows
        assert "play the run, or pause it" in shown


async def test_a_small_terminal_is_told_so(tmp_path: Path) -> None:
    async with replay(recorded(tmp_path), size=(50, 12)) as seen:
        assert "needs 60 columns and 16 rows" in seen.rows
        await seen.pilot.resize_terminal(80, 24)
        await seen.pilot.pause()
        assert "step 1/8" in seen.rows


async def test_the_themes_own_colours_reach_a_theme_that_is_changed(tmp_path: Path) -> None:
    async with replay(recorded(tmp_path)) as seen:
        seen.app.theme = "paper"
        await seen.pilot.pause()
        assert seen.app.query_one(CanvasView).look.theme.name == "paper"


async def test_a_chosen_theme_is_taken_when_it_is_mended(tmp_path: Path) -> None:
    folder = theme_folders()[1]
    folder.mkdir(parents=True)
    (folder / "mine.toml").write_text("name = 3")
    chosen = replace(Settings(), screen=ScreenSettings(theme="mine"))
    async with replay(recorded(tmp_path), settings=chosen) as seen:
        assert seen.app.theme == "midnight"
        (folder / "mine.toml").write_text('[colors]\nprimary = "#7aa2f7"\n[entropy]\nramp = ["#fff", "#f00"]\n')
        seen.app._reload_themes()
        await seen.pilot.pause()
        assert seen.app.theme == seen.app.query_one(CanvasView).look.theme.name == "mine"


async def test_more_mistakes_than_a_screen_has_room_for_are_counted(tmp_path: Path) -> None:
    problems = [f"config.toml:{line}: wrong" for line in range(1, 8)]
    app = ReplayApp(
        RecordedRun(recorded(tmp_path)), Settings(), "run.dgtui", theme_folders=theme_folders(), problems=problems
    )
    async with app.run_test(size=(80, 24)):
        said = [notification.message for notification in app._notifications]
        assert said == [*problems[:2], "and 5 more: run dgtui doctor to see them"]


async def test_a_hostile_recording_draws_nothing_but_text(tmp_path: Path) -> None:
    async with replay(hostile(tmp_path), size=(80, 24)) as seen:
        assert is_safe(seen.app)
        for _ in range(len(seen.recorded)):
            await seen.press("right_square_bracket")
            assert is_safe(seen.app)
        await seen.press("a")
        assert is_safe(seen.app)


def test_nothing_of_a_model_is_imported() -> None:
    code = (
        "import sys, dgtui.tui.screens.replay, dgtui.tui.exports.web, dgtui.tui.exports.cast\n"
        "heavy = {m for m in sys.modules if m.split('.')[0] in ('torch', 'transformers')}\n"
        "parts = ('dgtui.model.', 'dgtui.worker.', 'dgtui.diffusion.engine.')\n"
        "heavy |= {m for m in sys.modules if f'{m}.'.startswith(parts)}\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
