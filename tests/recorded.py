"""Recordings of real runs on a numeric denoiser, with words for its ids."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fakes import EOS, VOCAB, NumericDenoiser, certain, endless, job, stepper

from dgtui.diffusion import engine
from dgtui.diffusion.log import RunLog
from dgtui.session import recording
from dgtui.session.recording import Recording

ASKED, TURN = 1, 2
WORDS = "fox river the and sings a lantern under old bridge while water keeps time for nobody but her 雨".split()
PIECES = {i: b"" if i in (TURN, EOS) else b" " + WORDS[i % len(WORDS)].encode() for i in range(VOCAB)}
PIECES[ASKED] = b"user\nTell me of the river."
TALE = [6, 7, 8, 9, 10, 11, 12, 13, 14, EOS, EOS, EOS]
"""A canvas that ends the reply."""
HOSTILE = [
    b"\x1b]52;c;aGk=\x07", b"\x1b[2J\x1b[H", b"\xc2\x9b31m", b"\x00\x7f", b"\r", b"\t", b"\n\n", b"\xff\xfe",
    b"\xf0\x9f",
    b"</script><script>alert(1)</script>", b"<img src=x onerror=alert(1)>", b"]]>", b"<!--", b"-->", b"\\u003c",
    b'" onload="alert(1)', b"' x='", b"&lt;b&gt;", b"[red]x[/red]", b"javascript:alert(1)",
    "\u202eevil\u202c".encode(), "\u200b\u2028".encode(), "👩\u200d💻".encode(), "e\u0301\u0301".encode(),
]  # fmt: skip
"""Pieces that would drive a terminal, leave an element or an attribute, hide, or turn a line round."""


def run(denoiser: NumericDenoiser | None = None, **asked: Any) -> RunLog:
    """A whole run of the real engine; by default three blocks that never end the reply."""
    asked = {"max_tokens": 36} | asked
    log = RunLog(job(**asked))
    for event in engine.run(stepper(denoiser or endless()), log.job):
        log.append(event)
    return log


def ended() -> RunLog:
    """A run whose reply ends in its first block."""
    return run(NumericDenoiser(script=certain(TALE)))


def write(path: Path, log: RunLog | None = None, pieces: Mapping[int, bytes] = PIECES, model: str = "numbers") -> Path:
    """Records a run."""
    made = Recording(
        log or run(), pieces, frozenset({TURN, EOS}), "f00d", model, "reference", "cpu", {"torch": "2.9.0"}
    )
    recording.save(path, made)
    return path


def recorded(folder: Path, log: RunLog | None = None, **other: Any) -> Recording:
    """A run, recorded and loaded."""
    return recording.load(write(folder / "run.dgtui", log, **other))


def hostile(folder: Path) -> Recording:
    """A run with a hostile prompt, hostile tokens and a hostile model name."""
    pieces = {i: HOSTILE[i % len(HOSTILE)] for i in range(VOCAB)}
    return recorded(folder, pieces=pieces, model="\x1b[2J</title><script>alert(1)</script>\u202e&")
