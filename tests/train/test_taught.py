"""Lessons as token ids."""

import itertools
import random

import pytest
from checkpoints import tokenizer

from dgtui.train.lessons import LESSONS, guide, stream
from dgtui.train.taught import CONTINUED_SHARE, SPANS_SHARE, Encoder


def test_a_share_of_the_replies_is_continued_and_none_loses_a_token() -> None:
    encoder, rng = Encoder(tokenizer()), random.Random(3)
    assert guide.NAME not in SPANS_SHARE
    counts = {True: 0, False: 0}
    for example in itertools.islice(stream(guide.make, rng, "train"), 600):
        item = encoder.item(example, rng)
        if item is None:
            continue
        reply = [*encoder.ids(example.response), encoder.turn_end]
        whole = [*item.prefix, *item.reply]
        assert whole[-len(reply) :] == reply
        if item.spans is None:
            counts[bool(item.cuts) or len(item.reply) < len(reply)] += 1
        else:
            assert len(item.reply) >= len(reply), "a reply with pinned parts is whole"
    assert counts[True] / sum(counts.values()) == pytest.approx(CONTINUED_SHARE, abs=0.08)


@pytest.mark.parametrize("lesson", ["edits", "turns"])
def test_a_reply_that_changes_a_text_starts_from_it(lesson: str) -> None:
    encoder, plain, rng = Encoder(tokenizer(), 0.0, sourced=True), Encoder(tokenizer(), 0.0), random.Random(3)
    inside = 0
    for example in itertools.islice(stream(LESSONS[lesson], rng, "train"), 200):
        assert (unsourced := plain.item(example, rng)) is None or not unsourced.source
        item = encoder.item(example, rng)
        if item is None or not item.source:
            continue
        text = example.before if lesson == "turns" else example.prompt.partition(": ")[2]
        assert item.source[-1] == encoder.turn_end
        if example.free and example.free[0][0]:
            inside += 1
            text = f" {text}"
            assert item.spans and item.reply[item.spans[0][0]] == encoder.ids(f" {text.strip()}")[0]
        assert item.source[:-1] == tuple(encoder.ids(text))
        assert item.spans is None or example.free, "other spans have nothing to start from"
    assert (inside > 20) == (lesson == "edits")
