"""The packed steps of a stored reply: small, the same to look at, and refused where they are damaged."""

import zlib
from pathlib import Path

import numpy as np
import pytest
from recorded import run

from dgtui.diffusion.events import BlockStarted, Flag, Frame
from dgtui.diffusion.job import Job
from dgtui.diffusion.log import RunLog
from dgtui.session import timeline
from dgtui.session.run_schema import Malformed
from dgtui.session.store import Store, Turn
from dgtui.session.timeline import pack_timeline, unpack_timeline
from dgtui.tui.frames import view_at
from dgtui.tui.widgets.timeline import bars_of

PLACES = 256


def long_run(steps: int, seed: int = 1) -> RunLog:
    """A block of 256 places that settles one part after the other, with noise elsewhere."""
    rng = np.random.default_rng(seed)
    blank, mask = np.zeros(PLACES, np.int32), np.zeros(PLACES, np.bool_)
    log = RunLog(Job("run", (1, 2, 3), 7), [BlockStarted("run", 0, (blank,), (mask,), (b"x" * 5000,), steps, steps, 0)])
    text = rng.integers(0, 260_000, PLACES).astype(np.int32)
    for step in range(1, steps + 1):
        settled = np.arange(PLACES) < PLACES * step // steps
        noise = rng.integers(0, 260_000, PLACES).astype(np.int32)
        ids = np.where(settled, text, noise).astype(np.int32)
        entropy = np.where(settled, 0.01, rng.random(PLACES) * 4).astype(np.float32)
        flags = np.where(settled, Flag.ACCEPTED, Flag.RENOISED | Flag.CHANGED).astype(np.uint8)
        top = rng.integers(0, 260_000, (PLACES, 8)).astype(np.int32)
        log.append(
            Frame("run", 0, 0, step, steps, ids, noise, entropy, flags, top, top.astype(np.float32), 1.0, 0.5, step)
        )
    return log


def test_the_steps_of_a_stored_reply_look_as_they_did() -> None:
    log = run()
    kept = unpack_timeline(pack_timeline(log))
    pieces, stop = lambda ids: [b"%d " % i for i in ids], frozenset[int]()
    for frame in log.frames():
        _, then = view_at(log, frame.block, frame.step, 0, pieces, stop)
        _, now = view_at(kept, frame.block, frame.step, 0, pieces, stop)
        assert now.pieces == then.pieces and (now.flags == then.flags).all() and (now.settled == then.settled).all()
        assert np.abs(now.entropy - then.entropy).max() <= 1 / 128
    assert bars_of(kept.frames()) == bars_of(log.frames())
    assert kept.finished is not None and log.finished is not None
    assert kept.finished.reason == log.finished.reason


def test_a_stored_block_of_256_places_and_48_steps_takes_less_than_64_kilobytes() -> None:
    assert len(pack_timeline(long_run(48))) < 64_000


def test_a_run_that_is_too_long_loses_steps_and_keeps_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timeline, "MOST_BYTES", 20_000)
    log = long_run(48)
    packed = pack_timeline(log)
    assert 0 < len(packed) <= 20_000
    kept = unpack_timeline(packed).frames()
    assert 3 <= len(kept) < 48
    assert [frame.step for frame in kept][-3:] == [46, 47, 48]
    assert kept[-1].ids.tolist() == log.frames()[-1].ids.tolist()


def test_a_run_without_steps_has_no_timeline() -> None:
    assert pack_timeline(RunLog(Job("run", (1,), 7), long_run(1)._events[:1])) == b""


@pytest.mark.parametrize("damage", ["cut", "other", "bomb"])
def test_a_damaged_timeline_is_rejected(damage: str) -> None:
    packed = pack_timeline(run())
    bad = {"cut": packed[:-9], "other": zlib.compress(b"{}" * 50), "bomb": zlib.compress(bytes(2**26), 1)}[damage]
    with pytest.raises(Malformed):
        unpack_timeline(bad)


def test_the_timeline_of_a_turn_is_deleted_with_its_conversation(tmp_path: Path) -> None:
    store = Store(tmp_path / "history.db")
    conversation = store.create("nano")
    turn = store.append(conversation, Turn("model", "hello"))
    store.keep_timeline(turn, b"packed by hand")
    assert store.timeline(turn) == b"packed by hand"
    store.delete(conversation)
    assert store.timeline(turn) == b""
    store.close()
    assert b"packed by hand" not in (tmp_path / "history.db").read_bytes()
