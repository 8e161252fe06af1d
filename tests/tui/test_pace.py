"""How often a canvas is drawn, with clocks of the test's own."""

import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from dgtui.diffusion.events import BlockFinished, BlockStarted, Finished, StopReason
from dgtui.tui.messages import BlockDone, FramesReady
from dgtui.tui.pace import DRAWING_SHARE, Pace


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    now = SimpleNamespace(wall=100.0, thread=1.0)
    monkeypatch.setattr(time, "monotonic", lambda: now.wall)
    monkeypatch.setattr(time, "thread_time", lambda: now.thread)
    return now


def run(*events: Any, paused: bool = False) -> Any:
    return SimpleNamespace(log=list(events), control=SimpleNamespace(paused=paused))


STEP = BlockStarted("run", 0, (), (), (), 4, 4, 0.0)
BLOCK = BlockFinished("run", 0, 0, np.zeros(1, np.int32), 4, True, 0.0)
END = Finished("run", StopReason.EOS, (np.zeros(1, np.int32),), (4,), 0.0)


def told(pace: Pace, clock: SimpleNamespace, seconds: float) -> int:
    """How many frames of steps of a millisecond it tells of."""
    heard: list[Any] = []
    sink = pace.sink(heard.append, only_blocks=False)
    for _ in range(round(seconds * 1000)):
        clock.wall += 0.001
        sink(run(STEP), 1)
    return len(heard)


def test_frames_come_at_most_as_often_as_asked_for(clock: SimpleNamespace) -> None:
    assert told(Pace(20), clock, 2.0) == pytest.approx(40, abs=1)


def test_frames_are_spaced_by_what_drawing_them_costs(clock: SimpleNamespace) -> None:
    pace = Pace(30)
    for _ in range(40):
        clock.thread += 0.012
        pace.drawn()
    assert told(pace, clock, 6.0) == pytest.approx(6.0 / (0.012 / DRAWING_SHARE), abs=1)
    for _ in range(40):
        pace.drawn()
    assert told(pace, clock, 2.0) == pytest.approx(60, abs=2), "and not more often than is asked for"


def test_a_finished_block_is_told_at_once_and_the_end_by_another_way(clock: SimpleNamespace) -> None:
    heard: list[Any] = []
    sink = Pace(1).sink(heard.append, only_blocks=False)
    for event in (STEP, STEP, BLOCK, END):
        sink(run(event), 1)
    assert [type(message) for message in heard] == [FramesReady, BlockDone]


def test_with_reduced_motion_only_blocks_are_told(clock: SimpleNamespace) -> None:
    heard: list[Any] = []
    sink = Pace(30).sink(heard.append, only_blocks=True)
    for event in (STEP, BLOCK):
        sink(run(event), 1)
    assert [type(message) for message in heard] == [BlockDone]


def test_single_steps_of_a_paused_run_are_all_told(clock: SimpleNamespace) -> None:
    heard: list[Any] = []
    sink = Pace(1).sink(heard.append, only_blocks=False)
    for _ in range(3):
        sink(run(STEP, paused=True), 1)
    assert len(heard) == 3
