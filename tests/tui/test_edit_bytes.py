"""Bytes outside of the spans stay as they are, whatever the file and whatever is pressed: through the edit screen."""

import asyncio
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_edit_screen import edit

from dgtui.steering.proposals import Proposal

BITS = ["the ", "fox", "\n", "\r\n", "\r", "\x0c", "\u2028", "\x1b[2J", "\t", "  ", "ü", "“", "中", "e\u0301", "😀"]
PLAIN = [bit for bit in BITS if bit.isascii()]
OFFERED = ["a hare", " ", "\n", "the fox", "ü", "", "\n\n\tlast"]
KEYS = ["enter", "backspace", "up", "down", "n", "N"]
ENCODINGS = {"utf-8": BITS, "utf-8-sig": BITS, "latin-1": [*PLAIN, "ü"], "cp1252": [*PLAIN, "“"], "gb18030": BITS}


@dataclass
class Case:
    """A file, the spans in its text, what is proposed for them, and the keys that answer."""

    encoding: str
    held: list[str]
    spans: list[str]
    "one fewer than `held`: they stand between them"
    offers: list[tuple[str, ...]]
    keys: list[str]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    encoding = draw(st.sampled_from(sorted(ENCODINGS)))
    texts = st.lists(st.sampled_from(ENCODINGS[encoding]), max_size=6).map("".join)
    spans = draw(st.lists(texts, min_size=1, max_size=3))
    # Spans that touch are one, and a CR and an LF at an edge are one line break
    held = ["held ", *[f" held {draw(texts)} held " for _ in spans[1:]], f" held {draw(texts)}"]
    offer = st.tuples(*[st.lists(st.sampled_from(OFFERED), max_size=4).map("".join)] * len(spans))
    offers = draw(st.lists(offer, min_size=1, max_size=3))
    return Case(encoding, held, spans, offers, draw(st.lists(st.sampled_from(KEYS), max_size=12)))


async def review(case: Case, folder: Path) -> None:
    codec = case.encoding.removesuffix("-sig")
    mark = b"\xef\xbb\xbf" if codec != case.encoding else b""
    held, spans = ([text.encode(codec) for text in texts] for texts in (case.held, case.spans))
    before, places = mark + held[0], []
    for span, after in zip(spans, held[1:], strict=True):
        places.append((len(before), len(before) + len(span)))
        before += span + after
    between = [re.escape(part) for part in (mark + held[0], *held[1:])]
    kept = re.compile(b"(.*)".join(between), re.DOTALL)
    async with edit(folder, before, encoding=codec) as seen:
        passage = seen.proposals.passages.of(places)
        passage.add(Proposal(texts, 0.5, 3, 8, 1, 0.1, 7) for texts in case.offers)
        seen.proposals.open(passage)
        await seen.pilot.pause()
        for key in case.keys:
            await seen.press(key)
            if not seen.proposals.active:
                break
            assert kept.fullmatch(seen.data), key
        await seen.press("escape")
        changed = seen.data
        assert kept.fullmatch(changed)
        await seen.press("ctrl+s")
        assert seen.path.read_bytes() == changed
        while seen.data != before:
            await seen.press("ctrl+z")
        assert not seen.buffer.undo()


@pytest.mark.slow
@given(cases())
@settings(max_examples=25, deadline=None)
def test_only_the_spans_change_whatever_the_file_and_the_keys(case: Case) -> None:
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(review(case, Path(folder)))
