"""Recordings of earlier versions stay readable. The files were written by the first version that had the format.

Their runs are those of the denoiser made of numbers, so that running a file's job again must give the file's events.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
from fakes import endless, stepper

from dgtui.diffusion import engine
from dgtui.diffusion.events import Action, Amended
from dgtui.diffusion.job import Start
from dgtui.session import recording

FOLDER = Path(__file__).parents[1] / "data" / "recordings"
FILES = sorted(FOLDER.glob("*.dgtui"))


def assert_same(events: Sequence[Any], others: Sequence[Any]) -> None:
    """Equal in every field but the time, which no second run shares; processors round the last bits differently."""
    assert [type(event) for event in events] == [type(other) for other in others]
    for event, other in zip(events, others, strict=True):
        for name in type(event).__slots__:
            mine, its = getattr(event, name), getattr(other, name)
            if name != "seconds" and np.asarray(mine).dtype.kind == "f":
                np.testing.assert_allclose(mine, its, rtol=5e-7, atol=2e-7, err_msg=name)
            elif name != "seconds":
                np.testing.assert_equal(mine, its, err_msg=name)


def test_there_is_a_file_of_each_kind() -> None:
    assert [file.stem for file in FILES] == [
        "fork", "image", "one_own_start", "own_starts", "shared_start", "two_blocks",
    ]  # fmt: skip


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_an_old_recording_holds_the_run_that_was_made(file: Path) -> None:
    log = recording.load(file).log
    again = [*engine.run(stepper(endless()), log.job)]
    recorded = [event for event in log if not isinstance(event, Amended)]
    if file.stem == "two_blocks":  # a person pinned a position after its second step
        [amended] = [event for event in log if isinstance(event, Amended)]
        assert (amended.step, amended.position, amended.action, amended.token) == (2, 3, Action.PIN, 9)
        assert_same(recorded[:3], again[:3])
        assert {frame.ids[3] for frame in log.frames(block=0)[2:]} == {9}
    else:
        assert_same(recorded, [event for event in again if not isinstance(event, Amended)])


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_what_is_written_today_is_what_earlier_versions_read(file: Path, tmp_path: Path) -> None:
    old = recording.load(file)
    if file.stem == "one_own_start":
        assert [start.pinned for start in old.log.job.starts] == [{6}]
        return  # a single start was written in two ways; today in one of them
    recording.save(tmp_path / "again", old)
    assert metadata(tmp_path / "again") == metadata(file)


def metadata(path: Path) -> dict[str, str]:
    """Format, version, the JSON part, and the digest of all arrays."""
    with safetensors.safe_open(path, "numpy") as file:
        return file.metadata()


def test_starts_are_those_of_each_candidate() -> None:
    starts = {file.stem: recording.load(file).log.job.starts for file in FILES}
    ids = tuple(range(12))
    assert starts["two_blocks"] == (Start(),)
    assert starts["shared_start"] == (Start(ids, frozenset({0, 4}), 0.5),) * 3
    assert starts["own_starts"] == (Start(ids, frozenset({1})), Start(ids[::-1], frozenset({2, 3})))
    assert starts["one_own_start"] == (Start(ids, frozenset({6})),)
